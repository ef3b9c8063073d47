import pandas as pd
import pytest
from imitation_run import NASTY

from analysis import (
    learning_curves,
    learning_curves_figure,
    load_run,
    mark_front,
    pareto_figure,
    summarise_arms,
)


@pytest.fixture
def run(run_folder):
    return load_run(run_folder)


@pytest.fixture
def arms(run):
    return mark_front(summarise_arms(run.trials))


def traces(figure, view):
    return [trace for trace in figure.data if trace.meta["view"] == view]


def test_front_is_picked_by_validation_in_both_views(arms):
    figure = pareto_figure(arms)
    for view, means in (("validation", [90.2, 95.2, 98.2]), ("test", [89.2, 94.2, 97.2])):
        line, beaten, front = traces(figure, view)
        assert front.x == line.x == (2_350, 6_930, 14_862)
        assert list(front.y) == pytest.approx(means)
        assert front.text == ("1", "2", "3")
        assert len(beaten.x) == 5
        assert line.line.shape == "hv"
        assert {trace.visible for trace in (line, beaten, front)} == {view == "validation"}


def test_axes_hold_both_views_and_ticks_are_written_out(arms):
    figure = pareto_figure(arms)
    low, high = figure.layout.yaxis.range
    drawn = [y for trace in figure.data for y in trace.y]
    assert low < min(drawn)
    assert max(drawn) < high
    assert figure.layout.xaxis.type == "log"
    assert "10,000" in figure.layout.xaxis.ticktext
    assert all(10 ** figure.layout.xaxis.range[0] < tick for tick in figure.layout.xaxis.tickvals)


@pytest.mark.parametrize(("low", "high"), [(14_862, 14_862), (13_000, 15_000), (1, 3), (9, 120_000_000)])
def test_every_axis_has_a_few_ticks(arms, low, high):
    ends = arms.iloc[:2].assign(parameters=[low, high])
    assert 2 <= len(pareto_figure(ends).layout.xaxis.tickvals) <= 25


def test_bars_are_one_standard_deviation_where_there_is_one(arms):
    arms.loc[arms["arm"] == "small", "val_std"] = float("nan")
    _, _, front = traces(pareto_figure(arms), "validation")
    bars = front.error_y.array
    assert bars[0] == pytest.approx(0.2)
    assert bars[1] is None


def test_hover_says_all_and_is_escaped(arms):
    _, beaten, _ = traces(pareto_figure(arms), "validation")
    texts = {text.split("<br>")[0]: text for text in beaten.hovertext}
    dead = texts["<b>dead</b>"].split("<br>")
    assert dead == [
        "<b>dead</b>",
        "n = 2 completed trials, 1 failed",
        "9,000 parameters, 360,000 MACs",
        "validation 93.10 ± 0.14%",
        "test 92.60 ± 0.14%",
        "augmentation = affine",
    ]
    assert not any(NASTY in text for text in beaten.hovertext)
    assert any("&lt;/script&gt;&lt;img" in text for text in beaten.hovertext)


def test_arms_without_completed_trial_are_not_drawn(arms):
    arms.loc[arms["arm"] == "wide", ["n_completed", "val_mean", "test_mean"]] = [0, None, None]
    _, beaten, front = traces(pareto_figure(arms), "validation")
    assert len(beaten.x) + len(front.x) == 7


def test_against_bytes_the_axis_and_the_texts_are_bytes(run):
    trials = run.trials.assign(
        weight_bytes=run.trials["weight_bytes"].where(run.trials["arm"] != "paper", 900)
    )
    figure = pareto_figure(mark_front(summarise_arms(trials), "weight_bytes"), "weight_bytes")
    line, _, front = traces(figure, "validation")
    assert front.x == line.x == (900,)
    assert figure.layout.xaxis.title.text == "bytes of weights (log scale)"
    low, high = figure.layout.xaxis.range
    assert 10**low < 900 < 4 * 101_770 < 10**high
    assert "14,862 parameters, 594,480 MACs<br>900 bytes of weights<br>" in front.hovertext[0]


def test_no_test_accuracy_no_test_view(arms):
    figure = pareto_figure(arms.assign(test_mean=float("nan"), test_std=float("nan")))
    assert traces(figure, "test") == []
    assert len(traces(figure, "validation")) == 3


def test_several_runs_have_their_own_symbols(run):
    trials = pd.concat([run.trials, run.trials.assign(run="<b>")])
    figure = pareto_figure(mark_front(summarise_arms(trials)))
    names = {trace.name: trace.marker.symbol for trace in figure.data}
    assert names["imitation: on the front (by validation)"] == "circle"
    assert names["&lt;b&gt;: on the front (by validation)"] == "diamond"


def test_curves_are_means_over_completed_trials(run, arms):
    curves = learning_curves(run.epochs, run.trials, arms)
    assert curves.labels[:3] == ("tiny", "small", "paper")
    assert curves.on_front == 3
    assert curves.shared_starts == ((1, "dual"), (7, "fusion"), (11, "finetune"))
    last = curves.means[(curves.means["label"] == "dead") & (curves.means["trial_epoch"] == 15)].iloc[0]
    assert (last["n"], last["val_accuracy"]) == (2, pytest.approx(0.931))


def test_folds_are_averaged_within_their_seed(run, arms):
    """Seeds 1 and 2 of an arm as folds of seed 1: two seeds, whose means differ by 0.003."""
    is_second = run.trials["seed"] == 2
    trials = run.trials.assign(
        fold=run.trials["seed"].where(is_second, 0), seed=run.trials["seed"].clip(upper=1)
    )
    epochs = run.epochs.assign(seed=run.epochs["seed"].clip(upper=1))
    last = learning_curves(epochs, trials, arms).means.query("label == 'tiny' and trial_epoch == 15").iloc[0]
    assert (last["n"], last["val_accuracy"]) == (2, pytest.approx((0.9 + 0.903) / 2))
    assert last["deviation"] == pytest.approx(0.003 / 2**0.5)


def test_a_mean_ends_where_its_shortest_trial_ends(run, arms):
    shorter = run.epochs[~((run.epochs["trial_id"] == "00-1") & (run.epochs["trial_epoch"] > 12))]
    means = learning_curves(shorter, run.trials, arms).means
    assert means[means["label"] == "tiny"]["trial_epoch"].max() == 12
    assert means[means["label"] == "small"]["trial_epoch"].max() == 15


def test_first_only_the_front_is_visible_and_stages_are_bounded(run, arms):
    figure = learning_curves_figure(learning_curves(run.epochs, run.trials, arms))
    assert {trace.meta["arm"] for trace in figure.data if trace.visible} == {0, 1, 2}
    assert [shape.x0 for shape in figure.layout.shapes] == [6.5, 10.5]
    assert [note.text for note in figure.layout.annotations] == ["dual", "fusion", "finetune"]
    thin, band, thick = figure.data[:3]
    assert list(thin.x).count(None) == 3
    assert "seed 0, epoch 1, stage dual" in thin.hovertext[0]
    assert list(band.x) == [*range(1, 16), *range(15, 0, -1)]
    assert [high - low for high, low in zip(band.y[:15], band.y[:14:-1], strict=True)] == pytest.approx(
        [0.4] * 15
    )
    assert thick.hovertext[0] == "tiny<br>mean of n = 3 seeds"
    assert not any(NASTY in str(trace) for trace in figure.data)


def test_trials_whose_stages_differ_get_diamonds(run, arms):
    epochs = run.epochs.copy()
    epochs.loc[(epochs["trial_id"] == "00-1") & (epochs["trial_epoch"] == 7), ["stage", "stage_index"]] = [
        "dual",
        0,
    ]
    curves = learning_curves(epochs, run.trials, arms)
    assert curves.shared_starts is None
    figure = learning_curves_figure(curves)
    assert figure.layout.shapes == ()
    assert sorted(figure.data[3].x) == [7, 7, 8, 11, 11, 11]
