import json
from fractions import Fraction
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.course.signs import KINDS, find_signs
from analysis.reading import EPOCH_COLUMNS, TRIAL_COLUMNS

NOTHING, DRIFT, UNFREEZING, OVERFITTING, FOLDS = KINDS
STAGE_NAMES = ("dual", "fusion", "finetune")


def trial(trial_id="t0", stages=(), **fields):
    """Make a trial as (its row, its epochs); a stage is a list of (val, a, b) or of val, its last is kept."""
    row = {"run": "r", "trial_id": trial_id, "arm": "paper", "dataset": "digits", "status": "completed"}
    row |= {
        "seed": 0,
        "fold": None,
        "val_accuracy": 0.9,
        "test_accuracy": 0.9,
        "train_accuracy": 0.9,
        "test_confusion": None,
    } | fields
    epochs = []
    for index, values in enumerate(stages):
        for epoch, value in enumerate(values, 1):
            val, a, b = value if isinstance(value, tuple) else (value, None, None)
            epochs.append(
                {key: row[key] for key in ("run", "trial_id", "arm", "seed", "fold")}
                | {"stage": STAGE_NAMES[index], "stage_index": index, "epoch": epoch}
                | {"val_accuracy": val, "val_accuracy_a": a, "val_accuracy_b": b}
                | {"is_kept": epoch == len(values)}
            )
    return row, epochs


def heads(*pairs):
    """Make a stage that trains both heads from their accuracies in each epoch."""
    return [((a + b) / 2, a, b) for a, b in pairs]


def tables(trials):
    def build(rows, columns):
        dtypes = {"run": "str", **columns}
        extra = sorted({key for row in rows for key in row} - set(dtypes))
        return pd.DataFrame(rows, columns=[*dtypes, *extra]).astype(dtypes)

    epochs = [epoch for _, epochs in trials for epoch in epochs]
    return build([row for row, _ in trials], TRIAL_COLUMNS), build(epochs, EPOCH_COLUMNS)


def signs_of(*trials):
    return find_signs(*tables(trials))


def kinds_of(*trials):
    return [sign.kind for sign in signs_of(*trials)]


def test_no_trials_no_signs():
    assert signs_of() == ()
    assert find_signs(pd.DataFrame(), pd.DataFrame()) == ()


@pytest.mark.parametrize(
    ("counts", "accuracy", "shows"),
    [
        ([[5, 0], [5, 0]], 0.5, True),  # one answer for every image
        ([[4, 2], [3, 1]], 0.5, True),  # two answers, and less than the larger class, 0.6
        ([[4, 2], [2, 2]], 0.6, True),  # as much
        ([[5, 1], [2, 2]], 0.7, False),
        (None, 0.1, False),  # an older record
    ],
)
def test_nothing_is_learnt_up_to_the_share_of_the_largest_class(counts, accuracy, shows):
    text = None if counts is None else json.dumps(counts)
    found = signs_of(trial(train_accuracy=accuracy, test_accuracy=accuracy, test_confusion=text))
    assert [sign.kind for sign in found] == [NOTHING] * shows
    if accuracy == 0.6:
        assert found[0].finding == "60.00% on test images, of which the largest class is 60.00%"


def test_without_epochs_the_trials_are_still_checked():
    assert kinds_of(trial(train_accuracy=0.99, test_accuracy=0.5)) == [OVERFITTING]


@pytest.mark.parametrize(
    ("first", "last", "shows"),
    [
        ((0.90, 0.89), (0.9701, 0.92), True),
        ((0.90, 0.89), (0.92, 0.9701), True),
        ((0.90, 0.89), (1.00, 0.95), False),  # 1.00 - 0.95 is above 0.05 as a float, not as a number
        ((0.90, 0.89), (0.9699, 0.92), False),
        ((0.90, 0.80), (0.97, 0.88), False),  # shrinks
        ((0.90, 0.80), (0.98, 0.88), False),  # stays
        ((0.80, 0.86), (0.97, 0.90), True),  # changes sides and grows
    ],
)
def test_drift_threshold(first, last, shows):
    assert kinds_of(trial(stages=[heads(first, (0.5, 0.9), last)])) == [DRIFT] * shows


def test_drift_in_words():
    fine = trial("t0", [heads((0.90, 0.90), (0.95, 0.95))], seed=0)
    slight = trial("t1", [heads((0.90, 0.90), (0.95, 0.89))], seed=1)
    worst = trial("t2", [heads((0.50, 0.488), (0.97, 0.909)), [0.94]], seed=2, fold=4)
    (sign,) = signs_of(fine, slight, worst)
    assert (sign.kind, sign.run, sign.dataset, sign.arm) == (DRIFT, "r", "digits", "paper")
    assert (sign.trials, sign.of, sign.worst_trial, sign.worst_seed, sign.worst_fold) == (2, 3, "t2", 2, 4)
    assert sign.finding == (
        "stage dual ends with submodel A at 97.00% and B at 90.90% (gap 6.10 points, 1.20 at its start)"
    )
    assert "augment" in sign.advice


def test_a_stage_that_trains_one_of_two_heads_cannot_drift():
    only_a = [(a, a, b) for a, b in ((0.10, 0.10), (0.60, 0.11), (0.95, 0.12))]
    only_b = [(b, a, b) for a, b in ((0.95, 0.60), (0.80, 0.96))]
    assert signs_of(trial(stages=[only_a, only_b])) == ()


@pytest.mark.parametrize(("after", "shows"), [(0.9399, True), (0.94, False), (0.9401, False), (0.99, False)])
@pytest.mark.parametrize("form", ["net", "heads"])
def test_unfreezing_threshold(form, after, shows):
    stages = [[0.80, 0.95], [after, 0.97]]
    if form == "heads":
        stages = [heads(*((value, value) for value in values)) for values in stages]
    assert kinds_of(trial(stages=stages)) == [UNFREEZING] * shows


def test_unfreezing_compares_to_the_kept_epoch():
    row, epochs = trial(stages=[[0.80, 0.97, 0.94], [0.95]])
    assert signs_of((row, epochs)) == ()
    for epoch in epochs[:3]:
        epoch["is_kept"] = epoch["epoch"] == 2
    (sign,) = signs_of((row, epochs))
    assert sign.finding == (
        "stage fusion is at 95.00% after its first epoch, 2.00 points below the 97.00% of stage dual"
    )
    assert "0.0001" in sign.advice


def test_a_trial_counts_once_with_its_worst_stage():
    (sign,) = signs_of(trial(stages=[[0.95], [0.93], [0.90]]))
    assert (sign.trials, sign.of) == (1, 1)
    assert "stage finetune is at 90.00% after its first epoch, 3.00 points below" in sign.finding


@pytest.mark.parametrize(
    ("prune", "stage", "shows"),
    [("weights", "prune", False), (None, "prune", True), ("weights", "finetune", True)],
)
def test_pruning_is_no_unfreezing(prune, stage, shows):
    """Its stage begins with the weights gone; a stage of the user's own may have the same name."""
    row, epochs = trial(stages=[[0.9], [0.5]], **{"config.compression.prune": prune})
    epochs[1]["stage"] = stage
    assert kinds_of((row, epochs)) == [UNFREEZING] * shows


def test_fusion_is_no_unfreezing():
    assert signs_of(trial(stages=[heads((0.95, 0.95)), [0.40, 0.90], [0.91]])) == ()


def test_from_one_head_to_the_other_is_no_unfreezing():
    only_a, only_b = [(0.95, 0.95, 0.11)], [(0.40, 0.95, 0.40), (0.93, 0.95, 0.93)]
    assert signs_of(trial(stages=[only_a, only_b, heads((0.90, 0.90))])) == ()
    assert kinds_of(trial(stages=[only_a, [(0.90, 0.90, 0.11)]])) == [UNFREEZING]


@pytest.mark.parametrize(
    ("inputs", "fusion", "shows"),
    [("single", "conv1x1", [False, True]), ("single", "none", [True, True]), ("dual", "fresh", [True, True])],
)
def test_new_layers_on_a_single_submodel_are_no_unfreezing(inputs, fusion, shows):
    config = {"config.model.inputs": inputs, "config.model.fusion": fusion}
    for stages, is_shown in zip(([[0.95], [0.40], [0.95]], [[0.30], [0.95], [0.90]]), shows, strict=True):
        assert kinds_of(trial(stages=stages, **config)) == [UNFREEZING] * is_shown


@pytest.mark.parametrize(("train", "shows"), [(1.0, True), (0.9501, True), (0.95, False), (0.70, False)])
def test_overfitting_threshold(train, shows):
    assert kinds_of(trial(train_accuracy=train, test_accuracy=0.75)) == [OVERFITTING] * shows


def test_overfitting_in_words():
    (sign,) = signs_of(
        trial("t0", seed=3, train_accuracy=0.995, test_accuracy=0.751), trial("t1", test_accuracy=None)
    )
    assert (sign.trials, sign.of, sign.worst_trial, sign.worst_seed, sign.worst_fold) == (1, 1, "t0", 3, None)
    assert sign.finding == "99.50% on training images, 75.10% on test images (gap 24.40 points)"
    assert sign.advice.startswith("overfitting")


def folds_of(*accuracies, **fields):
    name = "-".join(str(value) for value in fields.values())
    return [
        trial(f"{name}-{fold}", fold=fold, val_accuracy=accuracy, **fields)
        for fold, accuracy in enumerate(accuracies)
    ]


@pytest.mark.parametrize(
    ("lowest", "shows"), [(0.9299, True), (0.93, False), (0.9301, False), (0.95, False), (None, False)]
)
def test_folds_threshold(lowest, shows):
    assert kinds_of(*folds_of(0.94, lowest, 0.95)) == [FOLDS] * shows


def test_folds_in_words():
    (sign,) = signs_of(
        *folds_of(0.94, 0.95, seed=0),
        *folds_of(0.97, 0.94, 0.95, seed=1),
        *folds_of(0.94, 0.91, 0.95, seed=2),
        *folds_of(0.10, seed=3),  # one fold: nothing to compare
    )
    assert (sign.trials, sign.of, sign.worst_trial, sign.worst_seed, sign.worst_fold) == (2, 3, "2-1", 2, 1)
    assert sign.finding == (
        "the 3 folds of seed 2 reach from 91.00% (fold 1) to 95.00% (fold 2), 4.00 points apart"
    )
    assert "mean over the folds" in sign.advice


def test_seeds_and_arms_are_not_folds():
    low, high = {"val_accuracy": 0.5}, {"val_accuracy": 0.9}
    assert signs_of(trial("t0", seed=0, **low), trial("t1", seed=1, **high)) == ()
    assert signs_of(trial("t0", **low), trial("t1", **high)) == ()
    for key in ("seed", "arm", "dataset", "run"):
        one, other = (0, 1) if key == "seed" else ("one", "other")
        pair = trial("t0", fold=0, **{key: one}, **low), trial("t1", fold=1, **{key: other}, **high)
        assert signs_of(*pair) == ()


def test_runs_with_the_same_trial_ids_stay_apart():
    drifting = trial("t0", [heads((0.9, 0.9), (0.97, 0.90))], run="one")
    steady = trial("t0", [heads((0.9, 0.9), (0.97, 0.96))], run="two")
    dropping = trial("t0", [[0.95], [0.90]], run="three")
    assert [(sign.kind, sign.run, sign.trials, sign.of) for sign in signs_of(drifting, steady, dropping)] == [
        (DRIFT, "one", 1, 1),
        (UNFREEZING, "three", 1, 1),
    ]


def test_only_completed_trials_count():
    stages = [heads((0.9, 0.9), (0.97, 0.80)), [0.95], [0.80]]
    bad = {"stages": stages, "train_accuracy": 0.99, "test_accuracy": 0.5, "fold": 1, "val_accuracy": 0.5}
    others = [trial(status, status=status, **bad) for status in ("failed", "early_stopped")]
    assert signs_of(*others, trial("t0", fold=0)) == ()
    signs = signs_of(*others, trial("t0", fold=0), trial("t1", **bad))
    assert [(sign.kind, sign.trials, sign.of) for sign in signs] == [
        (DRIFT, 1, 1),
        (UNFREEZING, 1, 1),
        (OVERFITTING, 1, 2),
        (FOLDS, 1, 1),
    ]
    assert all(sign.worst_trial == "t1" for sign in signs)


@pytest.mark.parametrize(
    "stages",
    [
        [[(None, None, None), (0.90, 0.97, 0.83)]],  # the first gap is unknown
        [[(0.9, 0.9, 0.9), (None, None, None)]],
        [[(0.9, 0.9, 0.9), (0.9, 0.97, None)]],
        [[0.95], [None, 0.90]],
        [[0.99, None], [0.90]],
        [[None], [None]],
        [[(0.9, 0.9, 0.9), (0.95, None, None)], [0.40]],  # still two heads before, and one output after
    ],
)
def test_missing_epoch_values_are_no_sign(stages):
    empty = {"train_accuracy": None, "test_accuracy": None}
    assert signs_of(trial(stages=stages, **empty)) == ()


def test_trials_that_cannot_be_checked_do_not_count():
    drifting, dropping = [heads((0.9, 0.9), (0.97, 0.80))], [[0.95], [0.90]]
    unknown = [[(0.9, 0.9, 0.9), (None, None, None)]], [[0.95], [None]]
    for seen, unseen in zip((drifting, dropping), unknown, strict=True):
        (sign,) = signs_of(trial("t0", seen), trial("t1", unseen), trial("t2"))
        assert (sign.trials, sign.of) == (1, 1)


def test_no_kept_epoch_is_no_sign():
    row, epochs = trial(stages=[[0.95], [0.5]])
    assert signs_of((row, [epoch | {"is_kept": False} for epoch in epochs])) == ()


def test_order():
    def seeds(arm, *test_accuracies):
        return [
            trial(f"{arm}{seed}", arm=arm, seed=seed, train_accuracy=1.0, test_accuracy=accuracy)
            for seed, accuracy in enumerate(test_accuracies)
        ]

    many = [
        *seeds("z", 0.5),
        *seeds("d", 0.5, 0.5, 0.9),
        *seeds("b", 0.5, 0.9),
        *seeds("a", 0.4, 0.9),
        *seeds("c", 0.9, 0.9),
    ]
    drift = trial("t0", [heads((0.9, 0.9), (0.97, 0.80))], arm="w")
    found = [(sign.kind, sign.arm) for sign in signs_of(*many, drift)]
    assert found == [(DRIFT, "w"), *((OVERFITTING, arm) for arm in "zdab")]


# Against a plain loop: accuracies in half points, so that thresholds are met exactly.

HALF_POINTS = st.integers(150, 200)


@st.composite
def drawn_stages(draw):
    form = draw(st.sampled_from(["heads", "a", "b", "net"]))
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        a, b = draw(HALF_POINTS), draw(HALF_POINTS)
        if form in "ab" and a == b:
            b -= 1  # else nothing in the table would tell the forms apart
        val = {"heads": Fraction(a + b, 2), "a": a, "b": b, "net": a}[form]
        row = (val, a, b) if form != "net" else (val, None, None)
        rows.append(row if draw(st.integers(0, 9)) else (None, None, None))
    return SimpleNamespace(form=form, rows=rows, kept=draw(st.integers(0, len(rows) - 1)))


@st.composite
def drawn_trials(draw):
    optional = st.none() | HALF_POINTS
    trials = []
    for _ in range(draw(st.integers(1, 7))):
        run = draw(st.sampled_from(["r", "s"]))
        status = draw(st.sampled_from(["completed"] * 5 + ["failed"]))
        trials.append(
            SimpleNamespace(
                run=run,
                trial_id=f"t{sum(other.run == run for other in trials)}",
                arm=draw(st.sampled_from(["x", "y"])),
                seed=draw(st.integers(0, 1)),
                fold=draw(st.none() | st.integers(0, 2)),
                status=status,
                val=draw(HALF_POINTS),
                test=draw(optional),
                train=draw(optional),
                largest=draw(optional),
                stages=draw(st.lists(drawn_stages(), max_size=3)),
            )
        )
    return trials


def as_tables(drawn):
    def fraction(half_points):
        return None if half_points is None else float(half_points) / 200

    trials = []
    for each in drawn:
        row, epochs = trial(
            each.trial_id,
            [[tuple(map(fraction, row)) for row in stage.rows] for stage in each.stages],
            **{key: getattr(each, key) for key in ("run", "arm", "seed", "fold", "status")},
            test_confusion=None if each.largest is None else confusion(each.largest),
            **{f"{split}_accuracy": fraction(getattr(each, split)) for split in ("val", "test", "train")},
        )
        for epoch in epochs:
            epoch["is_kept"] = epoch["epoch"] == each.stages[epoch["stage_index"]].kept + 1
        trials.append((row, epochs))
    return tables(trials)


def confusion(half_points):
    """Return counts of 200 test images whose most frequent class has so many of them, or more than 100."""
    counts = [half_points, 200 - half_points]
    return json.dumps([[0, count] for count in counts])


def checks_of(each):
    """List (kind, size in half points, whether it shows) for what one trial's own values can tell."""
    if None not in (each.test, each.largest):
        largest = max(each.largest, 200 - each.largest)
        yield NOTHING, largest - each.test, largest >= each.test
    for stage in each.stages:
        (_, a0, b0), (_, a, b) = stage.rows[0], stage.rows[-1]
        if stage.form == "heads" and None not in (a0, a):
            gap = abs(a - b)
            yield DRIFT, gap, gap > 10 and gap > abs(a0 - b0)
    for before, after in zip(each.stages, each.stages[1:], strict=False):
        (kept, *_), (first, *_) = before.rows[before.kept], after.rows[0]
        if before.form == after.form and None not in (kept, first):
            yield UNFREEZING, kept - first, kept - first > 2
    if None not in (each.train, each.test):
        yield OVERFITTING, each.train - each.test, each.train - each.test > 40


def expected_signs(drawn):
    """Map (kind, run, arm) to how many show it, of how many, and the trials that may be named the worst."""
    completed = [each for each in drawn if each.status == "completed"]
    units = {}  # (kind, run, arm) to a list of (name of the worst trial, size, shows), one per trial or seed
    for each in completed:
        for kind in KINDS:
            found = [check[1:] for check in checks_of(each) if check[0] == kind]
            if found:
                shown = [size for size, shows in found if shows]
                unit = (each.trial_id, max(shown, default=-1), bool(shown))
                units.setdefault((kind, each.run, each.arm), []).append(unit)
    for run, arm, seed in {(each.run, each.arm, each.seed) for each in completed}:
        folds = [each for each in completed if (each.run, each.arm, each.seed) == (run, arm, seed)]
        folds = sorted((each.val, each.fold, each.trial_id) for each in folds if each.fold is not None)
        if len(folds) > 1:
            size = folds[-1][0] - folds[0][0]
            for name in {name for val, fold, name in folds if (val, fold) == folds[0][:2]}:
                units.setdefault((FOLDS, run, arm), []).append((name, size, size > 4, seed))
    expected = {}
    for key, found in units.items():
        shown = [unit for unit in found if unit[2]]
        if shown:
            worst = max(unit[1] for unit in shown)
            unique = {unit[3:] or unit[0] for unit in shown}, {unit[3:] or unit[0] for unit in found}
            expected[key] = (*map(len, unique), {unit[0] for unit in shown if unit[1] == worst})
    return expected


@settings(max_examples=25, deadline=None)
@given(drawn_trials(), st.randoms(use_true_random=False))
def test_agrees_with_a_plain_loop_in_any_order(drawn, random):
    trials, epochs = as_tables(drawn)
    signs = find_signs(trials, epochs)
    expected = expected_signs(drawn)
    assert {(sign.kind, sign.run, sign.arm): (sign.trials, sign.of) for sign in signs} == {
        key: (shown, checked) for key, (shown, checked, _) in expected.items()
    }
    for sign in signs:
        assert sign.worst_trial in expected[sign.kind, sign.run, sign.arm][2]
    shuffled = [table.iloc[random.sample(range(len(table)), len(table))] for table in (trials, epochs)]
    assert {(sign.kind, sign.finding, sign.arm) for sign in find_signs(*shuffled)} == {
        (sign.kind, sign.finding, sign.arm) for sign in signs
    }
