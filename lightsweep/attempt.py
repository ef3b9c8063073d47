"""Running one trial to its outcome, whatever becomes of it."""

import platform
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime

import torch

from lightsweep.datasets import Dataset
from lightsweep.pipeline import StageEntry, trial_steps
from lightsweep.records import Outcome, completed, failed
from lightsweep.spec import InputError, WriteError
from lightsweep.store import NotStoredError, StageStore
from lightsweep.train import DivergedError, EpochRecord
from lightsweep.trial import Trial

Attempt = Callable[[Trial, Dataset, StageStore, torch.device], Generator[object, None, Outcome]]
"""Runs a trial step by step and returns what became of it."""


def make_repeatable() -> None:
    """Have this process train to the same bits each time; they depend on the order of sums."""
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def attempt(
    trial: Trial, dataset: Dataset, store: StageStore, device: torch.device
) -> Generator[EpochRecord, None, Outcome]:
    """Run a trial epoch by epoch and return what became of it; its failure is an outcome, with the reason.

    Raises:
        WriteError: The store cannot be written, so that no trial has a chance.
        NotStoredError: The store only looks up, and a result is not there.

    """
    started_at, started = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    entries: list[StageEntry] = []

    def where() -> tuple[str, float, str, str]:
        return started_at, time.perf_counter() - started, platform.node(), device.type

    steps = trial_steps(trial, dataset, store, device)
    try:
        while True:
            step = next(steps)
            if isinstance(step, StageEntry):
                entries.append(step)
            else:
                yield step
    except StopIteration as end:
        return completed(end.value, *where())
    except (WriteError, NotStoredError):
        raise
    except (DivergedError, InputError) as error:
        return failed(str(error), *where(), entries)
    except Exception as error:
        return failed(f"{type(error).__name__}: {error}", *where(), entries)
