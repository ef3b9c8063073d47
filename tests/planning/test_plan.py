import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightsweep.data.datasets import describe
from lightsweep.errors import InputError
from lightsweep.nets.cost import cost
from lightsweep.planning.arms import arms
from lightsweep.planning.plan import Plan, plan, plan_keys
from lightsweep.planning.stagetree import StageCount, count_stages, stage_tree
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.trials.keys import stage_keys

TABLE = [
    {"name": "dual", "loss": "heads", "epochs": 5},
    {"name": "fusion", "loss": "fused", "train": "last-2", "epochs": 3},
    {"name": "finetune", "loss": "fused", "epochs": 2},
]


def sweep(**settings: Any) -> Sweep:
    tree = {"name": "t", "dataset": {"name": "digits"}, "base": {"stages": TABLE}, **settings}
    return Sweep.model_validate(tree)


def planned(**settings: Any) -> Plan:
    return plan(sweep(**settings), lambda dataset: describe(dataset, Path("nowhere")))


def refusal(**settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        planned(**settings)
    return str(caught.value)


GRIDS: list[dict[str, list[Any]]] = [
    {},
    {"batch_size": [8, 16, 32]},
    {
        "model.filters": [[3, 4], [5, 6]],
        "stages.dual.lr": [0.1, 0.01, 0.001],
        "augmentation": ["none", "flip"],
    },
    {"model": [{"filters": [3]}, {"filters": [4], "hidden": None}], "dataset.name": ["digits", "mnist"]},
]


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: "-".join(grid) or "no grid")
@pytest.mark.parametrize("seeds", [1, [7, 3]])
@pytest.mark.parametrize("folds", [None, 3])
def test_every_combination_of_grid_seeds_and_folds_once(grid: Any, seeds: Any, folds: int | None) -> None:
    result = planned(grid=grid or None, seeds=seeds, folds=folds)
    expected = Counter(
        (str(dict(zip(grid, values, strict=True))), seed, fold)
        for values in itertools.product(*grid.values())
        for seed in (range(seeds) if isinstance(seeds, int) else seeds)
        for fold in (range(folds) if folds else [None])
    )
    assert Counter((str(trial.changes), trial.seed, trial.fold) for trial in result.trials) == expected
    ids = {trial.trial_id for trial in result.trials}
    assert len(ids) == len(result.trials)
    assert set(result.costs) == ids
    assert len({(trial.arm, trial.seed, trial.fold) for trial in result.trials}) == len(result.trials)


def test_changes_reach_the_arms_settings_and_nothing_else() -> None:
    grid = {"model.filters": [[3, 4], [5, 6]], "stages.finetune.lr": [0.1], "dataset.train_limit": [50]}
    base = sweep()
    for filters, arm in zip([(3, 4), (5, 6)], arms(sweep(grid=grid)), strict=True):
        assert arm.name == f"filters {filters[0]}-{filters[1]}, lr 0.1, train_limit 50"
        assert arm.changes == {
            "model.filters": list(filters),
            "stages.finetune.lr": 0.1,
            "dataset.train_limit": 50,
        }
        assert arm.dataset == DatasetSpec(name="digits", train_limit=50)
        assert arm.spec.model == base.base.model.model_copy(update={"filters": list(filters)})
        assert [stage.lr for stage in arm.spec.stages] == [0.001, 0.001, 0.1]  # type: ignore[union-attr]
        assert arm.spec.batch_size == base.base.batch_size


def test_arms_are_told_apart_where_two_keys_end_alike() -> None:
    grid = {"stages.dual.lr": [0.1, 0.2], "stages.fusion.lr": [0.3], "batch_size": [8]}
    assert [arm.name for arm in arms(sweep(grid=grid))] == [
        "stages.dual.lr 0.1, stages.fusion.lr 0.3, batch_size 8",
        "stages.dual.lr 0.2, stages.fusion.lr 0.3, batch_size 8",
    ]


def test_values_in_arm_names() -> None:
    grid = {"model.hidden": [None, 8], "model.batch_norm": [True, False]}
    assert [arm.name for arm in arms(sweep(grid=grid))] == [
        "hidden none, batch_norm yes",
        "hidden none, batch_norm no",
        "hidden 8, batch_norm yes",
        "hidden 8, batch_norm no",
    ]


def test_costs_are_of_each_trials_own_net_and_data() -> None:
    result = planned(grid={"model.filters": [[3, 4], [5, 6]], "dataset.name": ["digits", "cifar10"]}, seeds=2)
    for trial in result.trials:
        shape = (1, 28, 28) if trial.dataset.name == "digits" else (3, 32, 32)
        assert result.costs[trial.trial_id] == cost(trial.spec.model, shape, 10)
    assert {info.name for info in result.infos.values()} == {"digits", "cifar10"}


@pytest.mark.parametrize("seeds", [1, 3])
def test_new_first_stages_come_first(seeds: int) -> None:
    """So that workers seldom wait for one another's stage."""
    grid = {"stages.finetune.lr": [0.1, 0.2, 0.3], "model.filters": [[3, 4], [5, 6]], "model.hidden": [4, 8]}
    trials = planned(grid=grid, seeds=seeds).trials
    first = [stage_keys(trial, "f", "cpu")[0] for trial in trials]
    prefixes = 2 * seeds
    for start in range(0, len(trials), prefixes):
        assert len(set(first[start : start + prefixes])) == prefixes
    assert Counter(first) == dict.fromkeys(first, 6)


def test_a_second_trial_of_a_first_stage_comes_after_all_others() -> None:
    other_last = [*TABLE[:2], {**TABLE[2], "lr": 0.5}]
    other_first = [{**TABLE[0], "lr": 0.5}, *TABLE[1:]]
    result = planned(grid={"stages": [TABLE, other_last, other_first]}, seeds=1)
    assert [trial.changes["stages"] for trial in result.trials] == [TABLE, other_first, other_last]


def test_neighbours_have_as_few_stages_in_common_as_can_be() -> None:
    """One seed: all share the first stage, so trials with different second stages take turns."""
    tables = [
        [TABLE[0], {**TABLE[1], "lr": second}, {**TABLE[2], "lr": third}]
        for second in (0.1, 0.2)
        for third in (0.3, 0.4, 0.5)
    ]
    trials = planned(grid={"stages": tables}, seeds=1).trials
    lrs = [tuple(stage.lr for stage in trial.stages[1:]) for trial in trials]
    assert lrs == [(0.1, 0.3), (0.2, 0.3), (0.1, 0.4), (0.2, 0.4), (0.1, 0.5), (0.2, 0.5)]


@given(
    seeds=st.integers(1, 3),
    firsts=st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
    lasts=st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
)
@settings(max_examples=20)
def test_the_order_loses_no_trial_and_opens_every_first_stage_before_it_shares_one(
    seeds: int, firsts: list[int], lasts: list[int]
) -> None:
    grid = {"stages.dual.epochs": firsts, "stages.finetune.epochs": lasts}
    trials = planned(grid=grid, seeds=seeds).trials
    assert len({trial.trial_id for trial in trials}) == len(trials) == seeds * len(firsts) * len(lasts)
    prefixes = [stage_keys(trial, "f", "cpu")[0] for trial in trials]
    assert len(set(prefixes[: seeds * len(firsts)])) == seeds * len(firsts)


def test_the_stage_tree_by_hand() -> None:
    """The last stage has two learning rates; the first two stages are shared."""
    result = planned(grid={"stages.finetune.lr": [0.1, 0.2]}, seeds=2)
    keys = plan_keys(result.trials, None, "cpu")
    (dual,) = stage_tree(result, keys)
    (fusion,) = dual.children
    assert [(node.name, node.epochs, len(set(node.keys)), node.arms) for node in (dual, fusion)] == [
        ("dual", 5, 2, ("lr 0.1", "lr 0.2")),
        ("fusion", 3, 2, ("lr 0.1", "lr 0.2")),
    ]
    assert [(node.name, node.arms, node.children) for node in fusion.children] == [
        ("finetune", ("lr 0.1",), ()),
        ("finetune", ("lr 0.2",), ()),
    ]
    every = {key for node in (dual, fusion, *fusion.children) for key in node.keys}
    assert every == {key for chain in keys.values() for key in chain[:-1]}


def count(some: Plan) -> StageCount:
    return count_stages(some, plan_keys(some.trials, None, "cpu"), None)


def is_none_stored(key: str) -> bool:
    return False


def test_stages_counted_by_hand() -> None:
    """Two learning rates of the last of three stages (5, 3 and 2 epochs), two seeds."""
    result = planned(grid={"stages.finetune.lr": [0.1, 0.2]}, seeds=2)
    (dataset,) = result.infos
    assert count_stages(
        result, plan_keys(result.trials, {dataset: "f"}, "cpu"), is_none_stored
    ) == StageCount(
        total=4 * 3,
        unique=2 + 2 + 4,
        stored=0,
        epochs_alone=4 * 10,
        epochs_unique=2 * 5 + 2 * 3 + 4 * 2,
        epochs_left=2 * 5 + 2 * 3 + 4 * 2,
    )


def test_stored_stages_are_not_left() -> None:
    result = planned(grid={"stages.finetune.lr": [0.1, 0.2]}, seeds=2)
    (dataset,) = result.infos
    trial = result.trials[0]
    stored = set(stage_keys(trial, "f", "cpu"))
    found = count_stages(result, plan_keys(result.trials, {dataset: "f"}, "cpu"), stored.__contains__)
    assert (found.stored, found.epochs_left) == (3, 24 - 10)


def test_without_the_data_what_is_stored_is_unknown() -> None:
    found = count(planned(seeds=2))
    assert found == StageCount(
        total=6, unique=6, stored=None, epochs_alone=20, epochs_unique=20, epochs_left=None
    )


def test_presets_share_their_first_stages() -> None:
    """paper, gradual and frozen have dual and fusion in common, all-at-once only dual; scratch nothing."""
    grid = {"stages.preset": ["paper", "gradual", "frozen", "all-at-once", "scratch"]}
    base = {"stages": {"preset": "paper", "epochs": {"dual": 8, "fusion": 4, "finetune": 6}}}
    found = count(planned(base=base, grid=grid, seeds=1))
    assert found.total == 3 + 5 + 3 + 3 + 2
    assert found.unique == 2 + 1 + 3 + 1 + 2 + 2
    assert found.epochs_alone == 5 * 18
    assert found.epochs_unique == 8 + 4 + 6 + 6 + 6 + (4 + 6) + 18


@pytest.mark.parametrize(
    ("base", "axis", "values"),
    [
        ({"model": {"hidden": None}}, "model.dropout", [0.1, 0.2]),
        ({}, "stages.0.name", ["x", "y"]),
        ({}, "augmentation", ["none", []]),
        ({"model": {"fusion": "average"}, "stages": "paper"}, "model.hidden", [8, 16]),
        (
            {"stages": [{**TABLE[0], "loss": "head-a"}, {**TABLE[2], "train": "last-2", "lr": 1}]},
            "stages.1.lr",
            [1, 1.0],
        ),
    ],
    ids=lambda case: str(case)[:40],
)
def test_an_axis_that_changes_nothing_is_refused(base: Any, axis: str, values: Any) -> None:
    """An ablation must change something."""
    message = refusal(base={"stages": TABLE, **base}, grid={axis: values, "batch_size": [8, 16]})
    assert message == f"grid.{axis}: changes nothing: all its values make the same trials"


def test_cells_that_coincide_are_not_an_idle_axis() -> None:
    """Dropout changes nothing without a hidden layer, but does with one."""
    assert len(planned(grid={"model.hidden": [None, 8], "model.dropout": [0.1, 0.2]}, seeds=1).trials) == 4


def test_a_wrong_cell_names_its_arm() -> None:
    message = refusal(grid={"stages.1.train": ["last-2", "conv7"]})
    assert message.startswith("arm train conv7: stages.1.train (stage fusion) = 'conv7': matches no block")


def test_single_values_are_no_idle_axes() -> None:
    assert len(planned(grid={"stages.0.name": ["x"]}, seeds=1).trials) == 1
