"""Settings of training: stages, stage presets and compression."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from lightsweep.owncode.reference import REFERENCE_PATTERN, parse_reference, without_digests
from lightsweep.owncode.signature import read_signature
from lightsweep.sweepfile.called import Called, as_mapping, own_signature, wrong_key
from lightsweep.sweepfile.settings import (
    BelowOne,
    Count,
    Named,
    NotNegative,
    Number,
    Rate,
    Spec,
    complain,
    kind_of_setting,
)

Output = Literal["heads", "head-a", "head-b", "fused"]
OPTIMIZERS = ("nadam", "adam", "sgd")
SCHEDULES = ("constant", "cosine", "linear")


class OptimizerSpec(Called):
    """An optimizer of `torch.optim` by its class's name, or FILE.py:function, with its keywords."""

    names: ClassVar[str] = "name"
    given: ClassVar[tuple[str, ...]] = ("parameters",)
    supplied: ClassVar[frozenset[str]] = frozenset(("lr", "weight_decay"))
    alone: ClassVar[str | None] = rf"{REFERENCE_PATTERN}|^[A-Z]\w*$"

    name: Annotated[str, Field(strict=True)]
    """Name of a class of torch.optim, such as AdamW; or FILE.py:function, called with the parameters, lr and,
    if it takes it, weight_decay."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        data = as_mapping(data)
        if isinstance(data, str):
            data = {"name": data}
        if not isinstance(data, dict) or "name" not in data:
            return cls.without_name(data)
        if parse_reference(data["name"]) is None:
            return data
        return cls.with_keywords(data, own_signature("name", data["name"]))


class LossSpec(Called):
    """The loss: a function of logits and labels, with its keywords, and the outputs that it is of."""

    names: ClassVar[str] = "name"
    given: ClassVar[tuple[str, ...]] = ("logits", "labels")
    alone: ClassVar[str | None] = f"{REFERENCE_PATTERN}|^cross-entropy$"

    name: Annotated[str, Field(strict=True)] = "cross-entropy"
    """cross-entropy, with the keyword label_smoothing; or FILE.py:function, called with logits and labels."""
    of: Output | None = None
    """The outputs: summed over the submodels' heads (heads), one head (head-a, head-b), or the fused output
    (fused). Null: heads in the first of several stages, else fused."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        data = {"name": data} if data == "cross-entropy" else as_mapping(data)
        if not isinstance(data, dict):
            return data
        name = data.get("name", "cross-entropy")
        if name == "cross-entropy":
            return cls.with_keywords(data, CROSS_ENTROPY)
        if parse_reference(name) is None:
            raise wrong_key("name", "must be cross-entropy or FILE.py:function")
        return cls.with_keywords(data, own_signature("name", name))


CROSS_ENTROPY = read_signature(
    "def loss(logits, labels, *, label_smoothing: Annotated[float, Range(0, 1)] = 0.0): ...", "loss", "loss"
)


class ScheduleSpec(Called):
    """A learning rate schedule of your own, with its keywords."""

    names: ClassVar[str] = "name"
    given: ClassVar[tuple[str, ...]] = ("epoch", "epochs")
    alone: ClassVar[str | None] = REFERENCE_PATTERN

    name: Annotated[str, Field(strict=True)]
    """FILE.py:function, called with the epochs so far (a float) and the number of epochs after warm-up; it
    returns the factor on lr."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        data = as_mapping(data)
        if not isinstance(data, dict) or "name" not in data:
            return cls.without_name(data)
        if parse_reference(data["name"]) is None:
            raise wrong_key("name", "must be FILE.py:function")
        return cls.with_keywords(data, own_signature("name", data["name"]))


def _kind(value: Any) -> str:
    return "mapping" if isinstance(value, dict | BaseModel) or parse_reference(value) else "name"


def _kind_of_loss(value: Any) -> str:
    return "mapping" if value == "cross-entropy" else _kind(value)


def _kind_of_optimizer(value: Any) -> str:
    is_class = isinstance(value, str) and value not in OPTIMIZERS and value[:1].isupper()
    return "mapping" if is_class else _kind(value)


Optimizer = Annotated[
    Annotated[Literal["nadam", "adam", "sgd"], Tag("name")] | Annotated[OptimizerSpec, Tag("mapping")],
    Discriminator(_kind_of_optimizer),
]
Loss = Annotated[
    Annotated[Output | None, Tag("name")] | Annotated[LossSpec, Tag("mapping")], Discriminator(_kind_of_loss)
]
Schedule = Annotated[
    Annotated[Literal["constant", "cosine", "linear"], Tag("name")] | Annotated[ScheduleSpec, Tag("mapping")],
    Discriminator(_kind),
]


class StageSpec(Called):
    """One training stage: the blocks that train, the loss, the optimiser and the number of epochs."""

    names: ClassVar[str] = "run"
    given: ClassVar[tuple[str, ...]] = ("net", "data")
    supplied: ClassVar[frozenset[str]] = frozenset(("epochs", "seed", "state"))
    shared: ClassVar[frozenset[str]] = frozenset(("lr", "momentum", "weight_decay"))

    run: Annotated[str, Field(strict=True)] | None = None
    """FILE.py:function, a training loop of your own in place of ours: a generator, called with the net and
    the data, that yields a record after each epoch. Its keyword-only parameters are further keys; null for
    our loop."""
    name: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,64}$"), Named]
    """Name in tables and figures, unique within the arm."""
    train: str | Annotated[tuple[str, ...], Field(min_length=1)] = "all"
    """Blocks that train; all others are frozen: `all`, `last-N`, or a list of names such as
    conv2, hidden, a.conv1, b.*"""
    loss: Loss = None
    """Outputs whose cross-entropy is the loss: summed over the submodels' heads (heads), of one head (head-a,
    head-b), or of the fused output (fused). Null: heads in the first of several stages, else fused. Or a
    mapping with the outputs (of), the function (name) and its keywords; or FILE.py:function."""
    optimizer: Optimizer = "nadam"
    """Optimiser: Nadam or Adam with their default moments, or SGD with `momentum`; or a mapping with name and
    keywords: any optimizer of torch.optim, such as {name: AdamW, betas: [0.9, 0.95]}, or FILE.py:function."""
    lr: Rate = 0.001
    """Peak learning rate."""
    momentum: BelowOne = 0.0
    """Momentum; SGD only."""
    weight_decay: NotNegative = 0.0
    """Coefficient of the L2 penalty, or of the decay that the optimizer has instead."""
    schedule: Schedule = "constant"
    """Learning rate schedule over the stage's epochs; cosine and linear decay to zero. Or FILE.py:function,
    or a mapping with it (name) and its keywords."""
    warmup_epochs: NotNegative = 0.0
    """Epochs of linear warm-up, in which the learning rate rises from zero."""
    epochs: Count
    """Maximum number of passes over the training images."""
    patience: Count | None = None
    """Number of epochs without a better validation accuracy after which the stage stops, keeping the best
    epoch's weights; null trains all epochs and keeps the last."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("run") is None:
            return cls.without_name(data)
        if parse_reference(data["run"]) is None:
            raise wrong_key("run", "must be FILE.py:function")
        return cls.with_keywords(data, own_signature("run", data["run"]))

    @property
    def of(self) -> Output | None:
        """The outputs that the loss is of."""
        return self.loss.of if isinstance(self.loss, LossSpec) else self.loss

    def with_outputs(self, output: Output) -> "StageSpec":
        """Return the stage with the outputs that its loss is of."""
        loss = self.loss.model_copy(update={"of": output}) if isinstance(self.loss, LossSpec) else output
        return self.model_copy(update={"loss": loss})

    @model_validator(mode="after")
    def _optimizer_fits(self) -> "StageSpec":
        if self.momentum and self.optimizer != "sgd":
            name = self.optimizer if isinstance(self.optimizer, str) else without_digests(self.optimizer.name)
            raise complain(f"momentum is for optimizer: sgd; {name} has its own moments")
        if self.warmup_epochs and self.warmup_epochs >= self.epochs:
            raise complain(f"warmup_epochs ({self.warmup_epochs:g}) must be below epochs ({self.epochs})")
        return self


PresetName = Literal["paper", "gradual", "all-at-once", "frozen", "scratch"]


class PresetEpochs(Spec):
    """Number of epochs of each of a preset's three phases."""

    dual: Count = 50
    """Epochs of training the submodels with their own heads."""
    fusion: Count = 20
    """Epochs of training the fused net's new layers."""
    finetune: Count = 50
    """Epochs of fine-tuning the fused net."""


class StagePreset(Spec):
    """A named unfreezing strategy, expanded to a table of stages by `trials.stages.expand`."""

    preset: PresetName
    """paper: train the submodels, then only the new layers, then everything. gradual: as paper, but the last
    phase unfreezes one more level per stage, starting at the output. all-at-once: nothing is frozen. frozen:
    the submodels stay frozen after the first phase. scratch: train the fused net from the start."""
    epochs: PresetEpochs = PresetEpochs()
    """Epochs of the three phases; their total is the same for every preset."""
    patience: Count | None = 5
    """Patience of the first and last phase in epochs; null for no early stopping."""
    lr: Rate = 0.001
    """Learning rate of Nadam in the first two phases."""
    finetune_lr: Rate = 0.001
    """Learning rate of SGD (momentum 0.9) in the last phase."""
    schedule: Schedule = "constant"
    """Learning rate schedule within each stage; cosine and linear decay to zero."""


# A preset's name, a preset with its epochs, or a list of stages.
Stages = Annotated[
    Annotated[PresetName, Tag("name")]
    | Annotated[StagePreset, Tag("mapping")]
    | Annotated[tuple[StageSpec, ...], Field(min_length=1), Tag("table")],
    Discriminator(
        kind_of_setting,
        custom_error_type="shape",
        custom_error_message="must be a preset's name, a preset with its epochs, or a list of stages",
    ),
]


class PruneStage(StageSpec):
    """The stage that prunes the trained net, then fine-tunes it (see `Compression`)."""

    prune: Literal["weights", "filters"]
    """Whether single weights or whole filters are removed."""
    amount: Annotated[Number, Field(gt=0, lt=1)]
    """Fraction of the weights, or of each convolution's filters, to remove."""


class QuantiseStage(StageSpec):
    """The stage that rounds the trained net to int8, without training (see `Compression`)."""

    quantise: Literal["int8"]
    """Data type of the weights and of each layer's input."""
    epochs: Annotated[int, Field(ge=0, le=0)] = 0
    """Number of epochs; always 0."""


class Compression(Spec):
    """Compression of a trained net: pruning with fine-tuning, then quantisation; each is a further stage."""

    prune: Literal["weights", "filters"] | None = None
    """weights: set the smallest weights in magnitude, over all layers, to zero and keep them there. filters:
    remove the filters with the smallest sum of magnitudes from each convolution, which leaves a narrower net
    (only for nets of submodels). Null: no pruning."""
    amount: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    """Fraction of the weights, or of each convolution's filters, to remove."""
    optimizer: Optimizer = "sgd"
    """Optimiser of the fine-tuning after pruning; SGD has momentum 0.9."""
    lr: Rate = 0.001
    """Peak learning rate of the fine-tuning."""
    schedule: Schedule = "constant"
    """Learning rate schedule of the fine-tuning; cosine and linear decay to zero."""
    epochs: Count = 10
    """Maximum number of epochs of the fine-tuning."""
    patience: Count | None = 5
    """Patience of the fine-tuning in epochs; null trains all epochs."""
    quantise: Literal["int8"] | None = None
    """int8: quantise weights per output channel and layer inputs per tensor, with ranges from 1,024 training
    images; no training. Null: the net stays in float32."""

    @model_validator(mode="after")
    def _does_something(self) -> "Compression":
        if self.prune is None and self.quantise is None:
            raise complain("must do something: prune: weights or filters, quantise: int8, or both")
        return self
