"""Build one self-contained HTML page from one or several runs; it makes no network requests.

Templates, style and scripts are in `templates/`. They escape everything that comes from files, and the
content security policy allows only the page's own two scripts, by their hashes.
"""

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from analysis import notation
from analysis.ablation.result import Evidence, gather_evidence
from analysis.ablation.words import EvidencePart, lay_out_evidence
from analysis.alternatives.result import compare_alternatives
from analysis.alternatives.words import AlternativesPart, lay_out_alternatives
from analysis.arms import summarise_arms
from analysis.attainment.result import gather_repeats
from analysis.attainment.words import lay_out_repeats
from analysis.compared.words import lay_out_comparison
from analysis.compression.result import compare_compressed
from analysis.compression.words import CompressionPart, lay_out_compression, verdict_of
from analysis.costs.words import CostsPart, lay_out_costs
from analysis.course.signs import find_signs
from analysis.folds.words import FoldsPart, lay_out_folds
from analysis.front.figure import AXES, LAYERS
from analysis.front.published import PublishedPoint, read_published
from analysis.front.result import BUDGETS
from analysis.page.data import fill_payload, shown_columns
from analysis.page.dataset import DatasetPart, lay_out_dataset, records
from analysis.page.payload import Payload, packed_plotly
from analysis.page.summary import list_findings, list_warnings, summarise_run
from analysis.reading import STATUSES, RunError
from analysis.search.confirmation import judged_trials
from analysis.search.words import SearchPart, lay_out_search
from analysis.tables import Run, load_runs
from analysis.time.words import TimePart, lay_out_time
from lightsweep.system.files import write_text

SCRIPTS = ("data.js", "filters.js", "figures.js", "table.js", "page.js", "trial.js")
"""Files that are joined, in this order, into one script."""
FOLDER = Path(__file__).parent / "templates"
FAILURES_SHOWN = 100
LABELS_LISTED = 500  # arms that the filter suggests by name


@dataclass(frozen=True)
class Page:
    """A rendered page, and its figures by the ids of their elements."""

    html: str
    figures: Mapping[str, go.Figure]


def write_report(runs: Sequence[Path], output: Path) -> Path:
    """Read the run folders `runs` and write their report to `output` atomically.

    Returns:
        The path `output`.

    Raises:
        RunError: As for `load_runs`, or `output` cannot be written.

    """
    page = render_report(load_runs(runs))
    output = Path(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, page)
    except OSError as error:
        raise RunError(
            f"{output}: cannot be written ({error.strerror}); name another file with -o"
        ) from error
    return output


def render_report(runs: Sequence[Run], published: Sequence[PublishedPoint] | None = None) -> str:
    """Render the page for `runs` as HTML; see `compose_page`."""
    return compose_page(runs, published).html


def compose_page(runs: Sequence[Run], published: Sequence[PublishedPoint] | None = None) -> Page:
    """Compose the page for `runs`, whose trials are pooled; their names must differ.

    `published` results are shown beside them (default: the shipped `references.csv`).

    Raises:
        RunError: The trials of one arm are not of one model (see `summarise_arms`).

    """
    trials = pd.concat([run.trials for run in runs], ignore_index=True)
    epochs = pd.concat([run.epochs for run in runs], ignore_index=True)
    judged = judged_trials(trials)
    published = read_published() if published is None else published
    evidences = [evidence for run in runs for evidence in gather_evidence(run)]
    signs = find_signs(trials, epochs)
    sections = [
        lay_out_dataset(str(name), rows, judged, trials, epochs, published)
        for name, rows in summarise_arms(judged).groupby("dataset", sort=False)
    ]
    columns, payload = shown_columns(trials), Payload()
    fill_payload(payload, runs, trials, judged, epochs, sections, columns)
    script = "".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS) + "\n"
    html = (
        templates()
        .get_template("report.html.jinja")
        .render(
            title=" + ".join(run.name for run in runs),
            summaries=[summarise_run(run) for run in runs],
            counts={status: int((trials["status"] == status).sum()) for status in STATUSES},
            n_trials=len(trials),
            filters=_filters(trials, sections),
            warnings=list_warnings(runs, judged, signs),
            findings={section.dataset: list_findings(evidences, section.dataset) for section in sections},
            sections=sections,
            evidence_parts=_evidence_parts(evidences),
            alternatives_parts=_alternatives_parts(judged),
            compression_parts=_compression_parts(runs),
            costs_parts=_costs_parts(runs),
            verdict_of=verdict_of,
            search_parts=_search_parts(runs),
            repeats_parts=lay_out_repeats(gather_repeats(runs)),
            comparison=lay_out_comparison(runs),
            folds_parts=_folds_parts(judged, sections),
            time_parts=_time_parts(runs),
            signs=signs,
            several_places=trials[["run", "dataset"]].drop_duplicates().shape[0] > 1,
            columns=columns,
            is_missing=pd.isna,
            failures=records(trials[trials["status"] == "failed"].head(FAILURES_SHOWN)),
            provenance=[_describe_provenance(run) for run in runs],
            layer_names=LAYERS,
            notation=notation,
            payload=payload,
            plotly=packed_plotly(),
            script=Markup(script),
            script_hashes=[_hash(script), _plotly_hash()],
        )
    )
    return Page(html, payload.figures)


@cache
def templates() -> Environment:
    """Return the page's templates; they escape everything that comes from files."""
    return Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def _filters(trials: pd.DataFrame, sections: Sequence[DatasetPart]) -> dict[str, Any]:
    """Return the options of the filters."""
    costs = dict.fromkeys(cost for section in sections for cost in section.marks)
    sizes = trials["parameters"].dropna()
    low, high = (int(sizes.min()), int(sizes.max())) if len(sizes) else (0, 0)
    return {
        "datasets": trials["dataset"].unique().tolist(),
        "arms": trials["arm"].unique().tolist()[:LABELS_LISTED],
        "statuses": [status for status in STATUSES if (trials["status"] == status).any()],
        "budgets": [budget for budget in BUDGETS if low <= budget < high],
        "costs": [(cost, AXES[cost]) for cost in costs],
        "layers": list(dict.fromkeys(layer for section in sections for layer in section.layers)),
        "has_test": any(section.has_test for section in sections),
    }


def _hash(script: str) -> str:
    """Return the expression with which a content security policy allows exactly this script."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() + "'"


@cache
def _plotly_hash() -> str:
    return _hash(get_plotlyjs())


def _folds_parts(judged: pd.DataFrame, sections: Sequence[DatasetPart]) -> list[FoldsPart]:
    place = ": {}" if len(sections) > 1 else ""
    found = [
        lay_out_folds(
            judged[judged["dataset"] == section.dataset],
            section.marks["parameters"],
            place.format(section.dataset),
        )
        for section in sections
        if section.arms is not None
    ]
    return [part for part in found if part is not None]


def _time_parts(runs: Sequence[Run]) -> list[TimePart]:
    found = [lay_out_time(run, f": {run.name}" if len(runs) > 1 else "") for run in runs]
    return [part for part in found if part is not None]


def _evidence_parts(found: Sequence[Evidence]) -> list[EvidencePart]:
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


def _describe_provenance(run: Run) -> dict[str, Any]:
    """Return how a run was produced, and how to reproduce it."""
    seeds, folds = (sorted(run.trials[name].dropna().unique().tolist()) for name in ("seed", "fold"))
    commit = str(run.environment.get("commit") or "")
    is_dirty = commit.endswith("+dirty")
    facts = [("seeds", ", ".join(map(str, seeds)) or notation.MISSING)]
    facts += [("folds", ", ".join(map(str, folds)))] if folds else []
    return {
        "name": run.name,
        "facts": [("run folder", str(run.folder)), *facts, *_facts(run.environment)],
        "sweep": run.sweep_text,
        "checkout": f"git checkout {shlex.quote(commit.removesuffix('+dirty'))}" if commit else "",
        "is_dirty": is_dirty,
        "has_own_code": notation.OWN_CODE.search(run.sweep_text) is not None,
    }


def _facts(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """List the entries of environment.json as (dotted key, text)."""
    rows: list[tuple[str, str]] = []
    for key, fact in facts.items():
        if isinstance(fact, Mapping):
            rows += _facts(fact, f"{prefix}{key}.")
        elif isinstance(fact, list):
            rows.append((f"{prefix}{key}", " ".join(map(str, fact)) or "none"))
        else:
            is_count = isinstance(fact, int) and not isinstance(fact, bool)
            rows.append((f"{prefix}{key}", notation.count(fact) if is_count else notation.value(fact)))
    return rows
