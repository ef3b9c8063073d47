"""Settings of the data set that a sweep trains on."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lightsweep.sweepfile.settings import Count, Spec, complain

DatasetName = Literal[
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
]


class DatasetSpec(Spec):
    """The data set, and how its training images are split into training and validation."""

    name: DatasetName
    """Name of the data set; `lightsweep datasets` lists them and shows which are available."""
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

    @model_validator(mode="after")
    def _path_where_needed(self) -> "DatasetSpec":
        if self.name in ("npz", "imagefolder") and self.path is None:
            raise complain(f"data set {self.name} needs a path")
        if self.name not in ("npz", "imagefolder") and self.path is not None:
            raise complain(f"data set {self.name} takes no path; --data-dir says where data sets are")
        return self
