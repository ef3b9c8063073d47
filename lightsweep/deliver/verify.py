"""Verification: train a recorded trial again without the store, and compare it with its record."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightsweep.data import datasets
from lightsweep.data.imagedata import Dataset
from lightsweep.data.splits import held_out
from lightsweep.echo import one_line
from lightsweep.errors import InputError
from lightsweep.planning.plan import Plan
from lightsweep.runfolder.folder import RunFolder
from lightsweep.runfolder.records import EPOCH_COLUMNS, DataIdentity, Record, record
from lightsweep.store.claims import NoStore
from lightsweep.store.folder import read_entry
from lightsweep.store.stagefile import DamagedResultError, StageResult
from lightsweep.system.machine import describe_machine, make_repeatable
from lightsweep.training.attempt import attempt
from lightsweep.training.outcome import Outcome
from lightsweep.trials.keys import stage_keys
from lightsweep.trials.trial import Trial

STANDARD_ERRORS = 3.0
"""Tolerance where bit equality cannot be expected, in standard errors of a difference of accuracies.

The standard error for two accuracies of about p, each measured on n images, is sqrt(2 p (1 - p) / n).
"""
_ACCURACIES = ("val_accuracy", "test_accuracy", "train_accuracy")
_TIMES = ("seconds",)
_OF_THE_RUN = {
    "dataset", "data_fingerprint", "commit", "started_at", "host", "device", "phase", "study_number",
    "seconds", "training_seconds", "waited_seconds", "stages_reused", "latency_ms", "result_key",
}  # fmt: skip
"""Columns that are not compared, on when, where and in which role a trial was trained."""


@dataclass(frozen=True)
class Verification:
    """Result of training a trial again."""

    label: str
    """Label of the trial."""
    expected: str
    """Expected agreement: bit-equal, or a tolerance and why bits cannot be equal."""
    differences: tuple[str, ...]
    """Differences from the record, earliest first."""
    accuracies: dict[str, tuple[float, float]]
    """Recorded and new accuracy (fractions), by name."""
    stages: int
    """Number of the trial's stages."""
    weights_compared: int
    """Number of stages whose stored weights were compared."""
    is_bit_equal: bool
    """Whether there is no difference at all."""
    is_confirmed: bool
    """Whether the agreement is as expected."""
    seconds: float
    """Duration of the verification in seconds."""


class _Kept(NoStore):
    """Keeps results in memory for the comparison."""

    def __init__(self) -> None:
        self.results: dict[str, StageResult] = {}

    def put(self, key: str, result: StageResult) -> None:
        """Keep a result."""
        self.results[key] = result


def verify(
    run: RunFolder,
    store: Path | None,
    planned: Plan,
    trial_id: str,
    data_dir: Path,
    on_epoch: Callable[[int], None],
) -> Verification:
    """Train a trial again and compare it with its record, and its weights with the stored ones.

    A trial that was stopped early is trained up to the same epoch. The same code on the same kind of machine
    (device, hardware, torch) must give the same bits; otherwise validation and test accuracy must agree
    within `STANDARD_ERRORS`.

    Args:
        run: The run.
        store: Folder of the stage store, which is only read; None if there is none.
        planned: The run's own plan.
        trial_id: Id of a trial that has a record.
        data_dir: Folder of the data sets.
        on_epoch: Called with the number of epochs so far.

    Returns:
        The result of the comparison.

    Raises:
        InputError: The trial is not in the plan, or its data is missing.

    """
    old = run.journal.records()[trial_id]
    trial = next((trial for trial in planned.trials if trial.trial_id == trial_id), None)
    if trial is None:
        raise InputError(f"{run.folder}: trial {trial_id} is no longer in the plan (sweep.yaml)")
    dataset = datasets.load(trial.dataset, data_dir, download=False)
    device = torch.device("cuda" if old.trial["device"] == "cuda" and torch.cuda.is_available() else "cpu")
    kept, started = _Kept(), time.monotonic()
    make_repeatable()
    stop_after = len(old.epochs) if old.trial["status"] == "early_stopped" else None
    outcome = _run(trial, dataset, kept, device, on_epoch, stop_after)
    data = DataIdentity(old.trial["dataset"], dataset.fingerprint)
    new = record(trial, planned.costs[trial_id], outcome, "", data)

    differences = _differences(old, new)
    keys = stage_keys(trial, dataset.fingerprint, device.type)
    compared, unequal = _compare_weights(trial, keys, kept.results, store)
    differences += unequal
    why = _why_not_bits(old, keys, device)
    counts = {"val_accuracy": _validation_count(trial, dataset), "test_accuracy": len(dataset.test.labels)}
    is_close = old.trial["status"] == new.trial["status"] and all(
        _is_close(old.trial[name], new.trial[name], count)
        for name, count in counts.items()
        if None not in (old.trial.get(name), new.trial.get(name))
    )
    return Verification(
        label=trial.label,
        expected="bit-equal"
        if why is None
        else f"validation and test accuracy within {STANDARD_ERRORS:g} standard errors, because {why}",
        differences=tuple(differences),
        accuracies={
            n: (old.trial[n], new.trial[n])
            for n in _ACCURACIES
            if None not in (old.trial.get(n), new.trial.get(n))
        },
        stages=len(trial.stages),
        weights_compared=compared,
        is_bit_equal=not differences,
        is_confirmed=not differences or (why is not None and is_close),
        seconds=time.monotonic() - started,
    )


def _run(
    trial: Trial,
    dataset: Dataset,
    store: NoStore,
    device: torch.device,
    on_epoch: Callable[[int], None],
    stop_after: int | None,
) -> Outcome:
    steps = attempt(trial, dataset, store, device)
    while True:
        try:
            so_far = next(steps)
        except StopIteration as end:
            whole: Outcome = end.value
            return whole
        on_epoch(len(so_far.epochs))
        if len(so_far.epochs) == stop_after:
            return so_far


def _differences(old: Record, new: Record) -> list[str]:
    """Return all differences in recorded outcome, net, epochs and stages, to the last bit, except times."""
    names = [name for name in new.trial if name not in _OF_THE_RUN]
    found = [
        f"{name}: {_was(old.trial, new.trial, name)}" for name in names if _differ(old.trial, new.trial, name)
    ]
    if len(old.epochs) != len(new.epochs):
        found.append(f"epochs: {len(old.epochs)} were recorded, now {len(new.epochs)}")
    for before, after in zip(old.epochs, new.epochs, strict=False):
        differing = [name for name in EPOCH_COLUMNS if name not in _TIMES and _differ(before, after, name)]
        if differing:
            place = f"stage {before['stage']}, epoch {before['epoch']}"
            found.append(f"{place}: {differing[0]} {_was(before, after, differing[0])}")
            break  # all later epochs differ, too
    for before, after in zip(old.stages, new.stages, strict=False):
        for name in ("stage", "epochs"):
            if _differ(before, after, name):
                found.append(f"stage {before['stage']}: {name} {_was(before, after, name)}")
    return found


def _differ(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> bool:
    """Return whether a column's value differs; columns missing from an old record do not count."""
    return name in before and before[name] != after.get(name)


def _was(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> str:
    return f"{one_line(before[name], 300)} was recorded, now {one_line(after.get(name), 300)}"


def _compare_weights(
    trial: Trial, keys: tuple[str, ...], results: dict[str, StageResult], store: Path | None
) -> tuple[int, list[str]]:
    """Return the number of stages stored under the same key, and their differences."""
    compared, unequal = 0, []
    for stage, key in zip(trial.stages, keys, strict=False):
        if store is None or key not in results:
            continue
        try:
            data = read_entry(store, key)
            stored = None if data is None else StageResult.from_bytes(data, key)
        except DamagedResultError as error:
            unequal.append(f"stage {stage.name}: the stored result is damaged ({error})")
            continue
        if stored is None:
            continue
        compared += 1
        made = results[key]
        if stored.weights.keys() != made.weights.keys():
            unequal.append(f"stage {stage.name}: its weights and the stored ones have different names")
        elif not all(_are_equal(stored.weights[name], made.weights[name]) for name in made.weights):
            unequal.append(f"stage {stage.name}: its weights differ from the stored ones")
        plain = json.loads(json.dumps([_timeless(epoch) for epoch in made.epochs]))
        if [_timeless(epoch) for epoch in stored.epochs] != plain or stored.metrics != made.metrics:
            unequal.append(f"stage {stage.name}: its epochs or metrics differ from the stored ones")
    return compared, unequal


def _are_equal(stored: Tensor, made: Tensor) -> bool:
    return stored.dtype == made.dtype and torch.equal(stored, made)


def _timeless(epoch: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in epoch.items() if name not in _TIMES}


def _why_not_bits(old: Record, keys: tuple[str, ...], device: torch.device) -> str | None:
    """Return why bit equality cannot be expected, or None if it can."""
    here = describe_machine(device)
    for row in old.stages:
        for name in ("device", "hardware", "torch"):
            if row[name] != here[name]:
                return (
                    f"stage {row['stage']} was trained with another {name} ({row[name]}; here {here[name]})"
                )
    if [row["key"] for row in old.stages] != list(keys[: len(old.stages)]):
        return "the training code or the data has changed since"
    return None


def _is_close(before: float, after: float, count: int) -> bool:
    share = (before + after) / 2
    return abs(before - after) <= STANDARD_ERRORS * math.sqrt(2 * share * (1 - share) / count)


def _validation_count(trial: Trial, dataset: Dataset) -> int:
    own = 0 if dataset.validation is None else len(dataset.validation.labels)
    return held_out(trial.dataset, len(dataset.train.labels), own, trial.folds) or own
