"""What `search:` in a sweep file is: the space, the objectives, the sampler, and how long to search."""

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

from lightsweep.hashing import canonical_json
from lightsweep.sweepfile.settings import BelowOne, Count, Number, Spec, check_plain, complain, nearest

Objective = Literal["val_accuracy", "parameters", "macs", "weight_bytes", "latency_ms"]
Direction = Literal["minimise", "maximise"]
ACCURACY: Objective = "val_accuracy"
MOST_WHOLE = 2**53
Bound = Annotated[Number, Field(gt=0)]


Plain = Annotated[Any, AfterValidator(check_plain)]


def identity(value: Any) -> Hashable:
    """Return what plain values have in common that are one setting: 1 is 1.0, but not true."""
    return (isinstance(value, bool), value) if isinstance(value, int | float) else canonical_json(value)


class Axis(Spec):
    """What a search may choose for one key: one of some values, or a number of a range."""

    choices: Annotated[list[Plain], Field(min_length=1)] | None = None
    """The values, in any order. A list in place of a mapping is short for this."""
    low: int | float | None = None
    """Least value; whole numbers if both bounds are whole."""
    high: int | float | None = None
    """Greatest value."""
    log: Annotated[bool, Field(strict=True)] = False
    """Whether the range is searched by ratios (learning rates, filter counts) and not by differences."""
    step: int | float | None = None
    """Distance of neighbouring values, from low on."""
    length: (
        Annotated[tuple[Annotated[int, Field(strict=True, ge=1, le=64)], ...], Field(max_length=2)] | None
    ) = None
    """Least and greatest length, where the key's value is a list: its elements are chosen each by itself."""
    when: (
        Annotated[
            dict[str, Annotated[list[Plain], Field(min_length=1)]],
            Field(min_length=1),
            WithJsonSchema({"type": "object", "minProperties": 1}),  # a single value stands for a list of it
        ]
        | None
    ) = None
    """Keys and the values that they must have for this one to be chosen; else it keeps base's value."""

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
        if isinstance(value, str):  # YAML 1.1 readers, and ours, take 1e-3 for a text
            with suppress(ValueError):
                value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise complain("must be a number")
        if isinstance(value, float) and not abs(value) < float("inf"):
            raise complain("must be finite")
        if isinstance(value, int) and abs(value) > MOST_WHOLE:
            raise complain("must be at most 2^53, up to which databases keep whole numbers exactly")
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
                raise complain("a choice stands there twice; drop one")
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
        """Whether the range is of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class Budget(Spec):
    """How long to search, in place of a number of trials."""

    epochs: Count | None = None
    """Epochs of all trials' results together, whether trained now or looked up."""
    minutes: Bound | None = None
    """Minutes of searching, over all times that the search was continued."""

    @model_validator(mode="after")
    def _is_one(self) -> "Budget":
        if (self.epochs is None) == (self.minutes is None):
            raise complain("needs epochs or minutes" + (", not both" if self.epochs else ""))
        return self


class EarlyStopping(Spec):
    """Asynchronous successive halving (Li et al. 2020, MLSys, "ASHA") for a front."""

    first: Count = 2
    """Epochs of a trial, over all its stages, at the first rung."""
    factor: Annotated[Number, Field(ge=1.1, le=100)] = 3
    """Each rung is so many times later than the one before, and at each one of so many trials goes on."""
    compare: Literal["rank", "accuracy"] = "rank"
    """rank: by non-dominated rank in accuracy so far and the known costs; what nothing beats always goes
    on (after Schmucker et al. 2021, arXiv 2106.12639). accuracy: by accuracy alone, which kills small
    nets: for comparison."""
    tell: Literal["infeasible", "failed", "partial"] = "infeasible"
    """What the sampler is told of a stopped trial: its accuracy so far with a violated constraint, the
    share of its epochs that it was not worth; that it failed, which samplers pass over; or its accuracy
    so far as if it were final."""


class Confirmation(Spec):
    """Training the front anew with the sweep's seeds, since the best of many is lucky."""

    margin: BelowOne = 0.002
    """Accuracy by which a net may miss the front and yet be confirmed."""
    at_most: Count = 16
    """Nets that are confirmed; of more, those nearest the front."""


StartFrom = dict[str, Plain]


PASSWORD = re.compile(r"://[^:/]*:[^@]*@|[?&](ssl)?password=", re.IGNORECASE)  # where SQLAlchemy sees one


def _check_url(url: str) -> str:
    rule = complain("must be a PostgreSQL URL, postgresql://user@host:5432/database")
    try:
        parts = urlsplit(url)
        _ = parts.port  # a wrong one raises
    except ValueError:
        raise rule from None
    if not re.match(r"postgresql(\+psycopg)?://", url) or not parts.path.strip("/"):
        raise rule
    return url


def _check_condition(key: str, other: str, axis: Axis, allowed: list[Any]) -> None:
    """Refuse a condition on an axis that is always chosen and never has the value."""
    if axis.choices is None or axis.when is not None or axis.length is not None:
        return
    for value in allowed:
        if identity(value) not in map(identity, axis.choices):
            choices = ", ".join(map(canonical_json, axis.choices))
            raise complain(
                f"space.{key} depends on {other} = {canonical_json(value)}, which is none of {choices}"
            )


class Search(Spec):
    """A search for the front of accuracy against costs."""

    space: Annotated[dict[str, Axis], Field(min_length=1)]
    """A key below base (model.filters) -> what may be chosen for it."""
    objectives: Annotated[dict[Objective, Direction], Field(min_length=1)] = Field(
        default={"val_accuracy": "maximise", "parameters": "minimise"}
    )
    """What is searched for: accuracy on the validation images, and costs, which are known before training."""
    limits: dict[Objective, Bound] = Field(default={})
    """Costs that no net may exceed, such as {parameters: 20000}: what does is never trained. With
    val_accuracy an accuracy that a net must reach to be of interest: the sampler learns of it, no net below
    it is confirmed."""
    sampler: Literal["tpe", "nsga2", "gp", "qmc", "random"] = "tpe"
    """Tree-structured Parzen estimator, genetic algorithm, Gaussian process, quasi-random or random."""
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = 1000
    """Of the sampler, and that nets are trained with while searching. The sweep's seeds are those of the
    confirmation, so it must not be among them."""
    trials: Count | None = None
    """Trials of the search; a greater number later extends it. Null with a budget."""
    budget: Budget | None = None
    """Epochs or minutes in place of trials."""
    repeats: Literal["reuse", "new-seed"] = "reuse"
    """A configuration that is drawn again: its result is looked up, or it is trained with the next seed."""
    start_from: list[StartFrom] = Field(default=[])
    """Known configurations to begin with, each as changes to base; {} is base itself."""
    early_stopping: EarlyStopping | None = None
    """Null trains every trial to its end."""
    confirmation: Confirmation | None = Confirmation()
    """Null for none."""
    storage: Annotated[str, AfterValidator(_check_url)] | None = None
    """A PostgreSQL database for the study, postgresql://user@host:5432/database; null for SQLite in the
    run folder."""

    @model_validator(mode="before")
    @classmethod
    def _holds_no_password(cls, data: Any) -> Any:
        """Refuse a password here, where the message does not show the value."""
        if isinstance(data, dict) and PASSWORD.search(str(data.get("storage"))):
            raise complain(
                "storage holds a password, and reports show this file: put it into ~/.pgpass or $PGPASSWORD"
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
                    raise complain(f"space.{key} depends on {other}, which must stand before it")
                if other in before:
                    _check_condition(key, other, before[other], allowed)
            before[key] = axis
            whole, _, part = key.rpartition(".")
            if whole in self.space and self.space[whole].length and re.fullmatch(r"\d+|length", part):
                raise complain(f"space.{key} is chosen with the list {whole} already; drop one of them")
        for number, changes in enumerate(self.start_from):
            for key in changes:
                if key not in self.space:
                    hint = nearest(key, self.space)
                    raise complain(f"start_from.{number}: {key} is no key of the space; {hint}")
        return self
