"""Learning curves of arms, from the records of epochs."""

from dataclasses import dataclass

import pandas as pd

from analysis.arms import ARM_KEY

MOST_ARMS = 40  # more are neither readable nor quick to draw


@dataclass(frozen=True)
class LearningCurves:
    """Validation accuracy over the epochs of the completed trials of one data set.

    `trials`: label, trial_id, seed, fold, trial_epoch (1-based over the trial), stage, val_accuracy
    (fraction), a row per trial and epoch. `means`: label, trial_epoch, val_accuracy (mean over the arm's
    seeds, folds averaged first), deviation (sample standard deviation over seeds, null for one), n (number of
    seeds); it ends where the arm's shortest trial ends. `starts`: the rows of `trials` that begin a stage,
    including the first stage. `labels`: the arms, those on the front first, then in descending order of
    accuracy; `rows`: their indices in the table of arms; `on_front`: how many of them are on the front;
    `left_out`: how many further arms have completed trials. `shared_starts`: (trial_epoch, stage) of each
    start if all trials agree, else None.
    """

    trials: pd.DataFrame
    means: pd.DataFrame
    starts: pd.DataFrame
    labels: tuple[str, ...]
    rows: tuple[int, ...]
    on_front: int
    left_out: int
    shared_starts: tuple[tuple[int, str], ...] | None


def learning_curves(
    epochs: pd.DataFrame, trials: pd.DataFrame, arms: pd.DataFrame, most: int = MOST_ARMS
) -> LearningCurves:
    """Collect the learning curves of at most `most` of `arms` (`mark_front`'s rows of one data set).

    `epochs` and `trials` are `Run.epochs` and `Run.trials`, or several concatenated; trials that did not
    complete are left out.
    """
    completed = trials.loc[trials["status"] == "completed", [*ARM_KEY, "trial_id"]]
    recorded = completed.merge(epochs[["run", "trial_id"]].drop_duplicates(), on=["run", "trial_id"])
    ranked = arms.reset_index(drop=True).sort_values(  # nulls, the arms off the front, come last
        ["front_rank", "val_mean"], ascending=[True, False], kind="stable"
    )
    ranked = ranked[
        pd.MultiIndex.from_frame(ranked[ARM_KEY]).isin(pd.MultiIndex.from_frame(recorded[ARM_KEY]))
    ]
    chosen = ranked.head(most)
    drawn = completed.merge(chosen[[*ARM_KEY, "label"]], on=ARM_KEY)
    shown = epochs.merge(drawn[["run", "trial_id", "label"]], on=["run", "trial_id"], validate="many_to_one")
    columns = [
        "label",
        "run",
        "trial_id",
        "seed",
        "fold",
        "trial_epoch",
        "stage",
        "stage_index",
        "val_accuracy",
    ]
    shown = shown[columns].sort_values(["label", "run", "trial_id", "trial_epoch"], ignore_index=True)

    by_seed = shown.groupby(["label", "trial_epoch", "run", "seed"])["val_accuracy"].mean(skipna=False)
    over_seeds = by_seed.groupby(level=["label", "trial_epoch"])
    means = pd.DataFrame(
        {
            "val_accuracy": over_seeds.mean(skipna=False),
            "deviation": over_seeds.std(ddof=1, skipna=False),
            "n": over_seeds.size(),
            "trials": shown.groupby(["label", "trial_epoch"]).size(),
        }
    ).reset_index()
    whole = means.pop("trials") == means["label"].map(shown.groupby("label")["trial_id"].nunique())

    starts = shown[~shown.duplicated(["run", "trial_id", "stage_index"])]
    patterns = {
        tuple(zip(rows["trial_epoch"].astype(int), rows["stage"], strict=True))
        for _, rows in starts.groupby(["run", "trial_id"])
    }
    return LearningCurves(
        trials=shown,
        means=means[whole].reset_index(drop=True),
        starts=starts.reset_index(drop=True),
        labels=tuple(chosen["label"]),
        rows=tuple(chosen.index.tolist()),
        on_front=int(chosen["on_front"].sum()),
        left_out=len(ranked) - len(chosen),
        shared_starts=patterns.pop() if len(patterns) == 1 else None,
    )
