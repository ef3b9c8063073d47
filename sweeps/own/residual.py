"""A residual net of depthwise-separable convolutions."""

from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional

from lightsweep import Range


class Separable(nn.Module):
    """A depthwise and a pointwise convolution with batch normalisation, added to what went in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.norm(self.pointwise(self.depthwise(x))))


class Residual(nn.Module):
    """Children are the blocks, in order: what `train: last-2` and freezing count."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.first = Separable(width)
        self.wider = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
        )
        self.second = Separable(2 * width)
        self.third = Separable(2 * width)
        self.head = nn.Linear(2 * width, classes)

    def features(self, x: Tensor) -> Tensor:
        """Optional: what the last block turns into logits, for `fusion: concatenate`."""
        x = self.first(self.stem(x))
        x = self.third(self.second(self.wider(x)))
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def build(
    shape: tuple[int, int, int], classes: int, *, width: Annotated[int, Range(2, 64, log=True)] = 12
) -> nn.Module:
    """Keyword-only parameters are the keys of `model:` in the sweep file."""
    return Residual(shape[0], classes, width)
