"""One trial: an arm's settings with a seed and a fold."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lightsweep.data.imagedata import Task
from lightsweep.data.splits import DEFAULT_VALIDATION
from lightsweep.hashing import content_hash
from lightsweep.nets.blocks import untrained
from lightsweep.nets.models import can_have_images_last
from lightsweep.owncode.reference import parse_reference
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.net import PAPER_NET, ModelSpec
from lightsweep.sweepfile.stages import StageSpec
from lightsweep.trials.stages import stage_table


@dataclass(frozen=True, eq=False)
class Trial:
    """One arm with one seed and fold."""

    arm: str
    """Name of the arm, shared by its seeds and folds."""
    dataset: DatasetSpec
    spec: ArmSpec
    task: Task
    seed: int
    fold: int | None = None
    """Index of the validation fold, from 0; None without cross-validation."""
    folds: int | None = None
    """Number of folds; None without cross-validation."""
    changes: dict[str, Any] = field(default_factory=dict)
    """The grid's keys and values that define the arm."""

    @cached_property
    def stages(self) -> tuple[StageSpec, ...]:
        """Training stages, with presets expanded."""
        return stage_table(self.spec, self.task)

    @cached_property
    def spec_hash(self) -> str:
        """Hash of the arm's settings, equal for all its seeds and folds and independent of its name."""
        settings, images = settings_of(self.spec), settings_of(self.dataset)
        settings["model"] = _as_recorded(self.spec.model)
        if images["validation"] is None:
            images["validation"] = (
                DEFAULT_VALIDATION  # what null meant before data sets had validation images
            )
        if not self.spec.tf32:
            del settings["tf32"]  # newer than the trial ids of recorded runs
        if self.spec.kernels == "torch":
            del settings["kernels"]  # likewise
        return content_hash({**images, **settings, "stages": stage_settings(self.stages)})

    @cached_property
    def trial_id(self) -> str:
        """Trial id: twelve hexadecimal digits, unique within a sweep and stable across runs."""
        return content_hash([self.arm, self.spec_hash, self.seed, self.fold, self.folds])[:12]

    @cached_property
    def has_images_last(self) -> bool:
        """Whether its net is computed with the images last where it trains on a processor."""
        if self.spec.kernels == "torch":
            return False
        return can_have_images_last(untrained(self.spec.model, self.task.shape, self.task.classes, "fused"))

    @property
    def label(self) -> str:
        """Label with arm, seed and fold, for messages."""
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{self.arm} (seed {self.seed}{fold})"


def _as_recorded(model: ModelSpec) -> dict[str, Any]:
    """Return a net's settings in the form in which older versions hashed them, where they had such nets."""
    settings = settings_of(model)
    if model.net == PAPER_NET:
        del settings["net"]
    elif (model.inputs, model.fusion) == ("single", "none") and parse_reference(model.net) is None:
        return {"architecture": model.net, "width": 1.0, **model.keywords}
    return settings


def settings_of(spec: DatasetSpec | ArmSpec | ModelSpec | Any) -> dict[str, Any]:
    """Return a spec as JSON-like data."""
    settings: dict[str, Any] = spec.model_dump(mode="json")
    return settings


def stage_settings(stages: tuple[StageSpec, ...]) -> list[dict[str, Any]]:
    """Return the settings that affect the stages' results: all but their names."""
    found = [stage.model_dump(mode="json", exclude={"name"}) for stage in stages]
    for settings in found:
        if settings["run"] is None:
            del settings["run"]  # newer than the trial ids of recorded runs
    return found
