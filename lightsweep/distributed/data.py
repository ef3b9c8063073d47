"""Data sets on their way to the workers: read on the node where their files are, else sent to it once."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lightsweep.data.datasets import load
from lightsweep.data.imagedata import Dataset
from lightsweep.errors import InputError
from lightsweep.sweepfile.dataset import DatasetSpec

DATA_DIR = "LIGHTSWEEP_DATA"

Sent = Mapping[DatasetSpec, tuple[str, Any]]
"""Of data sets in the launching node's object store: their fingerprints and references."""


def send(datasets: Mapping[DatasetSpec, Dataset]) -> Sent:
    """Put data sets into the object store, from which each node fetches one at most once."""
    return {spec: (dataset.fingerprint, ray.put(dataset)) for spec, dataset in datasets.items()}


class NodesData:
    """Has other nodes read data sets, each once; part of an actor on the launching node.

    A node's workers share what was read, in the node's part of the object store, without copying it.
    """

    def __init__(self, data_dir: str) -> None:
        """Begin with nothing read.

        Args:
            data_dir: Folder to look in on nodes whose environment names none with $LIGHTSWEEP_DATA.

        """
        self._data_dir = data_dir
        self._here = ray.get_runtime_context().get_node_id()
        self._reads: dict[tuple[str, DatasetSpec], asyncio.Future[Any]] = {}

    async def read(self, node: str, spec: DatasetSpec, fingerprint: str) -> list[Any]:
        """Return a reference to a data set as a node read it, or nothing where it has no such files."""
        if node == self._here or spec.name == "digits":
            return []  # it was read here when it was sent; digits are smaller than a process that reads them
        if (node, spec) not in self._reads:
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            task: Any = _read.options(scheduling_strategy=there)
            answers = task.remote(spec, fingerprint, self._data_dir)
            self._reads[node, spec] = asyncio.ensure_future(_found(*answers))
        dataset = await self._reads[node, spec]
        return [] if dataset is None else [dataset]


async def _found(is_there: Any, dataset: Any) -> Any:
    """Return the reference to what was read, if it was; what it refers to stays where it is."""
    try:
        return dataset if await is_there else None
    except RayError:
        return None


@ray.remote(num_cpus=0, max_retries=0, num_returns=2)
def _read(spec: DatasetSpec, fingerprint: str, data_dir: str) -> tuple[bool, Dataset | None]:
    """Read a data set on this node; return whether it is there, and the same, and it."""
    try:
        dataset = load(spec, Path(os.environ.get(DATA_DIR, data_dir)), download=False)
    except (InputError, OSError):
        return False, None
    is_same = dataset.fingerprint == fingerprint
    return is_same, dataset if is_same else None
