"""Whether the nodes of a cluster have the launching process's code; with any other they must not train."""

import platform
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lightsweep.errors import InputError
from lightsweep.trials.sources import worker_code


def refuse_other_code() -> None:
    """Ask each living node of the attached cluster what its workers would run.

    Nodes that come later are asked by their workers (`refusal`).

    Raises:
        InputError: One has other code than this process, or cannot import its own.

    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = [(node["NodeManagerHostname"], _ask(node["NodeID"])) for node in nodes]
    for host, answer in asked:
        try:
            said: dict[str, str] = ray.get(answer)
        except RayError as error:
            fault = str(error).strip().splitlines()[-1]
            raise InputError(
                f"{host}: its workers cannot import lightsweep ({fault}); install the same version there"
            ) from None
        reason = refusal(worker_code(), said, host)
        if reason is not None:
            raise InputError(reason)


def _ask(node: str) -> Any:
    """Have a node say what its workers run, by a function that needs nothing of lightsweep to be sent."""

    def describe() -> Any:
        from lightsweep.trials.sources import worker_code

        return worker_code()

    there = NodeAffinitySchedulingStrategy(node, soft=True)
    return ray.remote(num_cpus=0, max_retries=0)(describe).options(scheduling_strategy=there).remote()


def refusal(wanted: Mapping[str, str], here: Mapping[str, str], host: str) -> str | None:
    """Say in a line why workers must not train, if what they would run is not what was asked for.

    Args:
        wanted: `sources.worker_code` of the launching process, which has made the trials' keys.
        here: The same of a worker.
        host: Its node.

    """
    for name, value in wanted.items():
        if name == "folder" or here.get(name) == value:
            continue
        what = (
            "another lightsweep" if name in ("source", "worker") else f"{name} {here.get(name)}, not {value}"
        )
        place = f" (in {here['folder']}; the launching process on {platform.node()} has {wanted['folder']})"
        return (
            f"{host}: its workers have {what}{place if name in ('source', 'worker') else ''}, so they would "
            "train other nets than those that are asked for; install the same versions on all nodes"
        )
    return None
