import shutil

import pandas as pd
import pytest
from imitation_run import NASTY
from imitation_search import write_design
from page_reading import Page, figure_of, payload_of, table_under, text_of

from analysis import RunError, load_run, render_report
from analysis.design import parse_search
from analysis.search import importance
from analysis.search.words import describe_search


@pytest.fixture(scope="module")
def page(written_search):
    with pytest.MonkeyPatch.context() as few_trials:
        few_trials.setattr(importance, "FEWEST", 5)
        few_trials.setattr("analysis.page.report.read_published", lambda: ())
        return render_report([load_run(written_search)])


def test_the_front_is_the_confirmed_one(page):
    """Net 0 is the search's most accurate net, net 6 on its front: fresh seeds say otherwise, or nothing."""
    assert [[*row[1:6], row[7]] for row in table_under(page, "The front")[1:]] == [
        ["net 3", "500", "20,000", "57.00 ± 1.41%", "56.00 ± 1.41%", "2"],
        ["net 1", "2,000", "80,000", "87.00 ± 1.41%", "86.00 ± 1.41%", "2"],
        ["net 7", "8,000", "320,000", "96.00 ± 1.41%", "95.00 ± 1.41%", "2"],
    ]
    assert [
        [row[0], row[1].split("<br>")[0]] for row in table_under(page, "Best net per parameter budget")[1:]
    ] == [
        ["1,000", "net 3"],
        ["2,000 to 5,000", "net 1"],
        ["10,000 to 50,000", "net 7"],
    ]
    text = text_of(page)
    assert "3 of 4 arms form the Pareto front: from 500 parameters with 57.00 ± 1.41%" in text
    assert "4 nets, confirmed and shown with fresh seeds only" in text
    assert "Unconfirmed" not in text
    drawn = figure_of(page, "pareto-1")["data"]
    is_result = {trace["meta"]["layer"]: trace["meta"]["layer"] in ("front", "own") for trace in drawn}
    assert is_result == {"stopped": False, "failed": False, "front": True, "own": True}
    assert {x for trace in drawn if is_result[trace["meta"]["layer"]] for x in trace["x"]} == {
        500, 2_000, 8_000, 10_000
    }  # fmt: skip


def test_what_was_searched_and_what_came_of_it_is_said(page):
    text = text_of(page)
    assert "from a search (8 trials) and its confirmation (4 nets × 2 fresh seeds)" in text
    assert "14 completed 1 stopped early 1 failed" in text
    assert (
        "Searched for high validation accuracy and few parameters, with at most 10,000 parameters, over 2 "
        "settings: model.filters, stages.lr. Configurations were drawn by a tree-structured Parzen estimator "
        "(TPE), seed 1000. Requested: 8 trials. Early stopping: by non-dominated rank in accuracy and costs"
    ) in text
    assert (
        "8 trials of the search: 6 completed, 1 stopped early, 1 failed; together 101 epochs. Trials stopped "
        "early are excluded from all averages and fronts; the figure of accuracy against parameters shows "
        "them as triangles. Of 12 draws, 3 could not be trained (above a limit, or incompatible settings) "
        "and 1 repeated an earlier one"
    ) in text
    assert "up to the reference point of 10,000 parameters and an accuracy of 0%" in text


def test_the_regression_to_the_mean_is_said_and_shown(page):
    text = text_of(page)
    assert (
        "the validation accuracy of 4 confirmed nets changed by -1.75 points on average. A drop is "
        "regression to the mean"
    ) in text
    assert "these nets cannot tell how much, so no interval is given" in text
    assert "1 of the 5 nets on the search’s front by parameters had no completed confirmation" in text
    header, *rows = table_under(page, "Confirmed nets")
    assert header[2:4] == ["Validation in the search", "Validation confirmed"]
    assert rows == [
        ["net 3", "500", "60.00%", "57.00 ± 1.41%", "2", "-3.00", "56.00 ± 1.41%", "yes"],
        ["net 1", "2,000", "90.00%", "87.00 ± 1.41%", "2", "-3.00", "86.00 ± 1.41%", "yes"],
        ["net 7", "8,000", "95.00%", "96.00 ± 1.41%", "2", "+1.00", "95.00 ± 1.41%", "yes"],
        ["net 0", "10,000", "97.00%", "95.00 ± 1.41%", "2", "-2.00", "94.00 ± 1.41%", "no"],
    ]


def test_an_early_stopped_trial_is_in_no_figure_and_no_table_of_results(search_folder, monkeypatch):
    """Net 2 reached 99.9% with 1,000 parameters when it was stopped; here its record says so, too."""
    monkeypatch.setattr(importance, "FEWEST", 5)
    clean = render_report([load_run(search_folder)])
    trials = pd.read_parquet(search_folder / "trials.parquet")
    is_stopped = trials["arm"] == "net 2"
    trials.loc[is_stopped, ["val_accuracy", "test_accuracy"]] = 0.999
    confirmation = trials[is_stopped].assign(seed=0, trial_id="planted", phase="confirmation")
    pd.concat([trials, confirmation]).to_parquet(search_folder / "trials.parquet")
    planted = render_report([load_run(search_folder)])
    for heading in ("The front", "Best net per parameter budget", "Confirmed nets"):
        assert table_under(planted, heading) == table_under(clean, heading)
    layers = [
        {trace["meta"]["layer"]: trace for trace in figure_of(page, "pareto-1")["data"]}
        for page in (planted, clean)
    ]
    assert "<b>net 2</b>" in str(layers[0].pop("stopped"))
    del layers[1]["stopped"]
    assert layers[0] == layers[1]
    names = ["curves-1", *(f"search-1-{figure}" for figure in ("course", "cloud", "importance", "parallel"))]
    for name in names:
        assert figure_of(planted, name) == figure_of(clean, name)
        assert "net 2" not in str(figure_of(planted, name))
        assert "99.9" not in str(figure_of(planted, name))
    assert (
        text_of(planted)
        .split("Hypervolume at the end: ")[1]
        .startswith(text_of(clean).split("Hypervolume at the end: ")[1][:6])
    )


def test_an_unconfirmed_search_says_so(search_folder):
    trials = pd.read_parquet(search_folder / "trials.parquet")
    trials[trials["phase"] == "search"].to_parquet(search_folder / "trials.parquet")
    page = render_report([load_run(search_folder)])
    text = text_of(page)
    assert "from a search (8 trials), started" in text
    assert "Unconfirmed, single-seed results of a search (8 nets), the best of which are lucky" in text
    assert "No net was confirmed with fresh seeds" in text
    assert "Confirmed nets" not in page
    assert [row[1] for row in table_under(page, "The front")[1:]] == [
        "net 3",
        "net 1",
        "net 6",
        "net 7",
        "net 0",
    ]


def test_all_trials_are_listed_with_their_phase(page):
    data = payload_of(page)
    titles = [column["title"] for column in data["columns"]]
    assert titles[:5] == ["Arm", "Seed", "Phase", "Study number", "Status"]
    assert "Latency" not in titles
    phase = data["trials"]["phase"]
    assert [phase["of"][code] for code in phase["at"]].count("confirmation") == 8
    assert len(data["trials"]["trial_id"]) == 16


def test_a_measured_latency_is_a_column_and_an_axis(search_folder):
    trials = pd.read_parquet(search_folder / "trials.parquet").assign(latency_ms=0.844)
    trials.to_parquet(search_folder / "trials.parquet")
    page = render_report([load_run(search_folder)])
    data = payload_of(page)
    assert ("Latency", "milliseconds") in [(column["title"], column["kind"]) for column in data["columns"]]
    assert data["trials"]["latency_ms"]["of"] == [0.844]
    assert "latency_ms" in data["parts"][0]["marks"]
    assert table_under(page, "The front by latency")[1][2] == "0.84 ms"


def test_without_a_study_or_enough_trials_importance_says_why(search_folder):
    text = text_of(render_report([load_run(search_folder)]))
    assert (
        "Importance of the settings is not shown: it takes 10 completed trials of the study; there are 6."
        in text
    )
    (search_folder / "study.db").unlink()
    text = text_of(render_report([load_run(search_folder)]))
    assert "Importance of the settings is not shown: the run folder has no study.db." in text
    assert "The number of draws that could not be trained is unknown: the run folder has no study.db." in text


def test_a_search_without_a_result_has_a_page(search_folder):
    for status, kept in (("failed", 8), ("completed", 0)):
        trials = pd.read_parquet(search_folder / "trials.parquet").iloc[:kept]
        trials.assign(status=status, val_accuracy=None).to_parquet(search_folder / "trials.parquet")
        page = render_report([load_run(search_folder)])
        assert f"{kept} trials of the search: 0 completed" in text_of(page)
        assert "Nets of the search" not in page


def test_repeated_searches_have_surfaces(search_folder, tmp_path):
    other = shutil.copytree(search_folder, tmp_path / "again")
    write_design(other, seed=1001)
    page = render_report([load_run(search_folder), load_run(other)])
    text = text_of(page)
    assert "The search: hunt" in text
    assert "The search: again" in text
    assert "What repeated searches reach on digits: 2 searches (hunt and again)." in text
    surfaces = figure_of(page, "repeats-1")["data"]
    assert [trace["name"] for trace in surfaces] == ["reached by 25%", "reached by 50%", "reached by 75%"]
    assert "Of hunt and again: 8 nets, confirmed and shown with fresh seeds" in text
    write_design(other, seed=1001, sampler="random")
    assert "Repeated searches" not in render_report([load_run(search_folder), load_run(other)])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trials": None, "budget": {"epochs": 350, "minutes": None}}, "Requested: 350 epochs."),
        ({"trials": None, "budget": {"epochs": None, "minutes": 1}}, "Requested: 1 minute."),
        ({"early_stopping": None}, "No early stopping."),
        ({"early_stopping": "accuracy"}, "Early stopping: by accuracy alone, which penalises small nets."),
        ({"sampler": "random"}, "drawn by random sampling, seed 1000"),
        (
            {"limits": {"latency_ms": 1.5, "macs": 2e6}},
            "with at most 1.5 ms of latency and at most 2,000,000 MACs",
        ),
        ({"limits": {}}, "Searched for high validation accuracy and few parameters, over"),
        (
            {"objectives": {"val_accuracy": "maximise", "macs": "minimise", "latency_ms": "minimise"}},
            "Searched for high validation accuracy, few MACs and low latency,",
        ),
    ],
)
def test_searches_in_words(search_folder, changes, expected):
    write_design(search_folder, **changes)
    assert expected in describe_search(load_run(search_folder).search)


def test_other_objectives_are_owned_up_to(search_folder):
    objectives = {"val_accuracy": "maximise", "parameters": "minimise", "macs": "minimise"}
    write_design(search_folder, objectives=objectives)
    text = text_of(render_report([load_run(search_folder)]))
    assert "The search also optimised MACs, so its own front differs from this one." in text


def test_nothing_of_a_search_becomes_markup(search_folder):
    write_design(search_folder, keys=[NASTY], sampler=NASTY, early_stopping=NASTY)
    page = render_report([load_run(search_folder)])
    assert NASTY not in page
    assert Page(page).text.count(NASTY) == 3


def test_a_search_that_no_run_writes_is_refused(search_folder):
    write_design(search_folder, objectives={"val_accuracy": "up"})
    with pytest.raises(RunError, match=r"design\.json: not a run's design .*objectives.val_accuracy"):
        load_run(search_folder)
    assert parse_search({}) is None
    assert parse_search({"search": None}) is None
