"""One self-contained HTML page from one or several runs: no request leaves the reader's machine.

Everything that comes from files is escaped by the template (report.html.jinja, report.css, report.js).
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from analysis import notation
from analysis.attainment import gather_repeats
from analysis.attainment_page import lay_out_repeats
from analysis.confirmation import judged_trials
from analysis.curves import LearningCurves, learning_curves
from analysis.evidence import gather_evidence
from analysis.evidence_page import EvidencePart, lay_out_evidence
from analysis.figures import learning_curves_figure, pareto_figure
from analysis.frame import (
    SEARCH_COLUMNS,
    STATUSES,
    Run,
    RunError,
    differing_settings,
    load_run,
    summarise_arms,
)
from analysis.pareto import best_per_budget, mark_front, mark_membership
from analysis.pareto_page import caption_pareto, explain_probability, state_basis, state_finding
from analysis.search_page import SearchPart, lay_out_search
from analysis.signs import find_signs


@dataclass(frozen=True)
class Section:
    """What the page shows of one data set; there is no figure if no trial completed."""

    dataset: str
    finding: str
    bases: Sequence[str] = ()
    """What the front rests on, where runs are searches."""
    pareto: Markup | None = None
    has_test: bool = False
    caption: str = ""
    front: Sequence[Mapping[str, Any]] = ()
    front_note: str = ""
    budgets: Sequence[Mapping[str, Any]] = ()
    curves: Markup | None = None
    curve_labels: Sequence[str] = ()
    curves_caption: str = ""


@dataclass(frozen=True)
class Column:
    """A column of the table of trials: its title, the trial's field, and how that is written."""

    title: str
    field: str
    write: Callable[[Any], str]
    is_number: bool = True


COLUMNS = (
    Column("Run", "run", notation.value, is_number=False),
    Column("Data set", "dataset", notation.value, is_number=False),
    Column("Arm", "arm", notation.value, is_number=False),
    Column("Seed", "seed", notation.value),
    Column("Fold", "fold", notation.value),
    Column("Phase", "phase", notation.value, is_number=False),
    Column("Study number", "study_number", notation.count),
    Column("Status", "status", lambda status: str(status).replace("_", " "), is_number=False),
    Column("Parameters", "parameters", notation.count),
    Column("MACs", "macs", notation.count),
    Column("Latency", "latency_ms", notation.milliseconds),
    Column("Validation", "val_accuracy", notation.percent),
    Column("Test", "test_accuracy", notation.percent),
    Column("Train", "train_accuracy", notation.percent),
    Column("Epochs", "epochs_trained", notation.count),
    Column("Time", "seconds", notation.seconds),
    Column("Stages reused", "stages_reused", notation.count),
    Column("Trial", "trial_id", notation.value, is_number=False),
)


def write_report(runs: Sequence[Path], output: Path) -> Path:
    """Read the run folders ``runs`` and write their report to ``output``, whole or not at all.

    A run is called by its folder's name, or by its path as given where two names agree. Returns ``output``.
    Raises RunError if there is no run, one is given twice or cannot be used, or ``output`` cannot be written.
    """
    folders = [Path(run) for run in runs]
    if not folders or len({folder.resolve() for folder in folders}) < len(folders):
        raise RunError("report: name at least one run folder, and each only once")
    names = [folder.resolve().name for folder in folders]
    page = render_report(
        [
            load_run(folder, str(folder) if names.count(name) > 1 else name)
            for folder, name in zip(folders, names, strict=True)
        ]
    )
    output = Path(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        draft = output.with_name(f"{output.name}.{os.getpid()}.tmp")
        try:
            draft.write_text(page, encoding="utf-8")
            draft.replace(output)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"{output}: cannot be written ({error.strerror}); name another file with -o"
        ) from error
    return output


def render_report(runs: Sequence[Run]) -> str:
    """Render the page for ``runs``, whose trials are pooled; their names must differ.

    Raises RunError if the trials of one arm are not of one model (see ``summarise_arms``).
    """
    trials = pd.concat([run.trials for run in runs], ignore_index=True)
    epochs = pd.concat([run.epochs for run in runs], ignore_index=True)
    judged = judged_trials(trials)
    arms = mark_membership(mark_front(summarise_arms(judged)), judged)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        title=" + ".join(run.name for run in runs),
        summaries=[_summarise_run(run) for run in runs],
        counts={status: int((trials["status"] == status).sum()) for status in STATUSES},
        sections=[
            _build_section(str(name), rows, judged, epochs)
            for name, rows in arms.groupby("dataset", sort=False)
        ],
        evidence_parts=_evidence_parts(runs),
        search_parts=_search_parts(runs),
        repeats_parts=lay_out_repeats(gather_repeats(runs)),
        as_json=_figure_json,
        signs=find_signs(trials, epochs),
        several_places=trials[["run", "dataset"]].drop_duplicates().shape[0] > 1,
        columns=_shown_columns(trials),
        trials=_records(trials),
        is_missing=pd.isna,
        failures=_records(trials[trials["status"] == "failed"]),
        provenance=[
            {
                "name": run.name,
                "folder": run.folder,
                "facts": _flatten(run.environment),
                "sweep": run.sweep_text,
            }
            for run in runs
        ],
        notation=notation,
        plotly_js=Markup(get_plotlyjs()),
    )


def _evidence_parts(runs: Sequence[Run]) -> list[EvidencePart]:
    found = [evidence for run in runs for evidence in gather_evidence(run)]
    several_runs = len({evidence.run for evidence in found}) > 1
    return [
        lay_out_evidence(each, f" on {each.dataset}{f' ({each.run})' if several_runs else ''}")
        for each in found
    ]


def _search_parts(runs: Sequence[Run]) -> list[SearchPart]:
    searches = [run for run in runs if run.search is not None]
    found = [lay_out_search(run, f": {run.name}" if len(searches) > 1 else "") for run in searches]
    return [part for part in found if part is not None]


def _build_section(dataset: str, arms: pd.DataFrame, trials: pd.DataFrame, epochs: pd.DataFrame) -> Section:
    drawn = arms[arms["n_completed"] > 0]
    front = arms[arms["on_front"]].sort_values("front_rank")
    if drawn.empty:
        finding = f"No arm has a completed trial on {dataset} yet, so there is no front to show."
        return Section(dataset, finding)
    judged = trials[trials["dataset"] == dataset]
    curves = learning_curves(epochs, trials, arms)
    return Section(
        dataset=dataset,
        finding=state_finding(dataset, drawn, front),
        bases=state_basis(judged),
        pareto=_figure_json(pareto_figure(arms)),
        has_test=bool(drawn["test_mean"].notna().any()),
        caption=caption_pareto(arms, drawn),
        front=_records(front),
        front_note=explain_probability(drawn),
        budgets=_records(best_per_budget(drawn)),
        curves=_figure_json(learning_curves_figure(curves)) if curves.labels else None,
        curve_labels=curves.labels,
        curves_caption=_caption_curves(curves),
    )


def _caption_curves(curves: LearningCurves) -> str:
    sentences = [
        "Thin lines are single trials.",
        "A thick line is the mean over an arm’s seeds and ends with the shortest trial; its band is one "
        "sample standard deviation over seeds (of their folds’ means) to both sides.",
        "Diamonds mark where a trial’s next stage begins."
        if curves.shared_starts is None
        else "Dotted lines bound the stages.",
    ]
    return " ".join(sentences)


def _summarise_run(run: Run) -> dict[str, Any]:
    """Say in words what a run trained, when and where."""
    trials = run.trials
    started = pd.to_datetime(trials["started_at"], utc=True, format="ISO8601", errors="coerce").min()
    return {
        "name": run.name,
        "datasets": ", ".join(trials["dataset"].unique()),
        "plan": _describe_plan(trials),
        "n_trials": len(trials),
        "n_left": max((run.n_planned or 0) - len(trials), 0),
        "started": "" if pd.isna(started) else f"{started.day} {started:%B %Y, %H:%M} UTC",
        "hosts": ", ".join(trials["host"].dropna().unique()),
    }


def _describe_plan(trials: pd.DataFrame) -> str:
    """Say what the trials are of: arms × seeds × folds, or the phases of a search."""
    confirmation = trials[trials["phase"] == "confirmation"]
    searched = trials[trials["phase"] == "search"]
    if searched.empty:
        return _count_cells(trials, "arm", "seed")
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


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): field for key, field in row.items()} for row in table.to_dict("records")]


def _shown_columns(trials: pd.DataFrame) -> list[Column]:
    """Choose the columns: without those that say the same of every trial, with each setting that differs."""
    hidden = {field for field in ("run", "dataset") if trials[field].nunique() <= 1}
    hidden |= {field for field in ("fold", *SEARCH_COLUMNS) if trials[field].isna().all()}
    settings = [
        Column(
            field.removeprefix("config."), field, notation.value, pd.api.types.is_numeric_dtype(trials[field])
        )
        for field in differing_settings(trials)
    ]
    return [column for column in COLUMNS if column.field not in hidden] + settings


def _figure_json(figure: go.Figure) -> Markup:
    """Write a figure as JSON that may stand in a <script>: plotly's writer escapes <, > and /."""
    return Markup(figure.to_json())


def _flatten(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """List what environment.json says as (dotted key, text)."""
    rows: list[tuple[str, str]] = []
    for key, fact in facts.items():
        if isinstance(fact, Mapping):
            rows += _flatten(fact, f"{prefix}{key}.")
        elif isinstance(fact, list):
            rows.append((f"{prefix}{key}", " ".join(map(str, fact)) or "none"))
        else:
            is_count = isinstance(fact, int) and not isinstance(fact, bool)
            rows.append((f"{prefix}{key}", notation.count(fact) if is_count else notation.value(fact)))
    return rows
