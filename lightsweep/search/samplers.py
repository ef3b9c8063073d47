"""Optuna's samplers, with a random stream of its own for each draw."""

import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from lightsweep.seeding import derive
from lightsweep.sweepfile.search import Search


class DrawSampler(optuna.samplers.BaseSampler):
    """The sampler for one draw, with a stream of its own: a search that goes on repeats no draws.

    What it draws parameter by parameter has a stream for each: where a search was killed between two of
    them, the others are drawn as they would have been.
    """

    def __init__(self, search: Search, number: int) -> None:
        self.search, self.number = search, number
        self.whole = _sampler(search, derive(search.seed, "sampler", number) % 2**32)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what is drawn together, by the whole sampler."""
        return self.whole.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw those together."""
        return self.whole.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw one parameter, by a stream of its own."""
        stream = derive(self.search.seed, "sampler", self.number, param_name) % 2**32
        one = _sampler(self.search, stream)
        return one.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Pass it on."""
        self.whole.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Pass it on."""
        self.whole.after_trial(study, trial, state, values)


def _sampler(search: Search, stream: int) -> optuna.samplers.BaseSampler:
    """Return Optuna's sampler with a stream.

    Quasi-random points are a sequence, whose place the study keeps: its seed stays.
    """
    with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
        match search.sampler:
            case "tpe":
                return optuna.samplers.TPESampler(seed=stream)
            case "nsga2":
                return optuna.samplers.NSGAIISampler(population_size=20, seed=stream)
            case "gp":
                independent = optuna.samplers.RandomSampler(seed=stream)
                return optuna.samplers.GPSampler(seed=stream, independent_sampler=independent)
            case "qmc":
                return optuna.samplers.QMCSampler(
                    scramble=True,
                    seed=search.seed,
                    independent_sampler=optuna.samplers.RandomSampler(seed=stream),
                    warn_asynchronous_seeding=False,
                    warn_independent_sampling=False,
                )
            case "random":
                return optuna.samplers.RandomSampler(seed=stream)
