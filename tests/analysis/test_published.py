import dataclasses
import html
import json
import math
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imitation_run import NASTY
from page_reading import Page, figure_of, text_of

from analysis import load_run, mark_front, pareto_figure, render_report, summarise_arms
from analysis.front.figure import PAPER, PUBLISHED
from analysis.front.published import GRADES, PublishedPoint, near, on_dataset, read_published

HEADER = "dataset,model,parameters,accuracy,measured,source,url,trust\n"
ROW = 'mnist,"LeNet-5, as published",60000,0.9905,"one run, test set",LeCun 1998,https://example.org/a,A\n'


def point(model="net", parameters: int | None = 10_000, accuracy=0.95, dataset="digits", **changes):
    made = PublishedPoint(
        dataset, model, parameters, accuracy, "one run", "A paper", "https://example.org", "B"
    )
    return dataclasses.replace(made, **changes)


def written(tmp_path, text):
    path = tmp_path / "references.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_table_is_whole():
    """Every page reads it."""
    points = read_published()
    assert len(points) >= 10
    assert {point.trust for point in points} <= set(GRADES)


def test_rows_are_read_as_they_stand(tmp_path):
    path = written(tmp_path, HEADER + ROW + ROW.replace("60000", "").replace(",A\n", ",C\n"))
    first, second = read_published(path)
    assert first == PublishedPoint(
        "mnist", "LeNet-5, as published", 60_000, 0.9905, "one run, test set", "LeCun 1998",
        "https://example.org/a", "A",
    )  # fmt: skip
    assert (second.parameters, second.trust) == (None, "C")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (HEADER, HEADER.replace("trust", "grade"), "the columns are .*grade; they must be dataset, .*trust"),
        (ROW, ROW.replace(",A\n", "\n"), "line 2: 7 fields; there must be 8"),
        ("mnist", " ", "line 2: dataset is empty; only parameters may be"),
        ("60000", "0", "line 2: parameters is 0; it must be 1 or more, or empty"),
        ("60000", "60k", "line 2: invalid literal for int.*60k"),
        ("0.9905", "99.05", "line 2: accuracy is 99.05; it must be a fraction, above 0 and at most 1"),
        ("0.9905", "nan", "line 2: accuracy is nan; it must be a fraction"),
        ("https:", "javascript:", "line 2: url is 'javascript:.*'; it must start with https:// or http://"),
        (",A\n", ",AB\n", "line 2: trust is 'AB'; it must be one of A, B, C"),
        (ROW, ROW + ROW, "line 3: duplicate of an earlier row"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(tmp_path, old, new, message):
    with pytest.raises(ValueError, match=message):
        read_published(written(tmp_path, (HEADER + ROW).replace(old, new)))


def test_a_data_sets_points_come_from_small_to_large():
    points = [point("b", 20), point("c", None), point("a", 20), point("d", 5), point("e", 1, dataset="mnist")]
    assert [each.model for each in on_dataset(points, "digits")] == ["d", "a", "b", "c"]


def arms(*rows: tuple[int, float | None]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "parameters": pd.array([size for size, _ in rows], dtype="Int64"),
            "test_mean": pd.array([accuracy for _, accuracy in rows], dtype="float64").to_numpy(),
            "n_seeds": [1] * len(rows),
        }
    )


def test_what_is_near_by_hand():
    table = arms((1_000, 0.90), (20_000, 0.96))
    inside = [point(parameters=100), point(parameters=200_000), point(accuracy=0.841), point(accuracy=1.0)]
    outside = [point(parameters=99), point(parameters=200_001), point(accuracy=0.839), point(parameters=None)]
    assert near([*inside, *outside], table) == tuple(inside)
    equal = arms((1_000, 0.90), (2_000, 0.90))
    assert near([point(accuracy=0.881), point(accuracy=0.879)], equal) == (point(accuracy=0.881),)
    assert near(inside, arms((1_000, None))) == ()
    assert near(inside, table.assign(n_seeds=0)) == ()


@given(st.lists(st.integers(1, 10**9), min_size=1), st.lists(st.integers(1, 10**9)))
def test_the_axis_grows_by_at_most_a_decade_to_either_side(sizes, published):
    found = near([point(parameters=size) for size in published], arms(*((size, 0.9) for size in sizes)))
    drawn = [each.parameters for each in found]
    assert drawn == [size for size in published if min(sizes) <= 10 * size <= 100 * max(sizes)]


def test_published_points_are_a_layer_of_the_test_view_alone(run_folder):
    table = mark_front(summarise_arms(load_run(run_folder).trials))
    points = [point("<b>net", 1_000, 0.995, measured="five runs " * 12, source="A <i>", trust="C")]
    plain, figure = pareto_figure(table), pareto_figure(table, published=points)
    (layer,) = [trace for trace in figure.data if trace.name == PUBLISHED]
    assert layer.meta == {"layer": "published", "views": ["test"], "costs": ["parameters"]}
    assert (layer.visible, list(layer.x), list(layer.y)) == (False, [1_000], [99.5])
    seen = [pareto_figure(table, view="test", published=points), pareto_figure(table, "macs", "test", points)]
    assert [figure.data[0].visible for figure in seen] == [True, False]
    assert layer.marker.symbol == "star-open"
    assert layer.marker.symbol not in {t.marker.symbol for t in plain.data}
    lines = layer.hovertext[0].split("<br>")
    assert lines[:3] == ["<b>&lt;b&gt;net</b>, published", "1,000 parameters", "test 99.50%"]
    assert lines[3].startswith("measured: five runs")
    assert max(map(len, lines)) <= 40
    assert lines[-2:] == ["source: A &lt;i&gt;", "trust C (explained below)"]
    others = [trace.to_plotly_json() for trace in figure.data if trace.name != PUBLISHED]
    assert others == [trace.to_plotly_json() for trace in plain.data]


def test_the_papers_own_claim_is_a_layer_of_both_views(run_folder):
    table = mark_front(summarise_arms(load_run(run_folder).trials))
    claim = point("theirs", 14_862, 0.99, url="https://arxiv.org/abs/2501.15547")
    for view in ("validation", "test"):
        figure = pareto_figure(table, view=view, published=[claim])
        (layer,) = [trace for trace in figure.data if trace.meta["layer"] == "paper"]
        assert (layer.visible, layer.name, layer.marker.symbol) == (True, PAPER, "star")
        assert figure.layout.yaxis.range[0] < 99 < figure.layout.yaxis.range[1]


def test_only_the_test_view_widens_for_published_points(run_folder):
    table = mark_front(summarise_arms(load_run(run_folder).trials))
    far = [point(parameters=1_000_000, accuracy=0.85)]
    plain, figure = pareto_figure(table), pareto_figure(table, published=far)
    assert figure.layout.yaxis.range == plain.layout.yaxis.range
    assert figure.layout.xaxis.range == plain.layout.xaxis.range
    test = pareto_figure(table, view="test", published=far)
    assert test.layout.yaxis.range[0] < 85
    low, high = test.layout.xaxis.range
    assert low < math.log10(2_350) < 6 < high
    assert 1_000_000 in test.layout.xaxis.tickvals
    assert (
        pareto_figure(table, "macs", "test", far).layout.xaxis.range
        == pareto_figure(table, "macs").layout.xaxis.range
    )


def test_the_page_has_them_in_figure_and_table_but_in_no_front_and_no_hypervolume(run_folder):
    run = load_run(run_folder)
    points = [
        point("perfect", 500, 1.0, trust="C"),
        point(NASTY, 2_000_000, 0.999, url="https://example.org/?a=1&b=2", source=NASTY, measured=NASTY),
        point("elsewhere", dataset="mnist"),
    ]
    plain, page = render_report([run], []), render_report([run], points)
    assert NASTY not in page
    assert "published" not in text_of(plain)
    for section in ("<h3>The front</h3>", "<h3>Best net per parameter budget</h3>"):
        assert page.split(section)[1].split("</table>")[0] == plain.split(section)[1].split("</table>")[0]
    text = text_of(page)
    hypervolume = "Hypervolume of the front: "
    assert text.split(hypervolume)[1][:6] == text_of(plain).split(hypervolume)[1][:6]
    assert "Stars: 1 of 2 published results on this data set. They are test accuracies measured" in text
    assert "so they are in the test view only and do not affect the front" in text
    assert (
        "The others, beyond 10 times this figure’s parameters or far less accurate, are only in the table"
        in text
    )
    assert "2 published results on digits, with sources" in text
    table = page.split('<details class="published">')[1].split("</table>")[0]
    cells = [html.unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall("<td.*?</td>", table)]
    assert cells[:7] == ["perfect", "500", "100.00%", "C", "yes", "one run", "A paper"]
    assert cells[7:] == [NASTY, "2,000,000", "99.90%", "B", "no", NASTY, NASTY]
    assert "elsewhere" not in text
    for meaning in GRADES.values():
        assert meaning in text
    links = [attributes for tag, attributes in Page(page).elements if tag == "a"]
    assert [link["href"] for link in links if link["href"].startswith("http")] == [
        "https://example.org",
        "https://example.org/?a=1&b=2",
    ]
    assert all("noopener" in link["rel"] for link in links if link["href"].startswith("http"))
    assert sum(trace["name"] == PUBLISHED for trace in figure_of(page, "pareto-1")["data"]) == 1


def test_points_that_are_all_drawn_leave_no_others(run_folder):
    text = text_of(render_report([load_run(run_folder)], [point("one"), point("two")]))
    assert "Stars: all of 2 published results on this data set." in text
    assert "are only in the table" not in text


def test_points_that_are_all_far_away_stand_in_the_table(run_folder):
    page = render_report([load_run(run_folder)], [point(parameters=10**9)])
    assert "1 published result on this data set is in the table below but not in the figure" in text_of(page)
    assert PUBLISHED not in json.dumps(figure_of(page, "pareto-1"))


def test_the_shipped_table_is_what_a_page_shows(run_folder, monkeypatch):
    monkeypatch.setattr("analysis.page.report.read_published", lambda: (point("shipped"),))
    assert "shipped" in text_of(render_report([load_run(run_folder)]))
