"""Parameters of a net as views of one tensor, so that an optimizer's step is a few operations on it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Flat:
    """A tensor with the parameters of a net, and one with their gradients; they are changed in place."""

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
