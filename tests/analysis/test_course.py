import math
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import hypervolume_course, load_run
from analysis.search.course import default_reference


def trials_of(rows):
    """Make search trials from (study number, status, parameters, accuracy, epochs)."""
    columns = ["study_number", "status", "parameters", "val_accuracy", "epochs_trained"]
    table = pd.DataFrame(rows, columns=columns).assign(phase="search")
    return table.astype({"study_number": "Int64", "parameters": "Int64", "epochs_trained": "Int64"})


def test_a_course_by_hand():
    """Below 10,000 parameters: 1,000 with 0.8 is a decade × 0.8, 100 with 0.5 adds a decade × 0.5."""
    trials = trials_of(
        [
            (0, "completed", 1_000, 0.8, 10),
            (1, "early_stopped", 10, 0.999, 3),
            (2, "completed", 100, 0.5, 10),
            (3, "completed", 2_000, 0.7, 10),  # beaten by the first
            (4, "failed", 10, None, None),
            (5, "completed", 1_000, 0.9, 5),
            (6, "completed", 20_000, 1.0, 5),  # beyond the reference
        ]
    )
    course = hypervolume_course(trials, (10_000, 0.0))
    assert course["epochs"].tolist() == [10, 13, 23, 33, 33, 38, 43]
    assert course["n_trials"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert course["hypervolume"].tolist() == pytest.approx([0.8, 0.8, 1.3, 1.3, 1.3, 1.4, 1.4])
    raised = hypervolume_course(trials, (10_000, 0.6))  # the corner at 0.5 no longer counts
    assert raised["hypervolume"].iloc[-1] == pytest.approx(0.3)


def covered_area(points, corner):
    """Measure the area by brute force: the cells between all coordinates that some point covers."""
    xs = sorted(
        {min(math.log10(size), math.log10(corner[0])) for size, _ in points} | {math.log10(corner[0])}
    )
    ys = sorted({max(accuracy, corner[1]) for _, accuracy in points} | {corner[1]})
    cells = [(x, next_x, y, next_y) for x, next_x in pairwise(xs) for y, next_y in pairwise(ys)]
    return sum(
        (next_x - x) * (next_y - y)
        for x, next_x, y, next_y in cells
        if any(math.log10(size) <= x and accuracy >= next_y for size, accuracy in points)
    )


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["completed", "completed", "early_stopped", "failed"]),
        st.sampled_from([1, 10, 30, 100, 1_000, 5_000, 20_000]),
        st.sampled_from([0.0, 0.1, 0.5, 0.7, 0.9, 1.0]),
        st.integers(0, 20),
    ),
    max_size=8,
)


@settings(deadline=None)  # the first call imports moocore
@given(ROWS, st.sampled_from([(5_000, 0.0), (100_000, 0.1)]), st.randoms(use_true_random=False))
def test_each_step_is_the_area_of_the_completed_trials_so_far(rows, reference, random):
    """Against brute force with ties, and whatever the order of the rows is."""
    numbered = [(number, *row) for number, row in enumerate(rows)]
    course = hypervolume_course(trials_of(random.sample(numbered, len(numbered))), reference)
    for place in range(len(rows)):
        known = [(size, accuracy) for status, size, accuracy, _ in rows[: place + 1] if status == "completed"]
        assert course["hypervolume"][place] == pytest.approx(covered_area(known, reference), abs=1e-12)
    assert course["epochs"].tolist() == [sum(row[3] for row in rows[: n + 1]) for n in range(len(rows))]


def test_confirmation_is_no_part_of_the_course(search_folder):
    """Nor is what the net that was stopped early reached: 99.9% with 1,000 parameters."""
    trials = load_run(search_folder).trials
    course = hypervolume_course(trials, (10_000, 0.0))
    assert course["epochs"].tolist() == [15, 30, 34, 49, 64, 71, 86, 101]
    front = [(500, 0.60), (2_000, 0.90), (5_000, 0.93), (8_000, 0.95)]  # the limit itself covers nothing
    assert course["hypervolume"].iloc[-1] == pytest.approx(covered_area(front, (10_000, 0.0)))
    planted = trials.assign(val_accuracy=trials["val_accuracy"].where(trials["arm"] != "net 2", 0.999))
    pd.testing.assert_frame_equal(hypervolume_course(planted, (10_000, 0.0)), course)


def test_a_run_that_is_no_search_has_no_course(run_folder):
    course = hypervolume_course(load_run(run_folder).trials, (10_000, 0.0))
    assert course.shape == (0, 3)


def test_the_reference_is_the_limit_of_parameters():
    assert default_reference({"parameters": 15_000, "macs": 7}) == (15_000.0, 0.0)
    assert default_reference({"macs": 7}) == (100_000.0, 0.0)
    assert default_reference({"val_accuracy": 0.97}) == (100_000.0, 0.97)


@pytest.mark.parametrize("reference", [(0, 0.0), (-1, 0.0), (math.inf, 0.0), (10, math.nan)])
def test_a_reference_that_is_no_point_is_refused(reference):
    with pytest.raises(ValueError, match="the reference must be parameters above 0"):
        hypervolume_course(trials_of([]), reference)
