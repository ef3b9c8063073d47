"""Settings of training: stages, stage presets and compression."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

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

Loss = Literal["heads", "head-a", "head-b", "fused"]


Schedule = Literal["constant", "cosine", "linear"]


class StageSpec(Spec):
    """One training stage: the blocks that train, the loss, the optimiser and the number of epochs."""

    name: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,64}$"), Named]
    """Name in tables and figures, unique within the arm."""
    train: str | Annotated[tuple[str, ...], Field(min_length=1)] = "all"
    """Blocks that train; all others are frozen: `all`, `last-N`, or a list of names such as
    conv2, hidden, a.conv1, b.*"""
    loss: Loss | None = None
    """Loss: summed over the submodels' heads (heads), of one head (head-a, head-b), or of the fused output
    (fused). Null: heads in the first of several stages, else fused."""
    optimizer: Literal["nadam", "adam", "sgd"] = "nadam"
    """Optimiser: Nadam or Adam with their default moments, or SGD with `momentum`."""
    lr: Rate = 0.001
    """Peak learning rate."""
    momentum: BelowOne = 0.0
    """Momentum; SGD only."""
    weight_decay: NotNegative = 0.0
    """Coefficient of the L2 penalty."""
    schedule: Schedule = "constant"
    """Learning rate schedule over the stage's epochs; cosine and linear decay to zero."""
    warmup_epochs: NotNegative = 0.0
    """Epochs of linear warm-up, in which the learning rate rises from zero."""
    epochs: Count
    """Maximum number of passes over the training images."""
    patience: Count | None = None
    """Number of epochs without a better validation accuracy after which the stage stops, keeping the best
    epoch's weights; null trains all epochs and keeps the last."""

    @model_validator(mode="after")
    def _optimizer_fits(self) -> "StageSpec":
        if self.momentum and self.optimizer != "sgd":
            raise complain(f"momentum is for optimizer: sgd; {self.optimizer} has its own moments")
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
    optimizer: Literal["nadam", "adam", "sgd"] = "sgd"
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
