"""Test images as a second factor: bits read back, the interval against sums by hand and simulation."""

import base64
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.statistics.contrasts import Contrast
from analysis.statistics.testimages import crossed_interval, decode_hits, differences_by_image, gather_hits


def encode(hits: list[bool]) -> str:
    return base64.b64encode(np.packbits(np.array(hits))).decode()


def test_bits_are_read_in_order() -> None:
    hits = [True, False, False, True, True, False, True, False, False, True]
    assert decode_hits(encode(hits), 10).tolist() == hits
    assert decode_hits("gA==", 8).tolist() == [True] + [False] * 7  # the highest bit of a byte comes first


@pytest.mark.parametrize(
    ("text", "fault"),
    [(encode([True] * 16), "2 bytes are not a bit for each of 8 images"), ("no base64!", "base64")],
)
def test_bits_of_another_number_of_images_are_refused(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        decode_hits(text, 8)


def test_folds_are_averaged_and_all_must_be_there() -> None:
    rows = [("a", 0, [True, False]), ("a", 0, [True, True]), ("b", 0, [True, True]), ("b", 0, None)]
    trials = pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "folds": 2, "status": "completed", "test_hits": hits and encode(hits)}
            for arm, seed, hits in rows
        ]
    )
    hits = gather_hits(trials, 2)
    assert {key: value.tolist() for key, value in hits.items()} == {("a", 0): [1.0, 0.5]}
    contrast = Contrast("x", "", {"a": 1.0, "b": -1.0})
    assert differences_by_image(contrast, hits, [0]) is None
    hits["b", 0] = np.array([0.0, 1.0])
    assert differences_by_image(contrast, hits, [0]).tolist() == [[1.0, -0.5]]
    assert differences_by_image(contrast, hits, []) is None


def test_two_seeds_and_three_images_by_hand() -> None:
    """Mean squares of a two-way table with one value a cell, summed cell by cell."""
    table = [[1.0, 0.0, 0.0], [1.0, 1.0, -1.0]]
    mean = 2 / 6
    rows, columns = [1 / 3, 1 / 3], [1.0, 0.5, -0.5]
    ms_seed = sum(3 * (row - mean) ** 2 for row in rows)
    ms_image = sum(2 * (column - mean) ** 2 for column in columns) / 2
    ms_rest = sum((table[s][i] - rows[s] - columns[i] + mean) ** 2 for s in range(2) for i in range(3)) / 2
    ms_seed = max(ms_seed, ms_rest)  # no part of the variance is below zero
    total = ms_seed + ms_image - ms_rest
    freedom = total**2 / (ms_seed**2 / 1 + ms_image**2 / 2 + ms_rest**2 / 2)
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(total / 6)
    found = crossed_interval(np.array(table))
    assert (found.low, found.high) == pytest.approx((mean - reach, mean + reach))


def test_one_seed_is_mcnemars() -> None:
    """10 images that only the first net classifies, 4 that only the other does, of 100: variance by hand."""
    differences = np.array([[1.0] * 10 + [-1.0] * 4 + [0.0] * 86])
    reach = stats.norm.ppf(0.975) * math.sqrt((0.14 - 0.06**2) / 100)
    found = crossed_interval(differences)
    assert (found.low, found.high) == pytest.approx((0.06 - reach, 0.06 + reach))


def test_what_never_varies_has_no_interval() -> None:
    assert crossed_interval(np.zeros((3, 5))) is None
    assert crossed_interval(np.zeros((1, 5))) is None


@pytest.mark.parametrize("shape", [(3,), (2, 1)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="2 images or more"):
        crossed_interval(np.zeros(shape))


@pytest.mark.parametrize(("of_seed", "of_image"), [(0.0, 0.0), (0.02, 0.0), (0.0, 0.3), (0.02, 0.3)])
def test_covers_what_is_true_as_often_as_it_says(of_seed: float, of_image: float) -> None:
    """400 samples of 5 seeds and 200 images; an interval over seeds alone misses what the images do."""
    draws, covered = np.random.default_rng(1), 0
    for _ in range(400):
        differences = (
            0.01
            + of_seed * draws.normal(size=(5, 1))
            + of_image * draws.normal(size=(1, 200))
            + 0.3 * draws.normal(size=(5, 200))
        )
        found = crossed_interval(differences)
        covered += found.low <= 0.01 <= found.high
    assert covered / 400 >= 0.92
