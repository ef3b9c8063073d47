import pandas as pd
import pytest
from imitation_run import NASTY, plant_partial_trials

from analysis import (
    learning_curves,
    learning_curves_figure,
    load_run,
    mark_front,
    pareto_figure,
    summarise_arms,
    trial_figure,
)
from analysis.front.figure import partial_trials


@pytest.fixture
def run(run_folder):
    return load_run(run_folder)


@pytest.fixture
def arms(run):
    return mark_front(summarise_arms(run.trials))


def layer(figure, name):
    found = [trace for trace in figure.data if trace.meta["layer"] == name]
    return found[0] if len(found) == 1 else found


@pytest.mark.parametrize(
    ("view", "means"), [("validation", [90.2, 95.2, 98.2]), ("test", [89.2, 94.2, 97.2])]
)
def test_front_is_picked_by_validation_in_both_views(arms, view, means):
    figure = pareto_figure(arms, view=view)
    line, points = layer(figure, "front"), layer(figure, "own")
    assert line.x == (2_350, 6_930, 14_862)
    assert list(line.y) == pytest.approx(means)
    assert line.text == ("1", "2", "3")
    assert line.line.shape == "hv"
    assert len(points.x) == 8
    assert figure.layout.yaxis.title.text == f"mean {view} accuracy (%)"


def test_a_point_is_as_full_as_its_arm_is_probable_on_the_front(arms):
    arms["front_probability"] = [1.0, 0.75, 0.0, None, 0.25, 0.0, 0.0, 0.0]
    points = layer(pareto_figure(arms), "own")
    fills = dict(zip([arms.loc[row, "arm"] for row in points.customdata], points.marker.color, strict=True))
    assert fills["tiny"] == "rgba(0,114,178,1)"
    assert fills["small"] == "rgba(0,114,178,0.75)"
    assert fills["slow"] == "rgba(0,114,178,0)"
    assert fills["paper"] == "rgba(0,114,178,1)"  # not known, but on the front


def test_axes_hold_all_and_ticks_are_written_out(arms):
    for view in ("validation", "test"):
        figure = pareto_figure(arms, view=view)
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


def test_an_axis_of_milliseconds_has_fractions(arms):
    figure = pareto_figure(arms.assign(latency_ms=[0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.8, 1.2]), "latency_ms")
    assert figure.layout.xaxis.title.text == "latency for one image (ms) (log scale)"
    assert figure.layout.xaxis.ticktext == ("0.05", "0.1", "0.2", "0.5", "1")
    assert list(layer(figure, "own").x) == [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.8, 1.2]


def test_bars_are_intervals_of_the_mean_where_there_are_three_seeds(arms):
    """Of 0.900, 0.902, 0.904: 4.303 (Student's t, 2 degrees of freedom) × 0.002 / √3."""
    points = layer(pareto_figure(arms), "own")
    bars = dict(zip([arms.loc[row, "arm"] for row in points.customdata], points.error_y.array, strict=True))
    assert bars["tiny"] == pytest.approx(100 * 4.302653 * 0.002 / 3**0.5)
    assert bars["dead"] is None  # two seeds


def test_of_many_arms_only_those_on_the_front_have_bars(run):
    many = pd.concat([run.trials.assign(arm=run.trials["arm"] + f" {copy}") for copy in range(40)])
    arms = mark_front(summarise_arms(many))
    points = layer(pareto_figure(arms), "own")
    on_front = arms["on_front"].to_numpy()[list(points.customdata)]
    assert [bar is not None for bar in points.error_y.array] == on_front.tolist()


def test_hover_says_all_and_is_escaped(arms):
    points = layer(pareto_figure(arms), "own")
    texts = {text.split("<br>")[0]: text for text in points.hovertext}
    dead = texts["<b>dead</b>"].split("<br>")
    assert dead == [
        "<b>dead</b>",
        "n = 2 of 3, 1 failed",
        "9,000 parameters, 360,000 MACs",
        "validation 93.20 ± 0.14%",
        "test 92.70 ± 0.14%",
        "augmentation = affine",
    ]
    assert not any(NASTY in text for text in points.hovertext)
    assert any("&lt;/script&gt;&lt;img" in text for text in points.hovertext)


def test_arms_without_completed_trial_are_not_drawn(arms):
    arms.loc[arms["arm"] == "wide", ["n_completed", "val_mean", "test_mean"]] = [0, None, None]
    assert len(layer(pareto_figure(arms), "own").x) == 7


def test_against_bytes_the_axis_and_the_texts_are_bytes(run):
    trials = run.trials.assign(
        weight_bytes=run.trials["weight_bytes"].where(run.trials["arm"] != "paper", 900)
    )
    figure = pareto_figure(mark_front(summarise_arms(trials), "weight_bytes"), "weight_bytes")
    assert layer(figure, "front").x == (900,)
    assert figure.layout.xaxis.title.text == "bytes of weights (log scale)"
    low, high = figure.layout.xaxis.range
    assert 10**low < 900 < 4 * 101_770 < 10**high
    texts = layer(figure, "own").hovertext
    assert any("14,862 parameters, 594,480 MACs<br>900 bytes of weights<br>" in text for text in texts)
    assert figure.layout.shapes == ()  # budgets are of parameters


def test_no_test_accuracy_no_test_view(arms):
    figure = pareto_figure(arms.assign(test_mean=float("nan"), test_std=float("nan")), view="test")
    assert [len(trace.x) for trace in figure.data] == [0, 0]


def test_several_runs_and_reference_nets_have_their_own_symbols(run):
    reference = run.trials["arm"] == "wide"
    trials = run.trials.assign(
        **{"config.model.net": "paper-cnn", "config.model.inputs": "single", "config.model.fusion": "none"}
    )
    trials.loc[reference, "config.model.net"] = "lenet-5"
    figure = pareto_figure(mark_front(summarise_arms(pd.concat([trials, trials.assign(run="<b>")]))))
    names = {trace.name: (trace.meta["layer"], trace.marker.symbol) for trace in figure.data}
    assert names["imitation: arms"] == ("own", "circle")
    assert names["imitation: reference nets"] == ("reference", "diamond")
    assert names["&lt;b&gt;: arms"] == ("own", "square")
    assert names["&lt;b&gt;: reference nets"] == ("reference", "triangle-up")


def test_partial_trials_are_layers_of_their_own(run_folder):
    plant_partial_trials(run_folder)
    run = load_run(run_folder)
    first = run.epochs["trial_id"] == "00-0"
    epochs = pd.concat([run.epochs, run.epochs[first].query("trial_epoch <= 4").assign(trial_id="p0")])
    partial = partial_trials(run.trials, epochs)
    assert sorted(partial["trial_id"]) == ["07-2", "p0", "p1", "p2", "p3", "p4", "p5"]
    figure = pareto_figure(mark_front(summarise_arms(run.trials)), partial=partial)
    stopped, failed = layer(figure, "stopped"), layer(figure, "failed")
    reached = epochs.query("trial_id == 'p0' and trial_epoch == 4")["val_accuracy"].item()
    assert (stopped.x, stopped.y) == ((1_200,), (pytest.approx(100 * reached),))  # p1 and p4 have no epochs
    assert [run.trials.loc[row, "trial_id"] for row in stopped.customdata] == ["p0"]
    assert [run.trials.loc[row, "trial_id"] for row in failed.customdata] == ["07-2", "p2", "p3", "p5"]
    assert (failed.yaxis, figure.layout.yaxis2.range) == ("y2", (0, 1))
    assert "failed: ValueError: loss is &lt;b&gt;nan" in failed.hovertext[0]
    assert "stopped early after 15 epochs at" in stopped.hovertext[0]
    assert stopped.marker.symbol != failed.marker.symbol


def test_a_trials_curves_have_its_stages_and_both_submodels(run):
    figure = trial_figure(run.epochs[run.epochs["trial_id"] == "00-1"])
    named = {trace.name: trace for trace in figure.data}
    assert list(named) == [
        "validation", "training", "submodel A, validation", "submodel B, validation", "kept"
    ]  # fmt: skip
    assert list(named["validation"].x) == list(range(1, 16))
    assert named["validation"].y[-1] == pytest.approx(90.2)
    assert named["kept"].x == (6, 10, 15)
    assert sum(y == y for y in named["submodel A, validation"].y) == 6  # the others are NaN
    assert [shape.x0 for shape in figure.layout.shapes] == [6.5, 10.5]
    single = run.epochs[run.epochs["trial_id"] == "00-1"].assign(val_accuracy_a=None, val_accuracy_b=None)
    assert len(trial_figure(single).data) == 3


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


def test_of_many_arms_the_front_and_the_most_accurate_have_curves(run, arms):
    curves = learning_curves(run.epochs, run.trials, arms, most=5)
    best = arms[~arms["on_front"]].sort_values("val_mean", ascending=False)["arm"].tolist()
    assert curves.labels == ("tiny", "small", "paper", *best[:2])
    assert curves.left_out == 3
    assert [arms.loc[row, "arm"] for row in curves.rows] == list(curves.labels)
    assert set(curves.trials["label"]) == set(curves.labels)
