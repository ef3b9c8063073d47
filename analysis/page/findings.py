"""Findings of runs, for a notebook: the same tables and figures as on their page.

    findings = analysis.open_runs("runs/quickstart")
    findings.figures["pareto-1"].show()

`figure.write_image("front.svg")` (or .png, .pdf) works where kaleido is installed:
`pip install 'lightsweep[images]'`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from analysis.arms import summarise_arms
from analysis.front.result import mark_front, mark_membership
from analysis.page.report import compose_page
from analysis.search.confirmation import judged_trials
from analysis.tables import Run, load_runs


@dataclass(frozen=True)
class Findings:
    """The tables and figures of one or several runs."""

    runs: tuple[Run, ...]
    trials: pd.DataFrame
    """A row per trial; see `Run.trials`. Accuracies are fractions, times seconds."""
    epochs: pd.DataFrame
    """A row per trial, stage and epoch; see `Run.epochs`."""
    arms: pd.DataFrame
    """A row per run, data set and arm (`summarise_arms`), with on_front, front_rank and front_probability
    by parameters; of a search with a confirmation, the confirmed nets."""
    figures: Mapping[str, go.Figure]
    """Figures of the page by the ids of their elements: pareto-1 (first data set), curves-1, evidence-1-1-1,
    search-1-course, …"""


def open_runs(*folders: Path | str) -> Findings:
    """Read run folders and compute what `lightsweep report` shows of them.

    Raises:
        RunError: There is no folder, one is given twice, or one cannot be used.

    """
    runs = load_runs(folders)
    trials = pd.concat([run.trials for run in runs], ignore_index=True)
    epochs = pd.concat([run.epochs for run in runs], ignore_index=True)
    judged = judged_trials(trials)
    arms = mark_membership(mark_front(summarise_arms(judged)), judged)
    return Findings(tuple(runs), trials, epochs, arms, compose_page(runs).figures)
