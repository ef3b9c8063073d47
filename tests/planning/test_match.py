import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lightsweep.data.datasets import describe
from lightsweep.data.imagedata import Task
from lightsweep.errors import InputError
from lightsweep.nets.blocks import block_names, network_of
from lightsweep.nets.cost import cost
from lightsweep.nets.models import build
from lightsweep.planning.arms import Arm
from lightsweep.planning.match import TrainingTask, matched, task_of
from lightsweep.planning.plan import Plan, plan
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.stages import Compression, StagePreset
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.trials.cost import training_macs
from lightsweep.trials.stages import stage_table

GREY = TrainingTask((1, 28, 28), 10, 54_000)
CIFAR = TrainingTask((3, 32, 32), 10, 45_000)
DIGITS = DatasetSpec(name="digits")


def match(
    what: str, arm: ArmSpec, base: ArmSpec, task: Task = GREY, within: float = 0.01, base_task: Any = None
) -> ArmSpec:
    return matched(Arm("x", DIGITS, arm, match=what, within=within), task, base, base_task or task)


def net(**settings: Any) -> ArmSpec:
    return ArmSpec(model=ModelSpec(**settings))


def refusal(*arguments: Any, **named: Any) -> str:
    with pytest.raises(InputError) as caught:
        match(*arguments, **named)
    return str(caught.value)


# filters, against brute force

Counts = npt.NDArray[np.int64]
MEASURES = ("parameters", "macs")


def by_formula(model: ModelSpec, filters: tuple[Any, ...], task: Task) -> dict[str, Any]:
    """Return parameters and MACs of a net with a dense head over all positions, by the textbook.

    The filters are numbers, or arrays of them, for many nets at once.
    """
    channels, rows, columns = task.shape
    parameters: Any = 0
    macs: Any = 0
    for width in filters:
        rows, columns = rows - model.kernel + 1, columns - model.kernel + 1
        square = model.kernel**2
        weights = channels * square + channels * width if model.separable else channels * width * square
        parameters = parameters + weights + width * (2 if model.batch_norm else 1)
        macs = macs + rows * columns * weights
        rows, columns, channels = rows // 2, columns // 2, width
    parameters = parameters + (channels * rows * columns + 1) * task.classes
    macs = macs + channels * rows * columns * task.classes
    submodels = 2 if model.inputs == "dual" else 1
    parameters, macs, units = submodels * parameters, submodels * macs, submodels * task.classes
    if model.fusion == "conv1x1":
        for outputs in ([model.hidden] if model.hidden else []) + [task.classes]:
            parameters, macs, units = parameters + (units + 1) * outputs, macs + units * outputs, outputs
    return {"parameters": parameters, "macs": macs}


@st.composite
def nets(draw: st.DrawFn) -> ModelSpec:
    inputs = draw(st.sampled_from(["single", "dual"]))
    return ModelSpec(
        inputs=inputs,
        filters=(draw(st.integers(4, 16)), draw(st.integers(4, 24))),
        kernel=draw(st.integers(1, 4)),
        batch_norm=draw(st.booleans()),
        separable=draw(st.booleans()),
        fusion=draw(st.sampled_from(["conv1x1", "none"] if inputs == "single" else ["conv1x1"])),
        hidden=draw(st.sampled_from([None, 8, 32])),
    )


TASKS = st.sampled_from([TrainingTask((1, 18, 18), 10, 100), TrainingTask((3, 16, 16), 4, 100)])


@given(nets(), TASKS)
@settings(max_examples=10)
def test_the_formula_is_the_cost(model: ModelSpec, task: Task) -> None:
    """What the brute force below enumerates."""
    found = cost(model, task.shape, task.classes)
    assert by_formula(model, model.filters, task) == {"parameters": found.parameters, "macs": found.macs}


@given(nets(), nets(), TASKS, st.sampled_from(MEASURES), st.sampled_from([0.01, 0.003]))
@settings(max_examples=8)
def test_filters_match_where_brute_force_finds_a_match(
    arm: ModelSpec, base: ModelSpec, task: Task, what: str, within: float
) -> None:
    """All filters of 2 blocks are tried: if any near the arm's shape are within the tolerance, so is the arm.

    Where none are, the message names filters as near as any of that shape.
    """
    target = by_formula(base, base.filters, task)[what]
    first, second = np.mgrid[1:97, 1:145]
    error = np.abs(by_formula(arm, (first, second), task)[what] - target) / target
    shape = np.abs(np.log(first * arm.filters[1] / (second * arm.filters[0])))
    is_of_shape = (shape <= math.log(1.15)) & (first >= 5) & (second >= 5) & (first <= 80) & (second <= 120)
    best = error[is_of_shape].min(initial=np.inf)
    try:
        found = match(what, ArmSpec(model=arm), ArmSpec(model=base), task, within)
    except InputError as refused:
        assert best > within
        told = re.match(rf"match = {what}: filters (\d+), (\d+) come nearest, with ([\d,]+) ", str(refused))
        assert told
        cost_told = by_formula(arm, (int(told[1]), int(told[2])), task)[what]
        assert int(told[3].replace(",", "")) == cost_told
        assert within < abs(cost_told - target) / target <= best
        return
    found_cost = by_formula(arm, found.model.filters, task)[what]
    assert abs(found_cost - target) <= within * target
    assert found == ArmSpec(model=arm.model_copy(update={"filters": found.model.filters}))


@given(nets(), nets(), TASKS, st.sampled_from(MEASURES))
@settings(max_examples=5)
def test_of_the_last_filters_next_to_the_target_those_nearest_in_shape(
    arm: ModelSpec, base: ModelSpec, task: Task, what: str
) -> None:
    """Against brute force: each first count with the last counts that cost just less and more than base."""
    target = by_formula(base, base.filters, task)[what]
    first, second = np.mgrid[1:97, 1:385]
    costs = by_formula(arm, (first, second), task)[what]
    shape = np.abs(np.log(first * arm.filters[1] / (second * arm.filters[0])))
    last = (costs <= target).sum(axis=1)  # for each first count the highest second one that costs no more
    is_next = (second == last[:, None]) | (second == last[:, None] + 1)
    is_near = (np.abs(costs - target) <= 0.01 * target) & is_next & (shape <= math.log(1.15))
    assume((is_near & (first >= 5) & (second >= 5)).any())
    filters = match(what, ArmSpec(model=arm), ArmSpec(model=base), task).model.filters
    distortion = abs(math.log(filters[0] * arm.filters[1] / (filters[1] * arm.filters[0])))
    assert distortion <= shape[is_near & (first >= 5) & (second >= 5)].min() + 1e-9


# one or three blocks have no brute force, but the tolerance holds
@given(
    st.lists(st.integers(4, 24), min_size=1, max_size=3),
    st.sampled_from(["single", "dual"]),
    st.sampled_from(MEASURES),
)
@settings(max_examples=8)
def test_nets_of_any_depth_match_or_are_refused(filters: list[int], inputs: str, what: str) -> None:
    arm, base = net(inputs=inputs, filters=tuple(filters)), net()
    target = getattr(cost(base.model, GREY.shape, 10), what)
    try:
        found = match(what, arm, base)
    except InputError as refused:
        allowing = re.search(r"within: (0\.\d+) allows it$", str(refused))
        assert allowing
        found = match(what, arm, base, within=float(allowing[1]))
        assert abs(getattr(cost(found.model, GREY.shape, 10), what) - target) <= float(allowing[1]) * target
        return
    assert abs(getattr(cost(found.model, GREY.shape, 10), what) - target) <= 0.01 * target


# filters, by hand

SINGLE, DUAL = net(inputs="single"), net()


def test_a_single_net_of_the_papers_size() -> None:
    """Of all pairs within 1% of 14,862 parameters 17 and 35 filters are nearest to 10 and 20 in shape.

    9·17 + 17 and 153·35 + 35 of the convolutions, 875·10 + 10 of the head, 352 and 330 after it.
    """
    assert cost(DUAL.model, GREY.shape, 10).parameters == 14_862
    found = match("parameters", SINGLE, DUAL)
    assert found.model == SINGLE.model.model_copy(update={"filters": [17, 35]})
    assert cost(found.model, GREY.shape, 10).parameters == 170 + 5_390 + 8_760 + 352 + 330 == 15_002
    assert abs(15_002 - 14_862) <= 148


@pytest.mark.parametrize("what", MEASURES)
@pytest.mark.parametrize("task", [GREY, CIFAR], ids=["mnist", "cifar10"])
def test_filters_grow_and_shrink(what: str, task: Task) -> None:
    grown = match(what, SINGLE, DUAL, task).model.filters
    shrunk = match(what, DUAL, SINGLE, task, within=0.02).model.filters
    assert grown[0] > 10 > shrunk[0]
    assert grown[1] > 20


@pytest.mark.parametrize("what", [*MEASURES, "compute"])
def test_an_arm_that_costs_the_same_already_stays_as_it_is(what: str) -> None:
    arm = ArmSpec(model=ModelSpec(dropout=0.5), augmentation="flip")
    assert match(what, arm, ArmSpec()) == arm


def test_a_wider_tolerance_keeps_more_of_the_shape() -> None:
    """10 to 20 is a shape of 1 to 2; within 5% it can be kept as it is."""
    assert match("parameters", SINGLE, DUAL, within=0.05).model.filters == [17, 34]


# how near it can come

REFUSALS: dict[str, tuple[Any, ...]] = {
    "match = parameters: filters 22, 31 come nearest, with 14,831 against base's 14,862, 0.21% off and not "
    "within 0.001%; within: 0.003 allows it": ("parameters", SINGLE, DUAL, GREY, 0.00001),
    "match = macs: filters 11, 41 come nearest, with 568,953 against base's 568,240, 0.13% off and not "
    "within 0.001%; within: 0.002 allows it": ("macs", SINGLE, DUAL, GREY, 0.00001),
    "match = parameters: filters 1 come nearest, with 6,530 against base's 4,422, 48% off and not within 1%; "
    "within: 0.477 allows it": ("parameters", net(filters=(2,), hidden=100), net(filters=(1,)), GREY),
    "match = parameters: filters 1 come nearest, with 9,630 against base's 4,422, 118% off and not within "
    "1%; its other settings cost too much for a match": (
        "parameters",
        net(filters=(2,), hidden=200),
        net(filters=(1,)),
        GREY,
    ),
    "match = parameters: filters 1, 1 come nearest, with 2,032,186 against base's 14,862, 13,574% off and "
    "not within 1%; its other settings cost too much for a match": (
        "parameters",
        net(hidden=65_536),
        DUAL,
        GREY,
    ),
}


@pytest.mark.parametrize(("message", "case"), REFUSALS.items(), ids=REFUSALS)
def test_what_cannot_come_near_is_refused_with_the_nearest(message: str, case: tuple[Any, ...]) -> None:
    assert refusal(*case) == message


@given(nets(), nets(), TASKS, st.sampled_from([*MEASURES, "compute"]))
@settings(max_examples=12)
def test_the_tolerance_that_a_message_allows_does(
    arm: ModelSpec, base: ModelSpec, task: Task, what: str
) -> None:
    preset = StagePreset.model_validate(
        {"preset": "paper", "epochs": {"dual": 4, "fusion": 2, "finetune": 3}}
    )
    arm_spec, base_spec = ArmSpec(model=arm, stages=preset), ArmSpec(model=base, stages=preset)
    message = _message(what, arm_spec, base_spec, task)
    if message is None or message.endswith("its other settings cost too much for a match"):
        return
    allowing = re.search(r"within: (0\.\d{1,3}) allows it$", message)
    assert allowing
    match(what, arm_spec, base_spec, task, within=float(allowing[1]))
    if float(allowing[1]) > 0.001:
        refusal(what, arm_spec, base_spec, task, within=float(allowing[1]) - 0.001)


def _message(what: str, arm: ArmSpec, base: ArmSpec, task: Task) -> str | None:
    try:
        match(what, arm, base, task, within=0)
    except InputError as error:
        return str(error)
    return None


# compute

# conv1 4·4 positions of 2 filters of 9 weights, head 8 features to 3, output 3 to 3
CONV, HEAD, OUTPUT = 288, 24, 9
TINY = ModelSpec(inputs="single", filters=(2,), hidden=None)
TINY_SHAPE = (1, 6, 6)


def stage(name: str, epochs: int, **settings: Any) -> dict[str, Any]:
    return {"name": name, "epochs": epochs, **settings}


# model, stages, MACs of training on one image
COMPUTE: list[tuple[ModelSpec, list[dict[str, Any]], int]] = [
    # forward; then the weights of both blocks, and the head's input, which conv1 learns from
    (
        TINY,
        [stage("dual", 2, loss="heads"), stage("last", 1, train="last-1")],
        2 * (CONV + HEAD + (CONV + HEAD) + HEAD) + (CONV + HEAD + OUTPUT + OUTPUT),
    ),
    # nothing frozen: all weights, and the inputs of all but conv1
    (TINY, [stage("all", 5)], 5 * (3 * (CONV + HEAD + OUTPUT) - CONV)),
    # a frozen conv1: its images are not learnt from, nor are the head's
    (
        TINY,
        [stage("all", 5), stage("top", 7, train="last-2", loss="fused")],
        5 * (2 * CONV + 3 * HEAD) + 7 * (CONV + 2 * HEAD + 3 * OUTPUT),
    ),
    # a frozen top passes gradients down to conv1
    (TINY, [stage("low", 3, train=["conv1"])], 3 * (2 * CONV + 2 * HEAD + 2 * OUTPUT)),
    # two submodels, whose output has 6 inputs: as one of them learns, the other is but run
    (
        TINY.model_copy(update={"inputs": "dual"}),
        [stage("a", 4, loss="head-a"), stage("b", 1, train=["b.*"], loss="fused")],
        4 * ((2 * CONV + 3 * HEAD) + (CONV + HEAD))
        + (CONV + HEAD) + (2 * CONV + 3 * HEAD) + (2 * OUTPUT + 2 * OUTPUT),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("model", "stages", "macs"), COMPUTE, ids=range(len(COMPUTE)))
def test_the_compute_of_training_by_hand(model: ModelSpec, stages: list[dict[str, Any]], macs: int) -> None:
    spec = ArmSpec.model_validate({"model": model.model_dump(), "stages": stages})
    assert training_macs(spec, TINY_SHAPE, 3) == macs


def test_the_compute_of_the_papers_net_by_hand() -> None:
    """Submodels, then 960 MACs of new layers, then everything; an epoch each."""
    submodels, first = 2 * (60_840 + 217_800 + 5_000), 2 * 60_840
    dual = 3 * submodels - first
    fusion = (submodels + 960) + 960 + 320
    finetune = 3 * (submodels + 960) - first
    assert training_macs(short("paper", 1, 1, 1), GREY.shape, 10) == dual + fusion + finetune == 3_732_720


@given(st.from_type(ModelSpec), st.sampled_from(["paper", "gradual", "all-at-once", "frozen", "scratch"]))
@settings(max_examples=15)
def test_training_costs_one_to_three_forward_passes(model: ModelSpec, preset: Any) -> None:
    """Of every kind of net: the blocks that freezing names are those that are counted."""
    spec = ArmSpec(model=model, stages=StagePreset(preset=preset))
    forward = 0
    for some in stage_table(spec, Task((1, 31, 31), 3)):
        network = network_of(some)
        counts = dict(build(model, (1, 31, 31), 3, network, seed=0).named_modules())
        assert set(block_names(model, (1, 31, 31), 3, network)) <= set(counts)
        of_fused = cost(model, (1, 31, 31), 3).macs
        forward += some.epochs * (of_fused if network == "fused" else _macs_of_heads(model))
    assert forward < training_macs(spec, (1, 31, 31), 3) <= 3 * forward


def _macs_of_heads(model: ModelSpec) -> int:
    """Return the MACs of the submodels with heads of their own: of so many nets without fusion."""
    alone = model.model_copy(update={"inputs": "single", "fusion": "none"})
    return len(model.submodels) * cost(alone, (1, 31, 31), 3).macs


def epochs_of(spec: ArmSpec) -> tuple[int, ...]:
    assert not isinstance(spec.stages, str)
    return tuple(some.epochs for some in stage_table(spec, Task((1, 31, 31), 3)))


def test_a_single_net_trains_about_twice_as_long_as_two() -> None:
    found = match("compute", SINGLE, DUAL)
    assert found.model == SINGLE.model
    assert epochs_of(DUAL) == (50, 20, 50)
    assert epochs_of(found) == (100, 40, 100)
    ratio = training_macs(found, GREY.shape, 10) / training_macs(DUAL, GREY.shape, 10)
    assert abs(ratio - 1) <= 0.01


def test_two_nets_train_about_half_as_long_as_one() -> None:
    """Stages of a table, and of a preset."""
    by_preset = match("compute", DUAL, SINGLE)
    assert epochs_of(by_preset) == (25, 10, 25)
    table = [some.model_dump() for some in stage_table(DUAL, Task((1, 28, 28), 10))]
    by_table = match("compute", ArmSpec.model_validate({"stages": table}), SINGLE)
    assert isinstance(by_table.stages, tuple)
    assert epochs_of(by_table) == (25, 10, 25)
    assert [some.name for some in by_table.stages] == ["dual", "fusion", "finetune"]


def test_each_stage_keeps_its_share_of_the_epochs() -> None:
    """A net of three quarters of the cost: 4/3 as many epochs, each rounded up or down so that it fits."""
    base = ArmSpec.model_validate({"stages": [stage("a", 30, loss="heads"), stage("b", 60)]})
    arm = ArmSpec.model_validate(
        {"model": {"filters": [8, 18]}, "stages": [stage("a", 30, loss="heads"), stage("b", 60)]}
    )
    ratio = training_macs(base, GREY.shape, 10) / training_macs(arm, GREY.shape, 10)
    for own, found in zip((30, 60), epochs_of(match("compute", arm, base)), strict=True):
        assert abs(found - own * ratio) < 1


@pytest.mark.parametrize("within", [0.01, 0.1])
def test_epochs_are_the_nearest_of_every_rounding(within: float) -> None:
    counts = [stage("a", 3, loss="heads"), stage("b", 2, train="last-2"), stage("c", 4, loss="fused")]
    arm = ArmSpec.model_validate({"model": {"filters": [9, 17]}, "stages": counts})
    base = ArmSpec.model_validate({"stages": [{**some, "epochs": 20} for some in counts]})
    target = training_macs(base, GREY.shape, 10)
    ratio = target / training_macs(arm, GREY.shape, 10)
    errors = {
        (a, b, c): abs(training_macs(_lasting(arm, (a, b, c)), GREY.shape, 10) - target) / target
        for a in (math.floor(3 * ratio), math.ceil(3 * ratio))
        for b in (math.floor(2 * ratio), math.ceil(2 * ratio))
        for c in (math.floor(4 * ratio), math.ceil(4 * ratio))
    }
    best = min(errors, key=errors.__getitem__)
    assert errors[best] <= within
    assert epochs_of(match("compute", arm, base, within=within)) == best


def _lasting(spec: ArmSpec, epochs: tuple[int, ...]) -> ArmSpec:
    assert isinstance(spec.stages, tuple)
    stages = [some.model_copy(update={"epochs": n}) for some, n in zip(spec.stages, epochs, strict=True)]
    return spec.model_copy(update={"stages": tuple(stages)})


def short(preset: str, *epochs: int, **model: Any) -> ArmSpec:
    counts = dict(zip(("dual", "fusion", "finetune"), epochs, strict=True))
    return ArmSpec.model_validate({"model": model, "stages": {"preset": preset, "epochs": counts}})


def test_a_short_training_cannot_come_near() -> None:
    message = refusal("compute", short("paper", 1, 1, 1, filters=[12, 20]), short("paper", 1, 1, 1))
    assert message == (
        "match = compute: epochs 1, 1, 1 come nearest, with 241,068,960,000 against base's "
        "201,566,880,000, 20% off and not within 1%; within: 0.196 allows it"
    )


def test_a_net_that_costs_more_in_one_epoch_than_base_in_all_cannot_come_near() -> None:
    message = refusal("compute", short("paper", 1, 1, 1, filters=[40, 80]), short("paper", 1, 1, 1))
    assert message.startswith("match = compute: epochs 1, 1, 1 come nearest, with ")
    assert message.endswith("% off and not within 1%; its other settings cost too much for a match")


def test_a_stage_that_shrinks_below_its_warm_up_is_refused() -> None:
    stages = [stage("a", 10, warmup_epochs=6, loss="fused")]
    arm = ArmSpec.model_validate({"stages": stages})
    base = ArmSpec.model_validate({"model": {"inputs": "single"}, "stages": stages})
    assert refusal("compute", arm, base) == (
        "match = compute: stages.0: warmup_epochs (6) must be below epochs (5)"
    )


def test_filters_above_the_widest_are_refused() -> None:
    wide = net(filters=(40_000, 1), kernel=1, inputs="single", fusion="none")
    message = refusal("parameters", wide, net(filters=(60_000, 9), kernel=1))
    assert re.fullmatch(r"match = parameters: model.filters.0 = \d+: must be from 1 to 65536", message)


# reference nets and compressed nets


def of(architecture: Any, width: float = 1.0, **settings: Any) -> ArmSpec:
    own = {} if architecture == "logistic-regression" else {"width": width}
    return ArmSpec(model=ModelSpec(net=architecture, **own), **settings)


@pytest.mark.parametrize("what", MEASURES)
@pytest.mark.parametrize("architecture", ["lenet-5", "plain-cnn"])
@pytest.mark.parametrize("filters", [(3, 4), (10, 20), (30, 41), (20, 50)], ids=str)
def test_widths_match_where_brute_force_finds_a_match(
    architecture: str, what: str, filters: tuple[int, int]
) -> None:
    """All widths up to 4 in 64ths: the nearest is found, or named where it is not near enough."""
    base = net(filters=filters)
    target = getattr(cost(base.model, GREY.shape, 10), what)
    costs = {count / 64: getattr(cost(of(architecture, count / 64).model, GREY.shape, 10), what)
             for count in range(1, 257)}  # fmt: skip
    best = min(abs(found - target) / target for found in costs.values())
    if best > 0.01:
        message = refusal(what, of(architecture), base)
        told = re.match(rf"match = {what}: width ([\d.]+) comes nearest, with ([\d,]+) against", message)
        assert told
        assert int(told[2].replace(",", "")) == costs[float(told[1])]
        assert abs(costs[float(told[1])] - target) / target == best
        return
    width = match(what, of(architecture, 0.3), base).model.width  # type: ignore[union-attr]
    assert abs(costs[width] - target) / target == best


@pytest.mark.parametrize("architecture", ["mobilenet-v2", "shufflenet-v2", "squeezenet"])
def test_a_width_is_found_again_by_what_it_costs(architecture: str) -> None:
    spec = of(architecture, 13 / 64)
    found = match("parameters", of(architecture), spec, within=0)
    assert cost(found.model, GREY.shape, 10).parameters == cost(spec.model, GREY.shape, 10).parameters


def test_a_net_of_submodels_is_matched_to_a_reference_net() -> None:
    base = of("lenet-5")
    found = match("parameters", DUAL, base)
    assert cost(found.model, GREY.shape, 10).parameters == pytest.approx(61_706, rel=0.01)


WIDTH_REFUSALS = {
    "match = parameters: width 0.015625 comes nearest, with 23,114 against base's 14,862, 56% off and not "
    "within 1%; within: 0.556 allows it": ("parameters", of("mobilenet-v2"), DUAL),
    "match = parameters: its net comes nearest, with 7,850 against base's 14,862, 47% off and not within 1%; "
    "within: 0.472 allows it": ("parameters", of("logistic-regression"), DUAL),
    "match = macs: its net comes nearest, with 7,840 against base's 568,240, 99% off and not within 1%; "
    "within: 0.987 allows it": ("macs", of("logistic-regression"), DUAL),
    "match = parameters: width 8 comes nearest, with 3,880,458 against base's 4,507,030, 14% off and not "
    "within 1%; within: 0.14 allows it": ("parameters", of("lenet-5"), net(hidden=None, filters=(250, 900))),
}


def test_the_widest_and_the_narrowest_net_are_named() -> None:
    for message, case in WIDTH_REFUSALS.items():
        assert refusal(*case) == message


def test_the_compute_of_a_reference_net_by_hand() -> None:
    """One layer: forward, and its weights; a preset trains its 120 epochs in two stages."""
    assert training_macs(of("logistic-regression"), GREY.shape, 10) == 120 * 2 * 7_840
    base = of("logistic-regression", stages=StagePreset(preset="frozen"))
    arm = of("logistic-regression", stages=StagePreset(preset="scratch"))
    assert epochs_of(match("compute", arm, base)) == (70, 50)


def test_a_reference_net_trains_as_much_as_base_costs_in_all() -> None:
    """LeNet-5 has 416,520: 117,600 and 240,000 of convolutions, frozen in the last stage."""
    arm = of("lenet-5", stages=StagePreset(preset="frozen"))
    head = 48_000 + 10_080 + 840
    assert training_macs(arm, GREY.shape, 10) == 70 * (3 * 416_520 - 117_600) + 50 * (416_520 + head)
    found = match("compute", arm, DUAL)
    assert found.model == arm.model
    ratio = training_macs(found, GREY.shape, 10) / training_macs(DUAL, GREY.shape, 10)
    assert abs(ratio - 1) <= 0.01


@pytest.mark.parametrize("prune", ["weights", "filters"])
def test_what_is_matched_is_the_net_that_compression_leaves(prune: Any) -> None:
    arm = ArmSpec(model=ModelSpec(inputs="single"), compression=Compression(prune=prune, amount=0.5))
    found = match("parameters", arm, DUAL)
    assert found.compression == arm.compression
    left = cost(found.model, GREY.shape, 10, found.compression).parameters
    assert left == pytest.approx(14_862, rel=0.01)
    assert cost(found.model, GREY.shape, 10).parameters > 1.5 * left


def test_the_compute_of_fine_tuning_a_pruned_net_by_hand() -> None:
    """All weights of the net as it is then: all of it, or of 5 and 10 filters; rounding trains nothing."""
    plain = training_macs(SINGLE_HEAD, GREY.shape, 10)
    for prune, first, second, head in [
        ("weights", 60_840, 217_800, 5_000),
        ("filters", 30_420, 54_450, 2_500),
    ]:
        spec = SINGLE_HEAD.model_copy(
            update={"compression": Compression(prune=prune, epochs=7, quantise="int8")}
        )
        more = 7 * (3 * (first + second + head) - first)
        assert training_macs(spec, GREY.shape, 10) == plain + more


SINGLE_HEAD = net(inputs="single", fusion="none")


def test_stages_make_room_for_the_fine_tuning_after_pruning() -> None:
    """40 epochs of it: 30, 20 and 30 of the stages are within 0.04% of base."""
    arm = DUAL.model_copy(update={"compression": Compression(prune="weights", epochs=40)})
    found = match("compute", arm, DUAL)
    ratio = training_macs(found, GREY.shape, 10) / training_macs(DUAL, GREY.shape, 10)
    assert abs(ratio - 1) <= 0.01


# what it is trained on


@pytest.mark.parametrize(
    ("dataset", "folds", "images"),
    [
        ({}, None, 1438 - 144),
        ({"validation": 438}, None, 1000),
        ({"validation": 438, "train_limit": 300}, None, 300),
        ({"validation": 438, "train_limit": 3000}, None, 1000),
        ({}, 3, 1438 - 479),
        ({"train_limit": 300}, 3, 300),
    ],
)
def test_the_number_of_training_images(dataset: dict[str, Any], folds: int | None, images: int) -> None:
    spec = DatasetSpec.model_validate({"name": "digits", **dataset})
    assert task_of(spec, describe(spec, Path("nowhere")), folds) == TrainingTask((1, 28, 28), 10, images)


def planned(ablation: dict[str, Any], **settings: Any) -> Plan:
    tree = {"name": "t", "dataset": {"name": "mnist"}, "seeds": 1, "ablation": ablation, **settings}
    return plan(Sweep.model_validate(tree), lambda dataset: describe(dataset, Path("nowhere")))


EQUAL = {
    "equal parameters": {"model.inputs": "single", "match": "parameters"},
    "equal MACs": {"model.inputs": "single", "match": "macs"},
    "equal compute": {"model.inputs": "single", "match": "compute"},
}


def test_in_a_plan_arms_cost_what_base_costs_on_each_data_set() -> None:
    result = planned({"arms": EQUAL, "datasets": {"mnist": {}, "cifar10": {}}})
    costs = {(str(t.dataset.name), t.arm): result.costs[t.trial_id] for t in result.trials}
    by_name = {(str(arm.dataset.name), arm.name): arm.spec for arm in result.arms}
    for name, task, parameters in [("mnist", GREY, 14_862), ("cifar10", CIFAR, 19_622)]:
        base = costs[name, "base"]
        assert base.parameters == parameters
        assert costs[name, "equal parameters"].parameters == pytest.approx(base.parameters, rel=0.01)
        assert costs[name, "equal MACs"].macs == pytest.approx(base.macs, rel=0.01)
        compute = [training_macs(by_name[name, arm], task.shape, 10) for arm in ("base", "equal compute")]
        assert compute[1] == pytest.approx(compute[0], rel=0.01)
        assert by_name[name, "equal compute"].model.filters == [10, 20]
    filters = {name: by_name[name, "equal parameters"].model.filters for name in ("mnist", "cifar10")}
    assert filters["mnist"] != filters["cifar10"]


def test_base_is_what_its_own_data_set_makes_of_it() -> None:
    result = planned({"arms": EQUAL, "datasets": {"mnist": {}, "kmnist": {"model.filters": [14, 26]}}})
    costs = {(t.dataset.name, t.arm): result.costs[t.trial_id].parameters for t in result.trials}
    assert costs["kmnist", "base"] > 1.3 * costs["mnist", "base"]
    for name in ("mnist", "kmnist"):
        assert costs[name, "equal parameters"] == pytest.approx(costs[name, "base"], rel=0.01)


def test_smaller_images_are_matched_to_base_with_its_own_images() -> None:
    """Base costs 14,862 on images of 28 pixels, whatever it would cost on those of the arm."""
    result = planned({"arms": {"small": {"dataset.image_size": 20, "match": "parameters"}}})
    parameters = {t.arm: result.costs[t.trial_id].parameters for t in result.trials}
    assert parameters["base"] == 14_862
    assert parameters["small"] == pytest.approx(14_862, rel=0.01)


def test_half_the_images_are_trained_for_twice_the_epochs() -> None:
    dataset = {"name": "mnist", "validation": 2000, "train_limit": 2000}
    arms = {"half": {"dataset.train_limit": 1000, "match": "compute"}}
    by_name = {arm.name: arm.spec for arm in planned({"arms": arms}, dataset=dataset).arms}
    assert epochs_of(by_name["half"]) == tuple(2 * count for count in epochs_of(by_name["base"]))


def test_a_component_that_is_out_may_be_matched_too() -> None:
    result = planned(
        {
            "design": "factorial",
            "components": {"second net": EQUAL["equal parameters"], "dropout": {"model.dropout": 0}},
        }
    )
    parameters = {t.arm: result.costs[t.trial_id].parameters for t in result.trials}
    assert set(parameters) == {"base", "without second net", "without dropout", "without second net, dropout"}
    assert list(parameters.values()) == pytest.approx([14_862] * 4, rel=0.01)


def test_a_plan_names_the_arm_and_the_data_set_that_cannot_come_near() -> None:
    arms = {"small": {"model.inputs": "single", "match": "parameters", "within": 0.002}}
    with pytest.raises(InputError) as caught:
        planned({"arms": arms, "datasets": {"cifar10": {}, "mnist": {}}})
    assert str(caught.value) == (
        "ablation.arms.small on mnist: match = parameters: filters 22, 31 come nearest, with 14,831 against "
        "base's 14,862, 0.21% off and not within 0.2%; within: 0.003 allows it"
    )


def test_a_matched_net_that_does_not_fit_the_images_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        planned({"arms": {"wide": {"model.kernel": 11, "match": "parameters"}}})
    assert str(caught.value).startswith("ablation.arms.wide: model.filters = [")
    assert str(caught.value).endswith("too many for images of 28 pixels with kernel 11: at most 1 fit")
