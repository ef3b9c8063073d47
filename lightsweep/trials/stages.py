"""Progressive training as a table: presets, what trains in a stage, the learning rate at a step.

Pure functions of the specs; torch is not needed.
"""

import fnmatch
import math
from collections.abc import Sequence

from lightsweep.errors import InputError
from lightsweep.sweepfile.arm import (
    ArmSpec,
    Compression,
    ModelSpec,
    NetSpec,
    Network,
    PruneStage,
    QuantiseStage,
    StagePreset,
    StageSpec,
    nearest,
)


def stage_table(arm: ArmSpec) -> tuple[StageSpec, ...]:
    """Return an arm's stages with presets expanded, losses filled in and freezing checked; then compression.

    Raises:
        InputError: A stage freezes everything or names a block that is not there; losses are in an
            order that cannot be; the fused output would never be trained; the net cannot be compressed so.

    """
    assert not isinstance(arm.stages, str)  # names were made presets when the arm was validated
    stages = expand(arm.stages, arm.model) if isinstance(arm.stages, StagePreset) else arm.stages
    several = len(stages) > 1
    table = tuple(
        stage.model_copy(update={"loss": _default_loss(arm.model, index == 0 and several)})
        if stage.loss is None
        else stage
        for index, stage in enumerate(stages)
    )
    _check_order(table, arm.model)
    for index, stage in enumerate(table):
        trainable_blocks(stage, arm.model, f"stages.{index}.train (stage {stage.name})")
    return (*table, *_compression_stages(arm, {stage.name for stage in table}))


def _compression_stages(arm: ArmSpec, taken: set[str]) -> tuple[StageSpec, ...]:
    compression = arm.compression
    if compression is None:
        return ()
    compressed(arm.model, compression)  # says what cannot be pruned
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
            raise InputError(f"stages: the name {stage.name} is compression's own; name that stage anew")
    return tuple(stages)


def slim(model: ModelSpec, amount: float) -> ModelSpec:
    """Return a net's settings after a share of each convolution's filters was removed; one always stays."""
    filters = tuple(max(1, round(count * (1 - amount))) for count in model.filters)
    return model.model_copy(update={"filters": filters})


def compressed(model: NetSpec, compression: Compression | None) -> NetSpec:
    """Return the settings of the net that compression leaves: narrower where filters were pruned.

    Raises:
        InputError: Filters of this net cannot be pruned, or none would go.

    """
    if compression is None or compression.prune != "filters":
        return model
    if not isinstance(model, ModelSpec):
        raise InputError(
            "compression.prune = 'filters': is for nets of submodels; a reference net is made narrower by "
            "model.width, and its weights can be pruned (prune: weights)"
        )
    slimmer = slim(model, compression.amount)
    if slimmer == model:
        raise InputError(
            f"compression.amount = {compression.amount:g}: removes no filter of {list(model.filters)}, of "
            f"which one stays in each convolution; above {0.5 / max(model.filters):.2g} of "
            f"{max(model.filters)} one goes"
        )
    return slimmer


def expand(preset: StagePreset, model: NetSpec) -> tuple[StageSpec, ...]:
    """Return the stages that a preset stands for with this net; all presets train as many epochs.

    `paper` is arXiv 2501.15547's own; the other presets are its ablations. A net whose fusion adds no
    layers (average, none) has nothing new to train first, so its fusion epochs go to the submodels.
    """
    levels = model.levels("fused")
    trunk = len(levels) - len(model.levels("heads")) + (model.fusion == "concatenate")
    fresh = trunk + (model.fusion == "fresh")  # fresh 1×1 convolutions are new layers, too
    epochs = preset.epochs

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
            return (first, *_gradual(sgd, epochs.finetune, 1, len(levels)))
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
            return (dual, fusion, *_gradual(sgd, epochs.finetune, fresh + 1, len(levels)))
        case "scratch":
            whole = nadam("scratch", epochs.dual + epochs.fusion, "all", "fused", preset.patience)
            return (whole, sgd("finetune", epochs.finetune, "all"))


def _gradual(sgd, epochs: int, start: int, stop: int) -> tuple[StageSpec, ...]:  # type: ignore[no-untyped-def]
    """Return fine-tuning stages that thaw `start`, then one more, up to `stop` levels from the top."""
    depths = list(range(start, stop + 1))[-epochs:]  # no stage without an epoch
    shares = [epochs // len(depths) + (i < epochs % len(depths)) for i in range(len(depths))]
    return tuple(
        sgd(f"thaw-{depth}", share, "all" if depth == stop else f"last-{depth}")
        for depth, share in zip(depths, shares, strict=True)
    )


def network_of(stage: StageSpec) -> Network:
    """Return which form of the net a stage trains: submodels with heads, or fused."""
    return "fused" if stage.loss == "fused" else "heads"


def block_names(model: NetSpec, network: Network) -> tuple[str, ...]:
    """Return the full names of a net's blocks, such as a.conv1, b.head, hidden, output."""
    levels = model.levels(network)
    of_submodels = [level for level in levels if level not in ("hidden", "output")]
    shared = levels[len(of_submodels) :]
    return (*(f"{sub}.{level}" for sub in model.submodels for level in of_submodels), *shared)


def trainable_blocks(stage: StageSpec, model: NetSpec, place: str = "train") -> frozenset[str]:
    """Return the full names of the blocks that a stage trains.

    A pattern is `all`, `last-N` (the N levels nearest the output, in both submodels), a level (conv2), a
    full name (a.conv2), or either with wildcards (b.*).

    Raises:
        InputError: A pattern matches no block, or nothing would train; the message begins with `place`.

    """
    network = network_of(stage)
    names = block_names(model, network)
    levels = model.levels(network)
    patterns = (stage.train,) if isinstance(stage.train, str) else stage.train
    chosen: set[str] = set()
    for pattern in patterns:
        wanted: Sequence[str] = (pattern,)
        if pattern == "all":
            wanted = names
        elif pattern.startswith("last-") and pattern[5:].isdecimal():
            count = int(pattern[5:])
            if not 1 <= count <= len(levels):
                raise InputError(
                    f"{place} = {pattern!r}: the net has {len(levels)} levels in this stage "
                    f"({', '.join(levels)}): last-1 … last-{len(levels)}"
                )
            wanted = levels[-count:]
        matched = {
            name
            for name in names
            for want in wanted
            if fnmatch.fnmatchcase(name, want) or fnmatch.fnmatchcase(name.split(".")[-1], want)
        }
        if not matched:
            known = dict.fromkeys(["all", *(f"last-{i + 1}" for i in range(len(levels))), *levels, *names])
            raise InputError(f"{place} = {pattern!r}: matches no block of the net; {nearest(pattern, known)}")
        chosen |= matched
    if stage.loss in ("head-a", "head-b"):
        chosen = {name for name in chosen if name.startswith(stage.loss[-1] + ".")}
        if not chosen:
            raise InputError(f"{place} = {stage.train!r}: nothing that loss {stage.loss} reaches would train")
    return frozenset(chosen)


def learning_rate(stage: StageSpec, epoch: float) -> float:
    """Return the learning rate after `epoch` epochs (a fraction within an epoch) of a stage.

    Warm-up is linear from 0 over w epochs; then with t = (epoch − w) / (epochs − w): lr for constant,
    lr · (1 − t) for linear, lr · (1 + cos πt) / 2 for cosine (Loshchilov & Hutter 2017, eq. 5).
    """
    if epoch < stage.warmup_epochs:
        return stage.lr * epoch / stage.warmup_epochs
    share = min((epoch - stage.warmup_epochs) / (stage.epochs - stage.warmup_epochs), 1.0)
    match stage.schedule:
        case "constant":
            return stage.lr
        case "linear":
            return stage.lr * (1 - share)
        case "cosine":
            return stage.lr * (1 + math.cos(math.pi * share)) / 2


def _default_loss(model: NetSpec, is_first_of_several: bool) -> str:
    return "heads" if model.fusion == "none" or is_first_of_several else "fused"


def _check_order(table: Sequence[StageSpec], model: NetSpec) -> None:
    networks = [network_of(stage) for stage in table]
    for index, stage in enumerate(table):
        place = f"stages.{index}.loss (stage {stage.name})"
        if stage.loss == "fused" and model.fusion == "none":
            raise InputError(
                f"{place} = 'fused': model.fusion is none, so there is no fused output; use heads"
            )
        if stage.loss == "head-b" and model.inputs == "single":
            raise InputError(f"{place} = 'head-b': model.inputs is single, so there is only head-a")
        if networks[index] == "heads" and "fused" in networks[:index]:
            raise InputError(
                f"{place} = {stage.loss!r}: the submodels were fused before, their heads are gone"
            )
    if model.has_trunk and "fused" not in networks:
        raise InputError(
            f"stages: none trains loss fused, so the layers of fusion {model.fusion} would stay untrained"
        )
