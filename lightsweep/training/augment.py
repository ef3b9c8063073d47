"""Random image transforms on whole batches, each image with amounts of its own.

`draw` makes the random amounts and nothing else, `apply` is a pure function of images and amounts.
Images are float32 [n, channels, height, width] in [0, 1], on any device; their memory format is kept.
Neighbouring rotate, shift, scale, shear, crop and flip are composed into one matrix per image and
resampled once; formulas and signs are those of torchvision.transforms.v2.functional.
"""

import math
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from lightsweep.sweepfile.augmentation import TransformSpec

_CHANNEL_WEIGHTS = (0.2989, 0.587, 0.114)  # of red, green and blue in grey (ITU-R BT.601)
_ASPECT_RATIOS = (0.3, 3.3)  # of erased rectangles, height by width (Zhong et al., arXiv 1708.04896)
_GEOMETRIC = frozenset(("rotate", "shift", "scale", "shear", "crop", "flip"))
_WHOLE_PIXELS = frozenset(("crop", "flip"))


def augment(images: Tensor, transforms: Sequence[TransformSpec], generator: torch.Generator) -> Tensor:
    """Transform each image by random amounts.

    Args:
        images: float32 [n, channels, height, width] in [0, 1]; left as they are.
        transforms: What to do, in this order.
        generator: Where the randomness comes from, on the images' device.

    Returns:
        Images of the same shape, type and memory format in [0, 1]; the very tensor without transforms.
        Images to which nothing was applied are equal bit for bit.

    """
    return apply(images, transforms, draw(images.shape, transforms, generator)) if transforms else images


def draw(
    shape: Sequence[int], transforms: Sequence[TransformSpec], generator: torch.Generator
) -> tuple[Tensor, ...]:
    """Draw the amounts for n images of a shape [n, channels, height, width], on the generator's device.

    Returns:
        For each transform a float32 tensor; where it is not applied, the amounts that change nothing.
        rotate, shear: [n, 1], degrees, clockwise. scale: [n, 1], factors. shift: [n, 2], fractions of
        width and height, right and down. crop: [n, 2], whole pixels, right and down. flip: [n, 1], -1 for
        mirrored and 1 for not. erase: [n, 4], top, left, height and width of the rectangle in pixels.
        noise: [n, channels, height, width], what is added. brightness, contrast: [n, 1], factors.

    """
    return tuple(_draw_one(shape, transform, generator) for transform in transforms)


def _draw_one(shape: Sequence[int], step: TransformSpec, generator: torch.Generator) -> Tensor:
    count, channels, height, width = shape
    device, unchanged = generator.device, 0.0

    def uniform(low: float, high: float, number: int) -> Tensor:
        drawn = torch.rand(count, number, generator=generator, device=device)
        return drawn.mul_(high - low).add_(low)

    low, high = step.range or (0.0, 0.0)
    match step.transform:
        case "flip":
            amounts, unchanged = torch.full((count, 1), -1.0, device=device), 1.0
        case "shift":
            amounts = uniform(low, high, 2)
        case "crop":  # whole pixels, each as likely
            first, beyond = round(low), round(high) + 1
            amounts = uniform(first, beyond, 2).floor_().clamp_(max=beyond - 1)
        case "erase":
            amounts = _rectangles(uniform(low, high, 1), uniform(0, 1, 3), height, width)
        case "noise":
            normal = torch.randn(count, height, width, channels, generator=generator, device=device)
            amounts = normal.mul_(uniform(low, high, 1)[:, :, None, None]).permute(0, 3, 1, 2)
        case "scale" | "brightness" | "contrast":
            amounts, unchanged = uniform(low, high, 1), 1.0
        case "rotate" | "shear":
            amounts = uniform(low, high, 1)
    if step.probability == 1:
        return amounts
    skipped = uniform(0, 1, 1) >= step.probability
    return amounts.masked_fill_(skipped.view(count, *(1,) * (amounts.dim() - 1)), unchanged)


def _rectangles(area: Tensor, uniform: Tensor, height: int, width: int) -> Tensor:
    """Return rectangles [n, 4] (top, left, height, width) in whole pixels inside the image.

    Args:
        area: Shares of the image's area, [n, 1].
        uniform: Numbers in [0, 1) for the aspect ratio (log-uniform) and the place, [n, 3].
        height: Of the image in pixels.
        width: Of the image in pixels.

    """
    pixels = area * (height * width)
    low, high = (math.log(ratio) for ratio in _ASPECT_RATIOS)
    ratio = uniform[:, :1].mul(high - low).add_(low).exp_()
    exact = (pixels * ratio).sqrt_().clamp_(max=height).maximum(pixels / width)  # so that width fits, too
    sides = torch.cat((exact, pixels / exact.clamp(min=1e-6)), 1).round_()
    room = torch.cat((height + 1 - sides[:, :1], width + 1 - sides[:, 1:]), 1)
    return torch.cat(((uniform[:, 1:] * room).floor_(), sides), 1)


def apply(images: Tensor, transforms: Sequence[TransformSpec], amounts: Sequence[Tensor]) -> Tensor:
    """Transform images by given amounts, as `draw` returns them.

    Args:
        images: float32 [n, channels, height, width] in [0, 1]; left as they are.
        transforms: What to do, in this order.
        amounts: For each transform, on the images' device.

    """
    pairs = zip(transforms, amounts, strict=True)
    for geometric, group in groupby(pairs, key=lambda pair: pair[0].transform in _GEOMETRIC):
        run = list(group)
        steps: list[tuple[str, Tensor]] = [(transform.transform, amount) for transform, amount in run]
        if geometric:
            images = _resample(images, steps, all(_may_do_nothing(transform) for transform, _ in run))
        else:
            for name, amount in steps:
                images = _recolour(images, name, amount)
    return images


def _may_do_nothing(transform: TransformSpec) -> bool:
    """Tell whether an image may well be left as it is, by being skipped or by a range of one amount."""
    return transform.probability < 1 or (transform.range is not None and len(set(transform.range)) == 1)


def inverse_matrices(steps: Sequence[tuple[str, Tensor]], height: int, width: int) -> Tensor:
    """Compose one or more geometric steps (name, amounts) into one matrix per image.

    Returns:
        float32 [n, 2, 3], from a place (x, y, 1) in the result to the place (x, y) in the image that it
        shows, in pixels right and down from the image's centre.

    """
    first = steps[0][1]
    x, y, offset = torch.eye(3, 2, device=first.device).expand(len(first), 3, 2).unbind(1)  # columns
    for name, amount in steps:  # each time the matrix so far, times the inverse of this step
        match name:
            case "rotate":
                angle = torch.deg2rad(amount)
                cosine, sine = angle.cos(), angle.sin()
                x, y = x * cosine - y * sine, x * sine + y * cosine
            case "shear":
                y = y + x * torch.deg2rad(amount).tan()
            case "scale":
                x, y = x / amount, y / amount
            case "flip":
                x = x * amount
            case "crop":
                offset = offset - x * amount[:, :1] - y * amount[:, 1:]
            case "shift":
                offset = offset - x * (amount[:, :1] * width) - y * (amount[:, 1:] * height)
    return torch.stack((x, y, offset), 2)


def _resample(images: Tensor, steps: Sequence[tuple[str, Tensor]], may_skip: bool) -> Tensor:
    """Move the images' pixels: one sampling, of each image by one matrix."""
    height, width = images.shape[2:]
    whole_pixels = all(name in _WHOLE_PIXELS for name, _ in steps)
    matrix = inverse_matrices(steps, height, width)
    moved = (matrix != torch.eye(2, 3, device=images.device)).flatten(1).any(1) if may_skip else None
    matrix[:, 0] *= 2 / width  # from pixels to grid_sample's units: the image reaches from -1 to 1
    matrix[:, 1] *= 2 / height
    x, y, offset = matrix[..., None].unbind(2)
    across = x * torch.arange(0.5 - width / 2, width / 2, device=images.device) + offset
    down = y * torch.arange(0.5 - height / 2, height / 2, device=images.device)
    grid = across[:, :, None] + down[:, :, :, None]  # affine_grid's values, in a tenth of its time
    mode = "nearest" if whole_pixels else "bilinear"  # nearest is exact for whole pixels
    sampled = grid_sample(images, grid.permute(0, 2, 3, 1), mode, "zeros", align_corners=False)
    # bilinear weights may sum to a little more than 1; the result takes the images' memory format
    result = torch.clamp(sampled, max=1, out=torch.empty_like(images))
    return result if moved is None else torch.where(moved[:, None, None, None], result, images)


def _recolour(images: Tensor, name: str, amount: Tensor) -> Tensor:
    match name:
        case "noise":
            return (images + amount).clamp_(0, 1)
        case "brightness":
            return (images * amount[:, :, None, None]).clamp_(0, 1)
        case "contrast":
            factor = amount[:, :, None, None]
            return (images * factor + (1 - factor) * _grey_mean(images)).clamp_(0, 1)
    top, left, height, width = amount[:, None].unbind(2)
    rows = torch.arange(images.shape[2], device=images.device)
    columns = torch.arange(images.shape[3], device=images.device)
    in_rows = (rows >= top) & (rows < top + height)
    in_columns = (columns >= left) & (columns < left + width)
    kept = ~(in_rows[:, None, :, None] & in_columns[:, None, None, :])
    return images * kept.float()  # several times as fast as masked_fill


def _grey_mean(images: Tensor) -> Tensor:
    """Return the images' mean grey [n, 1, 1, 1]: weighted for 3 channels, else the channels' mean."""
    means = images.mean((2, 3), keepdim=True)
    if images.shape[1] != 3:
        return means.mean(1, keepdim=True)
    parts = [mean * weight for mean, weight in zip(means.unbind(1), _CHANNEL_WEIGHTS, strict=True)]
    return torch.stack(parts).sum(0)[:, None]
