"""A draw of a search: a configuration to train, its costs, and its attributes in the study."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from lightsweep.data.imagedata import DatasetInfo, Task
from lightsweep.hashing import content_hash
from lightsweep.nets.blocks import compressed
from lightsweep.nets.cost import Cost, cost, latency_ms
from lightsweep.planning.arms import apply_changes
from lightsweep.planning.owncheck import check_own
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.search import ACCURACY, Search
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.trials.stages import stage_table
from lightsweep.trials.trial import Trial


@dataclass(frozen=True)
class Draw:
    """A configuration to train."""

    number: int
    """Number of the Optuna trial."""
    trial: Trial
    cost: Cost
    costs: dict[str, float]
    """Costs that are objectives or limited, by name."""
    lows: tuple[float, ...]
    """Objectives other than accuracy, signed so that lower is better."""


DRAWN = "drawn"


class Drawn(TypedDict):
    """What was handed out for a trial of the study: the value of its attribute `DRAWN`."""

    trial_id: str
    arm: str
    seed: Annotated[int, Field(ge=0, lt=2**63)]


_DRAWN = TypeAdapter(Drawn)


def drawn_as(attributes: Mapping[str, Any]) -> Drawn | None:
    """Return what was handed out for a trial with these attributes; None if nothing was.

    Studies of older versions have one attribute per field.

    Raises:
        ValueError: A search does not write such attributes.

    """
    older = {key: attributes[key] for key in ("trial_id", "arm", "seed") if key in attributes}
    found = attributes.get(DRAWN, older if len(older) == 3 else None)
    return None if found is None else _DRAWN.validate_python(found)


def configure(sweep: Sweep, info: DatasetInfo, changes: Mapping[str, Any]) -> tuple[ArmSpec, Cost]:
    """Return base with a draw's changes applied, and its cost.

    Raises:
        InputError: The settings are inconsistent, or the net does not fit the images.

    """
    _, spec = apply_changes(sweep, dict(changes), "search.space")
    stage_table(spec, info.task)
    check_own(spec, info.task)
    return spec, cost(spec.model, info.shape, len(info.classes), spec.compression)


def search_of(sweep: Sweep) -> Search:
    """Return the search of a sweep, which must have one."""
    assert sweep.search is not None
    return sweep.search


class Ledger:
    """All draws trained so far, and their seeds."""

    def __init__(self, sweep: Sweep, task: Task) -> None:
        self.sweep, self.search, self.task = sweep, search_of(sweep), task
        self.base = sweep.base.model_dump(mode="json")
        """Base's settings as plain content, of which draws are changes."""
        self.draws: dict[str, Draw] = {}
        """Draws by trial id, in the order of drawing."""
        self._first: dict[str, Draw] = {}
        """The first draw of each configuration, by its settings' hash."""
        self._seeds: dict[str, set[int]] = {}
        """Seeds with which each configuration was drawn, by its settings' hash."""

    def add(self, draw: Draw) -> None:
        """Record a draw as trained."""
        self.draws[draw.trial.trial_id] = draw
        settings = draw.trial.spec_hash
        self._first.setdefault(settings, draw)
        self._seeds.setdefault(settings, set()).add(draw.trial.seed)

    def trial_of(self, number: int, spec: ArmSpec, changes: dict[str, Any], drawn: Drawn | None) -> Trial:
        """Return the trial of a configuration; one drawn before keeps its name and settings.

        Args:
            number: Number of the Optuna trial.
            spec: The configuration.
            changes: Its changes to base.
            drawn: What was handed out for it, if it was in progress when the search was killed.

        """
        name, dataset = f"net {number}", self.sweep.dataset
        settings = Trial("", dataset, spec, self.task, 0).spec_hash
        seed = drawn["seed"] if drawn is not None else self._seed(settings)
        if settings in self._first:
            first = self._first[settings].trial
            name, spec, changes = first.arm, first.spec, first.changes
        return Trial(name, dataset, spec, self.task, seed, changes=changes)

    def _seed(self, settings: str) -> int:
        """Return the search's seed, or the next unused one for a repetition that gets a new seed."""
        if self.search.repeats == "reuse":
            return self.search.seed
        taken, seed = self._seeds.get(settings, set()), self.search.seed
        while seed in taken or seed in self.sweep.seed_list:
            seed += 1
        return seed


class Objectives:
    """The objectives and limits of one search on one data set; costs are dicts from name to value."""

    def __init__(self, search: Search, info: DatasetInfo) -> None:
        self.search, self.info = search, info
        self._latencies: dict[str, float] = {}
        """Latency in milliseconds by net; measured once per study, so that limits use one measurement."""

    def costs(self, spec: ArmSpec, its_cost: Cost, latency: float | None = None) -> dict[str, float]:
        """Return the costs that are objectives or limited.

        Args:
            spec: The configuration.
            its_cost: Its computed cost.
            latency: Latency in milliseconds measured by an earlier run, if any.

        """
        wanted = {*self.search.objectives, *self.search.limits} - {ACCURACY}
        costs = {str(key): float(value) for key, value in asdict(its_cost).items() if key in wanted}
        if "latency_ms" in wanted:
            model = compressed(spec.model, spec.compression, self.info.shape, len(self.info.classes))
            key = content_hash(model.model_dump(mode="json"))
            if key not in self._latencies:
                measured = latency or latency_ms(model, self.info.shape, len(self.info.classes))
                self._latencies[key] = measured
            costs["latency_ms"] = self._latencies[key]
        return costs

    def excess(self, costs: Mapping[str, float]) -> dict[str, float]:
        """Return each limited cost's relative excess over its limit: negative below it, 1 if unknown."""
        limits = {str(key): limit for key, limit in self.search.limits.items() if key != ACCURACY}
        return {key: costs[key] / limit - 1 if key in costs else 1.0 for key, limit in limits.items()}

    def lows(self, costs: Mapping[str, float]) -> tuple[float, ...]:
        """Return the objectives other than accuracy, signed so that lower is better."""
        signs = {key: 1.0 if way == "minimise" else -1.0 for key, way in self.search.objectives.items()}
        return tuple(sign * costs[key] for key, sign in signs.items() if key != ACCURACY)

    def values(self, costs: Mapping[str, float], accuracy: float) -> list[float]:
        """Return the objective values in the study's order."""
        return [accuracy if key == ACCURACY else costs[key] for key in self.search.objectives]

    def constraints(
        self, costs: Mapping[str, float], accuracy: float | None, missed: float, impossible: float = 0.0
    ) -> dict[str, float]:
        """Return all constraints of a trial, above 0 if violated; a Gaussian process needs all of them.

        Args:
            costs: Costs of the trial.
            accuracy: Accuracy on the validation images; None if there is none.
            missed: Fraction of its epochs that an early-stopped trial did not run, if that is a constraint.
            impossible: 1 for a configuration that cannot be built.

        """
        constraints = {**self.excess(costs), "possible": impossible}
        if ACCURACY in self.search.limits:
            constraints[ACCURACY] = 0.0 if accuracy is None else self.search.limits[ACCURACY] - accuracy
        if self.search.early_stopping:
            constraints["epochs"] = missed
        return constraints
