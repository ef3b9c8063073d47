"""Focal loss (Lin et al. 2017, arXiv 1708.02002): images that are already right count less."""

from torch import Tensor
from torch.nn import functional


def focal(logits: Tensor, labels: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Logits are float32 [n, classes], labels int64 [n]; the result is a scalar."""
    losses = functional.cross_entropy(logits, labels, reduction="none")
    return ((1 - (-losses).exp()) ** gamma * losses).mean()
