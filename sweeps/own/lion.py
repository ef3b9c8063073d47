"""Lion (Chen et al. 2023, arXiv 2302.06675): steps of one size, the sign of the averaged gradient."""

from collections.abc import Iterable

import torch
from torch import Tensor


class Lion(torch.optim.Optimizer):
    """What belongs to a parameter stands in `self.state`: a stage that was cut off goes on from it."""

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, beta1: float, beta2: float, decay: float
    ) -> None:
        super().__init__(parameters, {"lr": lr, "beta1": beta1, "beta2": beta2, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                mean = state.setdefault("mean", torch.zeros_like(parameter))
                direction = mean.lerp(parameter.grad, 1 - group["beta1"]).sign()
                parameter.mul_(1 - group["lr"] * group["decay"]).sub_(direction, alpha=group["lr"])
                mean.lerp_(parameter.grad, 1 - group["beta2"])


def lion(
    parameters: Iterable[Tensor],
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
) -> Lion:
    """`lr` is the stage's; the other keywords are keys of `optimizer:`."""
    return Lion(parameters, lr=lr, beta1=beta1, beta2=beta2, decay=weight_decay)
