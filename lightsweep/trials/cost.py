"""Cost of training a trial."""

from lightsweep.data.imagedata import Task
from lightsweep.nets.blocks import block_names, compressed, network_of, trainable_blocks
from lightsweep.nets.cost import macs_by_block
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.stages import PruneStage, QuantiseStage
from lightsweep.trials.stages import stage_table


def training_macs(spec: ArmSpec, shape: tuple[int, int, int], classes: int) -> int:
    """Return the maximum multiply-accumulates of training on one image, over all epochs of all stages.

    The forward pass counts each block once; the backward pass counts a trainable block once for its weights,
    and a block once for its input if a block before it trains. Evaluation is not counted; savings from cached
    outputs of frozen blocks and from early stopping are not subtracted.

    Raises:
        InputError: The net has too many blocks for the image size, or a stage trains nothing.

    """
    total = 0
    for stage in stage_table(spec, Task(shape, classes)):
        network = network_of(stage)
        is_compressing = isinstance(stage, PruneStage | QuantiseStage)
        model = compressed(spec.model, spec.compression if is_compressing else None, shape, classes)
        macs = macs_by_block(model, shape, classes, network)
        names = block_names(model, shape, classes, network)
        trainable = trainable_blocks(stage, model, shape, classes)
        backward = 0
        for place, name in enumerate(names):
            sub = name.partition(".")[0] + "."  # a., b., or the layers after fusion, which read both
            before = [other for other in names[:place] if other.startswith(sub) or "." not in name]
            backward += macs[name] * ((name in trainable) + any(other in trainable for other in before))
        total += stage.epochs * (sum(macs.values()) + backward)
    return total
