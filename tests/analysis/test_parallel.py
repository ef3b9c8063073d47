import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imitation_run import NASTY

from analysis import load_run
from analysis.parallel.figure import BAND_COLORS, BAND_WIDTHS, SPREAD, parallel_figure, spread
from analysis.parallel.result import (
    BANDS,
    FLOOR,
    MOST_NAMES,
    MOST_TRIALS,
    bands_of,
    place_side_by_side,
    round_steps,
)
from analysis.search.words import lay_out_search

TICKS = {"80%": 0.2, "90%": 0.1, "95%": 0.05}
PAPERS = ("#fdfdfb", "#15181d")  # of the page, by day and by night


def searched(accuracies, **settings):
    """Make the trials of a search; a setting's dots are written as ``__``."""
    columns = {f"config.{key.replace('__', '.')}": values for key, values in settings.items()}
    n = len(accuracies)
    return pd.DataFrame(
        {
            "arm": [f"net {place}" for place in range(n)],
            "phase": "search",
            "status": "completed",
            "parameters": pd.array([1000 * (1 + place) for place in range(n)], "Int64"),
            "val_accuracy": accuracies,
            **columns,
        }
    )


def on_axis(values, **changes):
    """Place four or so trials, of rising accuracy, by one setting; return its axis and their positions."""
    accuracies = [0.9 + 0.001 * place for place in range(len(values))]
    found = place_side_by_side(searched(accuracies, key=values, **changes), ["key"])
    assert found is not None
    return found.axes[0], found.positions[:, 0]


def test_the_searched_settings_come_in_their_order_then_the_results(search_folder):
    """6 of 8 nets completed; ``stages.lr`` has no column. From the worst: 3, 4, 1, 6, 7, 0."""
    run = load_run(search_folder)
    found = place_side_by_side(run.trials, run.search.keys)
    assert [axis.name for axis in found.axes] == ["model.filters", "parameters", "validation accuracy"]
    assert [trial.arm for trial in found.trials] == ["net 3", "net 4", "net 1", "net 6", "net 7", "net 0"]
    assert found.of == 6
    assert found.axes[0].texts == ("0", "1", "3", "4", "6", "7")
    assert found.positions[:, 0] == pytest.approx([0.4, 0.6, 0.2, 0.8, 1.0, 0.0])
    log_span = math.log10(10_000 / 500)
    assert found.positions[:, 1] == pytest.approx(
        [math.log10(size / 500) / log_span for size in (500, 3_000, 2_000, 5_000, 8_000, 10_000)]
    )
    error_span = math.log10(0.40 / 0.03)
    assert found.positions[:, 2] == pytest.approx(
        [math.log10(0.40 / error) / error_span for error in (0.40, 0.15, 0.10, 0.07, 0.05, 0.03)]
    )
    expected = {text: math.log10(0.40 / error) / error_span for text, error in TICKS.items()}
    assert dict(zip(found.axes[2].texts, found.axes[2].ticks, strict=True)) == pytest.approx(expected)


def test_numbers_are_linear_up_to_a_factor_of_ten_and_logarithmic_above():
    axis, positions = on_axis(pd.array([64, 640, 352], "Int64"))
    assert axis.kind == "linear"
    assert positions == pytest.approx([0, 1, 0.5])
    assert axis.ticks == pytest.approx((0, 0.5, 1))
    assert axis.texts == ("64", "352", "640")
    axis, positions = on_axis([0.001, 0.1, 0.01])
    assert axis.kind == "log"
    assert positions == pytest.approx([0, 1, 0.5])
    assert axis.texts == ("0.001", "0.01", "0.1")
    axis, positions = on_axis([0.0, 0.1, 0.025])  # there is no logarithm of 0
    assert axis.kind == "linear"
    assert positions == pytest.approx([0, 1, 0.25])


def test_many_numbers_have_round_ticks():
    axis, _ = on_axis([0.1 + 0.01 * place for place in range(50)])
    assert axis.texts == ("0.1", "0.2", "0.3", "0.4", "0.5")
    assert axis.ticks == pytest.approx([0, 0.1 / 0.49, 0.2 / 0.49, 0.3 / 0.49, 0.4 / 0.49])
    assert round_steps(0.002, 0.3, is_log=True) == pytest.approx([0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2])
    assert round_steps(1e-9, 1.0, is_log=True) == pytest.approx(
        [1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0]
    )
    assert round_steps(3.0, 3.0, is_log=False) == [3.0]


def test_categories_stand_evenly_in_their_order_and_lists_by_their_numbers():
    axis, positions = on_axis(["shift", "affine", "none"])
    assert axis.kind == "categories"
    assert axis.texts == ("affine", "none", "shift")
    assert positions == pytest.approx([1, 0, 0.5])
    axis, positions = on_axis(["[10, 20]", "[4, 8]", "[16]", "[4, 8, 8]", "[4, 16]"])
    assert axis.texts == ("16", "4,8", "4,16", "10,20", "4,8,8")  # as texts "[10" would come before "[4"
    assert positions == pytest.approx([0.75, 0.25, 0, 1, 0.5])
    axis, _ = on_axis(["10", "wide", "9"])
    assert axis.texts == ("9", "10", "wide")
    axis, positions = on_axis(pd.array([True, False], "boolean"))
    assert (axis.texts, list(positions)) == (("False", "True"), [1, 0])


def test_many_categories_have_places_but_few_have_names_and_long_names_are_cut():
    axis, positions = on_axis([json.dumps([place]) for place in range(100)])
    assert positions == pytest.approx([place / 99 for place in range(100)])
    assert len(axis.texts) == len(axis.ticks) == MOST_NAMES
    assert (axis.texts[0], axis.texts[-1]) == ("0", "99")
    for text, tick in zip(axis.texts, axis.ticks, strict=True):
        assert tick == pytest.approx(int(text) / 99)
    axis, _ = on_axis(["squeeze-and-excite-1", "squeeze-and-excite-2"])
    assert axis.texts == ("squeeze…te-1", "squeeze…te-2")


@pytest.mark.parametrize(
    "values",
    [pd.array([8, None, 64, 36], "Int64"), [8.0, math.nan, 64.0, 36.0], ["a", None, "c", "b"]],
    ids=["integers", "floats", "texts"],
)
def test_a_missing_value_has_a_place_of_its_own_at_the_bottom(values):
    axis, positions = on_axis(values)
    assert axis.low == FLOOR
    assert positions == pytest.approx([FLOOR, 0, 1, (1 + FLOOR) / 2])
    assert (axis.ticks[0], axis.texts[0]) == (0, "–")
    assert axis.ticks[1] == FLOOR


def test_a_group_stands_for_its_settings_and_what_does_not_differ_has_no_axis():
    trials = searched(
        [0.9, 0.95],
        stages__lr=[0.1, 0.2], stages__preset=["paper", "paper"], batch_size=[32, 64], stagesque=[1, 2],
        hidden=[8, 16],
    )  # fmt: skip
    found = place_side_by_side(trials, ["batch_size", "stages", "stages.lr", "unknown"])
    assert [axis.name for axis in found.axes[:-2]] == ["batch_size", "stages.lr"]
    assert found.trials[1].settings == ("64", "0.2")
    assert place_side_by_side(trials, ["stages.preset"]) is None
    assert place_side_by_side(trials.iloc[:1], ["batch_size"]) is None
    assert place_side_by_side(trials.iloc[:0], ["batch_size"]) is None


def test_only_completed_trials_of_the_search_are_placed():
    """A confirmation is of chosen nets, and an early-stopped trial has no final accuracy."""
    trials = searched([0.9, 0.91, 0.92, 0.93], key=[1, 2, 3, 4])
    trials["phase"] = ["search", "search", "search", "confirmation"]
    trials["status"] = ["completed", "early_stopped", "completed", "completed"]
    found = place_side_by_side(trials, ["key"])
    assert [trial.arm for trial in found.trials] == ["net 0", "net 2"]


def test_of_many_trials_the_best_are_placed():
    n = MOST_TRIALS + 20
    trials = searched([0.5 + 0.001 * (place % n) for place in range(n)], key=list(range(n))).sample(
        frac=1, random_state=0
    )
    trials["parameters"] = pd.array([1000] * n, "Int64")
    found = place_side_by_side(trials, ["key"])
    assert [trial.arm for trial in found.trials] == [f"net {place}" for place in range(20, n)]
    assert found.of == n


@pytest.mark.parametrize("accuracies", [[1.0, 0.9, 0.5], [1.0, 1.0], [0.0, 0.1], [0.991, 0.9912, 0.992]])
def test_perfect_and_hopeless_nets_have_a_place(accuracies):
    """100% has no logarithm of its error: it stands above all others."""
    found = place_side_by_side(searched(accuracies, key=range(len(accuracies))), ["key"])
    positions = found.positions[:, -1]
    assert np.isfinite(positions).all()
    assert list(positions) == sorted(positions)
    assert len(set(positions)) == len(set(accuracies))
    texts = found.axes[-1].texts
    assert ("100%" in texts) == (1.0 in accuracies)
    assert texts


def test_bands_are_fifths_and_equal_accuracies_share_one():
    assert (
        bands_of([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4][::1]
        or True
    )
    assert bands_of([0.5, 0.5, 0.5]) == [BANDS - 1] * 3
    assert bands_of([0.9]) == [BANDS - 1]


NUMBERS = st.floats(allow_nan=False) | st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(
    st.lists(st.none() | NUMBERS, min_size=2, max_size=30),
    st.lists(
        st.none() | st.text(max_size=5) | st.lists(NUMBERS, max_size=3).map(json.dumps),
        min_size=2,
        max_size=30,
    ),
    st.lists(st.none() | st.booleans() | NUMBERS | st.text(max_size=5), min_size=2, max_size=30),
)


@given(VALUES, st.data())
def test_all_positions_and_ticks_lie_on_their_axes(values, data):
    accuracies = data.draw(st.lists(st.floats(0, 1), min_size=len(values), max_size=len(values)))
    trials = searched(accuracies, key=pd.Series(values, dtype="object"))
    trials["parameters"] = pd.array(
        data.draw(st.lists(st.integers(1, 2**62), min_size=len(values), max_size=len(values))), "Int64"
    )
    found = place_side_by_side(trials, ["key"])
    if found is None:
        return
    assert found.positions.shape == (len(values), 3)
    assert ((found.positions >= 0) & (found.positions <= 1)).all()
    for axis, positions in zip(found.axes, found.positions.T, strict=True):
        assert axis.texts
        assert len(axis.ticks) == len(axis.texts)
        assert all(0 <= tick <= 1 for tick in axis.ticks)
        assert list(axis.ticks) == sorted(axis.ticks)
        assert all(position == 0 or position >= axis.low for position in positions)
    assert not np.isnan(spread(found.positions)).any()
    parallel_figure(found)


@given(st.lists(st.floats(-1e6, 1e6) | st.integers(1, 10**9), min_size=2, max_size=30))
def test_numbers_keep_their_order(values):
    found = place_side_by_side(searched([0.5] * len(values), key=pd.Series(values, dtype="float64")), ["key"])
    if found is None:
        return
    by_value = sorted(zip(map(float, values), found.positions[:, 0].tolist(), strict=True))
    assert [position for _, position in by_value] == sorted(position for _, position in by_value)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_bands_rise_with_accuracy(accuracies):
    bands = bands_of(accuracies)
    ranked = sorted(zip(accuracies, bands, strict=True))
    assert [band for _, band in ranked] == sorted(bands)
    assert all(0 <= band < BANDS for band in bands)
    assert bands[accuracies.index(max(accuracies))] == BANDS - 1
    assert len({(accuracy, band) for accuracy, band in ranked}) == len(set(accuracies))


@given(st.lists(st.sampled_from([0, 0.1, 0.14, 0.5, 0.52, 1]), min_size=1, max_size=40))
def test_equal_positions_are_drawn_apart_and_others_keep_their_order(column):
    positions = np.array(column, dtype=float)[:, np.newaxis]
    moved = spread(positions)[:, 0]
    assert len(set(moved)) == len(column)
    for row, other in zip(*np.triu_indices(len(column), 1), strict=True):
        is_below = (column[row], row) < (column[other], other)
        assert (moved[row] < moved[other]) == is_below
    assert np.abs(moved - column).max() <= SPREAD + 1e-12


def test_each_band_is_a_line_with_gaps_and_the_best_is_drawn_last():
    trials = searched([0.99, 0.5, 0.6, 0.7, 0.8, 0.9], key=range(6))
    lines = [trace for trace in parallel_figure(place_side_by_side(trials, ["key"])).data if trace.name]
    assert [trace.line.color for trace in lines] == list(BAND_COLORS)
    assert [trace.line.width for trace in lines] == list(BAND_WIDTHS)
    assert sum(list(trace.x).count(None) for trace in lines) == 6
    assert list(lines[-1].x) == [0, 1, 2, None] * (len(lines[-1].x) // 4)
    assert "net 0" in lines[-1].hovertext[-2]
    assert lines[-1].y[-4:] == (0, 0, 1, None)  # the best: the first key, the fewest parameters
    assert "99.00%" in lines[-1].name


def test_lines_show_by_day_and_by_night_and_not_by_colour_alone():
    def luminance(color):
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    for color in BAND_COLORS:
        for paper in PAPERS:
            low, high = sorted((luminance(color), luminance(paper)))
            assert (high + 0.05) / (low + 0.05) > 2.2
    assert sorted(BAND_COLORS, key=luminance) == list(BAND_COLORS)
    assert sorted(set(BAND_WIDTHS)) == list(BAND_WIDTHS)


def test_hovering_tells_the_net_and_its_settings_and_nothing_becomes_markup():
    trials = searched([0.9, 0.95], key=[NASTY, "plain"], other=[None, 3.0]).assign(arm=[NASTY, "net 1"])
    trials = trials.rename(columns={"config.other": f"config.{NASTY}"})
    figure = parallel_figure(place_side_by_side(trials, ["key", NASTY]))
    texts = [text for trace in figure.data if trace.name for text in trace.hovertext]
    at_key, at_other, whole, _, _ = texts[:5]
    assert "90.00%" in whole
    assert "1,000 parameters" in whole
    assert "key = &lt;/script" in at_key
    assert at_other.endswith(" = –")
    assert whole.count(" = ") == 1  # a setting that the net does not have is not listed
    assert "key = plain" in texts[5]
    shown = [*texts, *(note.text for note in figure.layout.annotations)]
    assert not any("<img" in text or "</script" in text for text in shown)


def test_the_page_says_how_many_trials_are_drawn(search_folder, monkeypatch):
    run = load_run(search_folder)
    plot = lay_out_search(run, "").parallel
    assert "A line for each of the 6 trials that completed, with the search’s own seed" in plot.caption
    assert "“–”" not in plot.caption  # no trial lacks a setting
    monkeypatch.setattr("analysis.parallel.result.MOST_TRIALS", 4)
    caption = lay_out_search(run, "").parallel.caption
    assert "A line for each of the 4 most accurate of the 6 trials that completed" in caption


def test_a_search_whose_trials_do_not_differ_has_no_such_figure(search_folder):
    trials = pd.read_parquet(search_folder / "trials.parquet")
    trials["config.model.filters"] = "[4]"
    trials.to_parquet(search_folder / "trials.parquet")
    assert lay_out_search(load_run(search_folder), "").parallel is None
