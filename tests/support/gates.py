"""A gate in a trial: an order that a test makes, in place of one that it hopes for."""

import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from lightsweep.records import Outcome

OPEN = "open"


def attempt_through(gate: Path, *arguments: Any) -> Generator[Outcome, None, Outcome]:
    """Run a trial as `lightsweep.attempt.attempt` does, held after its first epoch until the gate is open.

    A file with the trial's id says that it waits there; on Ray, that Tune has also had word of it.

    Args:
        gate: A folder; the gate is open once `OPEN` is in it.
        arguments: Of `attempt`.

    """
    from lightsweep.attempt import attempt

    worker = sys.modules.get("lightsweep.distributed.worker")
    if worker is not None:
        worker.REPORT_SECONDS = 0.0005  # type: ignore[attr-defined]  # a report an epoch
    steps = attempt(*arguments)
    try:
        so_far = next(steps)
    except StopIteration as end:  # all was looked up
        return end.value  # type: ignore[no-any-return]
    yield so_far
    yield so_far  # asked again, so the word before was heard
    (gate / arguments[0].trial_id).touch()
    while not (gate / OPEN).exists():
        time.sleep(0.02)
        yield so_far
    return (yield from steps)
