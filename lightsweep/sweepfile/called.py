"""Settings that are passed on to a function: keys besides our own are its keyword-only parameters."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from lightsweep.errors import InputError, nearest
from lightsweep.owncode.reference import REFERENCE_PATTERN, parse_reference, without_digests
from lightsweep.owncode.signature import KeywordError, Parameter, Signature
from lightsweep.sweepfile.settings import Spec, check_plain


def wrong_key(key: str, rule: str, index: int | None = None) -> PydanticCustomError:
    """Return the error for a validator to raise when the value of a key, or an element, breaks a rule."""
    return PydanticCustomError("keyword", "{rule}", {"key": key, "rule": rule, "index": index})


class Called(Spec):
    """A part of the sweep file that names a function and sets its keywords."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    names: ClassVar[str]
    """The key that names the function."""
    given: ClassVar[tuple[str, ...]]
    """What a function of the user's own is called with, before its keywords."""
    supplied: ClassVar[frozenset[str]] = frozenset()
    """Keyword-only parameters that we supply, so that a sweep file does not set them."""

    alone: ClassVar[str | None] = None
    """Pattern of what may stand alone, for a mapping that only names the function; None if nothing may."""

    shared: ClassVar[frozenset[str]] = frozenset()
    """Keys of ours that the function gets, too, if it has a keyword of that name."""

    @classmethod
    def shipped(cls) -> Mapping[str, Mapping[str, Parameter]]:
        """Return the names that are not the user's own, with the keywords of each."""
        return {}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return a closed form for each shipped name, an open one for the user's own, and the name alone."""
        whole = cls._mapping_schema(handler.resolve_ref_schema(handler(schema)))
        return {"anyOf": [whole, {"type": "string", "pattern": cls.alone}]} if cls.alone else whole

    @classmethod
    def _mapping_schema(cls, whole: JsonSchemaValue) -> JsonSchemaValue:
        shipped, name = cls.shipped(), whole["properties"][cls.names]
        if "default" in name and name["default"] is None:
            none = {**whole, "properties": {**whole["properties"], cls.names: {"type": "null"}}}
            return {"anyOf": [{**none, "additionalProperties": False}, {**whole, "required": [cls.names]}]}
        if not shipped:
            return whole
        forms = []
        for each, parameters in shipped.items():
            named = {**{key: value for key, value in name.items() if key != "pattern"}, "const": each}
            keywords = {key: parameter.json_schema() for key, parameter in parameters.items()}
            forms.append(
                {
                    **whole,
                    "properties": {**whole["properties"], cls.names: named, **keywords},
                    "required": [] if name.get("default") == each else [cls.names],
                    "additionalProperties": False,
                }
            )
        named = {**name, "pattern": REFERENCE_PATTERN}
        own = {**whole, "properties": {**whole["properties"], cls.names: named}, "required": [cls.names]}
        return {"anyOf": [*forms, own]}

    @property
    def keywords(self) -> dict[str, Any]:
        """The function's keywords that a sweep file can set, as plain data."""
        return dict(self.__pydantic_extra__ or {})

    @classmethod
    def without_name(cls, data: Any) -> Any:
        """Return settings that do not name a function, for pydantic to refuse; unknown keys first."""
        return cls.with_keywords(data, Signature("", ())) if isinstance(data, dict) else data

    @classmethod
    def with_keywords(cls, data: dict[str, Any], signature: Signature | None) -> dict[str, Any]:
        """Return settings with all keywords of the function, defaults written out.

        Args:
            data: The settings.
            signature: The function's signature; None if only its name is known, as in a run's folder.

        Raises:
            PydanticCustomError: A key is unknown or missing, or a value does not fit its annotation.

        """
        given = {key: value for key, value in data.items() if key not in cls.model_fields}
        for key, value in given.items():
            check_plain(value, f"{key} ")
        if signature is None:
            return data
        count = len(cls.given)
        too_many = len(signature.positional) < count and not signature.takes_any
        if parse_reference(signature.called) and (too_many or signature.needed > count):
            raise wrong_key(
                cls.names,
                f"is called with {' and '.join(cls.given)}, then keywords; its positional parameters are "
                f"{', '.join(signature.positional) or 'none'}",
            )
        ours_too = cls.supplied | cls.shared
        settable = {name: each for name, each in signature.keywords.items() if name not in ours_too}
        for name in settable:
            if name in cls.model_fields:
                raise wrong_key(
                    cls.names, f"its keyword {name} is a key of ours; give the parameter another name"
                )
        ours = {name: value for name, value in data.items() if name in cls.model_fields}
        for key, value in given.items():
            if key not in settable:
                hint = nearest(key, {*settable, *cls.model_fields})
                if key in signature.positional:
                    hint = (
                        f"{key} of {signature.called} is none, as it is not keyword-only; write *, before it"
                    )
                elif hint.startswith("there are") and signature.called:
                    hint = f"{signature.called} takes {', '.join(settable) or 'no keys of its own'}"
                raise PydanticCustomError(
                    "unknown_key", "unknown key: {hint}", {"key": str(key), "hint": hint}
                )
            try:
                ours[key] = settable[key].check(value)
            except KeywordError as error:
                raise wrong_key(key, str(error), error.index) from None
        for name, each in settable.items():
            if name in ours:
                continue
            if each.is_required:
                raise wrong_key(cls.names, f"needs the key {name}{f': {each.words}' if each.words else ''}")
            if each.has_plain_default:
                ours[name] = each.default
        return ours


def as_mapping(value: Any) -> Any:
    """Return `{name: value}` for a reference to the user's own code that stands alone; else the value."""
    return {"name": value} if parse_reference(value) else value


def own_signature(key: str, text: Any) -> Signature | None:
    """Return the signature that a reference means; None for a name that is no reference, or is not here."""
    return signature_of(key, text) if parse_reference(text) else None


def signature_of(key: str, text: str) -> Signature | None:
    """Return the signature that a reference means; None if its sources are not here.

    Raises:
        PydanticCustomError: It is a reference that no sweep file was read with.

    """
    from lightsweep.owncode.sources import sources_of

    reference = parse_reference(text)
    try:
        sources = sources_of(text)
        if sources is None:
            if reference is not None and reference.digest is None:
                raise wrong_key(key, f"{text}: its file is read by load_sweep, relative to the sweep file")
            return None
        return sources.signature
    except InputError as error:
        raise wrong_key(key, without_digests(str(error))) from None
