"""Whether the statistics keep their promises: error rates, power and coverage by simulation.

python benchmarks/calibration.py [FAMILIES]

FAMILIES (10,000) families are simulated for each error rate, a fifth as many for each power and coverage.
Differences have a standard deviation of 1; the arms of a family share the seeds' luck and one base. Exits
with 1 if a family-wise error rate is above 5% by more than the margin, 1.645 standard errors. Takes minutes.
"""

import math
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from analysis.judgement import verdicts
from analysis.statistics import interval, sign_flip_p

SIGNIFICANCE = 0.05
Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Floats]

DRAWS: dict[str, Draw] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "skewed": lambda random, shape: random.exponential(size=shape) - 1,
    "heavy": lambda random, shape: random.standard_t(3, size=shape) / math.sqrt(3),
}
NULLS = [(1, 6), (1, 10), (1, 20), (5, 6), (5, 8), (5, 10), (5, 20), (10, 10)]


def differences(draw: Draw, families: int, arms: int, seeds: int) -> Floats:
    """Return differences [families, arms, seeds] without an effect, of arms that share a base."""
    random = np.random.default_rng([arms, seeds])
    luck, base = random.normal(size=(families, 1, seeds)), draw(random, (families, 1, seeds))
    return ((draw(random, (families, arms, seeds)) + luck) - (base + luck)) / math.sqrt(2)


def error_rate(wrong: list[bool]) -> tuple[str, bool]:
    """Return a rate with the largest one that agrees with 5%, as text, and whether it is above that."""
    rate = float(np.mean(wrong))
    limit = SIGNIFICANCE + 1.645 * math.sqrt(SIGNIFICANCE * (1 - SIGNIFICANCE) / len(wrong))
    return f"{rate:8.2%}  (limit {limit:.2%}){'  TOO MANY' if rate > limit else ''}", rate > limit


def false_differences(families: int) -> bool:
    """Print how many families without any effect have a "helps" or "hurts"; say whether too many do."""
    print(f"\nFamilies with a false difference, of {families:,}\nnoise    arms  seeds", flush=True)
    results = []
    for name, draw in DRAWS.items():
        for arms, seeds in NULLS if name == "normal" else [(5, 10)]:
            wrong = [
                any(decision.verdict in ("helps", "hurts") for decision in verdicts(family, SIGNIFICANCE, 0))
                for family in differences(draw, families, arms, seeds)
            ]
            text, is_high = error_rate(wrong)
            print(f"{name:7} {arms:5} {seeds:6} {text}", flush=True)
            results.append(is_high)
    return any(results)


def false_equivalences(families: int) -> bool:
    """Print how many families, all of whose arms differ by the margin, have an "equivalent"."""
    print(f"\nFamilies with a false equivalence, of {families:,}\nmargin   arms  seeds", flush=True)
    results = []
    for margin, arms, seeds in [(0.5, 1, 10), (2, 1, 10), (2, 1, 20), (0.5, 5, 10), (2, 5, 10), (2, 5, 20)]:
        wrong = [
            any(
                (decision.p_equivalence or 0) <= SIGNIFICANCE
                for decision in verdicts(family, SIGNIFICANCE, margin)
            )
            for family in differences(DRAWS["normal"], families, arms, seeds) + margin
        ]
        text, is_high = error_rate(wrong)
        print(f"{margin:4} sd {arms:5} {seeds:6} {text}", flush=True)
        results.append(is_high)
    return any(results)


def power(families: int) -> None:
    """Print how often an effect is found: alone, and as the only one among five arms."""
    print(f"\nPower, of {families:,}: alone / the only effect among five arms\neffect ", end="")
    sizes = (6, 8, 10, 20)
    print("".join(f"{f'{seeds} seeds':>16}" for seeds in sizes), flush=True)
    for effect in (0.5, 1.0, 1.5, 2.0):
        cells = []
        for seeds in sizes:
            sample = differences(DRAWS["normal"], families, 5, seeds)
            sample[:, 0] += effect
            alone = np.mean([sign_flip_p(family[0]) <= SIGNIFICANCE for family in sample])
            among = np.mean([verdicts(family, SIGNIFICANCE, 0)[0].verdict == "helps" for family in sample])
            cells.append(f"{alone:9.1%} /{among:5.0%}")
        print(f"{effect:3} sd " + "".join(cells), flush=True)


def coverage(samples: int) -> None:
    """Print how often the 95% interval holds the true mean."""
    error = 1.96 * math.sqrt(0.95 * 0.05 / samples)
    print(f"\nCoverage of the 95% interval, of {samples:,} (±{error:.1%})")
    print("n       normal  skewed   heavy  method", flush=True)
    for n in (6, 8, 10, 20):
        cells, method = [], ""
        for draw in DRAWS.values():
            found = [interval(sample) for sample in draw(np.random.default_rng(n), (samples, n))]
            cells.append(np.mean([each is not None and each.low <= 0 <= each.high for each in found]))
            method = found[0].method if found[0] else ""
        print(f"{n:2}    " + "".join(f"{cell:8.1%}" for cell in cells) + f"  {method}", flush=True)


def main() -> None:
    """Print all tables."""
    families = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    is_high = [false_differences(families), false_equivalences(families)]
    power(max(1, families // 5))
    coverage(max(1, families // 5))
    sys.exit(any(is_high))


if __name__ == "__main__":
    main()
