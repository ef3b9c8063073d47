"""Optuna's samplers, with a separate random stream for each draw."""

import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from lightsweep.seeding import derive
from lightsweep.sweepfile.search import Search


class DrawSampler(optuna.samplers.BaseSampler):
    """The sampler for one draw, with its own random stream, so that a resumed search repeats no draws.

    Parameters that are sampled independently have one stream each. So if a search is killed between two of
    them, the remaining ones get the same values as without the interruption.
    """

    def __init__(self, search: Search, number: int) -> None:
        self.search, self.number = search, number
        self.whole = _sampler(search, derive(search.seed, "sampler", number) % 2**32)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters that are sampled jointly."""
        return self.whole.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample those parameters jointly."""
        return self.whole.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Sample one parameter from its own random stream."""
        stream = derive(self.search.seed, "sampler", self.number, param_name) % 2**32
        one = _sampler(self.search, stream)
        return one.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Forward to the joint sampler."""
        self.whole.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Forward to the joint sampler."""
        self.whole.after_trial(study, trial, state, values)


def _sampler(search: Search, stream: int) -> optuna.samplers.BaseSampler:
    """Return Optuna's sampler, seeded with the stream.

    Quasi-random points form one sequence, whose position the study stores, so their seed is constant.
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
