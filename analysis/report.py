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
from analysis.alternatives import compare_alternatives
from analysis.alternatives_page import AlternativesPart, lay_out_alternatives
from analysis.attainment import gather_repeats
from analysis.attainment_page import lay_out_repeats
from analysis.compression import compare_compressed
from analysis.compression_page import CompressionPart, lay_out_compression, verdict_of
from analysis.confirmation import judged_trials
from analysis.costs_page import CostsPart, lay_out_costs
from analysis.dataset_page import has_own_bytes, lay_out_dataset, records
from analysis.evidence import gather_evidence
from analysis.evidence_page import EvidencePart, lay_out_evidence
from analysis.frame import (
    SEARCH_COLUMNS,
    STATUSES,
    Run,
    RunError,
    differing_settings,
    load_run,
    summarise_arms,
)
from analysis.published import PublishedPoint, read_published
from analysis.search_page import SearchPart, lay_out_search
from analysis.signs import find_signs


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
    Column("Bytes", "weight_bytes", notation.count),
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


def render_report(runs: Sequence[Run], published: Sequence[PublishedPoint] | None = None) -> str:
    """Render the page for ``runs``, whose trials are pooled; their names must differ.

    ``published`` results are shown beside them (default: those of the shipped
    `references.csv`). Raises RunError if the trials of one arm are not of one model (see ``summarise_arms``).
    """
    trials = pd.concat([run.trials for run in runs], ignore_index=True)
    epochs = pd.concat([run.epochs for run in runs], ignore_index=True)
    judged = judged_trials(trials)
    published = read_published() if published is None else published
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
            lay_out_dataset(str(name), rows, judged, epochs, published)
            for name, rows in summarise_arms(judged).groupby("dataset", sort=False)
        ],
        evidence_parts=_evidence_parts(runs),
        alternatives_parts=_alternatives_parts(judged),
        compression_parts=_compression_parts(runs),
        costs_parts=_costs_parts(runs),
        verdict_of=verdict_of,
        search_parts=_search_parts(runs),
        repeats_parts=lay_out_repeats(gather_repeats(runs)),
        as_json=_figure_json,
        signs=find_signs(trials, epochs),
        several_places=trials[["run", "dataset"]].drop_duplicates().shape[0] > 1,
        columns=_shown_columns(trials),
        trials=records(trials),
        is_missing=pd.isna,
        failures=records(trials[trials["status"] == "failed"]),
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


def _alternatives_parts(trials: pd.DataFrame) -> list[AlternativesPart]:
    place = ": {}" if trials["dataset"].nunique() > 1 else ""
    return [
        lay_out_alternatives(found, place.format(found.dataset)) for found in compare_alternatives(trials)
    ]


def _compression_parts(runs: Sequence[Run]) -> list[CompressionPart]:
    found = [evidence for run in runs for evidence in compare_compressed(run)]
    several_datasets = len({evidence.dataset for evidence in found}) > 1
    several_runs = len({evidence.run for evidence in found}) > 1
    return [
        lay_out_compression(
            each,
            (f": {each.dataset}" if several_datasets else "") + (f" ({each.run})" if several_runs else ""),
        )
        for each in found
    ]


def _costs_parts(runs: Sequence[Run]) -> list[CostsPart]:
    measured = [run for run in runs if run.costs is not None]
    found = [lay_out_costs(run.costs, f": {run.name}" if len(measured) > 1 else "") for run in measured]
    return [part for part in found if part is not None]


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


def _shown_columns(trials: pd.DataFrame) -> list[Column]:
    """Choose the columns: without those that say the same of every trial, with each setting that differs."""
    hidden = {field for field in ("run", "dataset") if trials[field].nunique() <= 1}
    if not has_own_bytes(trials):
        hidden.add("weight_bytes")
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
