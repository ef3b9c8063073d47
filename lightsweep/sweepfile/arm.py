"""What an arm is: frozen, validated specs of net, stages and augmentation; the canonical hash of content.

All that decides a trial's result stands here, each key with its unit; `sweep` makes arms and trials of it.
Accuracies and probabilities are fractions, angles degrees, lengths fractions of the image's side unless a
field says otherwise.
"""

import difflib
import hashlib
import json
import unicodedata
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError


def nearest(name: object, choices: Iterable[str]) -> str:
    """Name the choice nearest to a name, as the end of an error message; all of them if none is near.

    >>> nearest("filtres", ["filters", "kernel"])
    'did you mean filters?'
    """
    known = sorted(choices)
    match = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {match[0]}?" if match else f"there are {', '.join(known)}"


def canonical_json(content: Any) -> str:
    """Return the one JSON text of plain content: keys sorted, no spaces, no NaN."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(content: Any) -> str:
    """Return the SHA-256 of `canonical_json(content)`, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


class Spec(BaseModel):
    """A frozen part of the sweep file; unknown keys are refused with the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    hint = nearest(key, cls.model_fields)
                    raise PydanticCustomError(
                        "unknown_key", "unknown key: {hint}", {"key": str(key), "hint": hint}
                    )
        return data


def complain(rule: str) -> PydanticCustomError:
    """Return the error for a validator to raise: a rule of our own that a value breaks."""
    return PydanticCustomError("rule", "{rule}", {"rule": rule})


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "Input should be a valid number")
    return value


def _is_seen(name: str) -> str:
    if all(unicodedata.category(character) in ("Cc", "Cf", "Zs", "Zl", "Zp") for character in name):
        raise complain("must have a character that can be seen")
    return name


Named = AfterValidator(_is_seen)
MOST_SEED = 2**53 - 1 - 1_000_000
"""Seeds above it are other numbers in the page (JavaScript's are doubles); a placebo adds a million."""
Seed = Annotated[int, Field(strict=True, ge=0, le=MOST_SEED)]
Count = Annotated[int, Field(strict=True, ge=1, le=10**9)]
Width = Annotated[int, Field(strict=True, ge=1, le=65_536)]
Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_no_bool)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
BelowOne = Annotated[Number, Field(ge=0, lt=1)]
Rate = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]

TransformName = Literal[
    "rotate", "shift", "scale", "shear", "crop", "flip", "erase", "noise", "brightness", "contrast"
]
# unit and legal bounds of each transform's range
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


class TransformSpec(Spec):
    """One random image transform; its amount is drawn uniformly, anew for each image and epoch."""

    transform: TransformName
    """What is done; neighbouring rotate, shift, scale, shear, crop and flip are one resampling."""
    range: tuple[Number, Number] | None = None
    """Lowest and highest amount: degrees (rotate, shear), fractions of the side (shift), pixels (crop),
    factors (scale, brightness, contrast), fractions of the area (erase), standard deviation (noise)."""
    probability: Fraction = 1.0
    """Share of the images that it is applied to."""

    @model_validator(mode="after")
    def _range_fits(self) -> "TransformSpec":
        if self.transform == "flip":
            if self.range is not None:
                raise complain("flip takes no range, only a probability")
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


def _shape_of(value: Any) -> str | None:
    if isinstance(value, str):
        return "name"
    if isinstance(value, list | tuple):
        return "table"
    return "mapping" if isinstance(value, dict | BaseModel) else None


# A recipe's name, or the transforms themselves.
Augmentation = Annotated[
    Annotated[RecipeName, Tag("name")] | Annotated[tuple[TransformSpec, ...], Tag("table")],
    Discriminator(
        _shape_of,
        custom_error_type="shape",
        custom_error_message="must be a recipe's name or a list of transforms",
    ),
]


class ModelSpec(Spec):
    """The net: one or two submodels of convolution blocks, each with a head, and how they are fused."""

    inputs: Literal["single", "dual"] = "dual"
    """One submodel on augmented images, or two: A on original and B on augmented images."""
    filters: Annotated[tuple[Width, ...], Field(min_length=1)] = (10, 20)
    """Output channels of each convolution block; a block is convolution, 2×2 max-pooling, ReLU."""
    convolutions: Annotated[int, Field(strict=True, ge=1, le=8)] = 1
    """Convolutions of each block before its pooling, with ReLU between them."""
    kernel: Annotated[int, Field(strict=True, ge=1, le=11)] = 3
    """Side of the convolutions' kernels in pixels; no padding."""
    batch_norm: Annotated[bool, Field(strict=True)] = False
    """Whether batch normalisation follows each convolution."""
    separable: Annotated[bool, Field(strict=True)] = False
    """Whether convolutions are depthwise-separable."""
    head: Literal["flatten", "average"] = "flatten"
    """What the dense head sees of the last feature map: all of it, or its average over the positions."""
    fusion: Literal["conv1x1", "concatenate", "average", "fresh", "none"] = "conv1x1"
    """How the submodels become one net: their heads as 1×1 convolutions with transferred weights
    (conv1x1) or fresh ones (fresh), their features side by side (concatenate), the mean of their
    logits (average), or not at all (none, for a single submodel)."""
    hidden: Width | None = 32
    """Units of the dense layer after fusion; null for none. Unused with average and none."""
    dropout: BelowOne = 0.2
    """Share of the hidden units dropped in training."""

    @model_validator(mode="after")
    def _fusion_fits(self) -> "ModelSpec":
        if self.fusion == "none" and self.inputs == "dual":
            raise complain("two submodels need a fusion: conv1x1, concatenate, average or fresh")
        if self.fusion == "average" and self.inputs == "single":
            raise complain("fusion average needs inputs: dual; the mean over one submodel is fusion: none")
        return self

    @property
    def submodels(self) -> tuple[str, ...]:
        """Names of the submodels: a, or a and b."""
        return ("a",) if self.inputs == "single" else ("a", "b")

    @property
    def depth(self) -> int:
        """Number of a submodel's convolution blocks."""
        return len(self.filters)

    @property
    def is_of_torchvision(self) -> bool:
        """Whether torchvision's code is part of the net: no."""
        return False

    @property
    def has_trunk(self) -> bool:
        """Whether fusion adds layers of its own (hidden, output)."""
        return self.fusion in ("conv1x1", "concatenate", "fresh")

    def levels(self, network: "Network") -> tuple[str, ...]:
        """Names of the blocks from input to output, for freezing: conv1, …, head, hidden, output."""
        names = [f"conv{index}" for index in range(1, len(self.filters) + 1)]
        if network == "heads" or self.fusion != "concatenate":
            names.append("head")
        if network == "fused" and self.has_trunk:
            names += ["hidden", "output"] if self.hidden else ["output"]
        return tuple(names)


Architecture = Literal[
    "mobilenet-v2",
    "shufflenet-v2",
    "squeezenet",
    "mnasnet",
    "efficientnet-b0",
    "lenet-5",
    "plain-cnn",
    "logistic-regression",
]
# number of each one's convolution blocks, all of which can be frozen on their own
_DEPTHS: dict[str, int] = {
    "mobilenet-v2": 19,
    "shufflenet-v2": 18,
    "squeezenet": 9,
    "mnasnet": 19,
    "efficientnet-b0": 18,
    "lenet-5": 2,
    "plain-cnn": 3,
    "logistic-regression": 0,
}


_OF_TORCHVISION = frozenset(("mobilenet-v2", "shufflenet-v2", "squeezenet", "mnasnet", "efficientnet-b0"))


class ReferenceSpec(Spec):
    """A published net to compare with, adapted to the images (`references`): one net, on augmented images."""

    architecture: Architecture
    """Which net: torchvision's MobileNetV2, ShuffleNetV2, SqueezeNet 1.1, MNASNet or EfficientNet-B0, or a
    floor: LeNet-5, a plain small CNN, logistic regression."""
    width: Annotated[Number, Field(gt=0, le=8)] = 1.0
    """Factor on the numbers of channels; 1 as published."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_nets_keys(cls, data: Any) -> Any:
        others = [key for key in data if key in ModelSpec.model_fields] if isinstance(data, dict) else []
        if others:
            raise complain(
                f"a reference net takes architecture and width, no {', '.join(others)}; replace the whole "
                f"net: model: {{architecture: {data.get('architecture')}}}"
            )
        return data

    @model_validator(mode="after")
    def _width_acts(self) -> "ReferenceSpec":
        if not self.depth and self.width != 1:
            raise complain(f"{self.architecture} has no channels, so no width")
        return self

    @property
    def inputs(self) -> Literal["single"]:
        """One net."""
        return "single"

    @property
    def fusion(self) -> Literal["none"]:
        """There is nothing to fuse."""
        return "none"

    @property
    def is_of_torchvision(self) -> bool:
        """Whether torchvision's code is part of the net."""
        return self.architecture in _OF_TORCHVISION

    @property
    def has_trunk(self) -> bool:
        """Fusion adds no layers."""
        return False

    @property
    def submodels(self) -> tuple[str, ...]:
        """Name of the one net."""
        return ("a",)

    @property
    def depth(self) -> int:
        """Number of its convolution blocks."""
        return _DEPTHS[self.architecture]

    def levels(self, network: "Network") -> tuple[str, ...]:
        """Names of its blocks from input to output: conv1, …, head."""
        return (*(f"conv{index}" for index in range(1, self.depth + 1)), "head")


NetSpec = ModelSpec | ReferenceSpec


def _kind_of_net(value: Any) -> str:
    is_reference = "architecture" in value if isinstance(value, dict) else isinstance(value, ReferenceSpec)
    return "reference" if is_reference else "submodels"


Network = Literal["heads", "fused"]
Loss = Literal["heads", "head-a", "head-b", "fused"]
Schedule = Literal["constant", "cosine", "linear"]


class StageSpec(Spec):
    """One training stage: which blocks train, on which loss, how, and for how long."""

    name: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,64}$"), Named]
    """For tables and figures; no two stages share one."""
    train: str | Annotated[tuple[str, ...], Field(min_length=1)] = "all"
    """Blocks that train; all others are frozen whole: `all`, `last-N`, or a list of names such as
    conv2, hidden, a.conv1, b.*"""
    loss: Loss | None = None
    """Sum over the submodels' own heads (heads), one of them (head-a, head-b), or the fused output
    (fused). Null: heads in the first of several stages, else fused."""
    optimizer: Literal["nadam", "adam", "sgd"] = "nadam"
    """Nadam and Adam with their usual moments, SGD with `momentum`."""
    lr: Rate = 0.001
    """Learning rate at its highest."""
    momentum: BelowOne = 0.0
    """Momentum of SGD."""
    weight_decay: NotNegative = 0.0
    """L2 penalty's coefficient."""
    schedule: Schedule = "constant"
    """How the learning rate falls over the stage's epochs, to zero for cosine and linear."""
    warmup_epochs: NotNegative = 0.0
    """Epochs over which the learning rate first rises linearly from zero."""
    epochs: Count
    """Passes over the training images, at most."""
    patience: Count | None = None
    """Stop after so many epochs without a better validation accuracy and keep the best epoch's weights;
    null trains all epochs and keeps the last."""

    @model_validator(mode="after")
    def _optimizer_fits(self) -> "StageSpec":
        if self.momentum and self.optimizer != "sgd":
            raise complain(f"momentum is for optimizer: sgd; {self.optimizer} has moments of its own")
        if self.warmup_epochs and self.warmup_epochs >= self.epochs:
            raise complain(f"warmup_epochs ({self.warmup_epochs:g}) must be below epochs ({self.epochs})")
        return self


PresetName = Literal["paper", "gradual", "all-at-once", "frozen", "scratch"]


class PresetEpochs(Spec):
    """Epochs of a preset's three phases."""

    dual: Count = 50
    """Training of the submodels with their own heads."""
    fusion: Count = 20
    """Training of the fused net's new layers."""
    finetune: Count = 50
    """Fine-tuning of the fused net."""


class StagePreset(Spec):
    """A named way of unfreezing, expanded to a table of stages (`schedule.expand`)."""

    preset: PresetName
    """paper: submodels, then the new layers alone, then everything. gradual: then a block more per stage
    from the top. all-at-once: nothing is ever frozen. frozen: the submodels stay as first trained.
    scratch: the fused net from its start, for as many epochs."""
    epochs: PresetEpochs = PresetEpochs()
    """Epochs of the three phases; every preset trains as many in total."""
    patience: Count | None = 5
    """Patience of the first and the last phase in epochs; null for no early stopping."""
    lr: Rate = 0.001
    """Learning rate of Nadam in the first two phases."""
    finetune_lr: Rate = 0.001
    """Learning rate of SGD (momentum 0.9) in the last phase."""
    schedule: Schedule = "constant"
    """How the learning rate falls over each stage's epochs, to zero for cosine and linear."""


# A preset's name, a preset with its epochs, or the stages themselves.
Stages = Annotated[
    Annotated[PresetName, Tag("name")]
    | Annotated[StagePreset, Tag("mapping")]
    | Annotated[tuple[StageSpec, ...], Field(min_length=1), Tag("table")],
    Discriminator(
        _shape_of,
        custom_error_type="shape",
        custom_error_message="must be a preset's name, a preset with its epochs, or a list of stages",
    ),
]


class PruneStage(StageSpec):
    """The stage that begins by pruning the trained net and fine-tunes what is left (`Compression`)."""

    prune: Literal["weights", "filters"]
    """What is removed: single weights, or whole filters."""
    amount: Annotated[Number, Field(gt=0, lt=1)]
    """Share of them."""


class QuantiseStage(StageSpec):
    """The stage that rounds the trained net to int8 and trains nothing (`Compression`)."""

    quantise: Literal["int8"]
    """The type of weights and of what enters each layer."""
    epochs: Annotated[int, Field(ge=0, le=0)] = 0
    """None."""


class Compression(Spec):
    """What makes a trained net small: pruning with fine-tuning, then quantisation. Further stages."""

    prune: Literal["weights", "filters"] | None = None
    """Zero the weights that are smallest in magnitude over all layers, and keep them zero (weights), or
    remove the filters with the smallest sum of magnitudes from each convolution, which makes a narrower
    net (filters; for nets of submodels). Null: no pruning."""
    amount: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    """Share of the weights, or of each convolution's filters, that goes."""
    optimizer: Literal["nadam", "adam", "sgd"] = "sgd"
    """Of the fine-tuning after pruning; SGD with momentum 0.9."""
    lr: Rate = 0.001
    """Its learning rate at the highest."""
    schedule: Schedule = "constant"
    """How its learning rate falls, to zero for cosine and linear."""
    epochs: Count = 10
    """Of the fine-tuning, at most."""
    patience: Count | None = 5
    """As of any stage; null trains all epochs."""
    quantise: Literal["int8"] | None = None
    """int8: weights per output channel and what enters each layer per tensor, ranges from 1,024 training
    images; no training. Null: the net stays in float32."""

    @model_validator(mode="after")
    def _does_something(self) -> "Compression":
        if self.prune is None and self.quantise is None:
            raise complain("must do something: prune: weights or filters, quantise: int8, or both")
        return self


class ArmSpec(Spec):
    """Everything that an arm of a sweep can change: net, augmentation, batch size, stages, compression."""

    model: Annotated[
        Annotated[ModelSpec, Tag("submodels")] | Annotated[ReferenceSpec, Tag("reference")],
        Discriminator(_kind_of_net),
    ] = ModelSpec()
    """The net: submodels and their fusion, or a reference net (`architecture`)."""
    augmentation: Augmentation = "affine"
    """What makes the augmented images."""
    batch_size: Count = 64
    """Images per optimisation step."""
    stages: Stages = StagePreset(preset="paper")
    """The training stages: a preset's name, a preset with its epochs, or a table."""
    compression: Compression | None = None
    """What is done to the trained net after the stages; null for nothing."""
    tf32: Annotated[bool, Field(strict=True)] = False
    """Whether a GPU may round what it multiplies to TF32 (10 bits of mantissa): faster from Ampere on, and
    less exact. Processors never do."""

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
