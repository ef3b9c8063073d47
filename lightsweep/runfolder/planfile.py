"""The plan of a run: plan.json, plus plan.jsonl for trials that a search has added since."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from lightsweep.errors import not_writable
from lightsweep.system.files import UnreadableError, append_line, read_bytes, read_lines

if TYPE_CHECKING:
    from lightsweep.trials.trial import Trial


PLAN_FILE = "plan.json"


class PlannedTrial(TypedDict):
    """A trial of `plan.json` and `plan.jsonl`."""

    trial_id: Annotated[str, Field(min_length=1, max_length=100)]
    arm: Annotated[str, Field(max_length=1_000)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    fold: Annotated[int, Field(ge=0, lt=2**31)] | None
    changes: dict[str, Any]
    keys: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
    """Keys of the trial's stages and its assessment."""


_PLAN = TypeAdapter(list[PlannedTrial])
_PLANNED = TypeAdapter(PlannedTrial)
_REWRITE = "run the sweep again to rewrite it"


class PlanFile:
    """The trials of a run, and the keys of their stages and assessments."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / PLAN_FILE
        self.added = folder / "plan.jsonl"
        """File of trials that a search added since `plan.json` was written, a JSON line each."""

    def add(self, trials: "Sequence[Trial]", keys: Mapping[str, tuple[str, ...]]) -> None:
        """Append trials to plan.jsonl without rewriting plan.json.

        Raises:
            WriteError: The folder cannot be written.

        """
        try:
            for trial in trials:
                append_line(self.added, json.dumps(_planned(trial, keys), allow_nan=False).encode())
        except OSError as error:
            raise not_writable(self.folder, error) from None

    def exists(self) -> bool:
        """Return whether the plan was ever written."""
        try:
            return self.path.is_file()
        except OSError:  # not a path at all
            return False

    def trials(self) -> list[PlannedTrial]:
        """Return the trials of the plan, including those that a search has added.

        Raises:
            UnreadableError: The plan is missing, not a regular file, or does not match its schema.

        """
        path = self.path
        try:
            plan = _PLAN.validate_json(read_bytes(path), strict=True)
        except FileNotFoundError:
            raise UnreadableError(f"{path}: is gone; {_REWRITE}") from None
        except ValidationError as error:
            raise UnreadableError(f"{path}: not a run's plan ({first_fault(error)}); {_REWRITE}") from None
        ids = {entry["trial_id"] for entry in plan}
        if len(ids) < len(plan):
            raise UnreadableError(f"{path}: not a run's plan (a trial is listed twice); {_REWRITE}")
        for line in read_lines(self.added):
            try:
                drawn = _PLANNED.validate_json(line or b"", strict=True)
            except ValidationError:  # a killed search may have left the last line truncated
                continue
            if drawn["trial_id"] not in ids:
                plan.append(drawn)
                ids.add(drawn["trial_id"])
        return plan


def first_fault(error: ValidationError) -> str:
    """Return the location and reason of the first schema error, in a few words."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def plan_text(trials: "Sequence[Trial]", keys: Mapping[str, tuple[str, ...]]) -> str:
    """Return the content of plan.json.

    Args:
        trials: The trials, in plan order.
        keys: Keys of each trial's stages and assessment, by trial id.

    """
    return json.dumps([_planned(trial, keys) for trial in trials], indent=0)


def _planned(trial: "Trial", keys: Mapping[str, tuple[str, ...]]) -> PlannedTrial:
    return {
        "trial_id": trial.trial_id, "arm": trial.arm, "seed": trial.seed, "fold": trial.fold,
        "changes": trial.changes, "keys": list(keys[trial.trial_id]),
    }  # fmt: skip
