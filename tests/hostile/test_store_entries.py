"""Entries of the store that are whole and yet not what their keys stand for: made again, with one warning."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_images import SPEC, write_images

from lightsweep.data.datasets import describe, load
from lightsweep.data.imagedata import Dataset
from lightsweep.errors import WriteError
from lightsweep.planning.plan import plan
from lightsweep.store.claims import LocalStore, LookUps, NotStoredError
from lightsweep.store.folder import CHECKPOINT, FolderStore
from lightsweep.store.stagefile import Checkpoint, StageResult
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.training.chain import TrialResult, run_trial
from lightsweep.trials.keys import stage_keys
from lightsweep.trials.trial import Trial

SWEEP: dict[str, Any] = {
    "name": "s",
    "dataset": SPEC,
    "seeds": 1,
    "base": {
        "model": {"filters": [2, 3], "hidden": 4},
        "stages": {"preset": "paper", "epochs": {"dual": 2, "fusion": 2, "finetune": 1}, "patience": None},
        "compression": {"quantise": "int8"},
    },
}
CPU = torch.device("cpu")
DUAL, FUSION, INT8, ASSESSMENT = 0, 1, -2, -1


class Stored:
    """A trial whose every stage is stored."""

    def __init__(self, folder: Path, compression: bool = True) -> None:
        base = dict(SWEEP["base"])
        if not compression:
            del base["compression"]
        write_images(folder / "images.npz")
        sweep = Sweep.model_validate({**SWEEP, "base": base})
        planned = plan(sweep, lambda spec: describe(spec, folder))
        self.trial: Trial = planned.trials[0]
        self.dataset: Dataset = load(self.trial.dataset, folder, download=False)
        self.keys = stage_keys(self.trial, self.dataset.fingerprint, "cpu")
        self.folder, self.said = folder / "store", list[str]()
        self.first = self.run()
        shutil.copytree(self.folder, folder / "whole")

    def run(self) -> TrialResult:
        self.said.clear()
        store = FolderStore(self.folder, self.said.append)
        return run_trial(self.trial, self.dataset, LocalStore(store, checkpoint_seconds=0), CPU)

    def restore(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self.folder.parent / "whole", self.folder)

    def result(self, index: int) -> StageResult:
        store = FolderStore(self.folder)
        return StageResult.from_bytes(store.read(self.keys[index]) or b"", self.keys[index])

    def put(self, index: int, result: StageResult) -> None:
        """Put a result under a key, with the right checksum."""
        FolderStore(self.folder).write(self.keys[index], result.to_bytes(self.keys[index]))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return Stored(tmp_path_factory.mktemp("stored"))


@pytest.fixture
def stored(made: Stored) -> Stored:
    made.restore()
    return made


def with_weight(result: StageResult, change: Callable[[torch.Tensor], torch.Tensor]) -> StageResult:
    name = next(iter(result.weights))
    return replace(result, weights={**result.weights, name: change(result.weights[name])})


def with_epoch(result: StageResult, **changes: Any) -> StageResult:
    return replace(result, epochs=[{**result.epochs[0], **changes}, *result.epochs[1:]])


def with_metric(result: StageResult, **changes: Any) -> StageResult:
    return replace(result, metrics={**result.metrics, **changes})


WRONG: dict[str, tuple[int, Callable[[StageResult], StageResult]]] = {
    "no weights": (DUAL, lambda r: replace(r, weights={})),
    "a weight of another shape": (FUSION, lambda r: with_weight(r, lambda t: t[..., None])),
    "a weight of another type": (FUSION, lambda r: with_weight(r, lambda t: t.double())),
    "a weight more": (INT8, lambda r: replace(r, weights={**r.weights, "more": torch.zeros(1)})),
    "a sparse weight": (DUAL, lambda r: with_weight(r, lambda t: t.to_sparse())),
    "no epochs": (DUAL, lambda r: replace(r, epochs=[])),
    "an epoch too many": (DUAL, lambda r: replace(r, epochs=[*r.epochs, {**r.epochs[0], "epoch": 3}])),
    "epochs in another order": (FUSION, lambda r: replace(r, epochs=r.epochs[::-1])),
    "an epoch of texts": (FUSION, lambda r: with_epoch(r, val_accuracy="high")),
    "an epoch with more": (FUSION, lambda r: with_epoch(r, more=1)),
    "an impossible accuracy": (DUAL, lambda r: with_epoch(r, val_accuracy=7.0)),
    "no metrics": (DUAL, lambda r: replace(r, metrics={})),
    "another form of the net": (DUAL, lambda r: with_metric(r, network="fused")),
    "an epoch kept that is not there": (FUSION, lambda r: with_metric(r, kept_epoch=9)),
    "a text that says it diverged, and more": (DUAL, lambda r: with_metric(r, diverged="the loss is NaN")),
    "no place where it was made": (FUSION, lambda r: replace(r, provenance={})),
    "a place that is a list": (FUSION, lambda r: replace(r, provenance={**r.provenance, "host": []})),
    "an assessment without test images": (ASSESSMENT, lambda r: with_metric(r, test_confusion=None)),
    "test images of other classes": (ASSESSMENT, lambda r: with_metric(r, test_confusion=[[30]])),
    "too many test images": (ASSESSMENT, lambda r: with_metric(r, test_confusion=[[30] * 3] * 3)),
    "hits that are no base64": (ASSESSMENT, lambda r: with_metric(r, test_hits="…")),
    "an accuracy that is a text": (ASSESSMENT, lambda r: with_metric(r, test_accuracy="1.0")),
}


@pytest.mark.parametrize(("index", "change"), WRONG.values(), ids=WRONG)
def test_what_a_key_cannot_stand_for_is_made_again(
    stored: Stored, index: int, change: Callable[[StageResult], StageResult]
) -> None:
    stored.put(index, change(stored.result(index)))
    again = stored.run()
    (line,) = stored.said
    assert line.startswith(f"stage result {FolderStore(stored.folder).path(stored.keys[index])} is discarded")
    assert again.assessment.metrics == stored.first.assessment.metrics
    origins = [entry.origin for entry in again.entries]
    assert origins.count("trained") == 1
    assert origins[index] == "trained"
    assert stored.run().entries[index].origin == "stored"
    assert stored.said == []


@pytest.mark.parametrize("index", [DUAL, ASSESSMENT])
def test_look_ups_find_nothing_where_something_else_lies(stored: Stored, index: int) -> None:
    stored.put(index, replace(stored.result(index), metrics={}))
    with pytest.raises(NotStoredError):
        run_trial(stored.trial, stored.dataset, LookUps(FolderStore(stored.folder, stored.said.append)), CPU)


def test_exchanged_entries_are_noticed(stored: Stored) -> None:
    """Of two arms, say: each is whole, and one would be recorded with the other's accuracy."""
    store = FolderStore(stored.folder)
    one, other = store.path(stored.keys[DUAL]), store.path(stored.keys[FUSION])
    ones, others = one.read_bytes(), other.read_bytes()
    one.write_bytes(others)
    other.write_bytes(ones)
    again = stored.run()
    assert len(stored.said) == 2
    assert all("its checksum does not match its content and key" in line for line in stored.said)
    assert again.assessment.metrics == stored.first.assessment.metrics


def change_checkpoint(checkpoint: Checkpoint, what: str) -> Checkpoint:
    tensors, epochs = dict(checkpoint.tensors), list(checkpoint.epochs)
    first = next(name for name in tensors if name.startswith("net."))
    moment = next(name for name in tensors if name.startswith("optimizer."))
    if what == "another shape":
        tensors[first] = tensors[first][..., None]
    elif what == "a part less":
        del tensors[first]
    elif what == "a part of nothing":
        tensors["other.x"] = torch.zeros(1)
    elif what == "another optimizer":
        tensors[f"optimizer.99.{moment.split('.', 2)[2]}"] = tensors.pop(moment)
    elif what == "a moment of another shape":
        name = next(name for name in tensors if name.startswith("optimizer.") and tensors[name].dim())
        tensors[name] = tensors[name][..., None]
    elif what == "no epochs":
        epochs = []
    elif what == "too many epochs":
        epochs = [{**epochs[0], "epoch": number} for number in range(1, 9)]
    return Checkpoint(tensors, epochs, checkpoint.seconds)


@pytest.mark.parametrize(
    "what",
    ["another shape", "a part less", "a part of nothing", "another optimizer", "a moment of another shape",
     "no epochs", "too many epochs"],
)  # fmt: skip
def test_a_checkpoint_that_cannot_be_the_stages_is_no_start(stored: Stored, what: str) -> None:
    """The stage is trained from its beginning, to the very same bits."""
    store, key = FolderStore(stored.folder), stored.keys[DUAL]
    kept: list[bytes] = []

    class Keeps(LocalStore):
        def put_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
            kept.append(change_checkpoint(checkpoint, what).to_bytes(key))

    shutil.rmtree(stored.folder)
    run_trial(stored.trial, stored.dataset, Keeps(FolderStore(stored.folder), checkpoint_seconds=0), CPU)
    for index in range(len(stored.keys)):
        store.path(stored.keys[index]).unlink()
    store = FolderStore(stored.folder)
    store.write(key, kept[0], CHECKPOINT)
    again = stored.run()
    (line,) = stored.said
    assert line.startswith(f"checkpoint {store.path(key, CHECKPOINT)} is discarded and trained again: it")
    assert again.entries[DUAL].origin == "trained"
    assert again.assessment.metrics == stored.first.assessment.metrics


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": lambda path: (path.mkdir(), (path / "x").touch()),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to zeros": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("suffix", [".stage", ".tmp"])
def test_what_is_no_regular_file_is_put_away(
    stored: Stored, kind: Callable[[Path], object], suffix: str
) -> None:
    path = FolderStore(stored.folder).path(stored.keys[FUSION])
    path.unlink()
    kind(path.with_suffix(suffix))
    again = stored.run()
    assert again.assessment.metrics == stored.first.assessment.metrics
    assert path.is_file()
    assert not path.with_suffix(".tmp").exists()


def test_nothing_is_written_into_a_folder_that_is_a_link(stored: Stored, tmp_path: Path) -> None:
    part = FolderStore(stored.folder).path(stored.keys[FUSION]).parent
    shutil.rmtree(part)
    part.symlink_to(tmp_path)
    with pytest.raises(WriteError, match="is a link"):
        stored.run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["-5", "true", "1e400", "[" * 100_000, '{"limit_bytes": -1}', '{"limit_bytes": true}']
)
def test_a_limit_that_is_none_is_no_limit(stored: Stored, text: str) -> None:
    """A negative one would empty the store."""
    (stored.folder / "settings.json").write_text(text)
    assert FolderStore(stored.folder).limit_bytes() is None
