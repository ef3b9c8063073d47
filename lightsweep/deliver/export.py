"""Export of a trial's final net as a file that runs without lightsweep: ONNX, or PyTorch's .pt2.

The file remains a draft until its outputs agree with PyTorch on real test images. Trials are chosen by
validation accuracy only.
"""

import difflib
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightsweep import __version__
from lightsweep.data import datasets
from lightsweep.data.imagedata import Dataset, DatasetInfo, Images, as_tensor
from lightsweep.deliver.netfile import SUFFIXES, Agreement, compare, first_line, make_file
from lightsweep.errors import InputError, WriteError, nearest
from lightsweep.hashing import canonical_json
from lightsweep.nets.models import Net
from lightsweep.planning.plan import Plan
from lightsweep.runfolder.folder import RunFolder
from lightsweep.runfolder.records import Record
from lightsweep.store.folder import stage_file
from lightsweep.store.stagefile import DamagedResultError, StageResult
from lightsweep.system.files import UnreadableError, read_bytes, write_whole
from lightsweep.training.stagenets import final_net
from lightsweep.trials.keys import stage_keys
from lightsweep.trials.trial import Trial

CHECKED_IMAGES = 1000
NAMED = 5  # maximum number of trials in a message


@dataclass(frozen=True)
class Choice:
    """The trial to export for a parameter budget."""

    trial_id: str
    """Id of the trial."""
    arm: str
    """Arm of the trial."""
    val_mean: float
    """Mean validation accuracy of the arm's completed trials, a fraction."""
    trials: int
    """Number of the arm's completed trials."""
    arms: int
    """Number of arms to choose from."""


@dataclass(frozen=True)
class Exported:
    """An exported and checked file."""

    path: Path
    """Path of the file."""
    size_bytes: int
    """Size of the file in bytes."""
    trial: Trial
    """The exported trial."""
    record: Record
    """The trial's record."""
    info: DatasetInfo
    """The data set on which the trial was trained."""
    agreement: Agreement
    """Result of the comparison with PyTorch."""
    is_current: bool
    """Whether the trial was trained with the current code and images."""


def export(
    run: RunFolder, planned: Plan, trial_id: str, store: Path, output: Path, data_dir: Path
) -> Exported:
    """Write a completed trial's final net to a file, if it agrees with PyTorch on real test images.

    Args:
        run: The trial's run.
        planned: Plan of the run's sweep.yaml.
        trial_id: Id of a completed trial.
        store: Folder of the stage store, which is only read.
        output: Path of the file, with suffix .onnx or .pt2.
        data_dir: Folder of the data sets.

    Returns:
        The file, with the result of the comparison.

    Raises:
        InputError: The output cannot be written, the trial is no longer planned, its weights are not stored,
            or its data is missing.
        ExportError: torch cannot export the net, or the file disagrees with it. Nothing is written.

    """
    check_output(output)
    found = run.journal.records()[trial_id]
    trial = next((trial for trial in planned.trials if trial.trial_id == trial_id), None)
    if trial is None:
        raise InputError(f"{run.folder}: trial {trial_id} is no longer in the plan (sweep.yaml)")
    key, last = last_stage(run, found, store)
    dataset = datasets.load(trial.dataset, data_dir, download=False)
    info = dataset.info
    net = _net(run, trial, info, last)
    metadata = describe_file(run, found, dataset, key)
    content = make_file(output.suffix, net, info.shape, metadata)
    images, labels = some_images(dataset.test)
    agreements = []

    def write_and_check(draft: Path) -> None:
        draft.write_bytes(content)
        agreements.append(compare(draft.read_bytes(), output.suffix, net, images, labels))

    try:
        write_whole(output, write_and_check)
    except OSError as error:
        raise _not_writable(output, error) from None
    is_current = key in stage_keys(trial, dataset.fingerprint, found.trial["device"])
    return Exported(output, len(content), trial, found, info, agreements[0], is_current)


def _net(run: RunFolder, trial: Trial, info: DatasetInfo, last: StageResult) -> Net:
    try:
        return final_net(trial, last)
    except (RuntimeError, KeyError) as error:  # torch's errors for shapes and names that do not fit
        raise InputError(
            f"{run.folder}: the stored weights of trial {trial.trial_id} do not fit the net of the current "
            f"sweep.yaml, data and code ({first_line(error)}); {_train_again(run.folder)}"
        ) from None


def check_output(output: Path) -> None:
    """Refuse a file that cannot be written, before any other work is done.

    Raises:
        InputError: Its suffix is unknown, or its folder is missing or cannot be written.

    """
    if output.suffix not in SUFFIXES:
        raise InputError(
            f"-o {output}: the suffix selects the format, .onnx (ONNX) or .pt2 (torch.export); "
            f"{nearest(output.suffix, SUFFIXES)}"
        )
    if not output.parent.is_dir():
        raise WriteError(
            f"{output}: there is no folder {output.parent}; create it, or name another file with -o"
        )
    if output.is_dir():
        raise WriteError(f"{output}: is a folder; name a file in it with -o")
    probe = output.with_name(f"{output.name}.{os.getpid()}.tmp")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _not_writable(output, error) from None


def _not_writable(output: Path, error: OSError) -> WriteError:
    return WriteError(f"{output}: cannot be written ({error.strerror}); name another file with -o")


def find_completed(run: RunFolder, trial: str) -> str:
    """Return the id of the one completed trial whose id starts with a prefix.

    Raises:
        InputError: No trial or several trials match, or the trial has no final net.

    """
    records = run.journal.records()
    known: dict[str, Mapping[str, Any]] = {entry["trial_id"]: entry for entry in run.plan.trials()}
    known |= {trial_id: found.trial for trial_id, found in records.items()}
    completed = [row for row in known.values() if row.get("status") == "completed"]
    matches = [trial_id for trial_id in known if trial_id.startswith(trial)]
    if not matches:
        raise InputError(f"{run.folder}: there is no trial {trial}; {_near(trial, completed)}")
    if len(matches) > 1:
        named = ", ".join(matches[:NAMED])
        raise InputError(f"{run.folder}: trial {trial} matches {len(matches)} trials, such as {named}")
    (trial_id,) = matches
    row = known[trial_id]
    status = row.get("status")
    if status == "completed":
        return trial_id
    faults = {None: "is not trained yet", "early_stopped": "was stopped early"}
    fault = faults.get(status) or f"failed ({row['error']})"
    siblings = [other for other in completed if other["arm"] == row["arm"]]
    raise InputError(
        f"{run.folder}: trial {trial_id} ({row['arm']}, seed {row['seed']}) {fault}, so it has no final net; "
        f"{_near(trial_id, siblings or completed)}"
    )


def _near(trial: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the end of a message: the completed trial with the nearest id, else the best by validation."""
    if not rows:
        return "none is completed yet"
    ids = [str(row["trial_id"]) for row in sorted(rows, key=lambda row: -row["val_accuracy"])]
    close = difflib.get_close_matches(trial, ids, 1)
    return nearest(trial, close) if close else f"completed and best by validation: {', '.join(ids[:NAMED])}"


def choose(run: RunFolder, most_parameters: int) -> Choice:
    """Choose the best trial of a run's best arm with at most `most_parameters` parameters.

    The best arm has the highest mean validation accuracy over its seeds, counting only seeds with all folds
    completed; the best trial has the highest validation accuracy in that arm. Test accuracy is not used. If
    a search has confirmed nets, only those count: their seeds are fresh, whereas the best draw is partly
    lucky. Ties are broken by fewer parameters, then by name.

    Raises:
        InputError: No completed arm is small enough, or the small arms belong to several data sets.

    """
    planned = {entry["trial_id"]: entry.get("fold") for entry in run.plan.trials()}
    rows = [found.trial for trial_id, found in run.journal.records().items() if trial_id in planned]
    rows = [row for row in rows if row["status"] == "completed"]
    rows = [row for row in rows if row["phase"] == "confirmation"] or rows
    if not rows:
        raise InputError(f"{run.folder}: no trial is completed yet, so there is no net to export")
    counts = Counter(map(_seed_of, rows))
    rows = [row for row in rows if counts[_seed_of(row)] == len(set(planned.values()))]
    if not rows:
        raise InputError(f"{run.folder}: no seed has all its folds completed yet, so no arm can be chosen")
    small = [row for row in rows if row["parameters"] <= most_parameters]
    if not small:
        least = min(rows, key=lambda row: row["parameters"])
        raise InputError(
            f"{run.folder}: no completed arm has at most {most_parameters:,} parameters; the smallest, "
            f"{least['arm']}, has {least['parameters']:,}: --best-under {least['parameters']}"
        )
    best: list[tuple[str, Choice]] = []
    for members in _grouped(small, _images_of).values():
        arms = sorted(_grouped(members, itemgetter("arm")).values(), key=_rank)
        first = max(arms[0], key=lambda row: (row["val_accuracy"], row["trial_id"]))
        choice = Choice(first["trial_id"], first["arm"], -_rank(arms[0])[0], len(arms[0]), len(arms))
        best.append((first["dataset"], choice))
    if len(best) > 1:
        named = "; ".join(f"{name}: {choice.trial_id} ({choice.arm})" for name, choice in best)
        raise InputError(
            f"{run.folder}: --best-under {most_parameters}: accuracies on {len(best)} data sets cannot be "
            f"compared; name one of their best trials: {named}"
        )
    return best[0][1]


def _grouped(
    rows: Collection[dict[str, Any]], key: Callable[[dict[str, Any]], str]
) -> dict[str, list[dict[str, Any]]]:
    return {name: list(group) for name, group in groupby(sorted(rows, key=key), key=key)}


def _seed_of(row: dict[str, Any]) -> tuple[str, str, int]:
    return _images_of(row), row["arm"], row["seed"]


def _images_of(row: dict[str, Any]) -> str:
    """Return the identity of a record's images; records older than fingerprints use their location."""
    place = [row["dataset"], *(row.get(f"config.dataset.{key}") for key in ("path", "image_size"))]
    return row.get("data_fingerprint") or canonical_json(place)


def _rank(rows: Sequence[dict[str, Any]]) -> tuple[float, int, str]:
    """Return a sort key for arms, best first."""
    return -fmean(row["val_accuracy"] for row in rows), rows[0]["parameters"], rows[0]["arm"]


def last_stage(run: RunFolder, found: Record, store: Path) -> tuple[str, StageResult]:
    """Return the key and the stored result of a completed trial's last stage.

    Raises:
        InputError: The result is not stored, cannot be read, or is damaged.

    """
    key: str | None = found.stages[-2]["key"]  # the last row is the assessment
    if key is None:
        raise InputError(f"{run.folder}: the record of trial {found.trial['trial_id']} names no weights")
    path = stage_file(store, key)
    try:
        return key, StageResult.from_bytes(read_bytes(path), key)
    except FileNotFoundError:
        fault = "are no longer stored"
    except UnreadableError as error:
        fault = f"cannot be read ({error})"
    except DamagedResultError as error:
        fault = f"are damaged ({path}: {error})"
    raise InputError(
        f"{run.folder}: the weights of trial {found.trial['trial_id']} {fault}; {_train_again(run.folder)}"
    )


def _train_again(folder: Path) -> str:
    """Return the command that fills the store again; without --fresh, recorded trials are not retrained."""
    out = "" if folder.parent == Path("runs") else f" --out {folder.parent}"
    return f"lightsweep run {folder / 'sweep.yaml'}{out} --fresh trains the run again"


def describe_file(run: RunFolder, found: Record, dataset: Dataset, key: str) -> dict[str, str]:
    """Return the metadata of a file: classes, input and output format, and provenance."""
    row, stage, info = found.trial, found.stages[-2], dataset.info
    shape = f"{info.channels}, {info.height}, {info.width}"
    facts = {
        "classes": json.dumps(info.classes, ensure_ascii=False),
        "input": f"images: float32 [n, {shape}] in [0, 1] (bytes / 255); normalisation is inside",
        "output": f"logits: float32 [n, {len(info.classes)}]; the largest logit is the predicted class",
        "made_by": f"lightsweep {__version__}",
        "run": run.folder.resolve().name,
        **{name: row[name] for name in ("trial_id", "arm", "seed", "fold", "parameters", "spec_hash")},
        "dataset": info.name,
        "dataset_fingerprint": dataset.fingerprint,
        "val_accuracy": row["val_accuracy"],
        "test_accuracy": row["test_accuracy"],
        "stage_key": key,
        "commit": row["commit"],
        "trained_at": stage["started_at"],
        "trained_with": f"torch {stage['torch']} on {stage['hardware']}",
        "exported_with": f"torch {torch.__version__}",
    }
    return {name: str(fact) for name, fact in facts.items() if fact not in (None, "")}


def some_images(test: Images, at_most: int = CHECKED_IMAGES) -> tuple[Tensor, Tensor]:
    """Return test images, float32 [n, channels, height, width] in [0, 1], and their labels, int64 [n].

    They are evenly spaced, because the first thousand of an image folder are of one class.
    """
    total = len(test.labels)
    count = min(total, at_most)
    index = np.arange(count) * total // count
    images = as_tensor(test.pixels[index]).permute(0, 3, 1, 2).float().div_(255)
    return images, as_tensor(test.labels[index])
