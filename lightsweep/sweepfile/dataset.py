"""Which images a sweep trains on, as the sweep file names them."""

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
    """Which images, and how the training images are split into training and validation."""

    name: DatasetName
    """The data set; `lightsweep datasets` lists them and says which are here."""
    path: str | None = None
    """The file (npz) or folder (imagefolder); other data sets have a place of their own."""
    validation: (
        Annotated[int, Field(strict=True, ge=1)] | Annotated[float, Field(strict=True, gt=0, lt=1)] | None
    ) = None
    """Training images held out for validation, stratified: a number of images, or a fraction; null: the
    validation images that the data brings along (val/, val_images), else a tenth."""
    image_size: Annotated[int, Field(strict=True, ge=4, le=512)] | None = None
    """Side in pixels that images are resized to; null keeps their own size."""
    train_limit: Count | None = None
    """At most so many training images, stratified, after the validation images are held out."""

    @model_validator(mode="after")
    def _path_where_needed(self) -> "DatasetSpec":
        if self.name in ("npz", "imagefolder") and self.path is None:
            raise complain(f"data set {self.name} needs a path")
        if self.name not in ("npz", "imagefolder") and self.path is not None:
            raise complain(f"data set {self.name} takes no path; --data-dir says where data sets are")
        return self
