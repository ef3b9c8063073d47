"""Turn run folders into evidence: checked tables, Pareto fronts, figures and one self-contained page.

Reads files only: imports neither torch nor ray, and of lightsweep only helpers for files, text and errors.
The names below are imported on first use, so that importing the package is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.ablation.result import Evidence, gather_evidence
    from analysis.alternatives.result import compare_alternatives
    from analysis.arms import summarise_arms
    from analysis.compression.result import compare_compressed
    from analysis.course.curves import learning_curves
    from analysis.course.figure import learning_curves_figure, trial_figure
    from analysis.course.signs import find_signs
    from analysis.front.figure import pareto_figure
    from analysis.front.published import read_published
    from analysis.front.result import best_per_budget, hypervolume, mark_front, mark_membership, pareto_front
    from analysis.page.findings import Findings, open_runs
    from analysis.page.report import render_report, write_report
    from analysis.reading import RunError
    from analysis.search.course import hypervolume_course
    from analysis.tables import Run, load_run

__all__ = [
    "Evidence",
    "Findings",
    "Run",
    "RunError",
    "best_per_budget",
    "compare_alternatives",
    "compare_compressed",
    "find_signs",
    "gather_evidence",
    "hypervolume",
    "hypervolume_course",
    "learning_curves",
    "learning_curves_figure",
    "load_run",
    "mark_front",
    "mark_membership",
    "open_runs",
    "pareto_figure",
    "pareto_front",
    "read_published",
    "render_report",
    "summarise_arms",
    "trial_figure",
    "write_report",
]

_HOMES = {
    "Evidence": "ablation.result",
    "Findings": "page.findings",
    "Run": "tables",
    "RunError": "reading",
    "best_per_budget": "front.result",
    "compare_alternatives": "alternatives.result",
    "compare_compressed": "compression.result",
    "find_signs": "course.signs",
    "gather_evidence": "ablation.result",
    "hypervolume": "front.result",
    "hypervolume_course": "search.course",
    "learning_curves": "course.curves",
    "learning_curves_figure": "course.figure",
    "load_run": "tables",
    "mark_front": "front.result",
    "mark_membership": "front.result",
    "open_runs": "page.findings",
    "pareto_figure": "front.figure",
    "pareto_front": "front.result",
    "read_published": "front.published",
    "render_report": "page.report",
    "summarise_arms": "arms",
    "trial_figure": "course.figure",
    "write_report": "page.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(f"analysis.{_HOMES[name]}"), name)
