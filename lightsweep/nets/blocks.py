"""Names of a net's blocks, the blocks that a stage trains, and a net's settings after compression."""

import fnmatch
from collections.abc import Sequence

from lightsweep.errors import InputError
from lightsweep.sweepfile.net import ModelSpec, NetSpec, Network
from lightsweep.sweepfile.settings import nearest
from lightsweep.sweepfile.stages import Compression, StageSpec


def slim(model: ModelSpec, amount: float) -> ModelSpec:
    """Return a net's settings after removing a fraction of each convolution's filters, but never all."""
    filters = tuple(max(1, round(count * (1 - amount))) for count in model.filters)
    return model.model_copy(update={"filters": filters})


def compressed(model: NetSpec, compression: Compression | None) -> NetSpec:
    """Return a net's settings after compression; pruning filters makes it narrower.

    Raises:
        InputError: This net's filters cannot be pruned, or no filter would be removed.

    """
    if compression is None or compression.prune != "filters":
        return model
    if not isinstance(model, ModelSpec):
        raise InputError(
            "compression.prune = 'filters': applies to nets of submodels only; make a reference net narrower "
            "with model.width; its weights can be pruned (prune: weights)"
        )
    slimmer = slim(model, compression.amount)
    if slimmer == model:
        raise InputError(
            f"compression.amount = {compression.amount:g}: removes no filter from {list(model.filters)} "
            f"(each convolution keeps at least one); above {0.5 / max(model.filters):.2g} it removes one of "
            f"{max(model.filters)}"
        )
    return slimmer


def network_of(stage: StageSpec) -> Network:
    """Return the form of the net that a stage trains: submodels with heads, or fused."""
    return "fused" if stage.loss == "fused" else "heads"


def block_names(model: NetSpec, network: Network) -> tuple[str, ...]:
    """Return the full names of a net's blocks, such as a.conv1, b.head, hidden, output."""
    levels = model.levels(network)
    of_submodels = [level for level in levels if level not in ("hidden", "output")]
    shared = levels[len(of_submodels) :]
    return (*(f"{sub}.{level}" for sub in model.submodels for level in of_submodels), *shared)


def trainable_blocks(stage: StageSpec, model: NetSpec, place: str = "train") -> frozenset[str]:
    """Return the full names of the blocks that a stage trains.

    A pattern is `all`, `last-N` (the N levels nearest to the output, in both submodels), a level (conv2), a
    full name (a.conv2), or a level or name with wildcards (b.*).

    Raises:
        InputError: A pattern matches no block, or nothing would train; the message starts with `place`.

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
            raise InputError(f"{place} = {stage.train!r}: freezes every block that loss {stage.loss} uses")
    return frozenset(chosen)
