"""Settings of the net: submodels and their fusion, or a published reference net."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lightsweep.sweepfile.settings import BelowOne, Number, Spec, Width, complain


class ModelSpec(Spec):
    """A net of one or two submodels (convolution blocks with a head), and how they are fused."""

    inputs: Literal["single", "dual"] = "dual"
    """single: one submodel on augmented images. dual: A on original and B on augmented images."""
    filters: Annotated[tuple[Width, ...], Field(min_length=1)] = (10, 20)
    """Output channels of each convolution block; a block is convolution, 2×2 max-pooling, ReLU."""
    convolutions: Annotated[int, Field(strict=True, ge=1, le=8)] = 1
    """Number of convolutions in each block before its pooling, with ReLU between them."""
    kernel: Annotated[int, Field(strict=True, ge=1, le=11)] = 3
    """Side length of the convolution kernels in pixels; no padding."""
    batch_norm: Annotated[bool, Field(strict=True)] = False
    """Whether batch normalisation follows each convolution."""
    separable: Annotated[bool, Field(strict=True)] = False
    """Whether convolutions are depthwise-separable."""
    head: Literal["flatten", "average"] = "flatten"
    """Input of the dense head: the whole last feature map, or its average over all positions."""
    fusion: Literal["conv1x1", "concatenate", "average", "fresh", "none"] = "conv1x1"
    """How the submodels become one net: heads as 1×1 convolutions with transferred weights (conv1x1) or
    newly initialised ones (fresh), concatenated features (concatenate), the mean of their logits (average),
    or no fusion (none, for a single submodel)."""
    hidden: Width | None = 32
    """Units of the dense layer after fusion; null for no such layer. Unused with average and none."""
    dropout: BelowOne = 0.2
    """Fraction of the hidden units dropped during training."""

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
        """Number of convolution blocks of a submodel."""
        return len(self.filters)

    @property
    def is_of_torchvision(self) -> bool:
        """Whether the net uses torchvision's code; always False here."""
        return False

    @property
    def has_trunk(self) -> bool:
        """Whether fusion adds layers (hidden, output)."""
        return self.fusion in ("conv1x1", "concatenate", "fresh")

    def levels(self, network: "Network") -> tuple[str, ...]:
        """Return the names of the blocks from input to output: conv1, …, head, hidden, output."""
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


# number of convolution blocks of each net; each can be frozen on its own
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
    """A published net for comparison, adapted to the image size; it trains on augmented images.

    `nets.references` builds it.
    """

    architecture: Architecture
    """The net: torchvision's MobileNetV2, ShuffleNetV2, SqueezeNet 1.1, MNASNet or EfficientNet-B0, or a
    simple baseline: LeNet-5, a plain small CNN, logistic regression."""
    width: Annotated[Number, Field(gt=0, le=8)] = 1.0
    """Factor on the channel counts; 1 is the published net."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_nets_keys(cls, data: Any) -> Any:
        others = [key for key in data if key in ModelSpec.model_fields] if isinstance(data, dict) else []
        if others:
            raise complain(
                f"a reference net takes architecture and width, not {', '.join(others)}; replace the whole "
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
        """Input streams of a reference net: always single."""
        return "single"

    @property
    def fusion(self) -> Literal["none"]:
        """Fusion of a reference net: always none."""
        return "none"

    @property
    def is_of_torchvision(self) -> bool:
        """Whether the net uses torchvision's code."""
        return self.architecture in _OF_TORCHVISION

    @property
    def has_trunk(self) -> bool:
        """Whether fusion adds layers; always False here."""
        return False

    @property
    def submodels(self) -> tuple[str, ...]:
        """Names of the submodels: always a."""
        return ("a",)

    @property
    def depth(self) -> int:
        """Number of convolution blocks."""
        return _DEPTHS[self.architecture]

    def levels(self, network: "Network") -> tuple[str, ...]:
        """Return the names of the blocks from input to output: conv1, …, head."""
        return (*(f"conv{index}" for index in range(1, self.depth + 1)), "head")


NetSpec = ModelSpec | ReferenceSpec


def kind_of_net(value: Any) -> str:
    """Return "reference" or "submodels" for the settings of a net, validated or not."""
    is_reference = "architecture" in value if isinstance(value, dict) else isinstance(value, ReferenceSpec)
    return "reference" if is_reference else "submodels"


Network = Literal["heads", "fused"]
