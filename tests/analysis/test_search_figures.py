import pandas as pd
import pytest
from imitation_run import NASTY

from analysis import hypervolume_course, load_run
from analysis.attainment.figure import attainment_figure
from analysis.attainment.result import gather_repeats
from analysis.search.confirmation import confirmed_nets, searched_nets
from analysis.search.figure import SETTINGS_SHOWN, cloud_figure, course_figure, importance_figure
from analysis.search.importance import Importances


@pytest.fixture
def trials(search_folder):
    return load_run(search_folder).trials


def trace_named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_the_course_begins_with_nothing(trials):
    course = hypervolume_course(trials, (10_000, 0.0))
    (line,) = course_figure(course).data
    assert list(line.x) == [0, *course["epochs"]]
    assert list(line.y) == [0, *course["hypervolume"]]
    assert line.line.shape == "hv"
    assert line.hovertext[:3] == ("before the first trial", "after 1 trial", "after 2 trials")


def test_the_cloud_is_the_search_and_the_lines_lead_to_fresh_seeds(trials):
    figure = cloud_figure(searched_nets(trials), confirmed_nets(trials))
    cloud = trace_named(figure, "in the search, one seed")
    assert dict(zip(cloud.x, cloud.y, strict=True)) == pytest.approx(
        {10_000: 0.03, 2_000: 0.10, 500: 0.40, 3_000: 0.15, 5_000: 0.07, 8_000: 0.05}
    )
    assert list(trace_named(figure, "the search’s front").x) == [500, 2_000, 5_000, 8_000, 10_000]
    lines = trace_named(figure, "change with fresh seeds")
    assert lines.x[:3] == (500, 500, None)
    assert lines.y[:2] == pytest.approx((0.40, 0.43))
    points = trace_named(figure, "confirmed: mean over fresh seeds")
    assert list(points.x) == [500, 2_000, 8_000, 10_000]
    assert list(points.y) == pytest.approx([0.43, 0.13, 0.04, 0.05])
    reach = 12.7062 * 0.01
    assert points.error_y.array[1] == pytest.approx(reach, abs=1e-5)  # downwards: the error is larger
    assert points.error_y.arrayminus[1] == pytest.approx(reach, abs=1e-5)
    assert "n = 2 fresh seeds" in points.hovertext[0]


def test_the_axis_says_accuracies_of_which_less_error_is_higher(trials):
    axis = cloud_figure(searched_nets(trials), []).layout.yaxis
    assert axis.type == "log"
    assert axis.range[0] > axis.range[1]
    assert dict(zip(axis.ticktext, axis.tickvals, strict=True)) == {"95": 0.05, "90": 0.1, "80": 0.2}


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.991, 0.9912, 0.992], ["99.2", "99.1"]),
        ([1.0, 0.9, 0.5], ["100", "90", "50"]),
        ([1.0, 1.0], ["100"]),
        ([0.0, 0.1], ["0"]),
    ],
)
def test_ticks_of_short_and_perfect_ranges(trials, accuracies, expected):
    """Neither 100%, which has no logarithm of its error, nor a range without a round number is an error."""
    nets = searched_nets(trials).iloc[: len(accuracies)].assign(val_mean=accuracies)
    figure = cloud_figure(nets, [])
    axis = figure.layout.yaxis
    assert set(expected) <= set(axis.ticktext)
    low, high = sorted(axis.range)
    y = trace_named(figure, "in the search, one seed").y
    assert all(10**low <= error <= 10**high for error in y)
    assert all(10**low <= tick <= 10**high for tick in axis.tickvals)


def test_importance_has_a_bar_for_each_objective():
    shares = {"val_accuracy": {"a": 0.7, NASTY: 0.3}, "parameters": {NASTY: 0.6, "a": 0.4}}
    figure = importance_figure(Importances(12, 12, shares, (), ()))
    bars = {trace.name: dict(zip(trace.y, trace.x, strict=True)) for trace in figure.data}
    escaped = next(name for name in bars["parameters"] if name != "a")
    assert "<" not in escaped
    assert bars["validation accuracy"] == pytest.approx({"a": 70, escaped: 30})
    assert bars["parameters"] == pytest.approx({"a": 40, escaped: 60})
    assert list(bars["parameters"]) == [escaped, "a"]  # drawn upwards: what matters most is on top


def test_only_the_most_important_settings_are_drawn():
    n = SETTINGS_SHOWN + 5
    figure = importance_figure(Importances(12, 12, {"macs": {f"s{k:02}": k / 300 for k in range(n)}}, (), ()))
    assert list(figure.data[0].y) == [f"s{k:02}" for k in range(5, n)]


def test_surfaces_go_on_to_the_axis_end(search_folder):
    run = load_run(search_folder)
    repeats = gather_repeats([run, run])
    figure = attainment_figure(repeats, [NASTY])
    assert len(figure.data) == 3
    for trace, level in zip(figure.data, (25, 50, 75), strict=True):
        assert trace.name.endswith(f": {level}%")
        assert "<" not in trace.name
        assert list(trace.x[:5]) == [500, 2_000, 5_000, 8_000, 10_000]
        assert trace.x[5] == pytest.approx(10 ** figure.layout.xaxis.range[1])
        assert trace.y[5] == trace.y[4] == pytest.approx(0.03)
    assert isinstance(repeats[0].surfaces, pd.DataFrame)
