"""Summarise trials: one row per arm."""

import numpy as np
import pandas as pd

from analysis import notation
from analysis.reading import STATUSES, RunError
from analysis.seeds import seed_effects, whole_seeds

ARM_KEY = ["run", "dataset", "arm"]


SPLITS = ("val", "test", "train")


ACCURACIES = [f"{split}_accuracy" for split in SPLITS]


NET, OLD_NET = "config.model.net", "config.model.architecture"


OWN_NETS = ("paper-cnn", "submodels")  # in the older column, submodels are the paper's net


def summarise_arms(trials: pd.DataFrame) -> pd.DataFrame:
    """Reduce trials (of `Run.trials`, or several concatenated) to one row per run, data set and arm.

    Columns: run, dataset, arm; label (the arm, prefixed with its run if there are several runs); n_completed,
    n_early_stopped, n_failed (numbers of trials); n_seeds (seeds of which every fold completed);
    n_seeds_tried (seeds with any finished trial, whatever its status); parameters, macs (Int64, known also
    for arms without a completed trial); weight_bytes (Int64, the largest over the arm's trials, since a
    compressed net's size may differ slightly between seeds); latency_ms (median over its trials); val_mean,
    val_std, test_mean, test_std, train_mean, train_std (fractions, over the n_seeds seeds of
    `seeds.whole_seeds`; sample standard deviation, ddof 1, null for fewer than two seeds; all null if any of
    the seeds lacks the value); is_corrected (bool: the arm lacks seeds that other arms of its run have, and
    its means are adjusted to all seeds by the model arm + seed of `seeds.seed_effects`; never in a search,
    where each net is planned with a single seed); seconds (mean over completed trials); config (str: the
    hyperparameters in which the arms differ); is_reference (bool: a reference net, not submodels).

    Raises:
        RunError: The trials of one arm differ in parameters or MACs.

    """
    groups = trials.groupby(ARM_KEY, sort=False)
    arms = pd.DataFrame(index=groups.size().index)
    for status in STATUSES:
        arms[f"n_{status}"] = trials["status"].eq(status).groupby([trials[key] for key in ARM_KEY]).sum()
    for cost in ("parameters", "macs"):
        differing = groups[cost].nunique().gt(1)
        if differing.any():
            run, dataset, arm = differing.index[differing.to_numpy()][0]
            found = sorted(groups[cost].unique().loc[(run, dataset, arm)].dropna())
            raise RunError(
                f"run {run}, data set {dataset}: the trials of arm {arm!r} have different {cost} ({found}); "
                "an arm is one model: give different models different arm names"
            )
        arms[cost] = groups[cost].first()
    arms["weight_bytes"] = groups["weight_bytes"].max()
    arms["latency_ms"] = groups["latency_ms"].median()
    completed = trials[trials["status"] == "completed"]
    by_seed = whole_seeds(trials, ACCURACIES)
    over_seeds = by_seed.groupby(level=ARM_KEY, sort=False)
    arms["n_seeds"] = over_seeds.size().reindex(arms.index, fill_value=0)
    arms["n_seeds_tried"] = groups["seed"].nunique()
    for split, column in zip(SPLITS, ACCURACIES, strict=True):
        arms[f"{split}_mean"] = over_seeds[column].mean(skipna=False)
        arms[f"{split}_std"] = over_seeds[column].std(ddof=1, skipna=False)
    arms["is_corrected"] = False
    _correct_means(arms, by_seed, trials)
    arms["seconds"] = completed.groupby(ARM_KEY, sort=False)["seconds"].mean(skipna=False)
    arms["config"] = _describe_configs(trials)
    arms["is_reference"] = is_reference(trials).groupby([trials[key] for key in ARM_KEY], sort=False).first()
    arms = arms.reset_index()
    labels = arms["arm"] if arms["run"].nunique() <= 1 else arms["run"] + " · " + arms["arm"]
    return arms.assign(label=labels)


def is_reference(trials: pd.DataFrame) -> pd.Series:
    """Return for each trial whether its net is a published one, alone: no code of one's own, not fused."""
    columns = [NET, OLD_NET, "config.model.inputs", "config.model.fusion"]
    net, old, inputs, fusion = (trials.reindex(columns=columns)[column] for column in columns)
    is_alone = inputs.eq("single") & fusion.eq("none")
    is_published = net.notna() & ~net.isin(OWN_NETS) & ~net.astype(str).str.contains(".py:", regex=False)
    return (is_published & is_alone) | (old.notna() & ~old.isin(OWN_NETS))


def _correct_means(arms: pd.DataFrame, by_seed: pd.DataFrame, trials: pd.DataFrame) -> None:
    """Adjust the means of arms that lack seeds which other arms of their run have."""
    searched = set(trials.loc[trials["phase"] == "search", "run"]) if "phase" in trials else set()
    for key, rows in by_seed.groupby(level=["run", "dataset"], sort=False):
        if key[0] in searched:
            continue
        for split, column in zip(SPLITS, ACCURACIES, strict=True):
            table = rows[column].unstack("seed")
            known = table.notna()
            effects = seed_effects(table.to_numpy(np.float64))
            lacking = ~known.all(axis=1) & known.any(axis=1)
            if not effects.is_estimable or not lacking.any():
                continue
            seen = (known * effects.columns).sum(axis=1) / known.sum(axis=1)
            index = lacking.index[lacking]
            arms.loc[index, f"{split}_mean"] -= seen[lacking]
            arms.loc[index, "is_corrected"] = True


def differing_settings(trials: pd.DataFrame) -> list[str]:
    """List the columns `config.<key>` that have two or more values in `trials`; missing counts as a value."""
    columns = [str(column) for column in trials if str(column).startswith("config.")]
    return [column for column in columns if trials[column].map(notation.value).nunique() > 1]


def _without_digests(values: pd.Series) -> pd.Series:
    """Leave out the digests of code of the user's own, where the names alone tell the values apart."""
    short = values.str.replace(notation.OWN_CODE, r"\1", regex=True)
    return short if short.nunique() == values.nunique() else values


def _describe_configs(trials: pd.DataFrame) -> list[str]:
    """Describe each arm, in order of appearance: one line per hyperparameter that differs anywhere.

    Settings of a group that an arm does not have (`compression.epochs` of an uncompressed net) are omitted.
    """
    columns = differing_settings(trials)
    groups = (
        trials[columns]
        .map(notation.value)
        .apply(_without_digests)
        .groupby([trials[key] for key in ARM_KEY], sort=False)
    )
    descriptions = []
    for _, rows in groups:
        settings = {column.removeprefix("config."): rows[column].unique() for column in columns}
        lines = [
            f"{key} = {found[0] if len(found) == 1 else 'varies'}"
            for key, found in settings.items()
            if "." not in key or list(found) != [notation.MISSING]
        ]
        descriptions.append("\n".join(lines))
    return descriptions
