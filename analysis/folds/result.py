"""How far the folds of a cross-validation lie apart, arm by arm; folds are never counted as runs.

Each seed draws its own folds: fold 0 of one seed and fold 0 of another are different images. So folds are
compared within their seed only, and only means over a seed's folds are compared across seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from analysis.arms import ARM_KEY
from analysis.course.signs import FOLD_SPREAD, ROUNDING

_Key = tuple[Any, ...]  # values of ARM_KEY


@dataclass(frozen=True)
class FoldResult:
    """A completed trial on one fold; accuracies are fractions."""

    fold: int
    val_accuracy: float
    """Accuracy on the training images that this fold holds out."""
    test_accuracy: float | None


@dataclass(frozen=True)
class SeedFolds:
    """The completed folds of one seed."""

    seed: int
    folds: tuple[FoldResult, ...]
    """Results in the order of the folds' numbers."""
    val_mean: float
    test_mean: float | None
    """Mean test accuracy; None if a fold lacks it."""
    spread: float | None
    """Highest minus lowest validation accuracy, a fraction; None for a single fold."""


@dataclass(frozen=True)
class ArmFolds:
    """An arm's folds. Accuracies are fractions."""

    run: str
    dataset: str
    arm: str
    seeds: tuple[SeedFolds, ...]
    val_mean: float
    """Mean over seeds of their means over the available folds; `summarise_arms` drops incomplete seeds
    instead."""
    val_deviation: float | None
    """Sample standard deviation over folds within a seed, pooled; None if no seed has two folds."""
    test_mean: float | None
    test_deviation: float | None
    lowest: float
    highest: float
    """Highest validation accuracy of a single fold; `lowest` is the lowest."""
    spread: float | None
    """Largest spread within a seed; None if no seed has two folds."""
    widest_seed: int | None
    """First seed with this spread."""

    @property
    def exceeds(self) -> bool:
        """Whether it shows the failure sign of arXiv 2501.15547: a seed's folds more than 2 points apart."""
        return self.spread is not None and self.spread > FOLD_SPREAD + ROUNDING


def gather_folds(trials: pd.DataFrame) -> tuple[ArmFolds, ...]:
    """Gather each arm's completed folds from `trials`, rows of `Run.trials` or of several concatenated.

    Arms are in order of appearance; those without a completed fold are left out.
    """
    found: dict[_Key, dict[int, list[FoldResult]]] = {
        key: {} for key in trials[ARM_KEY].drop_duplicates().itertuples(index=False, name=None)
    }
    completed = trials[trials["status"] == "completed"].dropna(subset=["fold", "val_accuracy"])
    columns = [*ARM_KEY, "seed", "fold", "val_accuracy", "test_accuracy"]
    for *key, seed, fold, val, test in completed.sort_values(["seed", "fold"])[columns].itertuples(
        index=False, name=None
    ):
        result = FoldResult(int(fold), float(val), None if pd.isna(test) else float(test))
        found[tuple(key)].setdefault(int(seed), []).append(result)
    return tuple(
        _gather_arm(key, [_gather_seed(*each) for each in seeds.items()])
        for key, seeds in found.items()
        if seeds
    )


def pooled_deviation(samples: Sequence[Sequence[float]]) -> float | None:
    """Return the standard deviation within samples: √(Σ squared distances to the own mean / Σ (n − 1)).

    None if no sample has two values.
    """
    freedom = sum(len(sample) - 1 for sample in samples)
    if freedom < 1:
        return None
    squares = sum((value - fmean(sample)) ** 2 for sample in samples for value in sample)
    return math.sqrt(squares / freedom)


def _gather_arm(key: _Key, seeds: Sequence[SeedFolds]) -> ArmFolds:
    run, dataset, arm = key
    values = [[fold.val_accuracy for fold in seed.folds] for seed in seeds]
    tests = [_tests(seed.folds) for seed in seeds]
    has_tests = all(len(test) == len(value) for test, value in zip(tests, values, strict=True))
    spreads = {seed.seed: seed.spread for seed in seeds if seed.spread is not None}
    widest = max(spreads, key=lambda seed: spreads[seed], default=None)
    return ArmFolds(
        run=run,
        dataset=dataset,
        arm=arm,
        seeds=tuple(seeds),
        val_mean=fmean(seed.val_mean for seed in seeds),
        val_deviation=pooled_deviation(values),
        test_mean=fmean(map(fmean, tests)) if has_tests else None,
        test_deviation=pooled_deviation(tests) if has_tests else None,
        lowest=min(map(min, values)),
        highest=max(map(max, values)),
        spread=None if widest is None else spreads[widest],
        widest_seed=widest,
    )


def _gather_seed(seed: int, folds: Sequence[FoldResult]) -> SeedFolds:
    values, tests = [fold.val_accuracy for fold in folds], _tests(folds)
    return SeedFolds(
        seed=seed,
        folds=tuple(folds),
        val_mean=fmean(values),
        test_mean=fmean(tests) if len(tests) == len(folds) else None,
        spread=max(values) - min(values) if len(values) > 1 else None,
    )


def _tests(folds: Sequence[FoldResult]) -> list[float]:
    return [fold.test_accuracy for fold in folds if fold.test_accuracy is not None]
