"""Whether the statistics keep their promises: error rates, power and coverage by simulation.

python benchmarks/calibration.py [FAMILIES]

FAMILIES (10,000) families are simulated for each error rate, a fifth as many for each power and coverage.
Differences have a standard deviation of 1; the arms of a family share the seeds' luck and one base. Exits
with 1 if a family-wise error rate is above 5% by more than the margin, 1.645 standard errors, where the
differences are symmetric, as the sign-flip test takes them to be: between arms of one noise, whatever that
is. Between arms of skewed and a base of normal noise they are not, and the rates say what that costs. Takes
minutes.
"""

import math
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.front.result import ARM_DIRECTIONS, membership_probability, pareto_front
from analysis.statistics.families import verdicts
from analysis.statistics.paired import interval, sign_flip_p
from analysis.statistics.testimages import crossed_interval

SIGNIFICANCE = 0.05
Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Floats]


def log_normal(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Return draws of mean 0 and deviation 1 whose logarithm, but for a shift, is of deviation 1."""
    return (random.lognormal(size=shape) - math.exp(0.5)) / math.sqrt(math.e * (math.e - 1))


def collapsing(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Return normal draws of which one in twenty lies 15 deviations lower, about their mean."""
    return random.normal(size=shape) - 15.0 * (random.random(shape) < 0.05) + 0.75


DRAWS: dict[str, Draw] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "skewed": lambda random, shape: random.exponential(size=shape) - 1,
    "heavy": lambda random, shape: random.standard_t(3, size=shape) / math.sqrt(3),
}
QUIET: Draw = lambda random, shape: random.normal(scale=0.5, size=shape)  # noqa: E731
ASYMMETRIC: dict[str, tuple[Draw, Draw]] = {  # of arms and of their base
    "skewed base, normal arms of half": (QUIET, DRAWS["skewed"]),
    "skewed arms, normal base of half": (DRAWS["skewed"], QUIET),
    "log-normal arms, normal base of half": (log_normal, QUIET),
    "arms that collapse in 5% of seeds": (collapsing, DRAWS["normal"]),
}
NULLS = [(1, 6), (1, 10), (1, 20), (5, 6), (5, 8), (5, 10), (5, 20), (10, 10)]
ASYMMETRIC_NULLS = [(1, 10), (11, 10), (1, 20), (11, 20)]


def differences(draw: Draw, families: int, arms: int, seeds: int, draw_base: Draw | None = None) -> Floats:
    """Return differences [families, arms, seeds] without an effect, of arms that share a base.

    The base's noise is that of the arms, unless it has its own.
    """
    random = np.random.default_rng([arms, seeds])
    base = (draw_base or draw)(random, (families, 1, seeds))
    luck = random.normal(size=(families, 1, seeds))
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


def false_differences_under_skew(families: int) -> None:
    """Print the same where differences are not symmetric, which the test takes them to be.

    One noise is skewed, of deviation 1, and the other normal, of half that, so that it hides little.
    """
    print(f"\nWhere differences are skewed, of {families:,}: arms/seeds", flush=True)
    print(" " * 37 + "".join(f"{f'{arms}/{seeds}':>9}" for arms, seeds in ASYMMETRIC_NULLS), flush=True)
    for name, (draw, draw_base) in ASYMMETRIC.items():
        rates = []
        for arms, seeds in ASYMMETRIC_NULLS:
            sample = differences(draw, families, arms, seeds, draw_base)
            rates.append(
                np.mean(
                    [any(d.verdict != "not decided" for d in verdicts(f, SIGNIFICANCE, 0)) for f in sample]
                )
            )
        print(f"{name:37}" + "".join(f"{rate:9.1%}" for rate in rates), flush=True)


def front_probability(sweeps: int) -> None:
    """Print how often arms are truly on the front, by the probability that is stated of it.

    Of sweeps of 12 arms whose true accuracies differ about as much as their seeds do: Brier score, and the
    share truly on it of arms said to be on it surely (over 99%) or surely not (under 1%).
    """
    print(f"\nProbability of being on the front, of {sweeps:,} sweeps of 12 arms", flush=True)
    print("seeds   Brier   truly on: of <1%     of >99%", flush=True)
    for seeds in (2, 3, 5, 10):
        random = np.random.default_rng(seeds)
        stated, true = [], []
        for _ in range(sweeps):
            sizes = random.permutation(12).astype(float)
            worth = 0.3 * np.log1p(sizes) + random.normal(size=12)
            accuracies = worth[:, None] + random.normal(size=(12, seeds)) + random.normal(size=(1, seeds))
            stated.append(membership_probability(sizes + 1, accuracies, resamples=500))
            true.append(pareto_front(np.column_stack([sizes, worth]), ARM_DIRECTIONS))
        probability, is_on = np.concatenate(stated), np.concatenate(true)
        brier = np.mean((probability - is_on) ** 2)
        ends = [is_on[probability < 0.01], is_on[probability > 0.99]]
        cells = "".join(f"{end.mean():9.1%} of {len(end):4,}" for end in ends)
        print(f"{seeds:5}  {brier:6.3f}  {cells}", flush=True)


def coverage_over_images(samples: int) -> None:
    """Print how often the interval over seeds and test images, and that over seeds alone, hold the truth.

    Of two nets whose errors on 1,000 images share the image's difficulty; 0.5 points apart.
    """
    print(f"\nCoverage over seeds and 1,000 test images, of {samples:,}", flush=True)
    print("seeds   crossed   seeds alone", flush=True)
    for seeds in (2, 3, 5, 10):
        random, held = np.random.default_rng(seeds), np.zeros(2)
        for _ in range(samples):
            hardness = random.normal(size=(2, 1, 1_000)) * 0.6 + random.normal(size=(1, 1, 1_000))
            seed_luck = 0.1 * random.normal(size=(2, seeds, 1))
            right = hardness + seed_luck + 0.5 * random.normal(size=(2, seeds, 1_000)) < CUTS[:, None, None]
            sample = right[0].astype(float) - right[1]
            for place, found in enumerate((crossed_interval(sample), interval(sample.mean(axis=1)))):
                held[place] += found is not None and found.low <= TRUE_DIFFERENCE <= found.high
        print(f"{seeds:5}  {held[0] / samples:8.1%}  {held[1] / samples:12.1%}", flush=True)


SPREAD = math.sqrt(0.6**2 + 1 + 0.1**2 + 0.5**2)
CUTS = SPREAD * special.ndtri(np.array([0.9, 0.895]))
TRUE_DIFFERENCE = 0.005


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
    false_differences_under_skew(max(1, families // 2))
    power(max(1, families // 5))
    coverage(max(1, families // 5))
    coverage_over_images(max(1, families // 5))
    front_probability(max(1, families // 20))
    sys.exit(any(is_high))


if __name__ == "__main__":
    main()
