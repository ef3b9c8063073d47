import json
from pathlib import Path
from typing import Any

import pytest
from imitation_ablation import Tree, design_tree, imitate

from analysis import RunError, load_run
from analysis.design import parse_design
from lightsweep.data.imagedata import DatasetInfo
from lightsweep.planning.design import design_tree as written_tree
from lightsweep.planning.plan import plan
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.sweep import Sweep

COMPONENTS = {"dual input": {"model.inputs": "single"}, "transfer": {"model.fusion": "fresh"}}
ALTERNATIVES = {"augmentation": ["none", "affine-strong"], "model.dropout": [0.5]}
FREE = {"wide": {"model.hidden": 64}}
VALUES = {"augmentation": ["none", "affine-strong"], "dropout": ["0.5"]}


def written(**fields: Any) -> Tree:
    """Return what `lightsweep run` writes of a sweep, through JSON."""

    def describe(spec: DatasetSpec) -> DatasetInfo:
        return DatasetInfo(spec.name, 28, 28, 1, tuple("0123456789"), 1_437, 360)

    sweep = {"name": "a", "dataset": {"name": "digits", "validation": 0.2}, "seeds": 6} | fields
    tree: Tree = json.loads(json.dumps(written_tree(plan(Sweep.model_validate(sweep), describe))))
    return tree


def as_read(tree: Tree) -> tuple[Any, ...]:
    """Return what the analysis reads of it, the order of the arms included, without the test images."""
    design = parse_design(tree)
    assert design is not None
    arms = {dataset: list(arms.items()) for dataset, arms in design.arms.items()}
    facts = (design.kind, design.base, design.significance, design.equivalence, design.order)
    return (*facts, design.seeds, design.folds, design.factors, arms)


@pytest.mark.parametrize(
    ("ablation", "imitated"),
    [
        ({"design": "leave-one-out", "components": COMPONENTS, "arms": FREE},
         design_tree("leave-one-out", [*COMPONENTS], free=["wide"])),
        ({"design": "one-at-a-time", "alternatives": ALTERNATIVES},
         design_tree("one-at-a-time", alternatives=VALUES)),
        ({"design": "factorial", "components": COMPONENTS, "alternatives": ALTERNATIVES, "arms": FREE},
         design_tree("factorial", [*COMPONENTS], VALUES, free=["wide"])),
        ({"design": "path", "components": COMPONENTS, "order": ["transfer", "dual input"]},
         design_tree("path", [*COMPONENTS], order=["transfer", "dual input"])),
        ({"design": "path", "components": COMPONENTS, "order": "all"},
         design_tree("path", [*COMPONENTS], order="all")),
        ({"arms": FREE, "significance": 0.1, "equivalence": 0.02},
         design_tree(None, free=["wide"], significance=0.1, equivalence=0.02)),
        ({"arms": FREE, "datasets": {"digits": {}, "mnist": {}}},
         design_tree(None, free=["wide"], datasets=("digits", "mnist"))),
    ],
)  # fmt: skip
def test_a_run_writes_what_the_analysis_reads(ablation: dict[str, Any], imitated: Tree) -> None:
    """The other tests of this folder imitate designs: this one holds the imitation to the original."""
    assert as_read(written(ablation=ablation)) == as_read(imitated)


def test_seeds_folds_and_test_images_come_along() -> None:
    design = parse_design(written(ablation={"arms": FREE}, seeds=[7, 3], folds=4))
    assert design is not None
    assert (design.seeds, design.folds, design.test_images) == ((7, 3), 4, {"digits": 360})


def test_a_sweep_without_ablation_has_no_design() -> None:
    assert parse_design(written(grid={"batch_size": [8, 9]})) is None


def test_an_arm_is_found_by_its_levels() -> None:
    design = parse_design(design_tree("factorial", ["a", "b"], {"c": ["1", "2"]}, free=["wide"]))
    assert design is not None
    assert design.arm_at("digits", {}) == "base"
    assert design.arm_at("digits", {"b": 1}) == "without b"
    assert design.arm_at("digits", {"c": 2, "b": 1, "a": 1}) == "c 2, without a, b"
    with pytest.raises(KeyError):
        design.arm_at("mnist", {})


@pytest.mark.parametrize(
    "content", ["[]", "{", "{}", '{"base": "base"}', '{"base": "base", "arms": 1}', "\xff"]
)
def test_what_no_run_writes_is_a_run_error(tmp_path: Path, content: str) -> None:
    imitate(tmp_path / "run", design_tree(None, free=["wide"]), lambda *_: 0.9)
    (tmp_path / "run" / "design.json").write_text(content, encoding="latin-1")
    with pytest.raises(RunError, match=r"design\.json: .*; repeat the run to rewrite it"):
        load_run(tmp_path / "run")


def test_a_run_of_an_older_version_has_no_design(tmp_path: Path) -> None:
    imitate(tmp_path / "run", design_tree(None, free=["wide"]), lambda *_: 0.9)
    (tmp_path / "run" / "design.json").unlink()
    assert load_run(tmp_path / "run").design is None
