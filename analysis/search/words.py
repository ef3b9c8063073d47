"""The page's text on a search: what was searched, what it found when, and what was confirmed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis import notation
from analysis.design import SearchDesign
from analysis.parallel.figure import parallel_figure
from analysis.parallel.result import SideBySide, place_side_by_side
from analysis.search.confirmation import (
    ConfirmedNet,
    Regression,
    confirmed_nets,
    regression_to_the_mean,
    searched_nets,
)
from analysis.search.course import default_reference, hypervolume_course
from analysis.search.figure import SETTINGS_SHOWN, cloud_figure, course_figure, importance_figure
from analysis.search.importance import ACCURACY, Importances, importances
from analysis.search.study import StudyCopy, read_study
from analysis.style import Plot
from analysis.tables import Run

SAMPLERS = {
    "tpe": "a tree-structured Parzen estimator (TPE)",
    "nsga2": "a genetic algorithm (NSGA-II)",
    "gp": "a Gaussian process",
    "qmc": "a quasi-random sequence",
    "random": "random sampling",
}
STOPPING = {
    "rank": "by non-dominated rank in accuracy and costs, so that no small net is stopped for being less "
    "accurate than a large one",
    "accuracy": "by accuracy alone, which penalises small nets",
}


@dataclass(frozen=True)
class SearchPart:
    """A search on the page."""

    title: str
    setting: str
    """Description of what was searched."""
    outcome: str
    """How the drawn configurations ended."""
    course: Plot | None
    cloud: Plot | None
    nets: Sequence[ConfirmedNet]
    regression: str
    unconfirmed: str
    """Sentence on nets of the search's front that were not confirmed; empty if there are none."""
    importance: Plot | None
    importance_note: str
    """Why there is no figure of importances; empty if there is one."""
    parallel: Plot | None
    """Settings and results side by side; None if the completed trials do not differ in what was searched."""


def lay_out_search(run: Run, place: str) -> SearchPart | None:
    """Describe a run's search in words and figures; None if the run is not a search.

    A search is on one data set. `place` distinguishes it from other searches in headings.
    """
    search, study = run.search, read_study(run.folder)
    if search is None:
        return None
    trials = run.trials[run.trials["phase"] == "search"]
    nets, confirmed = searched_nets(run.trials), confirmed_nets(run.trials)
    importance, importance_note = _lay_out_importance(importances(study, search))
    side_by_side = place_side_by_side(run.trials, search.keys)
    return SearchPart(
        title=f"The search{place}",
        setting=describe_search(search),
        outcome=_describe_outcome(trials, study),
        course=_lay_out_course(run.trials, search) if not trials.empty else None,
        cloud=_lay_out_cloud(nets, confirmed, search) if not nets.empty else None,
        nets=confirmed,
        regression=_describe_regression(regression_to_the_mean(confirmed), search),
        unconfirmed=_name_unconfirmed(nets, confirmed) if confirmed else "",
        importance=importance,
        importance_note=importance_note,
        parallel=_lay_out_parallel(side_by_side) if side_by_side else None,
    )


def describe_search(search: SearchDesign) -> str:
    """Describe what was searched, by which sampler, with which budget and early stopping."""
    wanted = [_wish(name, way) for name, way in search.objectives.items()]
    limits = [_bound(name, limit) for name, limit in search.limits.items()]
    asked = [
        f"{size:,.10g} {unit.removesuffix('s') if size == 1 else unit}"
        for unit, size in search.budget.items()
    ]
    if search.trials is not None:
        asked.append(notation.counted(search.trials, "trial"))
    sentences = [
        f"Searched for {notation.listed(wanted)}{', with ' if limits else ''}{notation.listed(limits)}, over "
        f"{notation.counted(len(search.keys), 'setting')}: {', '.join(search.keys)}.",
        f"Configurations were drawn by {SAMPLERS.get(search.sampler, search.sampler)}, seed {search.seed}.",
    ]
    if asked:
        sentences.append(f"Requested: {notation.listed(asked)}.")
    if search.early_stopping is None:
        sentences.append("No early stopping.")
    else:
        how = STOPPING.get(search.early_stopping, f"by {search.early_stopping}")
        sentences.append(f"Early stopping: {how}.")
    return " ".join(sentences)


def _describe_outcome(trials: pd.DataFrame, study: StudyCopy) -> str:
    ended = Counter(trials["status"])
    epochs = notation.counted(int(trials["epochs_trained"].fillna(0).sum()), "epoch")
    sentences = [
        f"{notation.counted(len(trials), 'trial')} of the search: {ended['completed']:,} completed, "
        f"{ended['early_stopped']:,} stopped early, {ended['failed']:,} failed; together {epochs}."
    ]
    if ended["early_stopped"]:
        sentences.append(
            "Trials stopped early are excluded from all averages and fronts; the figure of accuracy against "
            "parameters shows them as triangles."
        )
    if study.problem is not None:
        sentences.append(f"The number of draws that could not be trained is unknown: {study.problem}.")
    else:
        vain, repeated = study.counts["infeasible"], study.counts["repeated"]
        sentences.append(
            f"Of {notation.counted(len(study.trials), 'draw')}, {vain:,} could not be trained (above a "
            f"limit, or incompatible settings) and {repeated:,} repeated an earlier one; they are not "
            "included below."
        )
    return " ".join(sentences)


def _lay_out_course(trials: pd.DataFrame, search: SearchDesign) -> Plot:
    parameters, accuracy = default_reference(search.limits)
    course = hypervolume_course(trials, (parameters, accuracy))
    caption = (
        f"Hypervolume at the end: {course['hypervolume'].iloc[-1]:.4f}, in decades of parameters × "
        "validation accuracy: the area that completed trials dominate, up to the "
        f"reference point of {notation.count(parameters)} parameters and an accuracy of {100 * accuracy:g}%. "
        "Trials are in the order in which they were drawn. Those stopped early or failed cost epochs but "
        "add nothing; epochs of a stage loaded from the store count as if trained."
    )
    return Plot(course_figure(course), "Hypervolume of the front over the epochs spent", caption, 22)


def _lay_out_cloud(nets: pd.DataFrame, confirmed: Sequence[ConfirmedNet], search: SearchDesign) -> Plot:
    sentences = [
        f"Circles: the {notation.counted(len(nets), 'net')} whose search trial completed, by that trial "
        f"(seed {search.seed}); the dotted line is their front.",
    ]
    if confirmed:
        methods = sorted({net.bounds.method for net in confirmed if net.bounds})
        bars = f" with its 95% interval over seeds ({'; '.join(methods)})" if methods else ""
        sentences.append(
            f"Diamonds: the mean of a confirmed net over fresh seeds alone{bars}; the thick line leads there "
            "from its value in the search."
        )
    sentences.append("The accuracy axis is a log scale of the error, which separates small errors.")
    others = [notation.objective(name) for name in search.objectives if name not in (ACCURACY, "parameters")]
    if others:
        sentences.append(
            f"The search also optimised {notation.listed(others)}, so its own front differs from this one."
        )
    label = "Nets of the search and their confirmation; the table below has the confirmed ones"
    return Plot(cloud_figure(nets, confirmed), label, " ".join(sentences), 30)


def _describe_regression(found: Regression | None, search: SearchDesign) -> str:
    if found is None:
        return (
            "No net was confirmed with fresh seeds: all results are from a single seed, and the best of many "
            "single results are lucky."
        )
    nets = notation.counted(found.n, "confirmed net")
    return (
        f"From the search’s seed to fresh seeds, the validation accuracy of {nets} changed by "
        f"{notation.signed_points(found.mean)} points on average. A drop is regression to the mean: nets "
        f"were confirmed because they did well once. But all share one search seed, {search.seed}, whose "
        "validation images may be easier or harder for all nets than those of the fresh seeds; these nets "
        "cannot tell how much, so no interval is given."
    )


def _name_unconfirmed(nets: pd.DataFrame, confirmed: Sequence[ConfirmedNet]) -> str:
    front = nets[nets["on_front"]].sort_values("front_rank")
    lacking = front.loc[~front["arm"].isin([net.arm for net in confirmed]), "arm"].tolist()
    if not lacking:
        return ""
    return (
        f"{len(lacking):,} of the {notation.counted(len(front), 'net')} on the search’s front by "
        "parameters had no completed confirmation, and so cannot be on the front shown above: "
        f"{notation.listed(lacking)}."
    )


def _lay_out_importance(found: Importances) -> tuple[Plot | None, str]:
    if found.problem is not None:
        return None, f"Importance of the settings is not shown: {found.problem}."
    trials = f"{found.trials:,} completed trials"
    if found.trials < found.of:
        trials = f"{found.trials:,} trials drawn at random from the {found.of:,} that completed"
    settings = max(len(shares) for shares in found.by_objective.values())
    sentences = [
        "Relative importance of each setting by itself, for each objective: Optuna’s fANOVA "
        f"on {trials}. The importances for an objective always sum to 100%, so they are not "
        "shares of its variance. Dashed: level that the top setting stays below in 19 of 20 cases when the "
        "objective is shuffled among the trials, so that no setting matters. Error bars: about 90% of "
        "bootstrap resamples of the trials. Costs enter as logarithms."
    ]
    if settings > SETTINGS_SHOWN:
        sentences.append(f"Shown are the {SETTINGS_SHOWN} most important of {settings} settings.")
    if found.left_out:
        sentences.append(f"Left out, because some trials lack them: {', '.join(found.left_out)}.")
    if found.constant:
        names = notation.listed([notation.objective(name) for name in found.constant])
        sentences.append(f"No importances for {names}: no setting explains any of the variance.")
    height = 7 + 0.9 * min(settings, SETTINGS_SHOWN) * (1 + len(found.by_objective))
    plot = Plot(
        importance_figure(found), "Importance of the settings for each objective", " ".join(sentences), height
    )
    return plot, ""


def _lay_out_parallel(found: SideBySide) -> Plot:
    shown = len(found.trials)
    trials = f"the {notation.counted(found.of, 'trial')} that completed"
    if shown < found.of:
        trials = f"the {shown:,} most accurate of {trials}"
    sentences = [
        f"A line for each of {trials}, with the search’s own seed: its settings, its parameters "
        "and its validation accuracy. The thicker the line, the more accurate: each colour is a fifth of the "
        "trials, and clicking one in the legend hides it.",
        "Numbers that span more than a factor of ten are on a log scale, accuracies on a log scale of the "
        "error; other settings are sorted, lists by their length first. Trials with the same value are drawn "
        "side by side, the more accurate higher.",
    ]
    if any(axis.low for axis in found.axes):
        sentences.append(f"“{notation.MISSING}” below an axis: these trials have no such setting.")
    sentences.append(
        "Hover over a line at one of the two rightmost axes to see all its settings. A search samples more "
        "where results are good: what most lines share is what it tried most, which need not be good."
    )
    label = "Settings, parameters and validation accuracy of each trial of the search, as lines"
    return Plot(parallel_figure(found), label, " ".join(sentences), 30, is_wide=True)


def _wish(name: str, way: str) -> str:
    """Describe an objective with its direction, `"few parameters"`."""
    is_amount = name not in (ACCURACY, "latency_ms")
    words = ("many", "few") if is_amount else ("high", "low")
    return f"{words[way == 'minimise']} {notation.objective(name)}"


def _bound(name: str, limit: float) -> str:
    if name == ACCURACY:
        return f"at least {notation.percent(limit)} {notation.objective(name)}"
    return f"at most {limit:,.10g} {'ms of ' if name == 'latency_ms' else ''}{notation.objective(name)}"
