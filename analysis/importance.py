"""Which of the settings that a search chose matter for which objective, by Optuna's own evaluator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.design import Search
from analysis.study import StudyCopy, quiet_optuna

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

FEWEST = 10
"""Trials below which nothing is said."""
MOST = 300
"""Trials that are used at most: the method's time grows with their square, 3 s an objective at 300."""
ACCURACY = "val_accuracy"


@dataclass(frozen=True)
class Importances:
    """Shares of an objective's variance that single settings explain, summing to 1; see ``importances``."""

    trials: int
    """That they were computed from."""
    of: int
    """Completed trials that there are."""
    by_objective: Mapping[str, Mapping[str, float]]
    """Objective -> setting as Optuna knows it (``model.filters.0``) -> share; descending."""
    left_out: tuple[str, ...]
    """Settings that not every trial has, in the order of their names."""
    constant: tuple[str, ...]
    """Objectives without a share: all trials have the same value, or no setting explains any of it."""
    problem: str | None = None
    """Why there is nothing, as part of a sentence; None if there is something."""


def importances(study: StudyCopy, search: Search, seed: int = 0) -> Importances:
    """Return for each of the search's objectives how much of its variance each setting explains.

    fANOVA (Hutter, Hoos & Leyton-Brown 2014, ICML, "An Efficient Approach for Assessing Hyperparameter
    Importance"): a random forest of 64 trees is fitted to the trials, and the variance of what it predicts is
    split up; interactions are left out and the rest normalised to 1. Costs are taken as log10. Only trials
    that completed count: what was stopped early, repeated or could not be trained takes no part. Of more than
    ``MOST`` trials, so many are drawn at random with ``seed``, as is the forest.

    Nothing with fewer than ``FEWEST`` trials or an unreadable study; ``problem`` then says why.
    """
    trials = [trial for trial in study.trials if trial.user_attrs.get("status") == "completed"]
    names = study.objectives or tuple(search.objectives)
    if study.problem is not None:
        return _nothing(len(trials), study.problem)
    if len(trials) < FEWEST:
        return _nothing(
            len(trials), f"it takes {FEWEST} completed trials of the study; there are {len(trials)}"
        )
    used = trials
    if len(trials) > MOST:
        chosen = np.random.default_rng(seed).choice(len(trials), MOST, replace=False)
        used = [trials[place] for place in sorted(chosen)]
    everywhere = set.intersection(*(set(trial.params) for trial in used))
    if not everywhere:
        return _nothing(len(trials), "no setting is in every trial")
    found: dict[str, Mapping[str, float]] = {}
    for place, name in enumerate(names):
        shares = _shares(used, place, name != ACCURACY, len(names), seed)
        if shares:
            found[name] = shares
    return Importances(
        trials=len(used),
        of=len(trials),
        by_objective=found,
        left_out=tuple(sorted(set().union(*(trial.params for trial in used)) - everywhere)),
        constant=tuple(name for name in names if name not in found),
        problem=None if found else "the objectives are the same in all trials",
    )


def _nothing(trials: int, problem: str) -> Importances:
    return Importances(trials, trials, {}, (), (), problem)


def _shares(
    trials: "Sequence[FrozenTrial]", place: int, is_cost: bool, objectives: int, seed: int
) -> dict[str, float]:
    """Return the shares of the objective at ``place``, descending; empty if there is no variance to share."""
    import optuna

    def target(trial: "FrozenTrial") -> float:
        value = float(trial.values[place])
        return float(np.log10(value)) if is_cost else value

    if is_cost and min(trial.values[place] for trial in trials) <= 0:
        return {}
    if np.ptp([target(trial) for trial in trials]) == 0:
        return {}
    with quiet_optuna():
        study = optuna.create_study(directions=["minimize"] * objectives)
        study.add_trials(trials)
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
        try:
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator, target=target)
        except RuntimeError:  # the forest found nothing to split
            return {}
    return {name: float(share) for name, share in shares.items()} if any(shares.values()) else {}
