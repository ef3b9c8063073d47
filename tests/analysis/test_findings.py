"""What a notebook gets: the tables and the very figures of the page."""

import json
import re
from pathlib import Path

import pytest
from page_reading import drawn_in, figure_of

import analysis
from analysis import RunError, open_runs, render_report


def test_the_figures_are_those_of_the_page(run_folder):
    findings = open_runs(run_folder)
    page = render_report(findings.runs)
    assert set(findings.figures) == {"trial-curves", *drawn_in(page)}
    for name, figure in findings.figures.items():
        assert json.loads(figure.to_json()) == figure_of(page, name)


def test_the_tables_are_the_runs(run_folder):
    findings = open_runs(str(run_folder))
    assert len(findings.trials) == 24
    assert len(findings.epochs) == 23 * 15
    front = findings.arms[findings.arms["on_front"]].set_index("arm")
    assert front["front_rank"].to_dict() == {"tiny": 1, "small": 2, "paper": 3}
    assert front.loc["tiny", "val_mean"] == pytest.approx(0.902)
    assert front["front_probability"].tolist() == [1, 1, 1]


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(RunError, match="no such run folder"):
        open_runs(tmp_path / "nothing")


def test_two_lines_in_the_readme_are_what_works(run_folder, monkeypatch):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = [text for text in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "open_runs" in text]
    place = {}
    exec(block.replace("runs/quickstart", str(run_folder)), place)
    assert isinstance(place["findings"], analysis.Findings)
