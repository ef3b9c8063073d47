"""Run one trial to its outcome: completed, early-stopped or failed."""

import platform
import time
from collections.abc import Callable, Generator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch

from lightsweep.data.imagedata import Dataset
from lightsweep.errors import InputError, MachineError, WriteError
from lightsweep.owncode.loading import place_of
from lightsweep.store.claims import NotStoredError, StageStore
from lightsweep.system.machine import require_gpu
from lightsweep.training.chain import StageEntry, trial_steps
from lightsweep.training.loop import DivergedError
from lightsweep.training.outcome import Outcome, completed, early_stopped, failed
from lightsweep.trials.trial import Trial

Attempt = Callable[[Trial, Dataset, StageStore, torch.device], Generator[Outcome, None, Outcome]]
"""Runs a trial; yields after each epoch the outcome if stopped there, and returns the final outcome."""


def attempt(
    trial: Trial, dataset: Dataset, store: StageStore, device: torch.device
) -> Generator[Outcome, None, Outcome]:
    """Run a trial; yield after each epoch the outcome that it has if it is stopped there.

    A failure of the trial is returned as an outcome with the reason, not raised.

    Raises:
        WriteError: The store cannot be written, so every trial would fail.
        MachineError: The device is a GPU that cannot be used.
        NotStoredError: The store is read-only (`LookUps`) and lacks a result.
        torch.OutOfMemoryError: The GPU, which others may share, ran out of memory; a retry with a larger
            share may succeed.
        torch.AcceleratorError: The GPU failed, and this process can no longer use it.

    """
    if device.type == "cuda":
        require_gpu()
    started_at, started = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    entries: list[StageEntry] = []
    epochs: list[dict[str, Any]] = []

    def where() -> tuple[str, float, str, str]:
        return started_at, time.perf_counter() - started, platform.node(), device.type

    steps = trial_steps(trial, dataset, store, device)
    try:
        while True:
            step = next(steps)
            if isinstance(step, StageEntry):
                entries.append(step)
            else:
                place = {"stage_index": len(entries), "trial_epoch": len(epochs) + 1, "is_kept": False}
                epochs.append({**asdict(step), **place})
                yield early_stopped(epochs, *where(), entries)
    except StopIteration as end:
        return completed(end.value, *where())
    except (WriteError, MachineError, NotStoredError):
        raise
    except DivergedError as error:
        return failed(str(error), "diverged", *where(), entries, epochs)
    except InputError as error:
        return failed(str(error), "error", *where(), entries, epochs)
    except (Exception, SystemExit) as error:
        if device.type == "cuda" and isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError):
            raise
        left = place_of(error)
        reason = f"{f'{left}: ' if left else ''}{type(error).__name__}: {error}"
        return failed(reason, "error", *where(), entries, epochs)
