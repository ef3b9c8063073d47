"""Settings of the model: the net, and the method that is applied to it."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from lightsweep.owncode.signature import Parameter
from lightsweep.owncode.sources import shipped_nets, shipped_sources
from lightsweep.sweepfile.called import Called, signature_of, wrong_key
from lightsweep.sweepfile.settings import BelowOne, Width, complain

PAPER_NET = "paper-cnn"
METHOD = ("inputs", "fusion", "hidden", "dropout")
"""Keys of the method, which applies to any net."""


class ModelSpec(Called):
    """The net, with its keywords, and the method: one or two of it, and how they are fused.

    For the paper's net the method is the paper's unless set; any other net is alone (single, none).
    """

    names: ClassVar[str] = "net"
    given: ClassVar[tuple[str, ...]] = ("shape", "classes")

    net: Annotated[str, Field(strict=True)] = PAPER_NET
    """The net of each submodel: paper-cnn; a published net (mobilenet-v2, shufflenet-v2, squeezenet, mnasnet,
    efficientnet-b0) or a simple baseline (lenet-5, plain-cnn, logistic-regression); or one of your own,
    FILE.py:function. Its keyword-only parameters are further keys."""
    inputs: Literal["single", "dual"] = "dual"
    """single: one submodel on augmented images. dual: A on original and B on augmented images."""
    fusion: Literal["conv1x1", "concatenate", "average", "fresh", "none"] = "conv1x1"
    """How the submodels become one net: heads as 1×1 convolutions with transferred weights (conv1x1) or
    newly initialised ones (fresh), concatenated features (concatenate; for nets with a method features), the
    mean of their logits (average), or no fusion (none, for a single submodel)."""
    hidden: Width | None = 32
    """Units of the dense layer after fusion; null for no such layer. Unused with average and none."""
    dropout: BelowOne = 0.2
    """Fraction of the hidden units dropped during training."""

    @classmethod
    def shipped(cls) -> Mapping[str, Mapping[str, Parameter]]:
        """Return the keywords of each shipped net."""
        return {name: shipped_sources(name).signature.keywords for name in shipped_nets()}

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        if isinstance(data, ModelSpec):
            return data
        if not isinstance(data, dict):
            return data
        if "architecture" in data:
            raise wrong_key("architecture", f"is now the key net; write net: {data['architecture']}")
        net = data.get("net", PAPER_NET)
        if not isinstance(net, str):
            return data
        whole = cls.with_keywords(data, signature_of("net", net))
        if net != PAPER_NET:
            whole.setdefault("inputs", "single")
            whole.setdefault("fusion", "none" if whole["inputs"] == "single" else "conv1x1")
        return whole

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
    def has_trunk(self) -> bool:
        """Whether fusion adds layers (hidden, output)."""
        return self.fusion in ("conv1x1", "concatenate", "fresh")

    @property
    def trunk(self) -> tuple[str, ...]:
        """Names of the layers that fusion adds: hidden and output, output, or none."""
        if not self.has_trunk:
            return ()
        return ("hidden", "output") if self.hidden else ("output",)

    def with_net_keywords(self, keywords: dict[str, Any]) -> "ModelSpec":
        """Return the settings with some of the net's keywords changed."""
        return ModelSpec.model_validate({**self.model_dump(), **keywords})


Network = Literal["heads", "fused"]
"""Form of the net that a stage trains: submodels with their own heads, or fused."""
