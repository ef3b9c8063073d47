"""Top of the page: what was swept, the main findings in one sentence each, and warnings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis import notation
from analysis.ablation.result import Evidence
from analysis.arms import ARM_KEY, differing_settings
from analysis.course.signs import Sign
from analysis.seeds import whole_seeds
from analysis.statistics.power import fewest_seeds
from analysis.tables import Run

SETTINGS_NAMED = 5
FINDINGS_SHOWN = 8
DECIDED = ("helps", "hurts", "equivalent")


@dataclass(frozen=True)
class RunSummary:
    """A run in words."""

    name: str
    datasets: str
    plan: str
    """Structure of the trials: arms × seeds × folds, or the phases of a search."""
    varied: str
    """Settings in which its trials differ; empty if there are none."""
    n_trials: int
    n_left: int
    """Number of planned trials without a record."""
    started: str
    hosts: str


@dataclass(frozen=True)
class Remark:
    """A sentence at the top of the page; `more` is the id of the element with details, or empty."""

    text: str
    more: str = ""


def summarise_run(run: Run) -> RunSummary:
    """Describe in words what a run trained, when and where."""
    trials = run.trials
    started = pd.to_datetime(trials["started_at"], utc=True, format="ISO8601", errors="coerce").min()
    return RunSummary(
        name=run.name,
        datasets=", ".join(trials["dataset"].unique()),
        plan=_describe_plan(trials),
        varied=describe_varied(trials),
        n_trials=len(trials),
        n_left=run.n_left,
        started="" if pd.isna(started) else f"{started.day} {started:%B %Y, %H:%M} UTC",
        hosts=", ".join(trials["host"].dropna().unique()),
    )


def describe_varied(trials: pd.DataFrame) -> str:
    """Name the settings in which trials differ, with the number of values of each, `"a (2 values)"`."""
    counts = {
        name.removeprefix("config."): int(trials[name].map(notation.value).nunique())
        for name in differing_settings(trials)
    }
    named = [f"{name} ({notation.counted(values, 'value')})" for name, values in counts.items()]
    if len(named) > SETTINGS_NAMED + 1:
        named = [*named[:SETTINGS_NAMED], f"{len(named) - SETTINGS_NAMED} more settings"]
    return notation.listed(named) if named else ""


def list_findings(evidences: Sequence[Evidence], dataset: str) -> list[Remark]:
    """List the verdicts of ablations on a data set, one sentence with interval each: decided ones first."""
    remarks = []
    for place, evidence in enumerate(evidences, 1):
        if evidence.dataset != dataset:
            continue
        rows = [
            row
            for family in evidence.families
            for row in family.comparisons
            if row.judgement.mean is not None
        ]
        rows.sort(key=lambda row: (row.judgement.verdict not in DECIDED, -abs(row.judgement.mean or 0.0)))
        for row in rows[:FINDINGS_SHOWN]:
            judged = row.judgement
            reach = notation.interval_points(judged.interval)
            bounds = f", individual 95% interval {reach}" if judged.interval else ""
            remarks.append(
                Remark(
                    f"{row.contrast.name}: {row.verdict}, {notation.signed_points(judged.mean)} points "
                    f"(n = {notation.counted(judged.n, 'seed')}{bounds})"
                )
            )
        left_out = len(rows) - FINDINGS_SHOWN
        more = f"{left_out} more, and the method" if left_out > 0 else "Method"
        remarks.append(Remark(more, f"evidence-{place}"))
    return remarks


def list_warnings(runs: Sequence[Run], judged: pd.DataFrame, signs: Sequence[Sign]) -> list[Remark]:
    """List what a reader should be aware of; `judged` are the trials that the fronts are made of."""
    left = sum(run.n_left for run in runs)
    ends = Counter(status for run in runs for status in run.trials["status"])
    failed, stopped = ends["failed"], ends["early_stopped"]
    remarks = []
    if left:
        remarks.append(Remark(f"Not run yet: {notation.counted(left, 'planned trial')}."))
    if failed:
        they = f"{_they_are(failed)} excluded from all averages, which flatters arms that diverge"
        text = f"{notation.counted(failed, 'trial')} failed and {they}."
        remarks.append(Remark(text, "failures"))
    if stopped:
        ended = f"{notation.counted(stopped, 'trial')} {'was' if stopped == 1 else 'were'} stopped early"
        remarks.append(Remark(f"{ended} and {_they_are(stopped)} excluded from all averages and fronts."))
    remarks += _warn_of_uncounted(judged)
    remarks += _warn_of_seeds(whole_seeds(judged, ["val_accuracy"]).groupby(level=ARM_KEY).size())
    kinds = Counter(sign.kind for sign in signs)
    remarks += [
        Remark(f"Failure sign in {notation.counted(arms, 'arm')}: {kind}.", "signs")
        for kind, arms in kinds.items()
    ]
    return remarks


def _they_are(number: int) -> str:
    return "is" if number == 1 else "are"


def _warn_of_uncounted(judged: pd.DataFrame) -> list[Remark]:
    """Name what the MACs of some arms leave out."""
    if "uncounted" not in judged:
        return []
    rows = judged[judged["uncounted"].fillna("").ne("")]
    return [
        Remark(f"MACs of {notation.counted(members['arm'].nunique(), 'arm')} do not count {what}.")
        for what, members in rows.groupby("uncounted", sort=True)
    ]


def _warn_of_seeds(seeds: "pd.Series[int]") -> list[Remark]:
    """Warn of arms with too few seeds; `seeds` has the number of seeds of each arm that has any."""
    needed = fewest_seeds(0.05, 1)
    few = sorted(int(count) for count in seeds if count < needed)
    if not few:
        return []
    arms = f"{len(few):,} of {notation.counted(len(seeds), 'arm')} {'has' if len(few) == 1 else 'have'} "
    if few[-1] == 1:
        rest = "one seed: the spread of results is unknown, and small differences may be chance."
    else:
        span = f"{few[0]}" if few[0] == few[-1] else f"{few[0]} to {few[-1]}"
        rest = f"{span} seeds: with fewer than {needed}, no sign-flip test can be significant at 5%."
    return [Remark(arms + rest)]


def _describe_plan(trials: pd.DataFrame) -> str:
    """Describe the structure of the trials: arms × seeds × folds, or the phases of a search."""
    confirmation = trials[trials["phase"] == "confirmation"]
    searched = trials[trials["phase"] == "search"]
    if searched.empty:
        planned = trials[~trials["is_placebo"]]
        placebo = " and a placebo with other seeds" if len(planned) < len(trials) else ""
        return _count_cells(planned, "arm", "seed") + placebo
    text = f"a search ({notation.counted(len(searched), 'trial')})"
    return (
        text
        if confirmation.empty
        else f"{text} and its confirmation ({_count_cells(confirmation, 'net', 'fresh seed')})"
    )


def _count_cells(trials: pd.DataFrame, arm: str, seed: str) -> str:
    arms, seeds, folds = (trials[field].nunique() for field in ("arm", "seed", "fold"))
    text = f"{notation.counted(arms, arm)} × {notation.counted(seeds, seed)}"
    return f"{text} × {notation.counted(folds, 'fold')}" if folds else text
