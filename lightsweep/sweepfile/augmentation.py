"""Augmentation settings: random transforms with their ranges, and named recipes."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from lightsweep.owncode.reference import REFERENCE_PATTERN, parse_reference
from lightsweep.owncode.signature import Parameter, Signature
from lightsweep.sweepfile.called import Called, own_signature, wrong_key
from lightsweep.sweepfile.settings import Fraction, Number, complain, kind_of_setting

# unit and valid bounds of each transform's range
TRANSFORM_RANGES: dict[str, tuple[str, float, float]] = {
    "rotate": ("degrees", -180, 180),
    "shift": ("fractions of the side", -1, 1),
    "scale": ("factors", 0.1, 10),
    "shear": ("degrees", -60, 60),
    "crop": ("pixels", -64, 64),
    "erase": ("fractions of the area", 0, 1),
    "noise": ("standard deviations, white being 1", 0, 1),
    "brightness": ("factors", 0, 10),
    "contrast": ("factors", 0, 10),
}


TRANSFORMS = (*TRANSFORM_RANGES, "flip")


class TransformSpec(Called):
    """One random image transform: a named one, or a function of your own with its keywords."""

    names: ClassVar[str] = "transform"
    given: ClassVar[tuple[str, ...]] = ("images", "generator")
    alone: ClassVar[str | None] = REFERENCE_PATTERN

    transform: Annotated[str, Field(strict=True)]
    """Kind of transform: rotate, shift, scale, shear, crop, flip, erase, noise, brightness, contrast; its
    amount is drawn uniformly for each image and epoch; adjacent rotate, shift, scale, shear, crop and flip
    share one resampling. Or FILE.py:function, called with the images and a random generator."""
    range: tuple[Number, Number] | None = None
    """Lowest and highest amount: degrees (rotate, shear), fractions of the side (shift), pixels (crop),
    factors (scale, brightness, contrast), fractions of the area (erase), standard deviation (noise)."""
    probability: Fraction = 1.0
    """Probability that the transform is applied to an image."""

    @classmethod
    def shipped(cls) -> Mapping[str, Mapping[str, Parameter]]:
        """Return the named transforms, which have no keywords but ours."""
        return {name: {} for name in TRANSFORMS}

    @property
    def is_own(self) -> bool:
        """Whether it is a function of the user's own."""
        return self.transform not in TRANSFORMS

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        if parse_reference(data) is not None:
            data = {"transform": data}
        if not isinstance(data, dict) or not isinstance(data.get("transform"), str):
            return cls.without_name(data)
        name = data["transform"]
        if parse_reference(name) is not None:
            return cls.with_keywords(data, own_signature("transform", name))
        if name not in TRANSFORMS:
            match = difflib.get_close_matches(name, TRANSFORMS, n=1)
            hint = f"; did you mean {match[0]}?" if match else ""
            raise wrong_key("transform", f"must be one of {', '.join(TRANSFORMS)}, or FILE.py:function{hint}")
        return cls.with_keywords(data, Signature(name, (), {}, called=name))

    @model_validator(mode="after")
    def _range_fits(self) -> "TransformSpec":
        if self.is_own or self.transform == "flip":
            if self.range is not None:
                what = "flip" if self.transform == "flip" else "a transform of your own"
                raise complain(f"{what} takes no range, only a probability")
            return self
        unit, lowest, highest = TRANSFORM_RANGES[self.transform]
        if self.range is None or not lowest <= self.range[0] <= self.range[1] <= highest:
            raise complain(
                f"{self.transform} needs a range [low, high] of {unit} from {lowest:g} to {highest:g}"
            )
        return self


RecipeName = Literal[
    "none",
    "shift",
    "rotate",
    "affine",
    "affine-strong",
    "crop-flip",
    "flip",
    "erasing",
    "noise",
    "photometric",
]


def _kind(value: Any) -> str | None:
    return "own" if parse_reference(value) is not None else kind_of_setting(value)


# A recipe's name, a list of transforms, or a function of the user's own.
Augmentation = Annotated[
    Annotated[RecipeName, Tag("name")]
    | Annotated[tuple[TransformSpec, ...], Tag("table")]
    | Annotated[
        tuple[TransformSpec, ...],
        BeforeValidator(lambda reference: [reference]),
        WithJsonSchema({"type": "string", "pattern": REFERENCE_PATTERN}),
        Tag("own"),
    ],
    Discriminator(
        _kind,
        custom_error_type="shape",
        custom_error_message="must be a recipe's name, a list of transforms or FILE.py:function",
    ),
]


def _steps(probability: float = 1.0, **ranges: tuple[float, float] | None) -> tuple[TransformSpec, ...]:
    return tuple(
        TransformSpec.model_validate({"transform": name, "range": limits, "probability": probability})
        for name, limits in ranges.items()
    )


RECIPES: dict[RecipeName, tuple[TransformSpec, ...]] = {
    "none": (),
    "shift": _steps(shift=(-0.1, 0.1)),
    "rotate": _steps(rotate=(-10, 10)),
    "affine": _steps(shear=(-5, 5), scale=(0.9, 1.1), rotate=(-10, 10), shift=(-0.1, 0.1)),
    "affine-strong": _steps(shear=(-15, 15), scale=(0.75, 1.25), rotate=(-25, 25), shift=(-0.2, 0.2)),
    "crop-flip": (*_steps(crop=(-4, 4)), *_steps(0.5, flip=None)),
    "flip": _steps(0.5, flip=None),
    "erasing": _steps(0.5, erase=(0.02, 0.25)),
    "noise": _steps(noise=(0, 0.1)),
    "photometric": _steps(brightness=(0.7, 1.3), contrast=(0.7, 1.3)),
}
"""Named recipes; their transforms are applied in order."""


def transforms(augmentation: Augmentation) -> tuple[TransformSpec, ...]:
    """Return the transforms of a named recipe; a list of transforms is returned unchanged."""
    return RECIPES[augmentation] if isinstance(augmentation, str) else augmentation
