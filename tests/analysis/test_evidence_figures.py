import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from imitation_ablation import Outcome, Tree, design_tree, imitate, table
from imitation_run import NASTY
from page_reading import Page, drawn_in

from analysis import render_report
from analysis.ablation.figure import (
    VERDICT_STYLES,
    forest_figure,
    interaction_figure,
    path_figure,
    spread_figure,
)
from analysis.ablation.judging import JudgedFamily
from analysis.ablation.result import Evidence, gather_evidence
from analysis.ablation.words import lay_out_evidence
from analysis.tables import Run

BASE = [0.90, 0.70, 0.80, 0.95, 0.75, 0.85]
A_TIMES = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
BROKEN = "ValueError: a <b>bad</b> loss"


def judged(run: Run) -> Evidence:
    (evidence,) = gather_evidence(run)
    return evidence


def one(folder: Path, tree: Tree, means: dict[str, float], **wobble: float) -> Evidence:
    """Return the evidence of arms with these means; those named in ``wobble`` vary over the seeds by it."""
    signs = (1, -1, 1, -1, 0, 0, 0)

    def outcome(arm: str, seed: int, fold: int | None, dataset: str) -> float:
        return means[arm] + 0.001 * seed + wobble.get(arm.replace(" ", "_"), 0) * signs[seed]

    return judged(imitate(folder, tree, outcome))


def family_of(evidence: Evidence, kind: str) -> JudgedFamily:
    return next(family for family in evidence.families if family.kind == kind)


def named(figure: go.Figure) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for each in content.values():
            yield from texts(each)
    elif isinstance(content, list | tuple):
        for each in content:
            yield from texts(each)


ALL_VERDICTS = {"base": 0.80, "up": 0.85, "down": 0.70, "same": 0.80, "who knows": 0.80}


def test_a_forest_has_means_intervals_and_seeds_in_points(tmp_path: Path) -> None:
    tree = design_tree(None, free=["up", "down", "same", "who knows"], seeds=range(7), significance=0.1)
    evidence = one(tmp_path / "run", tree, ALL_VERDICTS, who_knows=0.04, up=0.01)
    figure = forest_figure(evidence.families[0].comparisons, 0.005)
    marks = named(figure)
    assert [*marks] == ["single seeds", "helps", "hurts", "equivalent", "not decided"]
    assert figure.layout.yaxis.ticktext == ("who knows", "same", "down", "up")  # upwards
    assert figure.layout.yaxis.tickvals == (0, 1, 2, 3)
    assert [(mark.x, mark.y) for mark in figure.data[1:]] == [
        ((pytest.approx(5),), (3,)),
        ((pytest.approx(-10),), (2,)),
        ((pytest.approx(0),), (1,)),
        ((pytest.approx(0),), (0,)),
    ]
    for verdict, (color, symbol) in VERDICT_STYLES.items():
        assert (marks[verdict].marker.color, marks[verdict].marker.symbol) == (color, symbol)
    # Student's t, 6 degrees of freedom: 2.446912 · sqrt(4 · 1² / 6) / sqrt(7)
    reach = 2.446912 * (4 / 6) ** 0.5 / 7**0.5
    assert marks["helps"].error_x.array == (pytest.approx(reach),)
    assert marks["helps"].error_x.arrayminus == (pytest.approx(reach),)
    assert marks["not decided"].error_x.array == (pytest.approx(4 * reach),)
    dots = marks["single seeds"]
    assert len(dots.x) == 4 * 7
    who_knows = sorted(x for x, y in zip(dots.x, dots.y, strict=True) if -0.5 < y < 0)
    assert who_knows == pytest.approx([-4, -4, 0, 0, 0, 4, 4], abs=1e-9)
    band = figure.layout.shapes[0]
    assert (band.x0, band.x1) == (-0.5, 0.5)


def test_lopsided_intervals_are_drawn_as_they_are(tmp_path: Path) -> None:
    """From ten seeds on the interval is a bootstrap's, with a longer side."""
    tree = design_tree("path", ["a"], seeds=range(10))
    run = imitate(tmp_path / "run", tree, lambda arm, seed, *_: 0.5 + 0.4 * 0.6**seed * (arm == "base"))
    evidence = judged(run)
    (row,) = evidence.families[0].comparisons
    interval, mean = row.judgement.interval, row.judgement.mean
    assert interval is not None
    assert mean is not None
    assert interval.high - mean > 1.2 * (mean - interval.low)
    path = path_figure(evidence, evidence.families[0]).data
    drawn = [forest_figure(evidence.families[0].comparisons, 0.005).data[1].error_x, path[0].error_y]
    for bars in drawn:
        assert bars.array == (pytest.approx(100 * (interval.high - mean)),)
        assert bars.arrayminus == (pytest.approx(100 * (mean - interval.low)),)
    spread = named(spread_figure(evidence))["mean over seeds, 95% interval"]
    base = evidence.arms[0]
    assert base.interval is not None
    for bars in (path[1].error_y, spread.error_x):
        assert bars.array[1] == pytest.approx(100 * (base.interval.high - (base.mean or 0)))
        assert bars.arrayminus[1] == pytest.approx(100 * ((base.mean or 0) - base.interval.low))


def test_a_forest_says_all_when_pointed_at(tmp_path: Path) -> None:
    outcomes: dict[str, Sequence[Outcome]] = {
        "base": BASE,
        "without a": [base - worth for base, worth in zip(BASE, A_TIMES, strict=True)],
    }
    evidence = judged(imitate(tmp_path / "run", design_tree("leave-one-out", ["a"]), table(outcomes)))
    assert named(forest_figure(evidence.families[0].comparisons, 0.005))["helps"].hovertext[0].split(
        "<br>"
    ) == [
        "<b>a</b>",
        "base minus without a",
        "+3.50 points, n = 6 seeds",
        "95% interval +1.54 to +5.46 (Student's t)",
        "p = 0.031, corrected 0.031 (sign-flip, Holm)",
        "helps by 3.50 points",
    ]


def test_interactions_are_named_in_their_own_words(tmp_path: Path) -> None:
    means = {"base": 0.9, "without a": 0.8, "without b": 0.8, "without a, b": 0.6}
    evidence = one(tmp_path / "run", design_tree("factorial", ["a", "b"]), means)
    marks = named(forest_figure(family_of(evidence, "interactions").comparisons, 0.005))
    assert [*marks] == ["single seeds", "less together than apart"]
    assert marks["less together than apart"].marker.color == VERDICT_STYLES["hurts"][0]


PATH = {"base": 0.90, "without b": 0.85, "without b, c": 0.87, "without a, b, c": 0.80}


def test_a_path_starts_at_plain_and_ends_at_base(tmp_path: Path) -> None:
    tree = design_tree("path", ["a", "b", "c"], order=["a", "c", "b"], seeds=range(7))
    evidence = one(tmp_path / "run", tree, PATH, without_b=0.01)
    bars, ends = path_figure(evidence, evidence.families[0]).data
    assert list(bars.base) == pytest.approx([80.3, 87.3, 85.3])
    assert list(bars.y) == pytest.approx([7, -2, 5])
    assert list(ends.y) == pytest.approx([80.3, 90.3])
    assert (ends.x, bars.x) == ((0, 4), (1, 2, 3))
    assert bars.marker.color == tuple(
        VERDICT_STYLES[row.judgement.verdict][0] for row in evidence.families[0].comparisons
    )
    assert bars.marker.color[0] == VERDICT_STYLES["helps"][0]
    figure = path_figure(evidence, evidence.families[0])
    assert figure.layout.xaxis.ticktext == ("none of them", "+ a", "+ c", "+ b", "all: base")
    low, high = figure.layout.yaxis.range
    intervals = [(mean - (minus or 0), mean + (plus or 0)) for mean, minus, plus in zip(
        [87.3, 85.3, 90.3], bars.error_y.arrayminus, bars.error_y.array, strict=True)]  # fmt: skip
    assert all(low < end < high for interval in [*intervals, (80.3, 90.3)] for end in interval)
    assert bars.error_y.array[1] > 0


def test_shapley_values_reach_base(tmp_path: Path) -> None:
    tree = design_tree("path", ["a", "b", "c"], order="all", seeds=range(7))
    arms = {arm["arm"]: 0.9 - 0.03 * sum(arm["levels"].values()) ** 1.5 for arm in tree["arms"]}
    evidence = one(tmp_path / "run", tree, arms, without_a=0.02)
    bars, ends = path_figure(evidence, evidence.families[0]).data
    assert bars.base[0] == pytest.approx(ends.y[0])
    assert list(bars.base[1:]) == pytest.approx(
        [base + height for base, height in zip(bars.base[:2], bars.y[:2], strict=True)]
    )
    assert bars.base[2] + bars.y[2] == pytest.approx(ends.y[1])
    assert sum(bars.y) == pytest.approx(100 * (0.9 - arms["without a, b, c"]))


def test_a_path_with_lost_seeds_says_that_its_ends_need_not_meet(tmp_path: Path) -> None:
    def outcome(arm: str, seed: int, fold: int | None, dataset: str) -> Outcome:
        return BROKEN if (arm, seed) == ("without b", 6) else PATH[arm] + 0.002 * seed**2 * (arm == "base")

    tree = design_tree("path", ["a", "b", "c"], order=["a", "c", "b"], seeds=range(7))
    evidence = judged(imitate(tmp_path / "run", tree, outcome))
    bars, ends = path_figure(evidence, evidence.families[0]).data
    assert bars.base[2] + bars.y[2] < ends.y[1] - 0.5
    (part,) = lay_out_evidence(evidence, "").families
    assert "so they may not meet base’s mark" in part.plots[0].caption
    whole = one(tmp_path / "whole", tree, PATH)
    assert "may not meet" not in lay_out_evidence(whole, "").families[0].plots[0].caption


CELLS = design_tree("factorial", ["a", "b"], {"c": ["1", "2", "3"]})


def cell_means(tree: Tree) -> dict[str, float]:
    """An interaction of "a" with "c" alone: c 3 is worth nothing without "a"."""
    return {
        arm["arm"]: 0.9
        - 0.05 * arm["levels"]["a"]
        - 0.03 * arm["levels"]["b"]
        - 0.01 * arm["levels"]["c"] * (1 - arm["levels"]["a"])
        for arm in tree["arms"]
    }


def test_interactions_are_drawn_as_means_of_cells(tmp_path: Path) -> None:
    evidence = one(tmp_path / "run", CELLS, cell_means(CELLS))
    figure = interaction_figure(evidence, family_of(evidence, "interactions"))
    titles = [note.text for note in figure.layout.annotations[:3]]
    assert titles[0] == "a × c"  # the strongest comes first
    assert sorted(titles) == ["a × b", "a × c", "b × c"]
    lines = [trace for trace in figure.data if trace.xaxis == "x"]
    assert [(line.name, line.x) for line in lines] == [
        (level, ("with a", "without a")) for level in ("c: base&#x27;s", "c 1", "c 2", "c 3")
    ]
    # By hand: 0.9, less 1.5 points for the mean over "b", plus 0.25 points for the mean of the seeds.
    for place, line in enumerate(lines):
        assert list(line.y) == pytest.approx([90 - 1.5 + 0.25 - place, 90 - 5 - 1.5 + 0.25])
    assert len(figure.data) == 4 + 4 + 2


def test_all_levels_are_inside_their_panel(tmp_path: Path) -> None:
    """The first factor of a panel may have many levels; the right part is for the names of the lines."""
    tree = design_tree("factorial", alternatives={"c": ["1", "2", "3", "4"], "d": ["1"]})
    evidence = one(tmp_path / "run", tree, {arm["arm"]: 0.9 for arm in tree["arms"]})
    figure = interaction_figure(evidence, family_of(evidence, "interactions"))
    assert [len(trace.x) for trace in figure.data] == [5, 5]
    low, high = figure.layout.xaxis.range
    assert low < 0
    assert high > 5


def test_a_cell_without_result_has_no_point_and_its_line_keeps_its_name(tmp_path: Path) -> None:
    means: dict[str, Outcome] = {"base": 0.9, "without a": 0.8, "without b": 0.7, "without a, b": BROKEN}
    evidence = judged(
        imitate(tmp_path / "run", design_tree("factorial", ["a", "b"]), lambda arm, *_: means[arm])
    )
    figure = interaction_figure(evidence, family_of(evidence, "interactions"))
    assert [trace.y for trace in figure.data] == [pytest.approx((90, 80)), (pytest.approx(70), None)]
    names = {note.text: (note.x, note.y) for note in figure.layout.annotations[1:]}
    assert names == {
        "with b": ("without a", pytest.approx(80)),
        "without b": ("with a", pytest.approx(70)),
    }


def test_a_point_is_of_all_its_cells_or_of_none(tmp_path: Path) -> None:
    """A mean over those that are left would compare other cells than its line says."""
    tree = design_tree("factorial", ["a", "b", "c"])
    run = imitate(tmp_path / "run", tree, lambda arm, *_: BROKEN if arm == "without b, c" else 0.9)
    evidence = judged(run)
    figure = interaction_figure(evidence, family_of(evidence, "interactions"))
    full = pytest.approx(90)
    assert [trace.y for trace in figure.data] == [
        *[(full, full), (None, full)],  # a × b: with a, without b
        *[(full, full), (None, full)],  # a × c
        *[(full, full), (full, None)],  # b × c
    ]


def test_only_the_strongest_of_many_pairs_are_drawn(tmp_path: Path) -> None:
    components = ["a", "b", "c", "d", "e", "f"]
    tree = design_tree("factorial", components, seeds=range(2))
    means = {arm["arm"]: 0.9 - 0.1 * (arm["levels"]["e"] and arm["levels"]["f"]) for arm in tree["arms"]}
    evidence = one(tmp_path / "run", tree, means)
    figure = interaction_figure(evidence, family_of(evidence, "interactions"))
    assert len(figure.data) == 12 * 2
    assert figure.layout.annotations[0].text == "e × f"
    plot = lay_out_evidence(evidence, "").families[1].plots[0]
    assert plot.caption.endswith("Shown are the 12 strongest of 15 pairs; the table has all.")


def test_spread_shows_seeds_means_and_folds(tmp_path: Path) -> None:
    by_fold = (-0.02, 0.02)

    def outcome(arm: str, seed: int, fold: int | None, dataset: str) -> Outcome:
        if arm == "dead":
            return BROKEN
        return (0.9 if arm == "base" else 0.8) + 0.01 * seed + by_fold[fold or 0]

    tree = design_tree(None, free=["dead", "worse"], seeds=range(3), folds=2)
    figure = spread_figure(judged(imitate(tmp_path / "run", tree, outcome)))
    folds, seeds, means = figure.data
    assert figure.layout.yaxis.ticktext == ("worse", "base")  # the dead arm stands in the table alone
    assert list(seeds.x) == pytest.approx([80, 81, 82, 90, 91, 92])
    assert seeds.y == (0, 0, 0, 1, 1, 1)
    assert seeds.hovertext[2] == "seed 2: 82.00%"
    assert list(folds.x[:4]) == pytest.approx([39, 41, 39.5, 41.5])  # half the test accuracy
    assert folds.name == "folds (validation accuracy)"
    assert [round(y) for y in folds.y] == [0] * 6 + [1] * 6
    assert list(means.x) == pytest.approx([81, 91])
    assert list(means.error_x.array) == pytest.approx([4.302653 / 3**0.5] * 2)  # Student's t, 2 degrees
    assert means.hovertext[1].split("<br>")[:3] == ["<b>base</b>", "mean 91.00 ± 1.00%", "n = 3 seeds"]


def test_without_folds_there_are_none_to_draw(tmp_path: Path) -> None:
    evidence = one(tmp_path / "run", design_tree(None, free=["up"]), {"base": 0.9, "up": 0.91})
    assert [trace.name for trace in spread_figure(evidence).data] == [
        "seeds",
        "mean over seeds, 95% interval",
    ]


DESIGNS = {
    "leave-one-out": design_tree("leave-one-out", [NASTY, "b"], free=[f"free {NASTY}"]),
    "one-at-a-time": design_tree("one-at-a-time", alternatives={NASTY: ["1", NASTY]}),
    "factorial": design_tree("factorial", [NASTY, "b"], {f"c{NASTY}": ["1", NASTY]}),
    "path": design_tree("path", [NASTY, "b"], folds=2),
    "shapley": design_tree("path", [NASTY, "b"], order="all"),
}


def drawn(evidence: Evidence) -> list[go.Figure]:
    part = lay_out_evidence(evidence, "")
    plots = [plot for family in part.families for plot in family.plots]
    return [plot.figure for plot in [*plots, *([part.spread] if part.spread else [])]]


@pytest.mark.parametrize("tree", DESIGNS.values(), ids=DESIGNS)
def test_names_are_text_not_markup(tmp_path: Path, tree: Tree) -> None:
    run = imitate(tmp_path / "run", tree, lambda arm, seed, *_: 0.9 - 0.001 * (seed % 3) * len(arm) % 0.1)
    figures = drawn(judged(run))
    markup = {
        tag
        for figure in figures
        for text in texts(figure.to_plotly_json())
        for tag in re.findall("<.*?>", text)
    }
    assert markup == {"<b>", "</b>", "<br>", "<extra>", "</extra>"}
    assert any("&lt;/script&gt;" in text for figure in figures for text in texts(figure.to_plotly_json()))
    assert not any(re.search(r"&[a-z0-9#]*<br>", text) for figure in figures
                   for text in texts(figure.to_plotly_json()))  # fmt: skip


def test_long_names_are_wrapped_before_they_are_escaped(tmp_path: Path) -> None:
    """A line break inside of "&lt;" would leave "&l" and "t;" on the page."""
    name = "<" * 70
    run = imitate(tmp_path / "run", design_tree("leave-one-out", [name]), lambda *_: 0.9)
    for figure in drawn(judged(run)):
        for text in texts(figure.to_plotly_json()):
            assert not re.search(r"&(?!lt;|gt;|amp;|#x27;|quot;)", text)


@pytest.mark.parametrize("tree", DESIGNS.values(), ids=DESIGNS)
@pytest.mark.parametrize("came_to", [BROKEN, None])
def test_without_any_value_all_still_draw(tmp_path: Path, tree: Tree, came_to: Outcome) -> None:
    evidence = judged(imitate(tmp_path / "run", tree, lambda *_: came_to))
    part = lay_out_evidence(evidence, "")
    assert part.spread is None
    assert len(part.lost) == 6 * len(evidence.arms)
    for family, laid_out in zip(evidence.families, part.families, strict=True):
        for plot in laid_out.plots:
            plot.figure.to_json()
            assert all(y is None for trace in plot.figure.data for y in trace.y)
        forest = forest_figure(family.comparisons, 0.005)
        assert [trace.name for trace in forest.data] == ["single seeds"]
        assert len(forest.layout.yaxis.ticktext) == len(family.comparisons)
    if tree["design"] == "path":
        (note,) = part.families[0].plots[0].figure.layout.annotations
        assert note.text == "not drawn: one end of the path has no result"


def test_one_seed_has_no_bars(tmp_path: Path) -> None:
    tree = design_tree("path", ["a", "b"], seeds=[0])
    means = {"base": 0.9, "without b": 0.8, "without a, b": 0.85}
    evidence = one(tmp_path / "run", tree, means)
    for figure in drawn(evidence):
        for trace in figure.data:
            bars = [trace.error_x.array or (), trace.error_y.array or ()] if trace.name != "seeds" else []
            assert all(bar is None for ends in bars for bar in ends)
    bars, _ = path_figure(evidence, evidence.families[0]).data
    assert list(bars.y) == pytest.approx([-5, 10])


# The page.


def words(page: str) -> str:
    return " ".join(Page(page).text.split())


def cells(page: str, name: str) -> list[str]:
    """Return what stands in the row of this name in a table of comparisons, its second line left out."""
    row = re.search(rf'<td class="name">{re.escape(name)}<br>(.*?)</tr>', page)
    assert row is not None
    return re.findall(r"<td[^>]*>(.*?)</td>", row[1])


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Run:
    outcomes: dict[str, Sequence[Outcome]] = {
        "base": BASE,
        "without a": [base - worth for base, worth in zip(BASE, A_TIMES, strict=True)],
        f"without {NASTY}": [*BASE[:5], BROKEN],
    }
    tree = design_tree("leave-one-out", ["a", NASTY])
    return imitate(tmp_path_factory.mktemp("runs") / "worked", tree, table(outcomes))


@pytest.fixture(scope="module")
def page(worked: Run) -> str:
    return render_report([worked])


def test_the_page_has_every_number_with_its_n_and_method(worked: Run, page: str) -> None:
    text = words(page)
    assert "What each change is worth on digits Against base 2 comparisons: 2 not decided." in text
    assert cells(page, "a")[1:] == [
        "6", "+3.50", "+1.54 to +5.46", "–", "0.031", "0.062", "1", "1.87", "100%", "+1.75",
    ]  # fmt: skip
    assert cells(page, "a")[0].startswith("not decided: 6 seeds are too few for 2 comparisons, 7 may suffice")
    assert "Mean over paired seeds (n = 5 to 6 seeds; each small dot is one) with its 95% interval" in text
    assert "Student's t" in text
    assert "two-sided sign-flip test at 0.05, Holm-corrected over the 2 comparisons here" in text
    assert "Equivalent: both one-sided sign-flip tests against ±0.50 points" in text
    rows = re.findall(r'<tr class="verdict-[a-z-]+">(.*?)</tr>', page)
    assert [re.findall('<td class="number">(.*?)</td>', row)[0] for row in rows] == ["6", "5"]
    (evidence,) = gather_evidence(worked)
    lowest = min(arm.mean or 1.0 for arm in evidence.arms)  # all are above a half
    reach = 100 * 1.96 * math.sqrt(2 * lowest * (1 - lowest) / 1000)
    assert f"another 1,000 images could move a difference by up to ±{reach:.2f} points" in text


def test_the_page_has_the_arms_and_what_is_left_out(page: str) -> None:
    text = words(page)
    table_of_arms = page[page.index("Test set’s own error, 95%") :]
    rows = [re.findall("<td[^>]*>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", table_of_arms)]
    assert rows[0] == [
        "base", "1,000", "40,000", "82.50 ± 9.35%", "72.68 to 92.32", "80.02% to 84.73%", "6 of 6",
    ]  # fmt: skip
    assert rows[2][-1] == "5 of 6"
    assert "Left out: seeds without a result" in text
    assert f"without {NASTY}, seed 5 failed: {BROKEN}" in text
    assert "The table shows what other test sets of 1,000 images might give" in text


def test_the_page_shows_warnings(page: str, tmp_path: Path) -> None:
    (warning,) = re.findall(r'<p class="warning">(.*?)</p>', page)
    assert warning.startswith("warning: differences: 2 comparisons, 6 seeds: no p value can be below 0.062")
    assert warning.endswith("7 seeds are the fewest that can")
    enough = imitate(tmp_path / "enough", design_tree("leave-one-out", ["a"]), lambda *_: 0.9)
    assert 'class="warning"' not in render_report([enough])


def test_names_on_the_page_are_text(page: str) -> None:
    elements = Page(page).elements
    assert not {"img"} & {tag for tag, _ in elements}
    assert NASTY not in page
    assert NASTY in Page(page).text
    assert sum(tag == "script" for tag, _ in elements) == page.count("</script>") == 3
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("tree", "headings", "figures"),
    [
        (DESIGNS["leave-one-out"], ["Against base"], 2),
        (DESIGNS["one-at-a-time"], ["Against base"], 2),
        (DESIGNS["factorial"], ["Main effects", "Interactions"], 4),
        (DESIGNS["path"], ["The path, step by step"], 3),
        (DESIGNS["shapley"], ["Shapley values over all orders"], 3),
    ],
    ids=DESIGNS,
)
def test_each_design_has_its_sections(
    tmp_path: Path, tree: Tree, headings: Sequence[str], figures: int
) -> None:
    run = imitate(tmp_path / "run", tree, lambda arm, *_: 0.9 - 0.1 * (arm != "base"))
    page = render_report([run])
    section = page.split('<section id="evidence-1"')[1].split("</section>")[0]
    found = re.findall(r"<h3>(.*?)</h3>", section)
    assert found[: len(headings)] == headings
    assert ("Seeds and folds" in found) == (tree["folds"] is not None)
    assert "Left out: seeds without a result" not in found
    assert sum(name.startswith("evidence-1-") for name in drawn_in(page)) == figures
    assert page.index("Accuracy against cost") < page.index("What each change is worth")


def test_each_data_set_and_run_has_its_heading(tmp_path: Path) -> None:
    tree = design_tree("leave-one-out", ["a"], datasets=("digits", "mnist"))
    runs = [imitate(tmp_path / name, tree, lambda *_: 0.9) for name in ("one", "two")]
    page = render_report(runs)
    assert re.findall("<h2>What each change is worth on (.*?)</h2>", page) == [
        "digits (one)", "mnist (one)", "digits (two)", "mnist (two)",
    ]  # fmt: skip
    assert "What each change is worth on digits</h2>" in render_report(runs[:1])


@pytest.mark.parametrize("came_to", [BROKEN, None])
def test_a_page_without_results_says_so(tmp_path: Path, came_to: Outcome) -> None:
    tree = design_tree("path", ["a", "b"], seeds=range(20))
    page = render_report([imitate(tmp_path / "run", tree, lambda *_: came_to)])
    text = words(page)
    assert "2 comparisons: 2 not decided." in text
    assert "not decided: no seed has all its arms" in text
    assert "and 10 more" in text  # 50 of 3 arms × 20 seeds
    assert "Failure signs" not in text
    assert not re.search(r"\bnan\b", page.split("Provenance")[0], re.IGNORECASE)


def test_no_ablation_no_section(worked: Run) -> None:
    page = render_report([dataclasses.replace(worked, design=None)])
    assert "What each change is worth" not in page
    assert "evidence-1" not in page
    assert "Accuracy against cost" in page


def test_failure_signs_are_shown_or_said_to_be_none(page: str, tmp_path: Path) -> None:
    assert (
        "Failure signs No net that learnt nothing, and none of the signs that arXiv 2501.15547 warns of "
        "(submodels that drift apart, a drop after unfreezing, a train/test gap above 20 points, folds that "
        "differ by more than 2 points) in 17 completed trials."
    ) in words(page)
    tree = design_tree(None, free=[NASTY], seeds=range(2))
    page = render_report([imitate(tmp_path / "gap", tree, lambda *_: 0.6, train_accuracy=0.9)])
    assert words(page.split('<section id="signs"')[1]).count("train/test gap") == 2
    assert "Failure sign in 2 arms: train/test gap." in words(page)
    assert "2 of 2" in words(page)
    assert "90.00% on training images, 60.00% on test images" in words(page)
    assert "none of the signs that arXiv" not in page
    assert NASTY not in page
