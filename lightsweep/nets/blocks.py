"""Names of a net's blocks, the blocks that a stage trains, and a net's settings after compression."""

import fnmatch
from collections.abc import Sequence
from functools import lru_cache

import torch

from lightsweep.errors import InputError, nearest
from lightsweep.nets.models import Net, build
from lightsweep.owncode.reference import parse_reference, without_digests
from lightsweep.sweepfile.net import ModelSpec, Network
from lightsweep.sweepfile.stages import Compression, StageSpec

Shape = tuple[int, int, int]


@lru_cache(maxsize=64)
def untrained(model: ModelSpec, shape: Shape, classes: int, network: Network) -> Net:
    """Return a net for its structure alone; shared, so not to be changed.

    A shipped net is on the meta device, where weights take no memory. Code of the user's own is not written
    for that device, so its net is real.
    """
    if parse_reference(model.net):
        return build(model, shape, classes, network, seed=0).eval()
    with torch.device("meta"):
        return build(model, shape, classes, network, seed=0).eval()


def compressed(model: ModelSpec, compression: Compression | None, shape: Shape, classes: int) -> ModelSpec:
    """Return a net's settings after compression; pruning filters makes it narrower.

    Raises:
        InputError: This net's filters cannot be pruned, or no filter would be removed.

    """
    if compression is None or compression.prune != "filters":
        return model
    part = untrained(model, shape, classes, "heads").a
    narrower = getattr(part, "narrower", None)
    if not callable(narrower) or not callable(getattr(part, "pruned", None)):
        raise InputError(
            f"compression.prune = 'filters': {without_digests(model.net)} does not say how (methods narrower "
            "and pruned); its weights can be pruned (prune: weights)"
        )
    slimmer = model.with_net_keywords(narrower(compression.amount))
    if slimmer == model:
        shown = ", ".join(f"{key} = {model.keywords[key]}" for key in narrower(compression.amount))
        raise InputError(
            f"compression.amount = {compression.amount:g}: removes no filter of {without_digests(model.net)} "
            f"with {shown}; each convolution keeps at least one; take a larger amount"
        )
    return slimmer


def network_of(stage: StageSpec) -> Network:
    """Return the form of the net that a stage trains: submodels with heads, or fused."""
    return "fused" if stage.of == "fused" else "heads"


def levels(model: ModelSpec, shape: Shape, classes: int, network: Network) -> tuple[str, ...]:
    """Return the names of a net's blocks from input to output (`nets.models.Net.levels`)."""
    return untrained(model, shape, classes, network).levels()


def block_names(model: ModelSpec, shape: Shape, classes: int, network: Network) -> tuple[str, ...]:
    """Return the full names of a net's blocks (`nets.models.Net.block_names`)."""
    return untrained(model, shape, classes, network).block_names()


def trainable_blocks(
    stage: StageSpec, model: ModelSpec, shape: Shape, classes: int, place: str = "train"
) -> frozenset[str]:
    """Return the full names of the blocks that a stage trains.

    A pattern is `all`, `last-N` (the N levels nearest to the output, in both submodels), a level (conv2), a
    full name (a.conv2), or a level or name with wildcards (b.*).

    Raises:
        InputError: A pattern matches no block, or nothing would train; the message starts with `place`.

    """
    network = network_of(stage)
    names = block_names(model, shape, classes, network)
    known_levels = levels(model, shape, classes, network)
    patterns = (stage.train,) if isinstance(stage.train, str) else stage.train
    chosen: set[str] = set()
    for pattern in patterns:
        wanted: Sequence[str] = (pattern,)
        if pattern == "all":
            wanted = names
        elif pattern.startswith("last-") and pattern[5:].isdecimal():
            count = int(pattern[5:])
            if not 1 <= count <= len(known_levels):
                raise InputError(
                    f"{place} = {pattern!r}: the net has {len(known_levels)} levels in this stage "
                    f"({', '.join(known_levels)}): last-1 … last-{len(known_levels)}"
                )
            wanted = known_levels[-count:]
        matched = {
            name
            for name in names
            for want in wanted
            if fnmatch.fnmatchcase(name, want) or fnmatch.fnmatchcase(name.split(".")[-1], want)
        }
        if not matched:
            last = (f"last-{index + 1}" for index in range(len(known_levels)))
            known = dict.fromkeys(["all", *last, *known_levels, *names])
            raise InputError(f"{place} = {pattern!r}: matches no block of the net; {nearest(pattern, known)}")
        chosen |= matched
    if stage.of in ("head-a", "head-b"):
        chosen = {name for name in chosen if name.startswith(stage.of[-1] + ".")}
        if not chosen:
            raise InputError(f"{place} = {stage.train!r}: freezes every block that loss {stage.of} uses")
    return frozenset(chosen)
