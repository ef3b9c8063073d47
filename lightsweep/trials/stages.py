"""Progressive training as a table of stages: presets are expanded, and losses and freezing checked.

Pure functions of the settings and of the names of the net's blocks.
"""

from collections.abc import Sequence

from lightsweep.data.imagedata import Task
from lightsweep.errors import InputError
from lightsweep.nets.blocks import compressed, levels, network_of, trainable_blocks
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.stages import Output, PruneStage, QuantiseStage, StagePreset, StageSpec


def stage_table(arm: ArmSpec, task: Task) -> tuple[StageSpec, ...]:
    """Return an arm's stages, presets expanded and losses filled in, then those of compression.

    Args:
        arm: The arm's settings.
        task: Images and classes, on which a net's blocks may depend.

    Raises:
        InputError: A stage freezes everything or names an unknown block, the losses are in an impossible
            order, the fused output is never trained, or this net does not support the compression.

    """
    assert not isinstance(arm.stages, str)  # validation turned names into presets
    stages = expand(arm.stages, arm.model, task) if isinstance(arm.stages, StagePreset) else arm.stages
    several = len(stages) > 1
    table = tuple(
        stage.with_outputs(_default_output(arm.model, index == 0 and several)) if stage.of is None else stage
        for index, stage in enumerate(stages)
    )
    _check_order(table, arm.model)
    for index, stage in enumerate(table):
        trainable_blocks(
            stage, arm.model, task.shape, task.classes, f"stages.{index}.train (stage {stage.name})"
        )
    return (*table, *_compression_stages(arm, task, {stage.name for stage in table}))


def _compression_stages(arm: ArmSpec, task: Task, taken: set[str]) -> tuple[StageSpec, ...]:
    compression = arm.compression
    if compression is None:
        return ()
    compressed(arm.model, compression, task.shape, task.classes)  # raises if it cannot be pruned
    loss = "heads" if arm.model.fusion == "none" else "fused"
    stages: list[StageSpec] = []
    if compression.prune:
        kept = compression.model_dump(
            include={"prune", "amount", "optimizer", "lr", "schedule", "epochs", "patience"}
        )
        momentum = 0.9 if compression.optimizer == "sgd" else 0.0
        stages.append(PruneStage(name="prune", loss=loss, momentum=momentum, **kept))
    if compression.quantise:
        stages.append(QuantiseStage(name="quantise", loss=loss, quantise=compression.quantise))
    for stage in stages:
        if stage.name in taken:
            raise InputError(f"stages: the name {stage.name} is reserved for compression; rename that stage")
    return tuple(stages)


def expand(preset: StagePreset, model: ModelSpec, task: Task) -> tuple[StageSpec, ...]:
    """Return the stages of a preset for this net; all presets train the same number of epochs.

    `paper` is the schedule of arXiv 2501.15547; the other presets are its ablations. If fusion adds no layers
    (average, none), there are no new layers to train first, so the fusion epochs go to the submodels.
    """
    trunk = len(model.trunk)
    fresh = trunk + (model.fusion == "fresh")  # fresh 1×1 convolutions are new layers too
    epochs = preset.epochs

    def depth() -> int:
        return len(levels(model, task.shape, task.classes, "fused"))

    def nadam(name: str, count: int, train: str, loss: str, patience: int | None = None) -> StageSpec:
        return StageSpec.model_validate(
            dict(
                name=name, train=train, loss=loss, lr=preset.lr, schedule=preset.schedule,
                epochs=count, patience=patience,
            )
        )  # fmt: skip

    def sgd(name: str, count: int, train: str) -> StageSpec:
        loss = "fused" if model.fusion != "none" else "heads"
        return StageSpec.model_validate(
            dict(
                name=name, train=train, loss=loss, optimizer="sgd", momentum=0.9,
                lr=preset.finetune_lr, schedule=preset.schedule, epochs=count, patience=preset.patience,
            )
        )  # fmt: skip

    if not trunk:
        first = nadam("dual", epochs.dual + epochs.fusion, "all", "heads", preset.patience)
        if preset.preset == "frozen":
            return (first, sgd("finetune", epochs.finetune, "last-1"))
        if preset.preset == "gradual":
            return (first, *_gradual(sgd, epochs.finetune, 1, depth()))
        loss = "heads" if model.fusion == "none" else "fused"
        if preset.preset == "scratch":
            first = first.model_copy(update={"name": "scratch", "loss": loss})
        return (first, sgd("finetune", epochs.finetune, "all"))

    last = f"last-{fresh}"
    dual = nadam("dual", epochs.dual, "all", "heads", preset.patience)
    match preset.preset:
        case "paper":
            fusion = nadam("fusion", epochs.fusion, last, "fused")
            return (dual, fusion, sgd("finetune", epochs.finetune, "all"))
        case "frozen":
            fusion = nadam("fusion", epochs.fusion, last, "fused")
            return (dual, fusion, sgd("finetune", epochs.finetune, last))
        case "all-at-once":
            fusion = nadam("fusion", epochs.fusion, "all", "fused")
            return (dual, fusion, sgd("finetune", epochs.finetune, "all"))
        case "gradual":
            fusion = nadam("fusion", epochs.fusion, last, "fused")
            return (dual, fusion, *_gradual(sgd, epochs.finetune, fresh + 1, depth()))
        case "scratch":
            whole = nadam("scratch", epochs.dual + epochs.fusion, "all", "fused", preset.patience)
            return (whole, sgd("finetune", epochs.finetune, "all"))


def _gradual(sgd, epochs: int, start: int, stop: int) -> tuple[StageSpec, ...]:  # type: ignore[no-untyped-def]
    """Return fine-tuning stages that unfreeze `start` to `stop` levels from the output, one more each."""
    depths = list(range(start, stop + 1))[-epochs:]  # each stage has at least one epoch
    shares = [epochs // len(depths) + (i < epochs % len(depths)) for i in range(len(depths))]
    return tuple(
        sgd(f"thaw-{depth}", share, "all" if depth == stop else f"last-{depth}")
        for depth, share in zip(depths, shares, strict=True)
    )


def _default_output(model: ModelSpec, is_first_of_several: bool) -> Output:
    return "heads" if model.fusion == "none" or is_first_of_several else "fused"


def _check_order(table: Sequence[StageSpec], model: ModelSpec) -> None:
    networks = [network_of(stage) for stage in table]
    for index, stage in enumerate(table):
        place = f"stages.{index}.loss (stage {stage.name})"
        if stage.of == "fused" and model.fusion == "none":
            raise InputError(
                f"{place} = 'fused': model.fusion is none, so there is no fused output; use heads"
            )
        if stage.of == "head-b" and model.inputs == "single":
            raise InputError(f"{place} = 'head-b': model.inputs is single, so there is only head-a")
        if networks[index] == "heads" and "fused" in networks[:index]:
            raise InputError(
                f"{place} = {stage.of!r}: the submodels are already fused, so their heads are gone"
            )
    if model.has_trunk and "fused" not in networks:
        raise InputError(
            f"stages: none trains loss fused, so the layers of fusion {model.fusion} would stay untrained"
        )
