"""A net with the method of arXiv 2501.15547 round it: normalisation, one or two submodels, and their fusion.

A submodel is any net that `build(shape, classes, *, …)` returns, shipped (`lightsweep.zoo`) or the user's
own. Images are float32 [batch, channels, height, width] in [0, 1]; normalisation comes before the submodels.
Forward passes are pure: the only state that changes is batch normalisation's running statistics in training.
"""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightsweep.errors import InputError
from lightsweep.kernels.layers import Steps, images_last
from lightsweep.owncode.loading import as_keywords, load, named_errors, own_sources
from lightsweep.owncode.reference import without_digests
from lightsweep.seeding import derive
from lightsweep.sweepfile.net import ModelSpec, Network


class Net(nn.Module):
    """Normalisation, then submodels a and b, each on its own images; if fused, the layers after them.

    Both forms have the same submodels. In the fused form their heads are the 1×1 convolutions of the paper: a
    dense layer over a map of one position is such a convolution, with the same numbers. Concatenated features
    take no heads.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, spec: ModelSpec, shape: tuple[int, int, int], classes: int, network: Network, seed: int
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape[0], 1, 1))
        self.register_buffer("deviation", torch.ones(shape[0], 1, 1))
        self.is_fused = network == "fused" and spec.fusion != "none"
        self.concatenates = self.is_fused and spec.fusion == "concatenate"
        self.a = submodel(spec, shape, classes, seed, "a")
        self.b = submodel(spec, shape, classes, seed, "b") if spec.inputs == "dual" else None
        self.hidden: nn.Linear | None = None
        self.output: nn.Linear | None = None
        self.dropout = spec.dropout
        self.has_images_last = False
        """Whether submodels are computed with the images last (`lightsweep.kernels`)."""
        self._steps: dict[tuple[str, int, int | None], Steps] = {}
        if self.is_fused and spec.has_trunk:
            width = classes
            if self.concatenates:
                width = feature_count(self.a, shape, spec.net)
                for part in self.parts():
                    del part._modules[block_modules(part)[-1]]
            width *= len(spec.submodels)
            if spec.hidden:
                self.hidden, width = nn.Linear(width, spec.hidden), spec.hidden
            self.output = nn.Linear(width, classes)

    def parts(self) -> tuple[nn.Module, ...]:
        """Return the submodels: a, or a and b."""
        return (self.a,) if self.b is None else (self.a, self.b)

    def block_names(self) -> tuple[str, ...]:
        """Return the full names of the blocks, such as a.conv1, b.head, hidden, output."""
        of_submodels = (
            f"{letter}.{name}"
            for letter, part in zip("ab", self.parts(), strict=False)
            for name in block_modules(part)
        )
        trunk = (name for name in ("hidden", "output") if getattr(self, name) is not None)
        return (*of_submodels, *trunk)

    def levels(self) -> tuple[str, ...]:
        """Return the names of the blocks from input to output, those of a submodel once: conv1, …, output."""
        return tuple(dict.fromkeys(name.rpartition(".")[2] for name in self.block_names()))

    def streams(
        self, original: Tensor, augmented: Tensor, starts: tuple[int, int] = (0, 0)
    ) -> tuple[Tensor, ...]:
        """Return each submodel's output for its images, or for the output of its first `starts` blocks."""
        if self.b is None:
            return (self._through(self.a, augmented, starts[1]),)
        return self._through(self.a, original, starts[0]), self._through(self.b, augmented, starts[1])

    def put_images_last(self) -> None:
        """Compute the submodels with the images last from now on, if they are sequences of known layers."""
        self.has_images_last = can_have_images_last(self)

    def _through(self, part: nn.Module, x: Tensor, start: int) -> Tensor:
        if self.has_images_last:
            x = x if start else (x - self.mean) / self.deviation
            return self._steps_of("a" if part is self.a else "b", start, None)(x)
        if start:
            assert isinstance(part, nn.Sequential)  # see `is_sequence`
            if self.concatenates:
                return part.features(x, start)  # type: ignore[operator, no-any-return]
            for block in list(part)[start:]:
                x = block(x)
            return x
        x = (x - self.mean) / self.deviation
        found: Tensor = part.features(x) if self.concatenates else part(x)  # type: ignore[operator]
        return found

    def _steps_of(self, name: str, start: int, stop: int | None) -> Steps:
        """Return some of the blocks of submodel "a" or "b" as steps, found once: the layers stay the same."""
        key = name, start, stop
        if key not in self._steps:
            found = images_last(list(self.get_submodule(name).children())[start:stop])
            assert found is not None  # see `can_have_images_last`
            self._steps[key] = found
        return self._steps[key]

    def first_maps(self, images: Tensor, name: str, depth: int) -> Tensor:
        """Return the output of the first `depth` blocks of submodel "a" or "b" for images."""
        x = (images - self.mean) / self.deviation
        if self.has_images_last:
            return self._steps_of(name, 0, depth)(x)
        for block in list(self.get_submodule(name).children())[:depth]:
            x = block(x)
        return x

    def forward(
        self, original: Tensor, augmented: Tensor, starts: tuple[int, int] = (0, 0)
    ) -> tuple[Tensor, ...]:
        """Return the logits of each submodel, or if fused those of the fused output as a tuple of one.

        Args:
            original: Images for submodel a, float32 [batch, channels, height, width] in [0, 1].
            augmented: Images for submodel b, or for a if it is the only one; same format.
            starts: For each input, the number of blocks already applied to it; 0 for images.

        """
        parts = self.streams(original, augmented, starts)
        if not self.is_fused:
            return parts
        if self.output is None:
            return (torch.stack(parts).mean(0),)
        x = torch.cat(parts, 1)
        if self.hidden is not None:
            x = functional.dropout(functional.relu(self.hidden(x)), self.dropout, self.training)
        return (self.output(x),)


def can_have_images_last(net: Net) -> bool:
    """Return whether each submodel is a sequence of layers that `lightsweep.kernels` knows."""
    if net.concatenates:
        return False
    return all(is_sequence(part, False) and images_last(part.children()) for part in net.parts())


def block_modules(part: nn.Module) -> list[str]:
    """Return the names of a submodel's blocks from input to output: its children that have parameters."""
    return [name for name, child in part.named_children() if next(child.parameters(), None) is not None]


def is_sequence(part: nn.Module, concatenates: bool) -> bool:
    """Return whether a submodel is a plain sequence of its blocks, so that a map between them can be kept.

    If features are concatenated, its method `features` must be able to go on from such a map.
    """
    if not isinstance(part, nn.Sequential) or type(part).forward is not nn.Sequential.forward:
        return False
    features = getattr(part, "features", None)
    return not concatenates or (callable(features) and "start" in inspect.signature(features).parameters)


def feature_count(part: nn.Module, shape: tuple[int, int, int], net: str) -> int:
    """Return the number of features of a submodel, by its method `features`.

    Raises:
        InputError: It has no such method, or its features are not [batch, n].

    """
    features: Callable[[Tensor], Tensor] | None = getattr(part, "features", None)
    name = without_digests(net)
    if not callable(features) or isinstance(features, nn.Module):
        raise InputError(
            f"model.fusion = concatenate: {name} does not say what its features are; give its module a "
            "method features(images) -> [n, features], which its last block turns into logits"
        )
    parameter = next(part.parameters())
    was_training = part.training
    part.eval()  # so that no running statistics change
    with torch.no_grad(), named_errors(own_sources(net), "failed in features"):
        found = features(torch.zeros(2, *shape, device=parameter.device))
    part.train(was_training)
    if found.dim() != 2 or len(found) != 2:
        raise InputError(
            f"model.fusion = concatenate: features of {name} for 2 images must be [2, n], not "
            f"{list(found.shape)}"
        )
    return found.shape[1]


def submodel(spec: ModelSpec, shape: tuple[int, int, int], classes: int, seed: int, letter: str) -> nn.Module:
    """Return a freshly initialised net, submodel a or b.

    A net with a method `initialise` draws each parameter from a stream of its own, derived from (seed, its
    name), so that nets with common parameters start equal there. Any other is initialised as its authors do,
    from one stream derived from the seed.

    Raises:
        InputError: The net does not fit the images, its code fails, or what it returns is not a module.

    """
    sources, name = own_sources(spec.net), without_digests(spec.net)
    torch.manual_seed(derive(seed, "weights") if letter == "a" else derive(seed, "weights", letter))
    with named_errors(sources, "failed"):
        net = load(spec.net)(shape, classes, **as_keywords(spec.keywords))
    _check_module(net, name)
    if any(isinstance(parameter, nn.UninitializedParameter) for parameter in net.parameters()):
        net.eval()  # lazy layers take their shapes from a first pass
        with torch.no_grad(), named_errors(sources, "failed on an image"):
            net(torch.zeros(2, *shape))
        net.train()
    initialise = getattr(net, "initialise", None)
    if callable(initialise) and not next(net.parameters()).is_meta:
        with named_errors(sources, "failed in initialise"):
            initialise(
                lambda part: torch.Generator().manual_seed(derive(seed, "weights", f"{letter}.{part}"))
            )
    return net  # type: ignore[no-any-return]


def _check_module(net: object, name: str) -> None:
    if not isinstance(net, nn.Module):
        raise InputError(f"model.net = {name}: must return a torch.nn.Module, not {type(net).__name__}")
    if not block_modules(net):
        raise InputError(
            f"model.net = {name}: its module has no children with parameters, so it has no blocks"
        )
    loose = [each for each, _ in net.named_parameters(recurse=False)]
    if loose:
        raise InputError(
            f"model.net = {name}: its parameter {loose[0]} belongs to no child module, so no stage could "
            "freeze it; put it into a module of its own"
        )


def build(spec: ModelSpec, shape: tuple[int, int, int], classes: int, network: Network, seed: int) -> Net:
    """Return a freshly initialised net for images of shape (channels, height, width).

    The layers after fusion are Glorot-uniform with zero biases (Glorot & Bengio 2010, eq. 16), each parameter
    from a stream of its own. For the submodels see `submodel`.

    Raises:
        InputError: The net does not fit the images or the method, or its code fails.

    """
    with torch.random.fork_rng(devices=[]):  # torch's layers initialise themselves from the global stream
        net = Net(spec, shape, classes, network, seed)
    for name in ("hidden", "output"):
        layer: nn.Linear | None = getattr(net, name)
        if layer is not None and not layer.weight.is_meta:
            stream = torch.Generator().manual_seed(derive(seed, "weights", f"{name}.weight"))
            nn.init.xavier_uniform_(layer.weight, generator=stream)
            nn.init.zeros_(layer.bias)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def fuse(weights: dict[str, Tensor], fused: Net, transfer_heads: bool) -> None:
    """Copy the trained submodels' weights into another form of the net, in place.

    Heads keep their initial weights if `transfer_heads` is false (fusion: fresh).
    """
    state = fused.state_dict()
    kept: tuple[str, ...] = ()
    if not transfer_heads:
        pairs = zip("ab", fused.parts(), strict=False)
        kept = tuple(f"{letter}.{block_modules(part)[-1]}." for letter, part in pairs)
    for name, old in weights.items():
        if name in state and not name.startswith(kept):
            state[name] = old
    fused.load_state_dict(state)
