"""What a sweep file is: base settings and seeds, and the arms to make of them by grid, ablation or search."""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from lightsweep.hashing import plain_text
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.dataset import DatasetName, DatasetSpec
from lightsweep.sweepfile.search import Search
from lightsweep.sweepfile.settings import (
    Count,
    Fraction,
    Named,
    Number,
    Seed,
    Spec,
    check_plain,
    complain,
    nearest,
)

TrackerName = Literal["tensorboard", "mlflow"]


class Resources(Spec):
    """What one trial takes of a machine."""

    cpus: Count = 1
    """Processor cores that a trial reserves. It trains on one thread whatever this is, so that its
    result does not depend on it."""
    gpus: Fraction | Literal["measured"] = "measured"
    """Share of a GPU, where the cluster has any; else trials train on the processor. 0 for never. measured:
    a quarter, until the first trial on a data set has ended; from then on what its memory allows."""
    device: Literal["auto", "gpu", "any"] = "auto"
    """auto: on GPUs where the cluster has any when the run starts; gpu: on GPUs, waiting for one; any: on
    GPUs and on the processors of nodes without one alike, which train to slightly different numbers."""
    retries: Annotated[int, Field(ge=0, le=1_000)] = 3
    """How often a trial whose worker or node was lost is tried again before it counts as failed."""
    checkpoint_seconds: Annotated[float, Field(ge=0, le=86_400)] = 10.0
    """Seconds of training after which a stage under way hands over its state, at the end of an epoch: what
    a killed worker can lose at most."""

    @model_validator(mode="after")
    def _check_device(self) -> "Resources":
        if self.device == "gpu" and not self.gpus:
            raise complain("device = gpu: gpus is 0, so no trial takes a share of one; say gpus = 0.25 or so")
        return self


MATCHES = ("parameters", "macs", "compute")
MOST_COMBINATIONS = 4096


def _check_changes(changes: dict[str, Any]) -> dict[str, Any]:
    """Refuse changes that change nothing, and a wrong `match` or `within` among them."""
    if not set(changes) - {"match", "within"}:
        raise complain("must change something: keys below base (model.hidden) with their values")
    check_plain(changes, "values of changes ")
    if "match" in changes and changes["match"] not in MATCHES:
        raise complain(f"match = {plain_text(changes['match'])}: {nearest(changes['match'], MATCHES)}")
    within = changes.get("within", 0)
    if "within" in changes and "match" not in changes:
        raise complain("within says how near a match must come, and there is no match here")
    if isinstance(within, bool) or not isinstance(within, (int, float)) or not 0 <= within < 1:
        raise complain(f"within = {plain_text(within)}: must be a fraction, such as 0.01 for one percent")
    return changes


ArmName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,80}$"), Named]
Values = Annotated[list[Any], Field(min_length=1)]
# A key below base (or of the data set) -> its value. `match: parameters`, `macs` or `compute` among them
# makes filters (for compute: epochs) grow or shrink until the arm costs what base costs, `within` a share.
Changes = Annotated[dict[str, Any], AfterValidator(_check_changes)]


class Ablation(Spec):
    """Arms as changes to base, and what is asked of their comparison with it."""

    design: Literal["leave-one-out", "one-at-a-time", "factorial", "path"] | None = None
    """leave-one-out: base without each component. one-at-a-time: base with each alternative. factorial:
    every combination of components and alternatives. path: from base without any component to base, a
    component more at each step. All arms are trained anew. Null: `arms` alone."""
    components: Annotated[dict[ArmName, Changes], Field(min_length=1)] | None = None
    """Name of a component -> the changes to base that take it out. Where two that are out change the same
    key, the later one's value holds."""
    alternatives: Annotated[dict[str, Values], Field(min_length=1)] | None = None
    """A key below base -> values to try in place of base's."""
    order: Literal["all"] | tuple[ArmName, ...] | None = None
    """Of a path: the components in the order in which they come in; null for that of `components`; all:
    every order, averaged as Shapley values, which trains every combination."""
    arms: dict[ArmName, Changes] = Field(default={})
    """Further arms: a name -> changes to base."""
    datasets: Annotated[dict[DatasetName, dict[str, Any]], Field(min_length=1)] | None = None
    """Data sets that all arms are trained on, each with changes to base for it ({} for none); null for
    `dataset` alone."""
    significance: Annotated[Number, Field(gt=0, lt=1)] = 0.05
    """Share of families of comparisons that may claim a difference where there is none."""
    equivalence: Annotated[Number, Field(gt=0, lt=1)] = 0.005
    """Difference of accuracies (a fraction) that does not matter: within it, arms are equivalent."""
    placebo: Annotated[bool, Field(strict=True)] = False
    """Whether base is trained once more with other seeds, as an arm whose difference is noise alone."""

    @model_validator(mode="after")
    def _design_is_whole(self) -> "Ablation":
        takes = {
            "leave-one-out": ("components",),
            "one-at-a-time": ("alternatives",),
            "factorial": ("components", "alternatives"),
            "path": ("components",),
            None: (),
        }[self.design]
        for key in ("components", "alternatives"):
            if getattr(self, key) is not None and key not in takes:
                raise complain(
                    f"design {self.design or 'null'} takes {' and '.join(takes) or 'arms'}, no {key}"
                )
        if takes and not any(getattr(self, key) for key in takes):
            raise complain(f"design {self.design} needs {' or '.join(takes)}")
        if not self.design and not self.arms:
            raise complain("needs a design, or arms")
        if self.order is not None and self.design != "path":
            raise complain("order is for design: path")
        if isinstance(self.order, tuple) and sorted(self.order) != sorted(self.components or ()):
            raise complain(f"order must name each component once: {', '.join(self.components or ())}")
        if self.design == "factorial" or self.order == "all":
            counts = [2] * len(self.components or ())
            counts += [1 + len(values) for values in (self.alternatives or {}).values()]
            if math.prod(counts) > MOST_COMBINATIONS:
                raise complain(f"makes {math.prod(counts):,} combinations; at most {MOST_COMBINATIONS:,}")
        return self

    @field_validator("alternatives")
    @classmethod
    def _alternatives_are_plain(cls, alternatives: dict[str, list[Any]] | None) -> Any:
        for key, values in (alternatives or {}).items():
            if key in ("match", "within"):
                raise complain(
                    f"{key} is no key below base; it stands among the changes of a component or an arm"
                )
            check_plain(values, f"values of {key} ")
        return alternatives


RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Sweep(Spec):
    """A whole sweep file."""

    name: str
    """Name of the run and of its folder."""
    dataset: DatasetSpec
    """The images."""
    seeds: (
        Annotated[int, Field(strict=True, ge=1, le=10_000)] | Annotated[tuple[Seed, ...], Field(min_length=1)]
    ) = 3
    """Number of seeds (0, 1, …), or the seeds themselves. Seeds are paired over the arms. With a search they
    are what its front is confirmed with."""
    folds: Annotated[int, Field(strict=True, ge=2, le=100)] | None = None
    """k: each arm and seed is trained k times, each with another k-th of the training images (stratified)
    as validation images in place of `dataset.validation`. Null for one split."""
    base: ArmSpec = ArmSpec()
    """The settings that every arm starts from."""
    grid: Annotated[dict[str, Values], Field(min_length=1)] | None = None
    """Axes: a key below `base` (model.filters) or of the data set (dataset.name) -> its values. Every
    combination is an arm."""
    ablation: Ablation | None = None
    """Arms as changes to base, compared with it."""
    search: Search | None = None
    """Arms chosen by a sampler, one after the other. A sweep has at most one of grid, ablation and search."""
    resources: Resources = Resources()
    """What one trial takes of a machine."""
    tracking: tuple[TrackerName, ...] = ()
    """Where trials are shown, too, as they end: tensorboard (RUN/tensorboard), mlflow (the server of
    MLFLOW_TRACKING_URI, else RUN/mlflow.db)."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> "Sweep":
        kinds = [kind for kind in ("grid", "ablation", "search") if getattr(self, kind)]
        if len(kinds) > 1:
            raise complain(f"a sweep has at most one of grid, ablation and search, not {' and '.join(kinds)}")
        if self.search and self.folds:
            raise complain("a search trains on one split; folds are for a grid or an ablation")
        if self.search and self.search.seed in self.seed_list:
            raise complain(
                f"search.seed = {self.search.seed}: is among the seeds, which are the confirmation's and "
                "must be fresh"
            )
        return self

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        if not RUN_NAME.fullmatch(name):
            raise complain(
                "a run's name is letters, digits, '.', '_' and '-', no path; --out says where runs go"
            )
        return name

    @field_validator("grid")
    @classmethod
    def _grid_is_plain(cls, grid: dict[str, list[Any]] | None) -> Any:
        for key, values in (grid or {}).items():
            check_plain(values, f"values of {key} ")
        return grid

    @field_validator("seeds")
    @classmethod
    def _seeds_are_distinct(cls, seeds: Any) -> Any:
        if isinstance(seeds, tuple) and len(set(seeds)) < len(seeds):
            raise complain("seeds must differ from one another")
        return seeds

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds themselves."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
