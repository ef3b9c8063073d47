"""Settings of `search:` in a sweep file: space, objectives, sampler, and budget."""

import re
from collections.abc import Hashable
from contextlib import suppress
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from lightsweep.errors import nearest
from lightsweep.hashing import canonical_json
from lightsweep.sweepfile.settings import BelowOne, Count, Number, Spec, check_plain, complain

Objective = Literal["val_accuracy", "parameters", "macs", "weight_bytes", "latency_ms"]
Direction = Literal["minimise", "maximise"]
ACCURACY: Objective = "val_accuracy"
MOST_WHOLE = 2**53
Bound = Annotated[Number, Field(gt=0)]


Plain = Annotated[Any, AfterValidator(check_plain)]


def identity(value: Any) -> Hashable:
    """Return a key that is equal for plain values that are the same setting: 1 equals 1.0, but not true."""
    return (isinstance(value, bool), value) if isinstance(value, int | float) else canonical_json(value)


class Axis(Spec):
    """What a search may choose for one key: one of a list of values, or a number in a range."""

    choices: Annotated[list[Plain], Field(min_length=1)] | None = None
    """Values to choose from, in any order. A list in place of the mapping is shorthand for this."""
    low: int | float | None = None
    """Lowest value; if both bounds are integers, so are all values."""
    high: int | float | None = None
    """Highest value."""
    log: Annotated[bool, Field(strict=True)] = False
    """Whether the range is searched on a logarithmic scale (learning rates, filter counts)."""
    step: int | float | None = None
    """Distance between adjacent values, starting at low."""
    length: (
        Annotated[tuple[Annotated[int, Field(strict=True, ge=1, le=64)], ...], Field(max_length=2)] | None
    ) = None
    """Shortest and longest length, where the key's value is a list; each element is chosen independently."""
    when: (
        Annotated[
            dict[str, Annotated[list[Plain], Field(min_length=1)]],
            Field(min_length=1),
            WithJsonSchema(
                {"type": "object", "minProperties": 1}
            ),  # a single value is shorthand for a list of one
        ]
        | None
    ) = None
    """Other keys and the values that they must have for this one to be chosen; else it keeps base's value."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        if isinstance(data, list):
            return {"choices": data}
        if not isinstance(data, dict | Axis):
            raise complain("must be a list of choices, or a mapping with choices or with low and high")
        if isinstance(data, dict) and isinstance(data.get("when"), dict):
            when = {key: value if isinstance(value, list) else [value] for key, value in data["when"].items()}
            return {**data, "when": when}
        return data

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [handler(schema), {"type": "array", "minItems": 1}]}

    @field_validator("low", "high", "step", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        if isinstance(value, str):  # YAML 1.1 parsers, and ours, read 1e-3 as a string
            with suppress(ValueError):
                value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise complain("must be a number")
        if isinstance(value, float) and not abs(value) < float("inf"):
            raise complain("must be finite")
        if isinstance(value, int) and abs(value) > MOST_WHOLE:
            raise complain("must be at most 2^53; databases store larger integers inexactly")
        return value

    @field_validator("length", mode="before")
    @classmethod
    def _is_pair(cls, value: Any) -> Any:
        if value is not None and not (isinstance(value, list | tuple) and len(value) == 2):
            raise complain("must be [least, greatest], such as [1, 3]")
        return value

    @model_validator(mode="after")
    def _is_one_form(self) -> "Axis":
        if self.choices is not None:
            given = [key for key in ("low", "high", "step") if getattr(self, key) is not None]
            if given or self.log:
                raise complain(f"has choices, so it takes no {(given or ['log'])[0]}")
            if len(set(map(identity, self.choices))) < len(self.choices):
                raise complain("a choice is listed twice; drop one")
        elif self.low is None or self.high is None:
            raise complain("needs choices, or low and high")
        elif self.low > self.high:
            raise complain(f"low ({self.low:g}) is above high ({self.high:g})")
        elif self.log and self.low <= 0:
            raise complain(f"log needs a low above 0, not {self.low:g}")
        elif self.log and self.step is not None:
            raise complain("takes log or step, not both")
        elif self.step is not None and self.step <= 0:
            raise complain("step must be above 0")
        elif self.is_whole and self.step is not None and not float(self.step).is_integer():
            raise complain("between whole bounds step must be whole; write low as 1.0 for others")
        if self.length is not None and self.length[0] > self.length[1]:
            raise complain(f"length [{self.length[0]}, {self.length[1]}]: least is above greatest")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether the range is of integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class Budget(Spec):
    """How long to search, instead of a number of trials."""

    epochs: Count | None = None
    """Total epochs of all trials, whether trained now or read from the store."""
    minutes: Bound | None = None
    """Minutes of searching, summed over all resumptions of the search."""

    @model_validator(mode="after")
    def _is_one(self) -> "Budget":
        if (self.epochs is None) == (self.minutes is None):
            raise complain("needs epochs or minutes" + (", not both" if self.epochs else ""))
        return self


class EarlyStopping(Spec):
    """Asynchronous successive halving (Li et al. 2020, MLSys, "ASHA") for a Pareto front."""

    first: Count = 2
    """Epochs of a trial, summed over its stages, at the first rung."""
    factor: Annotated[Number, Field(ge=1.1, le=100)] = 3
    """Spacing of the rungs; also the reduction factor: at each rung, one in `factor` trials continues."""
    compare: Literal["rank", "accuracy"] = "rank"
    """rank: by non-dominated rank in current accuracy and known costs; a non-dominated trial always
    continues (after Schmucker et al. 2021, arXiv 2106.12639). accuracy: by accuracy alone, which stops small
    nets early; for comparison."""
    tell: Literal["infeasible", "failed", "partial"] = "infeasible"
    """What the sampler is told about a stopped trial. infeasible: its current accuracy and a violated
    constraint, the fraction of its epochs that were not trained. failed: that it failed, so samplers ignore
    it. partial: its current accuracy as if it were final."""


class Confirmation(Spec):
    """Retraining the front with the sweep's seeds, because the best of many trials is biased upwards."""

    margin: BelowOne = 0.002
    """Distance in accuracy (a fraction) within which nets just below the front are confirmed too."""
    at_most: Count = 16
    """Maximum number of nets to confirm; the ones nearest to the front come first."""


StartFrom = dict[str, Plain]


PASSWORD = re.compile(r"://[^:/]*:[^@]*@|[?&](ssl)?password=", re.IGNORECASE)  # where SQLAlchemy accepts one


def _check_url(url: str) -> str:
    rule = complain("must be a PostgreSQL URL, postgresql://user@host:5432/database")
    try:
        parts = urlsplit(url)
        _ = parts.port  # an invalid port raises
    except ValueError:
        raise rule from None
    if not re.match(r"postgresql(\+psycopg)?://", url) or not parts.path.strip("/"):
        raise rule
    return url


def _check_condition(key: str, other: str, axis: Axis, allowed: list[Any]) -> None:
    """Reject a condition on an axis that is always chosen and never takes the value."""
    if axis.choices is None or axis.when is not None or axis.length is not None:
        return
    for value in allowed:
        if identity(value) not in map(identity, axis.choices):
            choices = ", ".join(map(canonical_json, axis.choices))
            raise complain(
                f"space.{key} depends on {other} = {canonical_json(value)}, which is not one of {choices}"
            )


class Search(Spec):
    """A search for the Pareto front of accuracy against costs."""

    space: Annotated[dict[str, Axis], Field(min_length=1)]
    """Keys below base (such as model.filters), each with the values that may be chosen for it."""
    objectives: Annotated[dict[Objective, Direction], Field(min_length=1)] = Field(
        default={"val_accuracy": "maximise", "parameters": "minimise"}
    )
    """Objectives: accuracy on the validation images, and costs, which are known before training."""
    limits: dict[Objective, Bound] = Field(default={})
    """Upper limits of costs, such as {parameters: 20000}; a net above one is never trained. For val_accuracy
    it is a lower limit: the sampler treats it as a constraint, and no net below it is confirmed."""
    sampler: Literal["tpe", "nsga2", "gp", "qmc", "random"] = "tpe"
    """Sampler: tree-structured Parzen estimator, NSGA-II, Gaussian process, quasi-random or random."""
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = 1000
    """Seed of the sampler and of the nets trained during the search. It must not be one of the sweep's seeds,
    which are for the confirmation."""
    trials: Count | None = None
    """Number of trials; raising it later extends the search. Null with a budget."""
    budget: Budget | None = None
    """Epochs or minutes to search, instead of a number of trials; null with trials."""
    repeats: Literal["reuse", "new-seed"] = "reuse"
    """When a configuration is drawn again: reuse its result, or train it with the next seed."""
    start_from: list[StartFrom] = Field(default=[])
    """Configurations to try first, each as changes to base; {} is base itself."""
    early_stopping: EarlyStopping | None = None
    """Early stopping of unpromising trials; null trains every trial to the end."""
    confirmation: Confirmation | None = Confirmation()
    """How the front is confirmed; null for no confirmation."""
    storage: Annotated[str, AfterValidator(_check_url)] | None = None
    """PostgreSQL database of the study, postgresql://user@host:5432/database; null for SQLite in the
    run folder."""

    @model_validator(mode="before")
    @classmethod
    def _holds_no_password(cls, data: Any) -> Any:
        """Reject a password at this point, where the message does not show the value."""
        if isinstance(data, dict) and PASSWORD.search(str(data.get("storage"))):
            raise complain(
                "storage has a password, and reports show this file; put it into ~/.pgpass or $PGPASSWORD"
            )
        return data

    @model_validator(mode="after")
    def _is_whole(self) -> "Search":
        if (self.trials is None) == (self.budget is None):
            both = ", not both: one of them must be null" if self.trials else ""
            raise complain(f"needs trials, or a budget of epochs or minutes{both}")
        if self.objectives.get(ACCURACY) != "maximise":
            raise complain("objectives must have val_accuracy: maximise; without it nothing need be trained")
        if self.limits.get(ACCURACY, 0) >= 1:
            raise complain(f"limits.val_accuracy = {self.limits[ACCURACY]:g}: must be a fraction below 1")
        before: dict[str, Axis] = {}
        for key, axis in self.space.items():
            for other, allowed in (axis.when or {}).items():
                if other in self.space and other not in before:
                    raise complain(f"space.{key} depends on {other}, which must come before it")
                if other in before:
                    _check_condition(key, other, before[other], allowed)
            before[key] = axis
            whole, _, part = key.rpartition(".")
            if whole in self.space and self.space[whole].length and re.fullmatch(r"\d+|length", part):
                raise complain(f"space.{key} is already part of the list {whole}; drop one of them")
        for number, changes in enumerate(self.start_from):
            for key in changes:
                if key not in self.space:
                    hint = nearest(key, self.space)
                    raise complain(f"start_from.{number}: {key} is not a key of the space; {hint}")
        return self
