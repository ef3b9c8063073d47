"""Settings of the data set that a sweep trains on."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from lightsweep.owncode.reference import REFERENCE_PATTERN, parse_reference
from lightsweep.owncode.signature import Parameter
from lightsweep.sweepfile.called import Called, own_signature
from lightsweep.sweepfile.settings import Count, complain

DATASETS = (
    "digits",
    "mnist",
    "fashion-mnist",
    "kmnist",
    "cifar10",
    "cifar100",
    "svhn",
    "stl10",
    "tiny-imagenet",
    "npz",
    "imagefolder",
)


def _is_known(name: str) -> str:
    if name not in DATASETS and parse_reference(name) is None:
        match = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"; did you mean {match[0]}?" if match else ""
        raise complain(f"must be one of {', '.join(DATASETS)}, or FILE.py:function{hint}")
    return name


NAME_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "enum": [*DATASETS]}, {"type": "string", "pattern": REFERENCE_PATTERN}]
}
DatasetName = Annotated[str, AfterValidator(_is_known), WithJsonSchema(NAME_SCHEMA)]


class DatasetSpec(Called):
    """The data set, and how its training images are split into training and validation."""

    names: ClassVar[str] = "name"
    given: ClassVar[tuple[str, ...]] = ("data_dir",)

    name: DatasetName
    """Name of the data set; `lightsweep datasets` lists them and shows which are available. Or
    FILE.py:function, which returns the images; its keyword-only parameters are further keys."""
    path: str | None = None
    """Path of the file (npz) or folder (imagefolder); the named data sets are below --data-dir."""
    validation: (
        Annotated[int, Field(strict=True, ge=1)] | Annotated[float, Field(strict=True, gt=0, lt=1)] | None
    ) = None
    """Training images held out for validation, stratified: a number of images, or a fraction. Null: the data
    set's own validation images (val/, val_images) if it has any, else a tenth."""
    image_size: Annotated[int, Field(strict=True, ge=4, le=512)] | None = None
    """Side length in pixels that images are resized to; null keeps their size."""
    train_limit: Count | None = None
    """Maximum number of training images, stratified, after holding out validation images; null for all."""

    @classmethod
    def shipped(cls) -> Mapping[str, Mapping[str, Parameter]]:
        """Return the named data sets, which have no keywords but ours."""
        return {name: {} for name in DATASETS}

    @property
    def is_own(self) -> bool:
        """Whether a function of the user's own returns the images."""
        return self.name not in DATASETS

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("name"), str):
            return cls.without_name(data)
        if parse_reference(data["name"]) is not None:
            return cls.with_keywords(data, own_signature("name", data["name"]))
        return cls.without_name(data)

    @property
    def source(self) -> dict[str, Any]:
        """Settings that say which images these are, before any split: name, path, size, own keywords."""
        return {"name": self.name, "path": self.path, "image_size": self.image_size, **self.keywords}

    def __hash__(self) -> int:
        """Return a hash that includes the function's keywords."""
        return hash(self.model_dump_json())

    @model_validator(mode="after")
    def _path_where_needed(self) -> "DatasetSpec":
        if self.name in ("npz", "imagefolder") and self.path is None:
            raise complain(f"data set {self.name} needs a path")
        if self.name not in ("npz", "imagefolder") and self.path is not None:
            raise complain(f"data set {self.name} takes no path; --data-dir says where data sets are")
        return self
