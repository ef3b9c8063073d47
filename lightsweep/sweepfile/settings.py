"""Shared basics of all settings: frozen models, bounded number types, and error messages."""

import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from lightsweep.errors import nearest
from lightsweep.hashing import canonical_json


class Spec(BaseModel):
    """A frozen part of the sweep file; an unknown key is an error that names the closest known key."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict) and cls.model_config["extra"] == "forbid":
            for key in data:
                if key not in cls.model_fields:
                    hint = nearest(key, cls.model_fields)
                    raise PydanticCustomError(
                        "unknown_key", "unknown key: {hint}", {"key": str(key), "hint": hint}
                    )
        return data


def complain(rule: str) -> PydanticCustomError:
    """Return the error for a validator to raise when a value breaks one of our own rules."""
    return PydanticCustomError("rule", "{rule}", {"rule": rule})


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "Input should be a valid number")
    return value


def _is_seen(name: str) -> str:
    if all(unicodedata.category(character) in ("Cc", "Cf", "Zs", "Zl", "Zp") for character in name):
        raise complain("must contain a visible character")
    return name


Named = AfterValidator(_is_seen)


MOST_SEED = 2**53 - 1 - 1_000_000
"""Largest seed that JavaScript's doubles, in the report page, hold exactly; a placebo adds a million."""


Seed = Annotated[int, Field(strict=True, ge=0, le=MOST_SEED)]


Count = Annotated[int, Field(strict=True, ge=1, le=10**9)]


Width = Annotated[int, Field(strict=True, ge=1, le=65_536)]


Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_no_bool)]


Fraction = Annotated[Number, Field(ge=0, le=1)]


BelowOne = Annotated[Number, Field(ge=0, lt=1)]


Rate = Annotated[Number, Field(gt=0)]


NotNegative = Annotated[Number, Field(ge=0)]


def kind_of_setting(value: Any) -> str | None:
    """Return whether a setting is a name, a table (list) or a mapping, or None for anything else."""
    if isinstance(value, str):
        return "name"
    if isinstance(value, list | tuple):
        return "table"
    return "mapping" if isinstance(value, dict | BaseModel) else None


def check_plain(value: Any, what: str = "") -> Any:
    """Return a value if YAML and JSON can represent it; else raise an error that begins with `what`."""
    try:
        canonical_json(value)
    except (TypeError, ValueError, RecursionError):
        raise complain(
            f"{what}must be numbers, strings, true, false, null, lists or mappings; quote dates"
        ) from None
    return value
