"""A gate in a trial: an order that a test makes, in place of one that it hopes for."""

import os
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

from lightsweep.training.outcome import Outcome

OPEN = "open"


def attempt_through(gate: Path, *arguments: Any) -> Generator[Outcome, None, Outcome]:
    """Run a trial as `training.attempt` does, held after its first epoch until the gate is open.

    A file with the trial's id says that it waits there; on Ray, that Tune has also had word of it.

    Args:
        gate: A folder; the gate is open once `OPEN` is in it.
        arguments: Of `attempt`.

    """
    from lightsweep.training.attempt import attempt

    worker = sys.modules.get("lightsweep.distributed.worker")
    if worker is not None:
        worker.REPORT_SECONDS = 0.0005  # type: ignore[attr-defined]  # a report an epoch
    steps = attempt(*arguments)
    try:
        so_far = next(steps)
        yield so_far
        yield so_far  # asked again, so the word before was heard
        (gate / arguments[0].trial_id).touch()
        while not (gate / OPEN).exists():
            time.sleep(0.02)
            yield so_far
        return (yield from steps)
    except StopIteration as end:  # all was looked up
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


def attempt_on_processor(gate: Path, *arguments: Any) -> Generator[Outcome, None, Outcome]:
    """Do the same on the processor, whatever Ray has declared: no GPU is there."""
    return attempt_through(gate, *arguments[:3], torch.device("cpu"))


def attempt_in_half_a_gpu(*arguments: Any) -> Generator[Outcome, None, Outcome]:
    """Run a trial that runs out of memory on less than half a GPU; on a processor, since no GPU is there."""
    import ray

    from lightsweep.training.attempt import attempt

    if ray.get_runtime_context().get_assigned_resources()["GPU"] < 0.5:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return (yield from attempt(*arguments[:3], torch.device("cpu")))


def attempt_on_a_gpu_that_fails_once(mark: Path, *arguments: Any) -> Generator[Outcome, None, Outcome]:
    """Run a trial at whose first try the GPU fails for its whole process, which the mark's file names."""
    from lightsweep.training.attempt import attempt

    if not mark.exists():
        mark.write_text(str(os.getpid()))
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    assert mark.read_text() != str(os.getpid()), "the process whose GPU failed is used again"
    return (yield from attempt(*arguments[:3], torch.device("cpu")))


def pretend_another_torch() -> None:
    """Have workers asked for a torch that they lack, as on a node that came after the first question."""
    from lightsweep.distributed import launch
    from lightsweep.trials.sources import worker_code

    launch.worker_code = lambda: {**worker_code(), "torch": "0.1"}


def pretend_another_lightsweep() -> None:
    """Have the launching process find that it has other code than the cluster's nodes."""
    from lightsweep.distributed import worker
    from lightsweep.trials.sources import worker_code

    worker.worker_code = lambda: {**worker_code(), "worker": "0" * 64}
