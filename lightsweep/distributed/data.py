"""Delivery of data sets to workers: read on each node that has their files, otherwise sent to it once."""

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
"""Fingerprint of each data set, and its reference in the launching node's object store, by spec."""


def send(datasets: Mapping[DatasetSpec, Dataset]) -> Sent:
    """Put data sets into the object store, from which each node fetches each one at most once."""
    return {spec: (dataset.fingerprint, ray.put(dataset)) for spec, dataset in datasets.items()}


class NodesData:
    """Makes other nodes read data sets, each once; part of an actor on the launching node.

    A node's workers share a data set without copying it, through the node's object store.
    """

    def __init__(self, data_dir: str) -> None:
        """Start with no data set read.

        Args:
            data_dir: Folder of the data sets on nodes that do not set $LIGHTSWEEP_DATA.

        """
        self._data_dir = data_dir
        self._here = ray.get_runtime_context().get_node_id()
        self._reads: dict[tuple[str, DatasetSpec], asyncio.Future[Any]] = {}

    async def read(self, node: str, spec: DatasetSpec, fingerprint: str) -> list[Any]:
        """Return a reference to a data set as read by a node, or an empty list if it lacks the files."""
        if node == self._here or spec.name == "digits" or spec.is_own:
            return []  # read here already; sending digits, or what the user's code made, is simpler
        if (node, spec) not in self._reads:
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            task: Any = _read.options(scheduling_strategy=there)
            answers = task.remote(spec, fingerprint, self._data_dir)
            self._reads[node, spec] = asyncio.ensure_future(_found(*answers))
        dataset = await self._reads[node, spec]
        return [] if dataset is None else [dataset]


async def _found(is_there: Any, dataset: Any) -> Any:
    """Return the reference if the data set was read, without fetching it; otherwise None."""
    try:
        return dataset if await is_there else None
    except RayError:
        return None


@ray.remote(num_cpus=0, max_retries=0, num_returns=2)
def _read(spec: DatasetSpec, fingerprint: str, data_dir: str) -> tuple[bool, Dataset | None]:
    """Read a data set on this node; return whether its fingerprint matches, and the data set if so."""
    try:
        dataset = load(spec, Path(os.environ.get(DATA_DIR, data_dir)), download=False)
    except (InputError, OSError):
        return False, None
    is_same = dataset.fingerprint == fingerprint
    return is_same, dataset if is_same else None
