"""Which of the settings that a search varied matter for which objective, by Optuna's own evaluator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.design import SearchDesign
from analysis.search.study import StudyCopy, quiet_optuna

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

FEWEST, FEWEST_A_SETTING = 10, 5
"""Fewest trials for which importances are computed: in total, and per setting."""
MOST = 100
"""Most trials that are used: the method's time grows quadratically with their number."""
TREES = 32
REPEATS = 20
"""Number of shuffles for the floor, and of bootstrap resamples for the bars."""
ACCURACY = "val_accuracy"


@dataclass(frozen=True)
class Importances:
    """Relative importances of the settings for each objective; see `importances`."""

    trials: int
    """Number of trials that they were computed from."""
    of: int
    """Number of completed trials available."""
    by_objective: Mapping[str, Mapping[str, float]]
    """Objective -> setting as Optuna names it (`model.filters.0`) -> relative importance; they sum to 1 and
    are in descending order."""
    left_out: tuple[str, ...]
    """Settings that some trials lack, sorted by name."""
    constant: tuple[str, ...]
    """Objectives without importances: all trials have the same value, or no setting explains any variance."""
    bars: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    """Objective -> setting -> second lowest and second highest of the bootstrap resamples: about 90%."""
    floors: Mapping[str, float] = field(default_factory=dict)
    """Objective -> level that the top setting stays below in 19 of 20 cases if no setting matters."""
    problem: str | None = None
    """Why there are no importances, as part of a sentence; None if there are some."""


def importances(
    study: StudyCopy, search: SearchDesign, seed: int = 0, *, most: int = MOST, repeats: int = REPEATS
) -> Importances:
    """Return how important each setting is for each of the search's objectives, relative to the others.

    fANOVA (Hutter, Hoos & Leyton-Brown 2014, ICML, "An Efficient Approach for Assessing Hyperparameter
    Importance"): a random forest is fitted to the trials, and the variance of its predictions is decomposed.
    The parts of single settings are normalised to sum to 1, after interactions and noise are dropped, so they
    are not shares of the objective's variance: on noise alone, the top one of eleven settings gets 25 to 41%.
    Therefore the same computation is repeated `repeats` (at least 2) times with the objective shuffled among
    the trials, which shows what noise reaches, and for as many bootstrap resamples of the trials, which shows
    how much the importances vary. Costs are taken as log10. Only completed trials count, not those that were
    stopped early, repeated or infeasible. If there are more than `most` trials, `most` of them are drawn at
    random with `seed`, which also seeds the forests.

    With fewer than `FEWEST` trials, fewer than `FEWEST_A_SETTING` per setting, or an unreadable study, the
    result is empty and `problem` says why.
    """
    trials = [trial for trial in study.trials if trial.user_attrs.get("status") == "completed"]
    names = study.objectives or tuple(search.objectives)
    if study.problem is not None:
        return _nothing(len(trials), study.problem)
    random = np.random.default_rng(seed)
    used = trials
    if len(trials) > most:
        used = [trials[place] for place in sorted(random.choice(len(trials), most, replace=False))]
    everywhere = set.intersection(*(set(trial.params) for trial in used)) if used else set()
    needed = max(FEWEST, FEWEST_A_SETTING * len(everywhere))
    if len(used) < needed:
        which = f"{FEWEST_A_SETTING} for each of {len(everywhere)} settings" if needed > FEWEST else ""
        return _nothing(
            len(trials),
            f"it takes {needed} completed trials of the study{f' ({which})' if which else ''}; "
            f"there are {len(used)}",
        )
    if not everywhere:
        return _nothing(len(trials), "no setting is in every trial")
    found: dict[str, Mapping[str, float]] = {}
    bars: dict[str, Mapping[str, tuple[float, float]]] = {}
    floors: dict[str, float] = {}
    for place, name in enumerate(names):
        values = np.array([trial.values[place] for trial in used], np.float64)
        if name != ACCURACY:
            values = np.log10(values, out=np.zeros_like(values), where=values > 0)
        shares = _shares(used, values, seed)
        if shares:
            found[name] = shares
            bars[name] = _bars(used, values, shares, random, seed, repeats)
            floors[name] = _floor(used, values, random, seed, repeats)
    return Importances(
        trials=len(used),
        of=len(trials),
        by_objective=found,
        left_out=tuple(sorted(set().union(*(trial.params for trial in used)) - everywhere)),
        constant=tuple(name for name in names if name not in found),
        bars=bars,
        floors=floors,
        problem=None if found else "the objectives are the same in all trials",
    )


def _nothing(trials: int, problem: str) -> Importances:
    return Importances(trials, trials, {}, (), (), problem=problem)


def _floor(
    trials: "Sequence[FrozenTrial]",
    values: "np.ndarray[Any, Any]",
    random: np.random.Generator,
    seed: int,
    repeats: int,
) -> float:
    """Return the second highest value that the top setting gets when the objective is shuffled."""
    highest = [
        max(_shares(trials, random.permutation(values), seed).values(), default=0.0) for _ in range(repeats)
    ]
    return sorted(highest)[-2]


def _bars(
    trials: "Sequence[FrozenTrial]",
    values: "np.ndarray[Any, Any]",
    shares: Mapping[str, float],
    random: np.random.Generator,
    seed: int,
    repeats: int,
) -> dict[str, tuple[float, float]]:
    drawn = []
    for _ in range(repeats):
        places = random.integers(0, len(trials), len(trials))
        drawn.append(_shares([trials[place] for place in places], values[places], seed))
    found = {}
    for setting in shares:
        ordered = sorted(each.get(setting, 0.0) for each in drawn)
        found[setting] = ordered[1], ordered[-2]
    return found


def _shares(trials: "Sequence[FrozenTrial]", values: "np.ndarray[Any, Any]", seed: int) -> dict[str, float]:
    """Return relative importances for one objective, descending; empty if there is no variance to explain."""
    import optuna

    if np.ptp(values) == 0:
        return {}
    with quiet_optuna():
        study = optuna.create_study()
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params=trial.params, distributions=trial.distributions, value=float(value)
                )
                for trial, value in zip(trials, values, strict=True)
            ]
        )
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=seed)
        try:
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
        except RuntimeError:  # the forest found nothing to split
            return {}
    return {name: float(share) for name, share in shares.items()} if any(shares.values()) else {}
