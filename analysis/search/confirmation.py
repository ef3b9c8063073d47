"""A search's nets and their confirmation by fresh seeds: the best of many single results are lucky."""

from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from analysis.arms import ARM_KEY, summarise_arms
from analysis.front.result import mark_front
from analysis.seeds import whole_seeds
from analysis.statistics.paired import Interval, interval


@dataclass(frozen=True)
class ConfirmedNet:
    """A net that a search found, trained anew with fresh seeds. Accuracies are fractions, by validation."""

    arm: str
    parameters: int
    searched: float
    """Of the search's own trial (the mean, if a repetition of it was trained with a further seed)."""
    accuracies: tuple[float, ...]
    """Of each fresh seed that completed, folds averaged."""
    mean: float
    """Of ``accuracies``; the search's trial is not among them, for it chose the net."""
    deviation: float | None
    """Their sample standard deviation; None for one seed."""
    bounds: Interval | None
    """95% interval of the mean over fresh seeds; None for one seed."""
    test_mean: float | None
    test_deviation: float | None
    on_front: bool
    """Of the run's confirmed nets, by parameters and ``mean``; see ``pareto.mark_front``."""

    @property
    def difference(self) -> float:
        """What became of the search's value: ``mean`` − ``searched``; negative if it was lucky."""
        return self.mean - self.searched


@dataclass(frozen=True)
class Regression:
    """The regression to the mean: what became of the search's values of the confirmed nets."""

    n: int
    """Nets."""
    mean: float
    """Of the nets' differences, a fraction. There is no interval: the nets share the search's seed and the
    fresh ones, and so the luck of these seeds' validation images, of which nets say nothing."""


def judged_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials (rows of ``Run.trials``, or several concatenated) that a front may be made of.

    Of a search with completed confirmation trials on a data set, these trials alone: the search's own results
    chose the nets, so they are not evidence. Of a search without, its search trials; of other runs, all but
    those of a placebo.
    """
    trials = trials[~trials["is_placebo"]]
    place = ["run", "dataset"]
    is_confirmation = (trials["phase"] == "confirmation").astype(bool)
    is_result = is_confirmation & (trials["status"] == "completed")
    has_results = is_result.groupby([trials[key] for key in place]).transform("any").astype(bool)
    return trials[is_confirmation == has_results].reset_index(drop=True)


def searched_nets(trials: pd.DataFrame) -> pd.DataFrame:
    """Return ``mark_front``'s rows of the nets whose search trial completed, by their search trials alone.

    ``trials`` are those of one run on one data set. What a trial reached that did not complete takes no part.
    """
    nets = mark_front(summarise_arms(trials[trials["phase"] == "search"]))
    return nets[nets["n_seeds"] > 0].reset_index(drop=True)


def confirmed_nets(trials: pd.DataFrame) -> list[ConfirmedNet]:
    """Compare each net that has completed trials of both phases, from few to many parameters.

    ``trials`` are those of one run on one data set.
    """
    searched = searched_nets(trials).set_index("arm")
    confirmed = trials[trials["phase"] == "confirmation"]
    nets = mark_front(summarise_arms(confirmed))
    by_seed = whole_seeds(confirmed, ["val_accuracy"])["val_accuracy"].sort_index()
    found = []
    for net in nets[nets["n_seeds"] > 0].to_dict("records"):
        if net["arm"] not in searched.index:
            continue
        accuracies = by_seed.loc[tuple(net[key] for key in ARM_KEY)].tolist()
        found.append(
            ConfirmedNet(
                arm=net["arm"],
                parameters=int(net["parameters"]),
                searched=float(searched.loc[net["arm"], "val_mean"]),
                accuracies=tuple(accuracies),
                mean=float(net["val_mean"]),
                deviation=_known(net["val_std"]),
                bounds=interval(accuracies),
                test_mean=_known(net["test_mean"]),
                test_deviation=_known(net["test_std"]),
                on_front=bool(net["on_front"]),
            )
        )
    return sorted(found, key=lambda net: (net.parameters, net.arm))


def regression_to_the_mean(nets: list[ConfirmedNet]) -> Regression | None:
    """Return the mean of the nets' differences; None without nets."""
    return Regression(len(nets), fmean(net.difference for net in nets)) if nets else None


def _known(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
