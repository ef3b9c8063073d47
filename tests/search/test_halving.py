"""Early stopping for a front: where the rungs are, and who goes on, by hand, brute force and properties."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightsweep.search.halving import MOST_EPOCHS, Rungs
from lightsweep.sweepfile.search import EarlyStopping

Point = tuple[float, ...]
"""Accuracy, and costs, of which low is good."""


def rungs(**spec: Any) -> Rungs:
    return Rungs(EarlyStopping(**{"first": 1, "factor": 2} | spec))


def at_first_rung(points: Sequence[Point], **spec: Any) -> Rungs:
    """Return rungs that know trials "0", "1", … after one epoch."""
    found = rungs(**spec)
    for number, (accuracy, *costs) in enumerate(points):
        found.add(str(number), [accuracy], costs)
    return found


def decisions(points: Sequence[Point], **spec: Any) -> list[bool]:
    """Say which of some trials go on if all of them have come to the first rung."""
    found = at_first_rung(points, **spec)
    return [found.goes_on(str(n), [accuracy], costs) for n, (accuracy, *costs) in enumerate(points)]


# rungs


@pytest.mark.parametrize(
    ("first", "factor", "begin"),
    [
        (2, 3, (2, 6, 18, 54, 162)),
        (4, 2, (4, 8, 16, 32)),
        (1, 1.5, (1, 2, 3, 5, 8, 11)),  # 1, 1.5, 2.25, 3.375, 5.0625, 7.59, 11.39: each number once
        (1, 2.5, (1, 2, 6, 16)),  # 2.5 to even, 6.25, 15.625
        (3, 1.1, (3, 4, 5, 6, 7, 8, 9, 10)),  # 3.3, 3.63, 3.99, 4.39, 4.83 … 9.42, 10.36
    ],
)
def test_rungs_by_hand(first: int, factor: float, begin: tuple[int, ...]) -> None:
    assert rungs(first=first, factor=factor).epochs[: len(begin)] == begin


@given(st.integers(1, 10_000), st.floats(1.1, 100))
@settings(max_examples=30)
def test_rungs_ascend_by_the_factor_and_end(first: int, factor: float) -> None:
    found = rungs(first=first, factor=factor).epochs
    assert found[0] == first
    assert all(later > earlier for earlier, later in pairwise(found))
    powers = range(int(math.log(MOST_EPOCHS / first, factor)))
    exact = [first * factor**power for power in powers]
    assert all(min(abs(rung - place) for rung in found) < 0.51 for place in exact)
    assert found[-1] <= MOST_EPOCHS < (found[-1] + 1) * factor


def test_a_first_rung_after_all_epochs_is_none() -> None:
    assert rungs(first=10**9).epochs == ()


# decisions, by hand

# rank 0: the first, second and last; rank 1: the third; rank 2: the fourth
TABLE = [(0.90, 100), (0.95, 200), (0.85, 150), (0.80, 300), (0.95, 200)]


@pytest.mark.parametrize(
    ("factor", "stays"),
    [
        (5, [True, True, False, False, True]),  # one would go on, but none is ahead of three
        (2, [True, True, False, False, True]),  # three go on; three are ahead of the third
        (1.5, [True, True, True, False, True]),  # four go on; four are ahead of the fourth
        (1.2, [True, True, True, True, True]),  # five go on
    ],
)
def test_decisions_by_hand(factor: float, stays: list[bool]) -> None:
    assert decisions(TABLE, factor=factor) == stays


def test_of_two_the_dominated_one_stops() -> None:
    assert decisions([(0.9, 100), (0.8, 100)]) == [True, False]
    assert decisions([(0.9, 100), (0.9, 101)]) == [True, False]
    assert decisions([(0.9, 100), (0.8, 99)]) == [True, True]


def test_equals_are_treated_as_equals() -> None:
    assert decisions([(0.5, 100)] * 6, factor=3) == [True] * 6
    assert decisions([(0.5, 100)] * 3 + [(0.4, 100)] * 3) == [True] * 3 + [False] * 3


@pytest.mark.parametrize("factor", [2, 2.5, 3, 10])
@pytest.mark.parametrize("compare", ["rank", "accuracy"])
def test_fewer_than_factor_stop_nobody_and_as_many_do(factor: float, compare: str) -> None:
    most = math.ceil(factor) - 1
    worse = [(0.9 - 0.1 * number, 100.0 + number) for number in range(most + 1)]
    assert decisions(worse[:most], factor=factor, compare=compare) == [True] * most
    assert not all(decisions(worse, factor=factor, compare=compare))


def test_accuracy_alone_kills_the_small_nets_and_rank_does_not() -> None:
    """Why trials are compared by rank: each of these is the best of its size."""
    front = [(0.70, 500), (0.80, 1_000), (0.90, 5_000), (0.95, 10_000), (0.97, 20_000), (0.98, 50_000)]
    assert decisions(front, factor=3, compare="accuracy") == [False] * 4 + [True] * 2
    assert decisions(front, factor=3, compare="rank") == [True] * 6


def test_the_first_to_come_go_on_whatever_comes_later() -> None:
    """Asynchronous: nobody waits, each is compared with those that came before."""
    found = rungs(factor=3)
    assert found.goes_on("a", [0.1], [100])
    assert found.goes_on("b", [0.2], [100])
    assert found.goes_on("c", [0.3], [100])
    assert not found.goes_on("d", [0.1], [100])  # of four two go on, b and c are ahead
    assert found.goes_on("e", [0.2], [100])  # of five two, and c alone is ahead
    assert not found.goes_on("f", [0.1], [100])  # of six two
    assert found.goes_on("g", [0.3], [100])


# epochs


def test_only_at_a_rung_is_anybody_stopped() -> None:
    """Rungs after 2, 4 and 8 epochs."""
    for epochs in range(1, 10):
        found = rungs(first=2)
        for name in "abcdefgh":
            found.add(name, [0.9] * 20, [1.0])
        assert found.goes_on("x", [0.1] * epochs, [2.0]) == (epochs not in (2, 4, 8))


def test_the_best_accuracy_so_far_counts_and_not_the_latest() -> None:
    found = rungs(first=3)
    found.add("peer", [0.1, 0.1, 0.6], [100.0])
    assert found.goes_on("fell", [0.1, 0.7, 0.2], [100.0])
    assert not found.goes_on("rose", [0.1, 0.2, 0.5], [100.0])


def test_what_a_peer_reached_after_the_rung_does_not_count() -> None:
    found = rungs(first=2)
    found.add("peer", [0.1, 0.2, 0.9], [100.0])
    assert found.goes_on("x", [0.1, 0.3], [100.0])


def test_each_rung_has_peers_of_its_own() -> None:
    """Who did not come so far is no peer there, and whoever did is one at all rungs before."""
    found = rungs(first=1, factor=2)
    found.add("short", [0.9], [1.0])
    assert found.goes_on("x", [0.1, 0.1], [2.0])
    found.add("long", [0.5, 0.5, 0.5], [1.0])
    assert not found.goes_on("x", [0.1, 0.1], [2.0])
    assert not found.goes_on("y", [0.1], [2.0])


def test_a_stopped_trial_stays_a_peer() -> None:
    """As in ASHA: without it fewer would go on."""
    found = at_first_rung([(0.9, 100), (0.8, 100)], factor=3)
    assert not found.goes_on("2", [0.1], [100])
    assert found.goes_on("3", [0.85], [100])  # of four two go on; of three it were one


def test_a_trial_that_comes_twice_counts_once() -> None:
    """A restarted search trains anew what was under way."""
    found = at_first_rung([(0.9, 100)], factor=3)
    for _ in range(5):
        assert found.goes_on("again", [0.1], [100])  # two trials, and three are needed to tell
    once, twice = at_first_rung(TABLE), at_first_rung([*TABLE])
    twice.add("3", [0.80], [300])
    twice.goes_on("3", [0.80], [300])
    for point in TABLE:
        accuracy, *costs = point
        assert once.goes_on("new", [accuracy], costs) == twice.goes_on("new", [accuracy], costs)


# decisions, by brute force

FEW = st.integers(0, 3).map(float)  # few values make ties and duplicates
CLOUDS = st.integers(1, 3).flatmap(
    lambda costs: st.lists(st.tuples(*[FEW | st.floats(0, 1)] * (1 + costs)), min_size=1, max_size=12)
)
FACTORS = st.sampled_from([1.5, 2, 2.5, 3, 4])


def is_dominated(point: Point, by: Point) -> bool:
    no_worse = by[0] >= point[0] and all(
        theirs <= ours for theirs, ours in zip(by[1:], point[1:], strict=True)
    )
    return no_worse and by != point


def ranks(points: Sequence[Point]) -> list[int]:
    """Peel fronts off, one after the other."""
    found = [-1] * len(points)
    for rank in range(len(points)):
        left = [place for place in range(len(points)) if found[place] < 0]
        for place in left:
            if not any(is_dominated(points[place], by=points[other]) for other in left):
                found[place] = rank
    return found


@given(CLOUDS, FACTORS)
@settings(max_examples=100)
def test_decisions_by_rank_are_those_of_brute_force(points: list[Point], factor: float) -> None:
    places = ranks(points)
    most = math.ceil(len(points) / factor)
    expected = [sum(place < mine for place in places) < most or len(points) < factor for mine in places]
    assert decisions(points, factor=factor) == expected


@given(CLOUDS, FACTORS)
@settings(max_examples=50)
def test_decisions_by_accuracy_are_those_of_sorting(points: list[Point], factor: float) -> None:
    """⌈n / factor⌉ go on, and whoever equals the last of them."""
    ordered = sorted((point[0] for point in points), reverse=True)
    last = ordered[math.ceil(len(points) / factor) - 1]
    expected = [point[0] >= last or len(points) < factor for point in points]
    assert decisions(points, factor=factor, compare="accuracy") == expected


# what must hold of any trials


@given(CLOUDS, FACTORS)
@settings(max_examples=60)
def test_what_nobody_dominates_goes_on(points: list[Point], factor: float) -> None:
    found = decisions(points, factor=factor)
    for point, stays in zip(points, found, strict=True):
        assert stays or any(is_dominated(point, by=other) for other in points)


@given(CLOUDS, FACTORS)
@settings(max_examples=60)
def test_at_least_the_share_goes_on(points: list[Point], factor: float) -> None:
    for compare in ("rank", "accuracy"):
        assert sum(decisions(points, factor=factor, compare=compare)) >= math.ceil(len(points) / factor)


NETS = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 50).map(float)), max_size=12)


@given(NETS, st.floats(0, 1), st.integers(1, 50), NETS, FACTORS)
@settings(max_examples=100)
def test_no_net_is_stopped_for_being_less_accurate_than_bigger_ones(
    others: list[Point], accuracy: float, size: int, bigger: list[Point], factor: float
) -> None:
    """Where no net of its size or less is as accurate, it goes on, whatever bigger ones there are."""
    others = [other for other in others if other[1] > size or other[0] < accuracy]
    peers = others + [(reached, size + more) for reached, more in bigger]
    assert at_first_rung(peers, factor=factor).goes_on("x", [accuracy], [size])


COURSES = st.lists(
    st.tuples(st.lists(FEW | st.floats(0, 1), min_size=1, max_size=9), st.tuples(FEW)), min_size=1, max_size=9
)


@given(COURSES, st.randoms(use_true_random=False), FACTORS, st.sampled_from(["rank", "accuracy"]))
@settings(max_examples=60)
def test_a_restarted_search_decides_as_one_that_saw_it_all(
    courses: list[tuple[list[float], Point]], random: Any, factor: float, compare: str
) -> None:
    """Rungs made of the records, in any order, are those that saw each trial epoch by epoch."""
    *before, (course, costs) = courses
    spec = {"factor": factor, "compare": compare}
    seen, rebuilt = rungs(**spec), rungs(**spec)
    records = []
    for number, (accuracies, other_costs) in enumerate(before):
        for epochs in range(1, len(accuracies) + 1):
            if not seen.goes_on(str(number), accuracies[:epochs], other_costs):
                break
        records.append((str(number), accuracies[:epochs], other_costs))
    random.shuffle(records)
    for record in records:
        rebuilt.add(*record)
    for epochs in range(1, len(course) + 1):
        assert seen.goes_on("x", course[:epochs], costs) == rebuilt.goes_on("x", course[:epochs], costs)


@given(CLOUDS, FACTORS, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_the_order_of_peers_and_the_unit_of_costs_do_not_matter(
    points: list[Point], factor: float, random: Any
) -> None:
    order = list(range(len(points)))
    random.shuffle(order)
    scaled = [(points[place][0], *(8 * cost for cost in points[place][1:])) for place in order]
    found = decisions(points, factor=factor)
    assert decisions(scaled, factor=factor) == [found[place] for place in order]
