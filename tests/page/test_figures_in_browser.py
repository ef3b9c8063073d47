"""Figures of searches, ablations and published results in a real browser, and as image files."""

import math
import shutil
from importlib.util import find_spec

import pytest
from giving_up import give_up
from imitation_ablation import design_tree, imitate
from imitation_run import NASTY
from playwright.sync_api import expect

from analysis import open_runs
from analysis.front.published import PublishedPoint
from analysis.search import importance

pytestmark = pytest.mark.browser

DESIGNS = {
    "path": design_tree("path", [NASTY, "b"], folds=2),
    "factorial": design_tree("factorial", [NASTY, "b"], {f"c{NASTY}": ["1", NASTY]}),
}


def test_figures_of_ablations(tmp_path, opened):
    """Of a path with a lost arm, and of a factorial with alternatives and a nasty name."""

    def outcome(arm, seed, fold, dataset):
        if arm == f"without {NASTY}" and seed == 1:
            return "ValueError: a <b>bad</b> loss"
        return 0.9 - 0.01 * len(arm) % 0.2 - 0.001 * seed

    for name, design in DESIGNS.items():
        page = opened(imitate(tmp_path / name, design, outcome).folder)
        assert page.locator(".plot .main-svg:first-child").count() == 6
        assert page.locator("#evidence-1-spread .scatterlayer .point").count() > 10
        if name == "path":
            assert page.locator("#evidence-1-1-1 .barlayer .point").count() == 2
            assert page.locator("#evidence-1-1-2 .scatterlayer .errorbar").count() == 2
        else:
            assert page.locator("#evidence-1-2-1 .cartesianlayer .subplot").count() == 3
            assert page.locator("#evidence-1-2-1 .scatterlayer .trace").count() == 2 + 3 + 3


def test_figures_of_searches_on_a_narrow_screen(search_folder, tmp_path, opened, monkeypatch):
    monkeypatch.setattr(importance, "FEWEST", 5)
    other = shutil.copytree(search_folder, tmp_path / "again")
    page = opened(search_folder, other, viewport={"width": 400, "height": 800})
    for figure in ("search-1-course", "search-1-cloud", "search-1-importance", "repeats-1"):
        page.locator(f"#{figure} .main-svg").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_published_results_can_be_switched_off_and_stay_off(run_folder, monkeypatch, opened):
    shipped = [
        PublishedPoint("digits", name, size, accuracy, "one run", "A paper", "https://example.org", "B")
        for name, size, accuracy in (("a", 800, 0.92), ("b", 900_000, 0.99))
    ]
    monkeypatch.setattr("analysis.page.report.read_published", lambda: shipped)
    page = opened(run_folder)
    points = page.locator("#pareto-1 .scatterlayer .point")
    expect(points).to_have_count(9)  # one failed
    page.get_by_role("radio", name="Test").check()
    expect(points).to_have_count(11)
    low, high = page.evaluate("document.getElementById('pareto-1').layout.xaxis.range")
    assert low < math.log10(800) < math.log10(900_000) < high
    page.get_by_role("checkbox", name="published results").uncheck()
    expect(points).to_have_count(9)
    page.get_by_role("radio", name="Validation").check()
    expect(page.locator("#pareto-1 .ytitle")).to_have_text("mean validation accuracy (%)")
    page.get_by_role("radio", name="Test").check()
    expect(page.locator("#pareto-1 .ytitle")).to_have_text("mean test accuracy (%)")
    expect(points).to_have_count(9)


@pytest.mark.slow
def test_figures_are_written_as_images_where_kaleido_is(run_folder, tmp_path, chromium, monkeypatch):
    if find_spec("kaleido") is None:
        give_up("needs kaleido: pip install lightsweep[images]")
    monkeypatch.setenv("BROWSER_PATH", chromium)
    figure = open_runs(run_folder).figures["pareto-1"]
    figure.write_image(tmp_path / "front.svg")
    figure.write_image(tmp_path / "front.png")
    svg = (tmp_path / "front.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg")
    assert "mean validation accuracy (%)" in svg
    assert svg.count('class="point plotly-customdata"') == 8 + 1  # arms, and the trial that failed
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
