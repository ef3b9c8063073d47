"""Settings of an arm: net, stages, augmentation, batch size and compression, frozen and validated.

Every setting that affects a trial's result is here, each with its unit; `planning` turns arms into trials.
Accuracies and probabilities are fractions, angles are in degrees, and lengths are fractions of the image side
unless a field says otherwise.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from lightsweep.sweepfile.augmentation import Augmentation
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.settings import Count, Spec, complain
from lightsweep.sweepfile.stages import Compression, StagePreset, Stages


class ArmSpec(Spec):
    """Everything that an arm of a sweep can change: net, augmentation, batch size, stages, compression."""

    model: ModelSpec = ModelSpec.model_validate({})
    """The net, and the method that is applied to it: submodels and their fusion."""
    augmentation: Augmentation = "affine"
    """Transforms that produce the augmented images: a recipe's name, or a list."""
    batch_size: Count = 64
    """Images per optimisation step."""
    stages: Stages = StagePreset(preset="paper")
    """The training stages: a preset's name, a preset with its epochs, or a table."""
    compression: Compression | None = None
    """Compression of the trained net after the last stage; null for none."""
    tf32: Annotated[bool, Field(strict=True)] = False
    """Whether a GPU may round the factors of products to TF32 (10 mantissa bits): faster from Ampere on, and
    less precise. CPUs never do."""
    kernels: Literal["torch", "images-last"] = "torch"
    """What computes a net on a processor: torch; or images-last, kernels of our own that are faster where
    there are few channels, and round otherwise. They know plain sequences of convolutions, normalisation,
    pooling and dense layers; other nets, and GPUs, use torch in any case."""

    @field_validator("stages", mode="after")
    @classmethod
    def _normalise(cls, stages: Any) -> Any:
        if isinstance(stages, str):
            return StagePreset.model_validate({"preset": stages})
        if isinstance(stages, tuple):
            names = [stage.name for stage in stages]
            if len(set(names)) < len(names):
                raise complain("no two stages may share a name")
        return stages
