"""Verification: the same bits on the same machine, a stated tolerance elsewhere."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightsweep.data.datasets import describe, load
from lightsweep.deliver.verify import Verification, verify
from lightsweep.errors import InputError
from lightsweep.planning.plan import Plan, plan
from lightsweep.runfolder.folder import RunFolder
from lightsweep.runfolder.records import DataIdentity, record
from lightsweep.store.claims import LocalStore
from lightsweep.store.folder import FolderStore
from lightsweep.store.stagefile import StageResult
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.training.attempt import attempt

MAGIC = b"lightsweep stage 3\n"
SWEEP = {
    "name": "small",
    "dataset": {"name": "digits", "validation": 100, "train_limit": 150},
    "seeds": 1,
    "base": {
        "model": {"filters": [2, 3]},
        "stages": {"preset": "paper", "epochs": {"dual": 2, "fusion": 1, "finetune": 1}},
    },
}


class Recorded:
    """A run of one trial, recorded as a worker records it."""

    def __init__(self, out: Path, sweep: dict[str, Any] = SWEEP) -> None:
        self.sweep = Sweep.model_validate(sweep)
        self.planned: Plan = plan(self.sweep, lambda spec: describe(spec, out))
        (self.trial,) = self.planned.trials
        self.store = FolderStore(out / ".stages")
        self.run = RunFolder.create(out, self.sweep)
        dataset = load(self.trial.dataset, out, download=False)
        steps = attempt(self.trial, dataset, LocalStore(self.store), torch.device("cpu"))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                outcome = end.value
                break
        self.keys = [stage["key"] for stage in outcome.stages]
        self.run.describe(self.sweep, {}, [self.trial], {self.trial.trial_id: tuple(self.keys)})
        self.run.journal.append(
            record(
                self.trial, self.planned.costs[self.trial.trial_id], outcome, "", DataIdentity("digits", "f1")
            )
        )

    def alter(self, change: Callable[[dict[str, Any]], None]) -> None:
        tree = json.loads(self.run.journal.path.read_text())
        change(tree)
        self.run.journal.path.write_text(json.dumps(tree) + "\n")

    def verify(self) -> Verification:
        id_ = self.trial.trial_id
        return verify(self.run, self.store.folder, self.planned, id_, self.run.folder, lambda epochs: None)


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def test_the_same_machine_gives_the_same_bits(recorded: Recorded) -> None:
    epochs: list[int] = []
    id_ = recorded.trial.trial_id
    found = verify(
        recorded.run, recorded.store.folder, recorded.planned, id_, recorded.run.folder, epochs.append
    )
    assert (found.is_bit_equal, found.is_confirmed, found.differences) == (True, True, ())
    assert (found.expected, found.weights_compared, found.stages) == ("bit-equal", 3, 3)
    assert epochs == [1, 2, 3, 4]
    before, after = found.accuracies["test_accuracy"]
    assert before == after


def test_one_bit_of_one_epoch_is_noticed(recorded: Recorded) -> None:
    def change(tree: dict[str, Any]) -> None:
        tree["epochs"][2]["val_loss"] *= 1 + 1e-15

    recorded.alter(change)
    found = recorded.verify()
    assert not found.is_confirmed
    (difference,) = found.differences
    assert difference.startswith("stage fusion, epoch 1: val_loss ")


def test_other_weights_in_the_store_are_noticed(recorded: Recorded) -> None:
    result = StageResult.from_bytes(recorded.store.read(recorded.keys[1]) or b"", recorded.keys[1])
    result.weights["a.conv1.convolution.weight"][0, 0, 0, 0] += 1e-6
    recorded.store.write(recorded.keys[1], result.to_bytes(recorded.keys[1]))
    found = recorded.verify()
    assert found.differences == ("stage fusion: its weights differ from the stored ones",)
    assert not found.is_confirmed


def test_weights_of_another_type_are_noticed(recorded: Recorded) -> None:
    key = recorded.keys[1]
    result = StageResult.from_bytes(recorded.store.read(key) or b"", key)
    name = "a.conv1.convolution.weight"
    result.weights[name] = result.weights[name].double()
    recorded.store.write(key, result.to_bytes(key))
    assert recorded.verify().differences == ("stage fusion: its weights differ from the stored ones",)


def test_epochs_and_metrics_in_the_store_are_compared(recorded: Recorded) -> None:
    key = recorded.keys[1]
    result = StageResult.from_bytes(recorded.store.read(key) or b"", key)
    result.metrics["kept_epoch"] = 7
    recorded.store.write(key, result.to_bytes(key))
    assert recorded.verify().differences == (
        "stage fusion: its epochs or metrics differ from the stored ones",
    )


@pytest.mark.parametrize(
    "name", ["parameters", "macs", "test_confusion", "epochs_trained", "config.batch_size"]
)
def test_every_column_that_training_decides_is_compared(recorded: Recorded, name: str) -> None:
    recorded.alter(lambda tree: tree["trial"].update({name: "[[1]]" if name == "test_confusion" else 1}))
    (difference,) = recorded.verify().differences
    assert difference.startswith(f"{name}: ")
    assert " was recorded, now " in difference


def test_an_epoch_that_was_kept_is_compared(recorded: Recorded) -> None:
    recorded.alter(lambda tree: tree["epochs"][0].update({"is_kept": not tree["epochs"][0]["is_kept"]}))
    (difference,) = recorded.verify().differences
    assert difference.startswith("stage dual, epoch 1: is_kept ")


@pytest.mark.parametrize("is_torch", [False, True])
def test_what_is_damaged_in_the_store_is_said_and_stays(recorded: Recorded, is_torch: bool) -> None:
    """It looks, and changes nothing: be it cut, or whole with tensors that nobody can read."""
    path = recorded.store.path(recorded.keys[0])
    data = path.read_bytes()
    if is_torch:
        payload = data[len(MAGIC) + 65 :].replace(b"PK", b"KP")
        digest = hashlib.sha256(recorded.keys[0].encode() + payload).hexdigest()
        data = MAGIC + digest.encode() + b"\n" + payload
    path.write_bytes(data if is_torch else data[:-9])
    before = sorted((file, file.stat().st_mtime_ns) for file in recorded.store.folder.rglob("*"))
    (difference,) = recorded.verify().differences
    assert difference.startswith("stage dual: the stored result is damaged (it")
    assert sorted((file, file.stat().st_mtime_ns) for file in recorded.store.folder.rglob("*")) == before


@pytest.mark.parametrize(("off", "is_confirmed"), [(0.0, True), (0.02, True), (0.5, False)])
def test_elsewhere_accuracies_must_agree_within_the_tolerance(
    recorded: Recorded, off: float, is_confirmed: bool
) -> None:
    def change(tree: dict[str, Any]) -> None:
        for stage in tree["stages"]:
            stage["hardware"] = "another processor"
        tree["trial"]["test_accuracy"] += off
        tree["epochs"][0]["val_loss"] += 1e-7

    recorded.alter(change)
    found = recorded.verify()
    assert "another processor" in found.expected
    assert "within 3 standard errors" in found.expected
    assert (found.is_bit_equal, found.is_confirmed) == (False, is_confirmed)


def test_changed_code_is_said(recorded: Recorded) -> None:
    def change(tree: dict[str, Any]) -> None:
        tree["stages"][0]["key"] = "0" * 64

    recorded.alter(change)
    found = recorded.verify()
    assert found.is_confirmed
    assert found.is_bit_equal  # what changed made no difference to this trial


def test_a_failure_is_confirmed_by_failing_again(tmp_path: Path) -> None:
    stages = {"preset": "paper", "epochs": {"dual": 1, "fusion": 1, "finetune": 1}, "finetune_lr": 1e30}
    recorded = Recorded(tmp_path, {**SWEEP, "base": {"model": {"filters": [2, 3]}, "stages": stages}})
    assert recorded.verify().is_confirmed

    def change(tree: dict[str, Any]) -> None:
        tree["trial"]["error"] = "its worker was lost"

    recorded.alter(change)
    (difference,) = recorded.verify().differences
    assert difference.startswith(
        "error: its worker was lost was recorded, now stage finetune: the training loss is NaN"
    )


def test_a_trial_that_is_no_longer_planned_is_refused(recorded: Recorded) -> None:
    other = plan(recorded.sweep.model_copy(update={"seeds": (7,)}), lambda spec: describe(spec, Path()))
    with pytest.raises(InputError, match="no longer in the plan"):
        verify(recorded.run, None, other, recorded.trial.trial_id, recorded.run.folder, lambda epochs: None)
