"""Compare several runs: the facts that differ, the results of shared arms, and what the fronts cover."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from analysis import notation
from analysis.arms import ARM_KEY, summarise_arms
from analysis.front.result import covered_share
from analysis.search.confirmation import judged_trials
from analysis.statistics.paired import Interval, interval
from analysis.tables import Run

SWEEP_FILE = "sweep.yaml"
UNREADABLE = "not readable"
HARDWARE = ("cpu", "cores", "gpus")
ANOTHER_NET, SAME_TRIALS = "a different net", "the same trials"
NOT_PAIRED, OTHER_SETTINGS = "no seed in common", "different settings"


@dataclass(frozen=True)
class Fact:
    """A fact in which runs differ: a setting, or an entry of the environment."""

    key: str
    """Dotted key, in sweep.yaml or in environment.json (`commit`, `versions.…`, `hardware.…`)."""
    values: tuple[str, ...]
    """Value for each run, in their order; "–" for a run that has none."""


@dataclass(frozen=True)
class Difference:
    """Test accuracy of an arm in one run minus that in another, paired by seed; fractions."""

    n: int
    """Number of seeds in common, with the same folds completed."""
    mean: float
    bounds: Interval | None
    """95% interval of the mean; None for one seed."""


@dataclass(frozen=True)
class ComparedArm:
    """Results of an arm in one run. Accuracies are fractions; folds are averaged within their seed."""

    run: str
    parameters: int
    n_seeds: int
    """Number of seeds with a result."""
    val_mean: float
    val_std: float | None
    """Sample standard deviation over seeds; None for one seed."""
    test_mean: float | None
    test_std: float | None
    difference: Difference | None
    """Difference from the first run that has the arm; None for that run, a different net, or no seed in
    common."""
    remark: str
    """`ANOTHER_NET`, `SAME_TRIALS`, `NOT_PAIRED`, `OTHER_SETTINGS`, or empty."""


@dataclass(frozen=True)
class SharedArm:
    """An arm that has completed trials in two or more runs."""

    dataset: str
    arm: str
    results: tuple[ComparedArm, ...]
    """Result in each run that has the arm, in their order."""

    @property
    def is_comparable(self) -> bool:
        """Whether the arm of some other run is the same net as the first run's."""
        return any(result.remark != ANOTHER_NET for result in self.results[1:])


@dataclass(frozen=True)
class FrontShare:
    """What a run's front covers on a data set; see `front.result.covered_share`."""

    dataset: str
    run: str
    share: float
    n_arms: int
    """Number of arms with a result."""


@dataclass(frozen=True)
class _Trial:
    """The values by which two trials are compared."""

    spec_hash: str | None
    val: float
    test: float


_Seeds = dict[int, dict[int, list[_Trial]]]
"""Seed -> fold (-1 without folds) -> completed trials, more than one only if they were repeated."""


def differing_facts(runs: Sequence[Run]) -> list[Fact]:
    """List the settings and environment entries in which runs differ.

    From `sweep.yaml`: each dotted key (lists as JSON, lists of named items by their names) except the sweep's
    name; null counts as absent. If a run's file cannot be parsed, one row says so, and the other runs are
    compared with each other. From `environment.json`: commit, versions and processors, but not host, time and
    command.
    """
    settings = [_settings(run.sweep_text) for run in runs]
    facts = []
    if None in settings:
        told = tuple(notation.MISSING if found is not None else UNREADABLE for found in settings)
        facts.append(Fact(SWEEP_FILE, told))
    facts += _differing(settings, UNREADABLE)
    return facts + _differing([_surroundings(run.environment) for run in runs], notation.MISSING)


def shared_arms(runs: Sequence[Run]) -> list[SharedArm]:
    """Compare the arms that have completed trials on the same data set in two or more runs.

    For a search that was confirmed, only the confirmation counts (`confirmation.judged_trials`). An arm is
    the same net if its parameters are equal and, where a search named it (by its number), its settings as
    well.
    """
    judged = _judged(runs)
    arms = summarise_arms(judged)
    arms = arms[arms["n_seeds"] > 0]
    is_shared = arms.groupby(["dataset", "arm"])["run"].transform("nunique") > 1
    arms = arms[is_shared.astype(bool)]
    seeds = _seeds_by_arm(judged, arms)
    searched = set(judged.loc[judged["phase"].notna(), "run"])
    rows: dict[tuple[str, str], list[dict[Any, Any]]] = {}
    for row in arms.to_dict("records"):
        rows.setdefault((str(row["dataset"]), str(row["arm"])), []).append(row)
    shared = []
    for key, (first, *others) in rows.items():
        results = [_result(first, None, "")]
        for row in others:
            is_as_large = bool(row["parameters"] == first["parameters"])
            is_searched = not searched.isdisjoint((first["run"], row["run"]))
            ours, theirs = seeds[(first["run"], *key)], seeds[(row["run"], *key)]
            results.append(_result(row, *_compare(ours, theirs, is_as_large, is_searched)))
        shared.append(SharedArm(*key, tuple(results)))
    return shared


def front_shares(runs: Sequence[Run]) -> list[FrontShare]:
    """Return what fronts cover on the data sets on which two or more runs have completed trials."""
    arms = summarise_arms(_judged(runs))
    arms = arms[arms["n_seeds"] > 0]
    shares = []
    for dataset, rows in arms.groupby("dataset", sort=False):
        if rows["run"].nunique() > 1:
            shares += [
                FrontShare(str(dataset), str(run), covered_share(own), len(own))
                for run, own in rows.groupby("run", sort=False)
            ]
    return shares


def _judged(runs: Sequence[Run]) -> pd.DataFrame:
    """Pool the trials that fronts may be made of, without settings, which are slow to describe."""
    trials = pd.concat([run.trials for run in runs], ignore_index=True)
    return judged_trials(trials[[name for name in trials if not str(name).startswith("config.")]])


def _settings(text: str) -> dict[str, str] | None:
    """Flatten a sweep.yaml; None if it cannot be parsed."""
    try:
        tree = YAML(typ="safe").load(text)
        if tree is None:
            return {}
        if not isinstance(tree, Mapping):
            return None
        return dict(_leaves({key: value for key, value in tree.items() if key != "name"}))
    except (YAMLError, ValueError, RecursionError):
        return None


def _leaves(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, list) and value and all(_is_named(item) for item in value):
            names = [str(item["name"]) for item in value]
            if len(set(names)) == len(names):
                value = dict(zip(names, value, strict=True))
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", _value_text(value)


def _is_named(item: Any) -> bool:
    return isinstance(item, Mapping) and "name" in item


def _value_text(value: Any) -> str:
    if isinstance(value, bool | list | Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    return notation.value(value) or notation.MISSING


def _surroundings(environment: Mapping[str, Any]) -> dict[str, str]:
    """Flatten the entries of environment.json on the program and the processors."""
    hardware = environment.get("hardware")
    processors = {key: hardware.get(key) for key in HARDWARE} if isinstance(hardware, Mapping) else {}
    if isinstance(gpus := processors.get("gpus"), list):
        processors["gpus"] = notation.listed([str(gpu) for gpu in gpus]) if gpus else "none"
    tree = {key: environment.get(key) for key in ("commit", "versions")}
    return dict(_leaves({**tree, "hardware": processors or None}))


def _differing(trees: Sequence[Mapping[str, str] | None], unknown: str) -> list[Fact]:
    """List the keys whose values differ between the trees that are not None."""
    known = [tree for tree in trees if tree is not None]
    facts = []
    for key in dict.fromkeys(key for tree in known for key in tree):
        if len({tree.get(key, notation.MISSING) for tree in known}) > 1:
            values = (unknown if tree is None else tree.get(key, notation.MISSING) for tree in trees)
            facts.append(Fact(key, tuple(values)))
    return facts


def _seeds_by_arm(trials: pd.DataFrame, arms: pd.DataFrame) -> dict[tuple[str, str, str], _Seeds]:
    """Return the completed trials of the arms, by run, data set and arm."""
    found: dict[tuple[str, str, str], _Seeds] = {
        row: {} for row in arms[ARM_KEY].itertuples(index=False, name=None)
    }
    completed = trials.loc[trials["status"] == "completed"]
    columns = [*ARM_KEY, "seed", "fold", "spec_hash", "val_accuracy", "test_accuracy"]
    for run, dataset, arm, seed, fold, spec_hash, val, test in completed[columns].itertuples(
        index=False, name=None
    ):
        if (run, dataset, arm) in found:
            folds = found[run, dataset, arm].setdefault(int(seed), {})
            trial = _Trial(None if pd.isna(spec_hash) else str(spec_hash), val, test)
            folds.setdefault(-1 if pd.isna(fold) else int(fold), []).append(trial)
    return found


def _compare(
    first: _Seeds, other: _Seeds, is_as_large: bool, is_searched: bool
) -> tuple[Difference | None, str]:
    """Compare an arm's trials in a run with those in the first run that has it."""
    settings = [{trial.spec_hash for trial in _trials(seeds)} for seeds in (first, other)]
    are_known = None not in settings[0] | settings[1]
    if not is_as_large or (is_searched and settings[0] != settings[1]):
        return None, ANOTHER_NET
    common = [seed for seed in first if first[seed].keys() == other.get(seed, {}).keys()]
    tests = {seed: (_test_mean(first[seed]), _test_mean(other[seed])) for seed in common}
    gaps = np.array([theirs - ours for ours, theirs in tests.values()], dtype=np.float64)
    gaps = gaps[~np.isnan(gaps)].round(12)  # 1e-12 of an accuracy is rounding: equal arms must be equal
    remark = OTHER_SETTINGS if are_known and settings[0] != settings[1] else ""
    if not len(gaps):
        return None, remark or NOT_PAIRED
    if are_known and not remark and all(first[seed] == other[seed] for seed in common):
        remark = SAME_TRIALS
    return Difference(len(gaps), float(gaps.mean()), interval(gaps)), remark


def _trials(seeds: _Seeds) -> Iterator[_Trial]:
    return (trial for folds in seeds.values() for trials in folds.values() for trial in trials)


def _test_mean(folds: Mapping[int, Sequence[_Trial]]) -> float:
    """Average the test accuracies of a seed; NaN if one is missing."""
    return float(np.mean([trial.test for trials in folds.values() for trial in trials]))


def _result(row: Mapping[Any, Any], difference: Difference | None, remark: str) -> ComparedArm:
    return ComparedArm(
        run=str(row["run"]),
        parameters=int(row["parameters"]),
        n_seeds=int(row["n_seeds"]),
        val_mean=float(row["val_mean"]),
        val_std=_known(row["val_std"]),
        test_mean=_known(row["test_mean"]),
        test_std=_known(row["test_std"]),
        difference=difference,
        remark=remark,
    )


def _known(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
