"""Samples for tests of statistics, and how far a simulated rate may lie from the true one."""

import math

from hypothesis import strategies as st

WHOLE = st.integers(-20, 20).map(float)
MARGINS = st.floats(0, 30)


def margin_of_error(rate: float, repetitions: int, z: float = 1.645) -> float:
    return z * math.sqrt(rate * (1 - rate) / repetitions)
