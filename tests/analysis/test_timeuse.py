import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imitation_run import NASTY
from page_reading import Page, text_of

from analysis import load_run, notation
from analysis.page.payload import Payload
from analysis.page.report import templates
from analysis.reading import STAGE_COLUMNS
from analysis.tables import Run
from analysis.time.figure import HOLLOW, KINDS, axis_unit, duration, time_figure
from analysis.time.result import SUMMED, UNFINISHED, StageTime, TimeUse, time_use
from analysis.time.words import lay_out_time

Row = tuple[str, int, str, float, float]
"""Stage, stage_index, origin, seconds, waited_seconds."""


def row(stage: str, place: int, seconds: float, waited: float = 0.0, origin: str = "trained") -> Row:
    return stage, place, origin, seconds, waited


# trial: (status, seconds, its rows)
TRIALS: dict[str, tuple[str, float, Sequence[Row]]] = {
    "a": ("completed", 31.0, [row("dual", 0, 20.0), row("fine", 1, 8.0, 0.5), row("assessment", 2, 1.0)]),
    "b": (
        "completed",
        14.0,
        [
            row("dual", 0, 20.0, 3.0, origin="stored"),
            row("thaw", 1, 4.0),
            row("fine", 2, 6.0, origin="continued"),
            row("assessment", 3, 1.0, origin="stored"),
        ],
    ),
    "c": ("failed", 11.0, [row("dual", 0, 7.0, 1.0)]),
    "d": ("failed", 2.0, []),
    "e": ("early_stopped", 9.0, [row("dual", 0, 20.0, origin="stored"), row("fine", 1, 5.0)]),
}
UNSAID = Path("nowhere")


def run_of(trials: dict[str, Any], starts: dict[str, str | None] | None = None) -> Run:
    """Return a run of these trials, which started a minute after one another unless ``starts`` says."""
    stages = [
        {"trial_id": trial, "arm": "x", "seed": 0, "fold": None, "stage": stage, "stage_index": place}
        | {"origin": origin, "seconds": seconds, "waited_seconds": waited, "epochs": 1, "epochs_trained": 1}
        | {"host": "laptop", "started_at": None}
        for trial, (_, _, rows) in trials.items()
        for stage, place, origin, seconds, waited in rows
    ]
    table = pd.DataFrame(
        [
            {"trial_id": trial, "status": status, "seconds": seconds, "dataset": "digits", "arm": "x"}
            | {"started_at": (starts or {}).get(trial, f"2026-03-01T12:{number:02d}:00+00:00")}
            for number, (trial, (status, seconds, _)) in enumerate(trials.items())
        ],
        columns=["trial_id", "status", "seconds", "dataset", "arm", "started_at"],
    ).astype({"seconds": "float64"})
    ledger = pd.DataFrame(stages, columns=list(STAGE_COLUMNS)).astype(dict(STAGE_COLUMNS))
    empty = pd.DataFrame()
    return Run("imitation", UNSAID, table, empty, ledger, "", {}, None)


def used(trials: dict[str, Any], **starts: str | None) -> TimeUse:
    use = time_use(run_of(trials, starts))
    assert use is not None
    return use


def by_stage(use: TimeUse) -> dict[str, StageTime]:
    return {each.stage: each for each in use.stages}


def rendered(parts) -> str:
    template = templates().get_template("timeuse.html.jinja")
    return template.render(time_parts=parts, notation=notation, payload=Payload())


def test_time_is_added_up_by_stage_and_by_what_became_of_it():
    """Look-ups are saved, not trained; what failed and stopped trials made counts as theirs."""
    stages = by_stage(used(TRIALS))
    assert stages["dual"] == StageTime(
        "dual", trained_seconds=20, failed_seconds=7, waited_seconds=4, saved_seconds=40, made=2, looked_up=2
    )
    assert stages["fine"] == StageTime(
        "fine", trained_seconds=14, stopped_seconds=5, waited_seconds=0.5, made=3
    )
    assert stages["thaw"] == StageTime("thaw", trained_seconds=4, made=1)
    assert stages["assessment"] == StageTime(
        "assessment", trained_seconds=1, saved_seconds=1, made=1, looked_up=1
    )


def test_trials_that_ended_in_no_stage_do_not_vanish():
    """Of c 11 − 7 − 1 seconds belong to no stage that ended, of d all 2; of the stopped e 9 − 5."""
    use = used(TRIALS)
    assert use.stages[-1] == StageTime(UNFINISHED, failed_seconds=3 + 2, stopped_seconds=4)
    assert (use.n_trials, use.n_failed, use.n_stopped) == (5, 2, 1)


def test_completed_trials_leave_a_rest_between_their_stages():
    """Of a 31 − 29.5 seconds, of b 14 − (4 + 6 + 3)."""
    assert used(TRIALS).between_seconds == pytest.approx(1.5 + 1.0)


def test_what_a_checkpoint_brought_along_leaves_no_negative_rest():
    """A trial of 2 seconds went on with a stage of 30; its neighbour's rest must not pay for it."""
    rows = [row("dual", 0, 30.0, origin="continued")]
    use = used({"a": ("failed", 2.0, rows), "b": ("failed", 5.0, []), "c": ("completed", 2.0, rows)})
    assert use.stages[-1] == StageTime(UNFINISHED, failed_seconds=5)
    assert (use.between_seconds, use.n_continued) == (0, 2)
    assert by_stage(use)["dual"].trained_seconds == by_stage(use)["dual"].failed_seconds == 30


def test_stages_come_in_their_order_and_the_assessment_last():
    """The trial with the longest chain failed before its assessment, whose place is thus before thaw's."""
    long = [row("dual", 0, 1.0), row("fine", 1, 1.0), row("thaw", 4, 1.0)]
    use = used({"long": ("failed", 3.0, long), **TRIALS})
    assert [each.stage for each in use.stages] == ["dual", "fine", "thaw", "assessment", UNFINISHED]


def test_missing_seconds_count_as_none():
    nothing = float("nan")
    use = used(
        {
            "a": ("failed", nothing, []),
            "b": ("completed", nothing, [row("dual", 0, nothing, nothing)]),
        }
    )
    assert use.stages == (StageTime("dual", made=1),)
    assert use.span_seconds is None


def test_the_span_reaches_from_the_first_start_to_the_last_end():
    """Trial d ends at 3:02, e at 4:09 after the start of a; a long first trial ends later."""
    assert used(TRIALS).span_seconds == 4 * 60 + 9
    assert used({**TRIALS, "a": ("completed", 600.0, TRIALS["a"][2])}).span_seconds == 600
    assert used(TRIALS, e="2026-03-01T14:00:00+02:00").span_seconds == 3 * 60 + 2
    assert used(TRIALS, c=None).span_seconds is None
    assert used(TRIALS, c="yesterday").span_seconds is None


def test_without_stages_nothing_is_said(run_folder):
    """Folders older than the table of stages have none; neither has a run whose trials all failed at once."""
    assert time_use(load_run(run_folder)) is None
    assert lay_out_time(load_run(run_folder), "") is None
    assert time_use(run_of({"d": TRIALS["d"]})) is None
    assert time_use(run_of({})) is None


STAGE_ROWS = st.lists(
    st.tuples(
        st.sampled_from(["trained", "continued", "stored"]),
        st.integers(0, 50).map(float),
        st.integers(0, 9).map(float),
    ),
    max_size=4,
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["completed", "failed", "early_stopped"]),
            st.integers(0, 300).map(float),
            STAGE_ROWS,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_every_second_of_every_trial_is_somewhere_once(drawn):
    """Each trial's seconds, or its stages' where these are more, are in one kind of time of one stage."""
    names = ["dual", "fusion", "fine", "assessment"]
    trials = {
        str(number): (
            status,
            seconds,
            [(names[place], place, *row) for place, row in enumerate(rows)],
        )
        for number, (status, seconds, rows) in enumerate(drawn)
    }
    use = time_use(run_of(trials))
    if not any(rows for _, _, rows in drawn):
        assert use is None
        return
    spent = [
        max(seconds, sum(took * (origin != "stored") + waited for origin, took, waited in rows))
        for _, seconds, rows in drawn
    ]
    assert use.total.spent_seconds + use.between_seconds == sum(spent)
    stored = [row for _, _, rows in drawn for row in rows if row[0] == "stored"]
    assert use.total.saved_seconds == sum(seconds for _, seconds, _ in stored)
    assert use.total.looked_up == len(stored)
    assert use.total.made == sum(len(rows) for _, _, rows in drawn) - len(stored)
    for name in SUMMED:
        assert getattr(use.total, name) == sum(getattr(each, name) for each in use.stages)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0 s"),
        (0.0999, "under 0.1 s"),
        (0.1, "0.1 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1.0 min"),
        (186, "3.1 min"),
        (3596, "59.9 min"),
        (3599, "1.0 h"),
        (9_000, "2.5 h"),
        (4_445_640, "1,234.9 h"),
    ],
)
def test_durations_have_a_unit_that_suits_them(seconds, text):
    """What is rounded to sixty is one of the next unit."""
    assert duration(seconds) == text


def test_an_axis_has_the_largest_unit_that_it_reaches_twice():
    units = [axis_unit(seconds) for seconds in (0.0, 119.0, 120.0, 7_199.0, 7_200.0)]
    assert units == [("s", 1), ("s", 1), ("min", 60), ("min", 60), ("h", 3_600)]


def test_bars_stack_from_spent_to_saved_and_tell_their_kinds_by_hatch_too():
    use = used({trial: (status, 60 * seconds, [(*row[:3], 60 * row[3], 60 * row[4]) for row in rows])
                for trial, (status, seconds, rows) in TRIALS.items()})  # fmt: skip
    figure = time_figure(use.stages)
    assert figure.layout.barmode == "stack"
    assert figure.layout.xaxis.title.text == "time of workers (min)"
    assert list(figure.layout.yaxis.ticktext) == [
        "unfinished stages", "assessment", "fine", "thaw", "dual",
    ]  # fmt: skip
    bars = {bar.name: bar for bar in figure.data}
    assert list(bars) == [name for name, _, _ in KINDS.values()]
    assert list(bars["trained"].x) == [None, 1, 14, 4, 20]
    assert list(bars["in failed trials"].x) == [5, None, None, None, 7]
    assert list(bars["saved by look-ups, not spent"].x) == [None, 1, None, None, 40]
    assert bars["saved by look-ups, not spent"].marker.color == HOLLOW
    looks = [(bar.marker.line.color, bar.marker.pattern.shape) for bar in figure.data]
    assert len({color for color, _ in looks}) == len({shape for _, shape in looks}) == 5
    assert (
        bars["trained"].hovertext[4]
        == "<b>dual</b><br>trained: 20.0 min<br>computed in 2 trials, looked up in 2"
    )


def test_kinds_too_short_to_be_seen_are_not_drawn():
    rows = [row("dual", 0, 3.0, 0.0003)]
    figure = time_figure(used({"a": ("completed", 3.0, rows)}).stages)
    assert [bar.name for bar in figure.data] == ["trained"]


def test_the_page_says_what_was_trained_saved_waited_and_lost():
    part = lay_out_time(run_of(TRIALS), ": imitation")
    assert part.title == "Where the time went: imitation"
    assert part.finding == (
        "Workers trained for 39.0 s; look-ups saved 41.0 s more (3 of 10 results). Waiting for another "
        "worker took 4.5 s, 2 failed trials took 12.0 s and 1 early-stopped trial took 9.0 s. The 5 trials "
        "ran within 4.2 min, from the first start to the last end."
    )
    assert "1 stage continued from a checkpoint and includes the time before it." in part.bars.caption
    assert "Not drawn: 2.5 s that completed trials spent" in part.bars.caption


def test_a_run_in_which_nothing_went_wrong_says_so():
    use = {"a": TRIALS["a"]}
    part = lay_out_time(run_of(use), "")
    assert part.finding == (
        "Workers trained for 29.0 s; no result was looked up. Waiting for another worker took 0.5 s; "
        "no trial failed. The trial ran within 31.0 s, from the first start to the last end."
    )
    assert not any(word in part.bars.caption for word in ("failed", "Saved", "checkpoint"))


def test_the_table_tells_the_same_in_words():
    """Its columns of times are in the order of the kinds, and a last row adds them up."""
    html = rendered([lay_out_time(run_of(TRIALS), "")])
    cells = [
        [re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)]
        for line in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    ]
    assert cells[0] == [
        "Stage", "Trained", "Stopped early", "Failed", "Waited", "Saved by look-ups", "Computed", "Looked up",
    ]  # fmt: skip
    assert cells[1] == ["dual", "20.0 s", "0 s", "7.0 s", "4.0 s", "40.0 s", "2", "2"]
    assert cells[-2] == [UNFINISHED, "0 s", "4.0 s", "5.0 s", "0 s", "0 s", "0", "0"]
    assert cells[-1] == ["all", "39.0 s", "9.0 s", "12.0 s", "4.5 s", "41.0 s", "7", "3"]
    headings = [attributes.get("scope") for tag, attributes in Page(html).elements if tag == "th"]
    assert headings == ["col"] * 8


def test_names_of_stages_are_escaped():
    stage = NASTY[:60]
    part = lay_out_time(run_of({"a": ("completed", 3.0, [row(stage, 0, 3.0)])}), f": {NASTY}")
    html = rendered([part])
    assert "<img" not in html
    assert NASTY in text_of(html)
    assert "<img" not in part.bars.figure.to_json().replace("\\u003c", "<")


def test_a_folder_with_stages_is_read_and_laid_out(run_folder):
    """The columns are those that a run writes: its fold is null, its waiting is known."""
    trials = load_run(run_folder).trials
    stages = run_of(TRIALS).stages.assign(trial_id=trials["trial_id"].iloc[0])
    stages.to_parquet(run_folder / "stages.parquet")
    run = load_run(run_folder)
    part = lay_out_time(replace(run, name="other"), "")
    assert "The 24 trials ran within" in part.finding
