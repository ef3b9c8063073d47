"""What it costs to train a trial."""

from lightsweep.nets.blocks import block_names, compressed, network_of, trainable_blocks
from lightsweep.nets.cost import macs_by_block
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.stages import PruneStage, QuantiseStage
from lightsweep.trials.stages import stage_table


def training_macs(spec: ArmSpec, shape: tuple[int, int, int], classes: int) -> int:
    """Count multiply-accumulates of training on one image in all epochs of all stages, at the most.

    Forward each block once; backward once for the weights of a block that trains, and once for its
    input where a block before it trains. Evaluation is not counted, nor is it taken off that a frozen
    block's maps are kept or that a stage stops early.

    Raises:
        InputError: The filters are too many for the image, or a stage trains nothing.

    """
    total = 0
    for stage in stage_table(spec):
        network = network_of(stage)
        is_compressing = isinstance(stage, PruneStage | QuantiseStage)
        model = compressed(spec.model, spec.compression if is_compressing else None)
        macs = macs_by_block(model, shape, classes, network)
        names, trainable = block_names(model, network), trainable_blocks(stage, model)
        backward = 0
        for place, name in enumerate(names):
            sub = name.partition(".")[0] + "."  # a., b., or the layers after fusion, which see both
            before = [other for other in names[:place] if other.startswith(sub) or "." not in name]
            backward += macs[name] * ((name in trainable) + any(other in trainable for other in before))
        total += stage.epochs * (sum(macs.values()) + backward)
    return total
