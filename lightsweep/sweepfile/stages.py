"""Settings of training: stages, presets of them, and compression."""

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
        kind_of_setting,
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
