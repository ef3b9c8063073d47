"""Pareto fronts of points and arms, their hypervolume, and how probable it is to be on them."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.arms import ARM_KEY
from analysis.design import Direction
from analysis.seeds import seed_effects, whole_seeds

Floats = npt.NDArray[np.float64]

Cost = Literal["parameters", "macs", "weight_bytes", "latency_ms"]
"""A column of `summarise_arms` that a front trades off against accuracy; lower is better."""
COSTS: tuple[Cost, ...] = get_args(Cost)
ARM_DIRECTIONS: tuple[Direction, Direction] = ("minimise", "maximise")  # of a cost and of val_mean
REFERENCE_PARAMETERS = 100_000  # with an accuracy of 0, the reference point of the hypervolume
RESAMPLES = 2_000
FEW_SEEDS = 5  # with fewer, a bootstrap over seeds is overconfident
BLOCK = 1_000_000  # number of means in memory at a time
BUDGETS = (1_000, 2_000, 5_000, 10_000, 15_000, 20_000, 50_000)
ROUNDING = 1e-7  # less than one image; in float32, means of equal accuracies differ by up to 6e-8


def pareto_front(values: Floats, directions: Sequence[Direction]) -> npt.NDArray[np.bool_]:
    """Return which of n points are on the Pareto front of m objectives, bool [n].

    `values` is float64 [n, m], `directions` has a "minimise" or "maximise" per column. A point is on the
    front if no other is at least as good in all objectives and better in one. Equal points are on the front
    together; a point with a NaN never is. Takes O(n log n + n · front) steps: the first of the
    lexicographically sorted points is non-dominated, and all points that are nowhere better than it are
    dropped.

    Raises:
        ValueError: The shapes do not agree, or a direction is unknown.

    """
    losses = _losses(values, directions)
    usable = ~np.isnan(losses).any(axis=1)
    points, owners = np.unique(losses[usable], axis=0, return_inverse=True)
    is_front = np.zeros(len(points), dtype=np.bool_)
    rest = np.arange(len(points))
    while len(rest):
        first = rest[0]
        is_front[first] = True
        rest = rest[(points[rest] < points[first]).any(axis=1)]
    on_front = np.zeros(len(losses), dtype=np.bool_)
    on_front[usable] = is_front[owners]
    return on_front


def hypervolume(values: Floats, directions: Sequence[Direction], reference: npt.ArrayLike) -> float:
    """Return the volume that n points dominate, up to the reference point.

    `values` is float64 [n, m], `directions` has a "minimise" or "maximise" per column, `reference` is float
    [m]; the unit is the product of the columns' units. A point that has a NaN or is not better than the
    reference in every objective contributes nothing; without any points the volume is 0. Exact (Zitzler &
    Thiele 1998, PPSN V, 292; Fonseca, Paquete & López-Ibáñez 2006, CEC, 1157), by moocore.

    Raises:
        ValueError: The shapes do not agree, a direction is unknown, or the reference is not finite.

    """
    losses = _losses(values, directions)
    corner = np.asarray(reference, dtype=np.float64)
    if corner.shape != (len(directions),) or not np.isfinite(corner).all():
        raise ValueError(f"the reference must be {len(directions)} finite numbers; got {corner.tolist()}")
    corner = _losses(corner[np.newaxis], directions)[0]
    points = losses[(losses < corner).all(axis=1)]
    if not len(points):
        return 0.0
    if np.isinf(points).any():
        return math.inf
    import moocore  # takes 0.3 s to import

    return float(moocore.hypervolume(points, ref=corner))


def membership_probability(
    parameters: Floats, accuracies: Floats, resamples: int = RESAMPLES, seed: int = 0
) -> Floats:
    """Return the probability that each arm is on the front, given its replicates: float64 [n arms].

    `parameters` is float64 [n arms], `accuracies` float64 [n arms, n seeds]: fractions, folds averaged within
    their seed, NaN where an arm has no result. Effects that a seed has on all arms, by the model arm + seed
    (`seeds.seed_effects`), are subtracted first. The value is the share of `resamples` draws of the arms'
    means in which the arm is on the front, as defined by `pareto_front`.

    With `FEW_SEEDS` seeds or more, a draw is a bootstrap over seeds (Efron & Tibshirani 1993, An Introduction
    to the Bootstrap, chapter 6; of ranks: Hall & Miller 2009, Ann. Stat. 37:3929), for all arms together; an
    arm that has none of the drawn seeds is off the front and displaces no other. NaN for an arm with a single
    seed.

    With fewer seeds, where a bootstrap is overconfident, a draw is from the posterior of the means for normal
    residuals with one variance for all arms and Jeffreys' prior (Gelman et al. 2013, Bayesian Data Analysis,
    section 14.2): residual variance times degrees of freedom over a chi-square, then each mean with that
    variance over its number of seeds. NaN for all arms if no residual is left; otherwise arms with a single
    seed have a probability, too, by the other arms' variance. `benchmarks/calibration.py` measures how often
    each method is right.

    NaN for an arm without parameters.

    Raises:
        ValueError: The shapes do not agree, or there are no resamples.

    """
    parameters, accuracies = np.asarray(parameters, np.float64), np.asarray(accuracies, np.float64)
    if accuracies.ndim != 2 or parameters.shape != accuracies.shape[:1] or resamples < 1:
        raise ValueError(
            "parameters must be [n], accuracies [n, seeds] and resamples at least 1; "
            f"got shapes {parameters.shape}, {accuracies.shape} and {resamples} resamples"
        )
    probabilities = np.full(len(parameters), np.nan)
    order = np.argsort(parameters, kind="stable")
    order = order[~np.isnan(parameters[order]) & ~np.isnan(accuracies[order]).all(axis=1)]
    sizes, accuracies = parameters[order], accuracies[order]
    is_replicated = (~np.isnan(accuracies)).sum(axis=1) > 1
    if not is_replicated.any():
        return probabilities
    accuracies = accuracies[:, ~np.isnan(accuracies).all(axis=0)]
    effects = seed_effects(accuracies)
    if effects.is_estimable:
        accuracies = accuracies - effects.columns
    is_few = accuracies.shape[1] < FEW_SEEDS
    freedom = int((~np.isnan(accuracies)).sum()) - len(accuracies) - (accuracies.shape[1] - 1)
    if is_few and freedom < 1:
        if len(order) == 1:
            probabilities[order] = 1.0  # no other arm can beat it
        return probabilities
    random = np.random.default_rng(seed)
    chances = random.chisquare(freedom, resamples) if is_few else np.empty(resamples)
    times = np.zeros(len(order))
    for block in np.array_split(chances, math.ceil(resamples * len(order) / BLOCK)):
        means = (
            _posterior_of_means(accuracies, block, random)
            if is_few
            else means_of_draws(accuracies, _bootstrap(accuracies.shape[1], len(block), random))
        )
        times += _are_on_front(sizes, means).sum(axis=0)
    probabilities[order] = np.where(is_replicated | is_few, times / resamples, np.nan)
    return probabilities


def mark_front(arms: pd.DataFrame, cost: Cost = "parameters") -> pd.DataFrame:
    """Mark in `summarise_arms`'s table which arms are on their data set's front.

    New columns: on_front (bool) and front_rank (Int64, 1 for the smallest model on the front, null off it).
    Lower cost and higher mean validation accuracy are better; test accuracy is not used. Means that differ by
    rounding only are equal.
    """
    marked = arms.assign(on_front=False, front_rank=pd.array([pd.NA] * len(arms), dtype="Int64"))
    for _, group in arms.groupby("dataset", sort=False):
        members = group[pareto_front(objectives(group, cost), ARM_DIRECTIONS)]
        ranked = members.sort_values([cost, "label"]).index
        marked.loc[ranked, "on_front"] = True
        marked.loc[ranked, "front_rank"] = np.arange(1, len(ranked) + 1)
    return marked


def mark_membership(arms: pd.DataFrame, trials: pd.DataFrame, cost: Cost = "parameters") -> pd.DataFrame:
    """Add to `summarise_arms`'s table the probability that an arm is on its data set's front.

    New column: front_probability (float64, see `membership_probability`), from the validation accuracies of
    the completed trials among `trials`, from which `arms` were computed.
    """
    marked = arms.assign(front_probability=np.nan)
    for _, group in arms.groupby("dataset", sort=False):
        accuracies = seed_table(group, trials, "val_accuracy")
        sizes = group[cost].to_numpy(dtype=np.float64, na_value=np.nan)
        marked.loc[group.index, "front_probability"] = membership_probability(sizes, accuracies)
    return marked


def seed_table(arms: pd.DataFrame, trials: pd.DataFrame, column: str) -> Floats:
    """Return an accuracy of `trials` by arm and seed, float64 [arms, seeds], NaN for missing results."""
    by_seed = whole_seeds(trials, [column])[column].unstack("seed")
    rows = by_seed.reindex(pd.MultiIndex.from_frame(arms[ARM_KEY])).dropna(axis=1, how="all")
    return rows.to_numpy(dtype=np.float64, na_value=np.nan)


def objectives(arms: pd.DataFrame, cost: Cost) -> Floats:
    """Return cost and mean validation accuracy of `summarise_arms`'s rows, float64 [n arms, 2].

    Accuracies that differ by rounding only are made equal; NaN where there is none.
    """
    values = arms[[cost, "val_mean"]].to_numpy(dtype=np.float64, na_value=np.nan)
    return np.column_stack([values[:, 0], level(values[:, 1])])


def covered_share(arms: pd.DataFrame) -> float:
    """Return the normalised hypervolume of one data set's rows of `summarise_arms`, in [0, 1].

    Objectives: log10 of parameters and mean validation accuracy. The reference point is 100,000 parameters
    and accuracy 0; the unit is the volume of the best conceivable net, 1 parameter and accuracy 1. Arms
    without a completed trial or with 100,000 parameters or more contribute nothing.
    """
    values = objectives(arms, "parameters")
    values[:, 0] = np.log10(values[:, 0]) / math.log10(REFERENCE_PARAMETERS)
    return hypervolume(values, ARM_DIRECTIONS, (1.0, 0.0))


def best_per_budget(arms: pd.DataFrame, budgets: Sequence[int] = BUDGETS) -> pd.DataFrame:
    """Choose, for each budget of parameters, the best of one data set's arms within it.

    `arms` are rows of `summarise_arms`. Returns the arms that are best for some budget, from small to large,
    with the columns budget_low and budget_high: the smallest and the largest budget that they are best for.
    The best arm has the highest mean validation accuracy; ties go to the fewest parameters, then to the first
    label. Budgets below the smallest arm with a completed trial are left out.
    """
    parameters, accuracies = objectives(arms, "parameters").T
    ranked = (
        arms.assign(parameters=parameters, val_mean=accuracies)  # a copy: levelled only to choose
        .dropna(subset=["parameters", "val_mean"])
        .sort_values(["val_mean", "parameters", "label"], ascending=[False, True, True])
    )
    spans: dict[int, list[int]] = {}
    for budget in sorted(budgets):
        affordable = ranked.index[ranked["parameters"] <= budget]
        if len(affordable):
            spans.setdefault(affordable[0], []).append(budget)
    lows, highs = [span[0] for span in spans.values()], [span[-1] for span in spans.values()]
    return arms.loc[list(spans)].assign(budget_low=lows, budget_high=highs)


def _losses(values: Floats, directions: Sequence[Direction]) -> Floats:
    """Turn values [n, m] into losses, to be minimised in every column; only here do signs flip."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(directions) or not directions:
        raise ValueError(
            f"values must be [n, {len(directions)}], a column per direction; got shape {values.shape}"
        )
    unknown = set(directions) - {"minimise", "maximise"}
    if unknown:
        raise ValueError(f"unknown direction {sorted(unknown)}; use 'minimise' or 'maximise'")
    return values * np.where([direction == "minimise" for direction in directions], 1.0, -1.0)


def level(accuracies: Floats) -> Floats:
    """Make accuracies [..., n] that differ only by rounding equal along the last axis; NaN stays NaN."""
    order = np.argsort(accuracies, axis=-1)
    ascending = np.take_along_axis(accuracies, order, axis=-1)
    is_new = ~(np.diff(ascending, axis=-1, prepend=np.nan) <= ROUNDING)
    levels = np.maximum.accumulate(np.where(is_new, ascending, -np.inf), axis=-1)
    levelled = np.empty_like(accuracies)
    np.put_along_axis(levelled, order, levels, axis=-1)
    return levelled


def _posterior_of_means(accuracies: Floats, chances: Floats, random: np.random.Generator) -> Floats:
    """Draw means [resamples, n arms] from their posterior, given draws [resamples] of the chi-square."""
    numbers = (~np.isnan(accuracies)).sum(axis=1)
    means = np.nansum(accuracies, axis=1) / numbers
    squares = float(np.nansum((accuracies - means[:, None]) ** 2))
    deviations = np.sqrt(squares / chances[:, None] / numbers)
    return level(means + deviations * random.standard_normal((len(chances), len(means))))


def _bootstrap(n_seeds: int, resamples: int, random: np.random.Generator) -> Floats:
    """Return how often each seed is drawn, with replacement: float64 [resamples, n seeds]."""
    draws = random.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=resamples)
    return draws.astype(np.float64)


def means_of_draws(accuracies: Floats, draws: Floats) -> Floats:
    """Return levelled means [draws, n arms]; `draws` [draws, n seeds] counts how often a seed is drawn.

    NaN where an arm has none of the drawn seeds.
    """
    sums, numbers = draws @ np.nan_to_num(accuracies).T, draws @ (~np.isnan(accuracies)).T
    return level(np.divide(sums, numbers, out=np.full_like(sums, np.nan), where=numbers > 0))


def _are_on_front(sizes: Floats, means: Floats) -> npt.NDArray[np.bool_]:
    """Return, for each row of means [resamples, n arms], which arms are on the front.

    `sizes` [n arms] are ascending.
    """
    means = np.where(np.isnan(means), -np.inf, means)
    best = np.maximum.accumulate(means, axis=1)  # of the arms up to this one
    first, last = np.searchsorted(sizes, sizes, "left"), np.searchsorted(sizes, sizes, "right") - 1
    best_below = np.where(first > 0, best[:, first - 1], -np.inf)
    on_front: npt.NDArray[np.bool_] = (means > best_below) & (means == best[:, last])
    return on_front
