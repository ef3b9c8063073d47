"""Failure signs, checked in every run: those that arXiv 2501.15547 names, and nets that learnt nothing."""

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import notation
from analysis.arms import ARM_KEY

# Thresholds are fractions: 0.01 is one point. A sign shows above its threshold, not at it.
DRIFT_GAP = 0.05
UNFREEZING_DROP = 0.01
TEST_GAP = 0.20
FOLD_SPREAD = 0.02
ROUNDING = 1e-6  # fraction; accuracies are recorded from float32, and differ by less than this when equal

NOTHING = "learnt nothing"
DRIFT = "submodels drift apart"
UNFREEZING = "accuracy drops after unfreezing"
OVERFITTING = "train/test gap"
FOLDS = "folds differ"

ADVICE = {
    NOTHING: "no better than one answer for every image, so it says nothing of the net: train it for more "
    "epochs, or at another learning rate",
    DRIFT: "fusion would lean on one submodel: augment less, or give the submodel on augmented images a "
    "longer first stage",
    UNFREEZING: "the learning rate is too high: try a tenth of it (the paper: 0.0001)",
    OVERFITTING: "overfitting: try more augmentation or dropout, more images, or fewer filters",
    FOLDS: "the training set is small or the split unlucky: judge by the mean over the folds, and by more "
    "seeds",
}
KINDS = tuple(ADVICE)

TRIAL_KEY = ["run", "trial_id"]
STAGE_KEY = [*TRIAL_KEY, "stage_index"]
NAMES = [*ARM_KEY, "trial_id", "seed", "fold"]

# Which output the val_accuracy of a stage belongs to.
NET, BOTH_HEADS, HEAD_A, HEAD_B, SINGLE_HEAD = range(5)


@dataclass(frozen=True)
class Sign:
    """A failure sign that an arm shows, with the worst trial that shows it."""

    kind: str
    """One of `KINDS`."""
    run: str
    dataset: str
    arm: str
    trials: int
    """Number of the arm's completed trials (for folds: of its seeds) that show it."""
    of: int
    """Number of those that have the values needed for the check."""
    worst_trial: str
    """trial_id of the worst trial; for folds, that of the fold with the lowest accuracy."""
    worst_seed: int
    worst_fold: int | None
    finding: str
    """Description of the worst trial, with its numbers."""
    advice: str


def find_signs(trials: pd.DataFrame, epochs: pd.DataFrame) -> tuple[Sign, ...]:
    """Find the failure signs in the completed trials, each at most once per run, data set and arm.

    `trials` and `epochs` are `Run.trials` and `Run.epochs`, or several concatenated. The signs come
    in the order of `KINDS`, then by the share of trials that show them, largest first, then by arm.
    """
    if trials.empty:
        return ()
    completed = trials[trials["status"] == "completed"]
    marked = _mark_outputs(completed, epochs)
    signs = [
        *_name_signs(NOTHING, _check_nothing(completed), _describe_nothing),
        *_name_signs(DRIFT, _check_drift(marked), _describe_drift),
        *_name_signs(UNFREEZING, _check_unfreezing(marked), _describe_unfreezing),
        *_name_signs(OVERFITTING, _check_overfitting(completed), _describe_overfitting),
        *_name_signs(FOLDS, _check_folds(completed), _describe_folds),
    ]
    return tuple(sorted(signs, key=_rank))


def _rank(sign: Sign) -> tuple[int, float, str, str, str]:
    return KINDS.index(sign.kind), -sign.trials / sign.of, sign.arm, sign.run, sign.dataset


def _name_signs(
    kind: str, checks: pd.DataFrame, describe: Callable[[dict[Hashable, Any]], str]
) -> tuple[Sign, ...]:
    """Reduce checks to one sign for each arm that shows it.

    `checks` has a row per check that could be made: the columns `NAMES`, size (a fraction, by which the worst
    is chosen), shows (bool) and the columns that `describe` needs.
    """
    shown = checks[checks["shows"]]
    checked_trials = checks.groupby(ARM_KEY)["trial_id"].nunique().to_dict()
    shown_trials = shown.groupby(ARM_KEY)["trial_id"].nunique().to_dict()
    worst = shown.sort_values(["size", "seed", "fold", "trial_id"], ascending=[False, True, True, True])
    return tuple(
        Sign(
            kind=kind,
            run=row["run"],
            dataset=row["dataset"],
            arm=row["arm"],
            trials=shown_trials[row["run"], row["dataset"], row["arm"]],
            of=checked_trials[row["run"], row["dataset"], row["arm"]],
            worst_trial=row["trial_id"],
            worst_seed=int(row["seed"]),
            worst_fold=None if pd.isna(row["fold"]) else int(row["fold"]),
            finding=describe(row),
            advice=ADVICE[kind],
        )
        for row in worst.drop_duplicates(ARM_KEY).to_dict("records")
    )


def _mark_outputs(completed: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return the epochs of completed trials, in order, with `NAMES` and outputs, one code per stage.

    A net with two heads has the accuracies of both recorded, even in a stage that trains only one of them;
    such a stage's val_accuracy is that of the head, where otherwise it is the mean of both. The epochs do not
    record when a single submodel gets the layers of its fusion: for such nets, the first stage is assumed to
    train the head.
    """
    keys = ["config.model.inputs", "config.model.fusion", "config.compression.prune"]
    settings = completed.reindex(columns=keys)
    fuses_alone = settings["config.model.inputs"].eq("single") & settings["config.model.fusion"].ne("none")
    is_pruned = settings["config.compression.prune"].notna()
    trials = completed[NAMES].assign(fuses_alone=fuses_alone, is_pruned=is_pruned)
    columns = ["stage", "epoch", "is_kept", "val_accuracy", "val_accuracy_a", "val_accuracy_b"]
    marked = epochs[[*STAGE_KEY, *columns]].merge(trials, on=TRIAL_KEY)
    marked = marked.sort_values(["stage_index", "epoch"], ignore_index=True)
    value, a, b = (marked[column] for column in columns[-3:])
    cases = {
        SINGLE_HEAD: marked["fuses_alone"] & (marked["stage_index"] == 0),
        HEAD_A: (value == a) & (a != b),
        HEAD_B: (value == b) & (a != b),
        BOTH_HEADS: a.notna(),
    }
    # Rows that are ambiguous, because a value is missing or the heads agree, have the lower codes.
    marked["outputs"] = np.select([case.to_numpy(bool) for case in cases.values()], list(cases), NET)
    return marked.assign(outputs=marked.groupby(STAGE_KEY)["outputs"].transform("max"))


def _check_drift(marked: pd.DataFrame) -> pd.DataFrame:
    """Compare the gap between the submodels at the last epoch of each stage that trains both to its first."""
    heads = marked[marked["outputs"] == BOTH_HEADS]
    heads = heads.assign(size=(heads["val_accuracy_a"] - heads["val_accuracy_b"]).abs())
    first = heads.drop_duplicates(STAGE_KEY)[[*STAGE_KEY, "size"]]
    last = heads.drop_duplicates(STAGE_KEY, keep="last")
    checks = last.merge(first, on=STAGE_KEY, suffixes=("", "_first")).dropna(subset=["size", "size_first"])
    grown = checks["size"] > checks["size_first"] + ROUNDING
    return checks.assign(shows=grown & (checks["size"] > DRIFT_GAP + ROUNDING))


def _describe_drift(row: dict[Hashable, Any]) -> str:
    return (
        f"stage {row['stage']} ends with submodel A at {notation.percent(row['val_accuracy_a'])} and B at "
        f"{notation.percent(row['val_accuracy_b'])} (gap {_points(row['size'])} points, "
        f"{_points(row['size_first'])} at its start)"
    )


def _check_unfreezing(marked: pd.DataFrame) -> pd.DataFrame:
    """Compare the first epoch of each stage with the epoch that the stage before kept, of the same outputs.

    A stage that begins by pruning unfreezes nothing: its drop is due to the removed weights.
    """
    first = marked.drop_duplicates(STAGE_KEY)
    first = first[~(first["is_pruned"] & first["stage"].eq("prune"))]
    before = marked[marked["is_kept"]].assign(stage_index=lambda kept: kept["stage_index"] + 1)
    before = before[[*STAGE_KEY, "outputs", "stage", "val_accuracy"]]
    checks = first.merge(before, on=[*STAGE_KEY, "outputs"], suffixes=("", "_before"))
    checks = checks.assign(size=checks["val_accuracy_before"] - checks["val_accuracy"]).dropna(subset="size")
    return checks.assign(shows=checks["size"] > UNFREEZING_DROP + ROUNDING)


def _describe_unfreezing(row: dict[Hashable, Any]) -> str:
    return (
        f"stage {row['stage']} is at {notation.percent(row['val_accuracy'])} after its first epoch, "
        f"{_points(row['size'])} points below the {notation.percent(row['val_accuracy_before'])} of stage "
        f"{row['stage_before']}"
    )


def _check_nothing(completed: pd.DataFrame) -> pd.DataFrame:
    """Compare each trial's test accuracy with the share of the most frequent class of the test images."""
    if "test_confusion" not in completed:  # which not every reader of records takes
        completed = completed.assign(test_confusion=None)
    checks = completed.dropna(subset=["test_accuracy", "test_confusion"])
    shares = [_largest_share(text) for text in checks["test_confusion"]]
    checks = checks.assign(share=pd.Series(shares, checks.index, dtype=float))
    checks = checks.assign(size=checks["share"] - checks["test_accuracy"])
    return checks.assign(shows=checks["size"] >= -ROUNDING)


def _largest_share(confusion: str) -> float:
    """Return the share of the largest class, from counts [true class, predicted class] as JSON."""
    counts = [sum(row) for row in json.loads(confusion)]
    return float(max(counts) / sum(counts))


def _describe_nothing(row: dict[Hashable, Any]) -> str:
    return (
        f"{notation.percent(row['test_accuracy'])} on test images, of which the largest class is "
        f"{notation.percent(row['share'])}"
    )


def _check_overfitting(completed: pd.DataFrame) -> pd.DataFrame:
    """Compare the accuracies of each trial's final net on training and test images."""
    checks = completed.assign(size=completed["train_accuracy"] - completed["test_accuracy"])
    checks = checks.dropna(subset="size")
    return checks.assign(shows=checks["size"] > TEST_GAP + ROUNDING)


def _describe_overfitting(row: dict[Hashable, Any]) -> str:
    return (
        f"{notation.percent(row['train_accuracy'])} on training images, "
        f"{notation.percent(row['test_accuracy'])} on test images (gap {_points(row['size'])} points)"
    )


def _check_folds(completed: pd.DataFrame) -> pd.DataFrame:
    """Compare the lowest and the highest fold of each seed that has at least two; the row is the lowest's."""
    key = [*ARM_KEY, "seed"]
    folds = completed.dropna(subset=["fold", "val_accuracy"]).sort_values(["val_accuracy", "fold"])
    folds = folds.assign(folds=folds.groupby(key)["trial_id"].transform("size"))
    highest = folds.drop_duplicates(key, keep="last")[[*key, "fold", "val_accuracy"]]
    checks = folds[folds["folds"] > 1].drop_duplicates(key).merge(highest, on=key, suffixes=("", "_highest"))
    checks = checks.assign(size=checks["val_accuracy_highest"] - checks["val_accuracy"])
    return checks.assign(shows=checks["size"] > FOLD_SPREAD + ROUNDING)


def _describe_folds(row: dict[Hashable, Any]) -> str:
    return (
        f"the {row['folds']} folds of seed {row['seed']} reach from {notation.percent(row['val_accuracy'])} "
        f"(fold {row['fold']}) to {notation.percent(row['val_accuracy_highest'])} (fold "
        f"{row['fold_highest']}), {_points(row['size'])} points apart"
    )


def _points(fraction: float) -> str:
    return f"{100 * fraction:.2f}"
