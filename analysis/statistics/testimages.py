"""Test images as a second source of chance: which of them each trial classified correctly.

A difference of two arms is over seeds and images, crossed: every seed is tested on the same images. Other
seeds on the same images would give another difference, and so would other images of the same kind.
"""

import base64
import math
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis.statistics.contrasts import Contrast
from analysis.statistics.paired import Floats, Interval, require_fraction

Hits = Mapping[tuple[str, int], Floats]
"""(arm, seed) -> share of the folds that classified each test image correctly, float64 [images]."""


def decode_hits(text: str, images: int) -> npt.NDArray[np.bool_]:
    """Return whether each test image was classified correctly, bool [images], from a record's base64.

    Raises:
        ValueError: The text is not base64 of one bit per image.

    """
    packed = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(packed) != -(-images // 8):
        raise ValueError(f"{len(packed)} bytes are not a bit for each of {images} images")
    return np.unpackbits(packed, count=images).astype(np.bool_)


def gather_hits(trials: pd.DataFrame, images: int) -> dict[tuple[str, int], Floats]:
    """Return the hits of each arm and seed for which all folds have them; `trials` are on one data set.

    Raises:
        ValueError: As for `decode_hits`.

    """
    completed = trials[trials["status"] == "completed"].dropna(subset=["test_hits"])
    found = {}
    for _, rows in completed.groupby(["arm", "seed"], sort=False):
        if len(rows) == rows["folds"].iloc[0]:
            folds = [decode_hits(text, images) for text in rows["test_hits"]]
            found[str(rows["arm"].iloc[0]), int(rows["seed"].iloc[0])] = np.mean(folds, axis=0)
    return found


def differences_by_image(contrast: Contrast, hits: Hits, seeds: Iterable[int]) -> Floats | None:
    """Return a contrast by seed and image, float64 [seeds, images]; None if any hits are missing."""
    rows = []
    for seed in seeds:
        if any((arm, seed) not in hits for arm in contrast.weights):
            return None
        rows.append(sum(weight * hits[arm, seed] for arm, weight in contrast.weights.items()))
    return np.array(rows, np.float64) if rows else None


def crossed_interval(differences: Floats, confidence: float = 0.95) -> Interval | None:
    """Return an interval of the mean of `differences`, float [seeds, images], over seeds and images.

    Two crossed random factors: the variance of the mean is (MS_seed + MS_image - MS_rest) / (seeds x images),
    with no component below zero, and Satterthwaite's degrees of freedom (Searle, Casella & McCulloch 1992,
    Variance Components, section 2.3; Satterthwaite 1946, Biometrics Bulletin 2:110). For a single seed, the
    images alone, as McNemar's test counts them (McNemar 1947, Psychometrika 12:153): (q - d^2) / images,
    where q is the mean square and d the mean. None if nothing varies.

    Raises:
        ValueError: The differences are not finite numbers in two dimensions with two images or more, or
            confidence is not in (0, 1).

    """
    require_fraction("confidence", confidence)
    differences = np.asarray(differences, np.float64)
    if differences.ndim != 2 or differences.shape[1] < 2 or not np.isfinite(differences).all():
        raise ValueError(f"differences must be finite, [seeds, 2 images or more]; got {differences.shape}")
    seeds, images = differences.shape
    mean = float(differences.mean())
    if seeds == 1:
        variance = float((differences**2).mean() - mean**2) / images
        quantile, method = float(special.ndtri((1 + confidence) / 2)), "test images of one seed (McNemar)"
    else:
        by_seed, by_image = differences.mean(axis=1), differences.mean(axis=0)
        rest = differences - by_seed[:, None] - by_image + mean
        ms_rest = float((rest**2).sum()) / ((seeds - 1) * (images - 1))
        ms_seed = max(images * float(by_seed.var(ddof=1)), ms_rest)
        ms_image = max(seeds * float(by_image.var(ddof=1)), ms_rest)
        total = ms_seed + ms_image - ms_rest
        variance = total / (seeds * images)
        if total > 0:
            parts = (
                ms_seed**2 / (seeds - 1)
                + ms_image**2 / (images - 1)
                + ms_rest**2 / ((seeds - 1) * (images - 1))
            )
            quantile = float(special.stdtrit(total**2 / parts, (1 + confidence) / 2))
        method = "seeds and test images, crossed"
    if variance <= 0:
        return None
    reach = quantile * math.sqrt(variance)
    return Interval(mean - reach, mean + reach, method)
