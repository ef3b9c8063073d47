"""What a spec's net is, in the tests' words: its sides, its blocks, and a narrower one."""

from typing import Any

from torch import Tensor

from lightsweep.nets.blocks import trainable_blocks
from lightsweep.nets.compress import prune_filters
from lightsweep.nets.models import Net, build
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.stages import StageSpec
from lightsweep.training.state import StageState
from lightsweep.zoo import paper_cnn

Shape = tuple[int, int, int]


def feature_side(model: Any, side: int) -> int:
    return paper_cnn.feature_side(model.filters, model.convolutions, model.kernel, side)


def used_side(model: Any, side: int) -> int:
    return paper_cnn.used_side(model.filters, model.convolutions, model.kernel, side)


def block_of(model: Any, inputs: int, outputs: int) -> paper_cnn.Block:
    """Make one block of the paper's net."""
    kinds = model.convolutions, model.kernel, model.batch_norm, model.separable
    return paper_cnn.Block(inputs, outputs, *kinds)


def begin(net: Net, model: ModelSpec, row: StageSpec, shape: Shape, classes: int) -> StageState:
    return StageState.begin(net, row, trainable_blocks(row, model, shape, classes))


def slim(model: Any, amount: float) -> ModelSpec:
    """Remove a fraction of each block's filters, but never all."""
    filters = [max(1, round(count * (1 - amount))) for count in model.filters]
    return ModelSpec(**{**model.model_dump(), "filters": filters})


def pruned(
    state: dict[str, Tensor], model: ModelSpec, amount: float, shape: Shape, classes: int
) -> dict[str, Tensor]:
    network: Any = "fused" if "output.weight" in state else "heads"
    return prune_filters(state, build(model, shape, classes, network, 0), amount)
