"""The sweep file: base settings, seeds, and the grid, ablation or search that makes arms from them."""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, field_validator, model_validator

from lightsweep.errors import nearest
from lightsweep.hashing import plain_text
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.dataset import NAME_SCHEMA, DatasetName, DatasetSpec
from lightsweep.sweepfile.search import Search
from lightsweep.sweepfile.settings import Count, Fraction, Named, Number, Seed, Spec, check_plain, complain

TrackerName = Literal["tensorboard", "mlflow"]


class Resources(Spec):
    """Resources that one trial uses."""

    cpus: Count = 1
    """CPU cores that a trial reserves. It always trains on one thread, so its result does not depend on
    this."""
    gpus: Fraction | Literal["measured"] = "measured"
    """Fraction of a GPU per trial, if the cluster has any; else trials train on the CPU. 0: never use a GPU.
    measured: a quarter until the first trial on a data set ends, then as its measured memory use allows."""
    device: Literal["auto", "gpu", "any"] = "auto"
    """auto: train on GPUs if the cluster has any when the run starts. gpu: train on GPUs, and wait for one.
    any: train on GPUs and on the CPUs of nodes without one, which give slightly different results."""
    retries: Annotated[int, Field(ge=0, le=1_000)] = 3
    """How often a trial is retried after its worker or node is lost, before it counts as failed."""
    checkpoint_seconds: Annotated[float, Field(ge=0, le=86_400)] = 10.0
    """Seconds of training between checkpoints of a running stage, taken at the end of an epoch; a killed
    worker loses at most this much work."""

    @model_validator(mode="after")
    def _check_device(self) -> "Resources":
        if self.device == "gpu" and not self.gpus:
            raise complain("device = gpu: gpus is 0, so no trial gets a GPU; set gpus, for example to 0.25")
        return self


MATCHES = ("parameters", "macs", "compute")
MOST_COMBINATIONS = 4096


def _check_changes(changes: dict[str, Any]) -> dict[str, Any]:
    """Reject changes that change nothing, or that have an invalid `match` or `within`."""
    if not set(changes) - {"match", "within", "over"}:
        raise complain("must change something: keys below base, such as model.hidden, with their values")
    check_plain(changes, "values of changes ")
    if "match" in changes and changes["match"] not in MATCHES:
        raise complain(f"match = {plain_text(changes['match'])}: {nearest(changes['match'], MATCHES)}")
    if "over" in changes and (
        changes.get("match") not in ("parameters", "macs") or not isinstance(changes["over"], str)
    ):
        raise complain(
            "over names the keyword of the net that match: parameters or macs changes, such as width"
        )
    within = changes.get("within", 0)
    if "within" in changes and "match" not in changes:
        raise complain("within is the tolerance of a match, and there is no match here")
    if isinstance(within, bool) or not isinstance(within, (int, float)) or not 0 <= within < 1:
        raise complain(f"within = {plain_text(within)}: must be a fraction, such as 0.01 for one percent")
    return changes


ArmName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,80}$"), Named]
Values = Annotated[list[Any], Field(min_length=1)]
# Keys below base (or of the data set) with their values. `match: parameters`, `macs` or `compute` scales the
# filters (for compute: the epochs) until the arm costs as much as base, to `within` a relative tolerance.
Changes = Annotated[dict[str, Any], AfterValidator(_check_changes)]


DATASETS_SCHEMA = {
    "type": "object",
    "minProperties": 1,
    "propertyNames": NAME_SCHEMA,
    "additionalProperties": {"type": "object"},
}


class Ablation(Spec):
    """Arms as changes to base, and how they are compared with it."""

    design: Literal["leave-one-out", "one-at-a-time", "factorial", "path"] | None = None
    """leave-one-out: base without one component at a time. one-at-a-time: base with one alternative at a
    time. factorial: every combination of components and alternatives. path: from base without any component
    to base, adding one component per step. Every arm is trained from scratch. Null: only `arms`."""
    components: Annotated[dict[ArmName, Changes], Field(min_length=1)] | None = None
    """Components by name, each with the changes to base that remove it. If two removed components change the
    same key, the later one wins."""
    alternatives: Annotated[dict[str, Values], Field(min_length=1)] | None = None
    """Keys below base, each with the values to try instead of base's."""
    order: Literal["all"] | tuple[ArmName, ...] | None = None
    """Order in which a path adds the components. Null: the order of `components`. all: every order, averaged
    as Shapley values, which trains every combination."""
    arms: dict[ArmName, Changes] = Field(default={})
    """Further arms by name, each with its changes to base."""
    datasets: (
        Annotated[dict[DatasetName, dict[str, Any]], Field(min_length=1), WithJsonSchema(DATASETS_SCHEMA)]
        | None
    ) = None
    """Data sets that all arms are trained on, each with its own changes to base ({} for none); null for
    `dataset` only."""
    significance: Annotated[Number, Field(gt=0, lt=1)] = 0.05
    """Family-wise error rate: probability that a family of comparisons claims any false difference."""
    equivalence: Annotated[Number, Field(gt=0, lt=1)] = 0.005
    """Equivalence margin: difference in accuracy (a fraction) that is too small to matter."""
    placebo: Annotated[bool, Field(strict=True)] = False
    """Whether to train base again with other seeds, as an arm that differs from base by noise only."""

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
            if key in ("match", "within", "over"):
                raise complain(
                    f"{key} is not a key below base; it belongs to the changes of a component or an arm"
                )
            check_plain(values, f"values of {key} ")
        return alternatives


RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Sweep(Spec):
    """All settings of a sweep file."""

    name: str
    """Name of the run and of its folder."""
    dataset: DatasetSpec
    """The data set and how it is split."""
    seeds: (
        Annotated[int, Field(strict=True, ge=1, le=10_000)] | Annotated[tuple[Seed, ...], Field(min_length=1)]
    ) = 3
    """Number of seeds (0, 1, …), or a list of seeds. All arms use the same seeds, so comparisons are paired.
    In a search they are used to confirm the front."""
    folds: Annotated[int, Field(strict=True, ge=2, le=100)] | None = None
    """Number of folds k of stratified cross-validation: each arm and seed is trained k times, each time with
    another fold as validation images instead of `dataset.validation`. Null for one split."""
    base: ArmSpec = ArmSpec()
    """Settings that every arm starts from."""
    grid: Annotated[dict[str, Values], Field(min_length=1)] | None = None
    """Grid axes: keys below `base` (model.filters) or of the data set (dataset.name), each with its values.
    Every combination is an arm."""
    ablation: Ablation | None = None
    """Arms defined as changes to base and compared with it."""
    search: Search | None = None
    """Arms chosen one by one by a sampler. A sweep has at most one of grid, ablation and search."""
    resources: Resources = Resources()
    """Resources that one trial uses."""
    tracking: tuple[TrackerName, ...] = ()
    """Trackers that also receive each trial when it ends: tensorboard (RUN/tensorboard), mlflow (the server
    of MLFLOW_TRACKING_URI, else RUN/mlflow.db)."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> "Sweep":
        kinds = [kind for kind in ("grid", "ablation", "search") if getattr(self, kind)]
        if len(kinds) > 1:
            raise complain(f"a sweep has at most one of grid, ablation and search, not {' and '.join(kinds)}")
        if self.search and self.folds:
            raise complain("a search trains on one split; folds are for a grid or an ablation")
        if self.search and self.search.seed in self.seed_list:
            raise complain(
                f"search.seed = {self.search.seed}: is one of the seeds, which confirm the front and "
                "must be new to the search"
            )
        return self

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        if not RUN_NAME.fullmatch(name):
            raise complain(
                "a run's name has letters, digits, '.', '_' and '-' only; --out sets the folder of runs"
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
        """List of the seeds, also where the sweep file gives their number."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
