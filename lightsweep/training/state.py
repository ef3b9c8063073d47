"""State of a stage in progress, with the records of its epochs: what a checkpoint keeps and restores."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightsweep.nets.models import Net
from lightsweep.store.stagefile import Checkpoint
from lightsweep.sweepfile.stages import StageSpec
from lightsweep.training.functions import optimizer_of


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a stage. Losses in nats, accuracies as fractions."""

    epoch: int
    """Number of the epoch within the stage, from 1."""
    learning_rate: float
    """Learning rate at the epoch's last step."""
    train_loss: float | None
    """Mean over the images, in training mode, summed over the trained heads; None if not finite."""
    train_accuracy: float
    """Training accuracy in training mode, mean over the trained heads."""
    val_loss: float | None
    """Validation loss in evaluation mode, summed over the trained heads; None if not finite."""
    val_accuracy: float
    """Validation accuracy, mean over the trained heads."""
    val_accuracy_heads: tuple[float, ...]
    """Validation accuracy of each head of the net."""
    seconds: float
    """Time that the epoch took, validation included."""

    @staticmethod
    def from_plain(record: dict[str, Any]) -> "EpochRecord":
        """Return the record of stored plain values."""
        return EpochRecord(**{**record, "val_accuracy_heads": tuple(record["val_accuracy_heads"])})


class Flat:
    """A tensor with the parameters of a net, and one with their gradients; they are changed in place.

    The net's parameters are views of them, so that an optimizer's step is a few operations.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.whole = nn.Parameter(torch.cat([each.detach().reshape(-1) for each in parameters]))
        self.whole.grad = torch.zeros_like(self.whole)
        gradients = self.pieces(self.whole.grad)
        for each, values, gradient in zip(
            parameters, self.pieces(self.whole.detach()), gradients, strict=True
        ):
            each.data, each.grad = values, gradient

    def pieces(self, whole: Tensor) -> list[Tensor]:
        """Return a tensor like `whole` as views in the parameters' shapes."""
        parts = whole.split([each.numel() for each in self.parameters])
        return [part.view(each.shape) for part, each in zip(parts, self.parameters, strict=True)]


@dataclass
class StageState:
    """State of a stage in progress: with the settings, all that its next epoch depends on."""

    net: Net
    optimizer: torch.optim.Optimizer
    records: list[EpochRecord]
    """Records of the epochs so far."""
    best: dict[str, Tensor]
    """The net's state after the best epoch so far; empty without patience."""
    flat: Flat | None = None
    """The trained parameters as one tensor, which is what the optimizer knows; None if it knows each."""

    @staticmethod
    def begin(net: Net, stage: StageSpec, trainable: frozenset[str]) -> "StageState":
        """Freeze the blocks that the stage does not train, and create its optimizer."""
        for name, block in blocks_of(net).items():
            block.requires_grad_(name in trainable)
        trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
        is_ours = net.has_images_last and isinstance(stage.optimizer, str) and stage.run is None
        flat = Flat(trained) if is_ours else None
        return StageState(net, optimizer_of(stage, [flat.whole] if flat else trained), [], {}, flat)

    def to_checkpoint(self, seconds: float) -> Checkpoint:
        """Return the state as plain tensors and records."""
        tensors = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        others: dict[str, dict[str, Any]] = {}
        for index, state in enumerate(self._optimizer_states()):
            for name, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{name}"] = value
                else:
                    others.setdefault(str(index), {})[name] = value
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        plain = {name: tensor.cpu() for name, tensor in tensors.items()}
        records = [asdict(record) for record in self.records]
        return Checkpoint(plain, records, seconds, {"state": others, "groups": groups})

    def go_on_from(self, checkpoint: Checkpoint) -> None:
        """Restore the state of a checkpoint."""
        parameters = self.parameters()
        net: dict[str, Tensor] = {}
        states: dict[int, dict[str, Any]] = {}
        for full_name, tensor in checkpoint.tensors.items():
            part, _, name = full_name.partition(".")
            if part == "own":
                continue  # see `ownloop.Kept`
            if part == "optimizer":
                number, _, name = name.partition(".")
                parameter = parameters[int(number)]
                # the optimizer's step counters are scalars on the CPU, its moments are on the weights' device
                states.setdefault(int(number), {})[name] = (
                    tensor.to(parameter.device) if tensor.dim() else tensor
                )
            else:
                (net if part == "net" else self.best)[name] = tensor
        for index, values in checkpoint.optimizer.get("state", {}).items():
            states.setdefault(int(index), {}).update(values)
        self._set_optimizer_states(states)
        for group, values in zip(
            self.optimizer.param_groups, checkpoint.optimizer.get("groups", []), strict=False
        ):
            group.update({name: _like(group.get(name), value) for name, value in values.items()})
        self.net.load_state_dict(net)
        self.records = [EpochRecord.from_plain(record) for record in checkpoint.epochs]

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters that the optimizer trains, in its order."""
        if self.flat:
            return self.flat.parameters
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _optimizer_states(self) -> list[dict[str, Any]]:
        """Return what the optimizer keeps of each of the `parameters`."""
        if not self.flat:
            return [self.optimizer.state[parameter] for parameter in self.parameters()]
        states: list[dict[str, Any]] = [{} for _ in self.flat.parameters]
        for name, value in self.optimizer.state[self.flat.whole].items():
            is_whole = isinstance(value, Tensor) and value.dim() > 0
            pieces = (
                [piece.clone() for piece in self.flat.pieces(value)] if is_whole else [value] * len(states)
            )
            for state, piece in zip(states, pieces, strict=True):
                state[name] = piece
        return states

    def _set_optimizer_states(self, states: dict[int, dict[str, Any]]) -> None:
        if not self.flat:
            parameters = self.parameters()
            for index, state in states.items():
                self.optimizer.state[parameters[index]].update(state)
        elif states:
            for name, first in states[0].items():
                is_whole = isinstance(first, Tensor) and first.dim() > 0
                parts = [states[index][name].reshape(-1) for index in range(len(states))] if is_whole else []
                self.optimizer.state[self.flat.whole][name] = torch.cat(parts) if is_whole else first


def blocks_of(net: Net) -> dict[str, nn.Module]:
    """Return a net's blocks by their full names."""
    return {name: net.get_submodule(name) for name in net.block_names()}


def _like(old: Any, value: Any) -> Any:
    """Return a value read from JSON, where a tuple is a list."""
    return tuple(value) if isinstance(old, tuple) and isinstance(value, list) else value
