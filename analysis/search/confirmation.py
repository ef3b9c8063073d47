"""Nets of a search, and their confirmation with fresh seeds: the best of many single results are lucky."""

from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from analysis.arms import ARM_KEY, summarise_arms
from analysis.front.result import mark_front
from analysis.seeds import whole_seeds
from analysis.statistics.paired import Interval, interval


@dataclass(frozen=True)
class ConfirmedNet:
    """A net of a search, trained again with fresh seeds. Accuracies are fractions."""

    arm: str
    parameters: int
    searched: float
    """Validation accuracy of the search's own trial (the mean, if it was repeated with a further seed)."""
    accuracies: tuple[float, ...]
    """Validation accuracy at each fresh seed that completed, folds averaged."""
    mean: float
    """Mean of `accuracies`; the search's own trial is excluded, because it selected the net."""
    deviation: float | None
    """Sample standard deviation of `accuracies`; None for one seed."""
    bounds: Interval | None
    """95% interval of the mean over fresh seeds; None for one seed."""
    test_mean: float | None
    test_deviation: float | None
    on_front: bool
    """Whether it is on the front of the run's confirmed nets, by parameters and `mean`."""

    @property
    def difference(self) -> float:
        """Change from the search's value: `mean` − `searched`; negative if the search was lucky."""
        return self.mean - self.searched


@dataclass(frozen=True)
class Regression:
    """Regression to the mean: how the accuracy of confirmed nets changed from the search's value."""

    n: int
    """Number of nets."""
    mean: float
    """Mean of the nets' differences, a fraction. There is no interval: the nets share the search's seed and
    the fresh seeds, so they cannot show how much the validation images of these seeds contribute."""


def judged_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials (rows of `Run.trials`, or several concatenated) that a front may be made of.

    Of a search with completed confirmation trials on a data set, only the confirmation trials: the search's
    own results selected the nets, so they are not evidence. Of a search without, its search trials. Of other
    runs, all trials but the placebo's.
    """
    trials = trials[~trials["is_placebo"]]
    place = ["run", "dataset"]
    is_confirmation = (trials["phase"] == "confirmation").astype(bool)
    is_result = is_confirmation & (trials["status"] == "completed")
    has_results = is_result.groupby([trials[key] for key in place]).transform("any").astype(bool)
    return trials[is_confirmation == has_results].reset_index(drop=True)


def searched_nets(trials: pd.DataFrame) -> pd.DataFrame:
    """Return `mark_front`'s rows of the nets whose search trial completed, from search trials only.

    `trials` are those of one run on one data set. Trials that did not complete are ignored.
    """
    nets = mark_front(summarise_arms(trials[trials["phase"] == "search"]))
    return nets[nets["n_seeds"] > 0].reset_index(drop=True)


def confirmed_nets(trials: pd.DataFrame) -> list[ConfirmedNet]:
    """Compare each net that has completed trials of both phases, in ascending order of parameters.

    `trials` are those of one run on one data set.
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
