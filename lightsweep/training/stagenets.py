"""The net that each stage of a trial starts with, built from the previous stage's result."""

from copy import deepcopy

import torch
from torch import Tensor

from lightsweep.nets.blocks import compressed, network_of, trainable_blocks, untrained
from lightsweep.nets.compress import prune_filters, shape_as_quantised
from lightsweep.nets.models import Net, build, fuse
from lightsweep.store.stagefile import StageResult
from lightsweep.sweepfile.net import ModelSpec, Network
from lightsweep.sweepfile.stages import PruneStage, QuantiseStage, StageSpec
from lightsweep.trials.trial import Trial


def final_net(trial: Trial, last: StageResult) -> Net:
    """Return a trial's final net, on the CPU, in evaluation mode.

    Args:
        trial: The trial.
        last: Result of its last stage.

    """
    return go_on(trial, None, last).eval()


def build_net(trial: Trial, model: ModelSpec, network: Network) -> Net:
    """Return a net of these settings for a trial's images, initialised by its seed."""
    return build(model, trial.task.shape, trial.task.classes, network, trial.seed)


def blank_net(trial: Trial, stage: StageSpec) -> Net:
    """Return a net of a stage's structure, whose values are meaningless."""
    net = deepcopy(untrained(model_of(trial, stage), trial.task.shape, trial.task.classes, network_of(stage)))
    if isinstance(stage, QuantiseStage):
        shape_as_quantised(net)
    return net


def model_of(trial: Trial, stage: StageSpec | None) -> ModelSpec:
    """Return the net's settings in a stage, or at the end (None): narrower once filters are pruned."""
    is_compressing = stage is None or isinstance(stage, PruneStage | QuantiseStage)
    compression = trial.spec.compression if is_compressing else None
    return compressed(trial.spec.model, compression, trial.task.shape, trial.task.classes)


def trainable_in(trial: Trial, stage: StageSpec) -> frozenset[str]:
    """Return the full names of the blocks that a stage trains."""
    return trainable_blocks(stage, model_of(trial, stage), trial.task.shape, trial.task.classes)


def go_on(trial: Trial, stage: StageSpec | None, previous: StageResult) -> Net:
    """Return the net of a stage, or of the assessment (None), with the previous result's weights."""
    network: Network = network_of(stage) if stage else "fused"
    net, weights = build_net(trial, model_of(trial, stage), network), previous.weights
    if isinstance(stage, PruneStage) and stage.prune == "filters":
        before = build_net(trial, trial.spec.model, network)
        weights = prune_filters(weights, before, stage.amount)
    if stage is None and isinstance(trial.stages[-1], QuantiseStage):
        shape_as_quantised(net)
    was_heads = previous.metrics["network"] == "heads"
    fresh = network == "fused" and was_heads and trial.spec.model.fusion == "fresh"
    fuse(weights, net, transfer_heads=not fresh)
    return net


def moved(net: Net, device: torch.device) -> Net:
    """Return the net on a device; contiguous on a GPU, see `training.batches.Split.images_of`."""
    if device.type == "cuda":
        net.to(device).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return net


def weights_of(net: Net) -> dict[str, Tensor]:
    """Return a net's state on the CPU."""
    return {
        name: tensor.to("cpu", copy=True, memory_format=torch.contiguous_format)  # no view of a larger tensor
        for name, tensor in net.state_dict().items()
    }
