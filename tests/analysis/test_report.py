import base64
import gzip
import math
import os
import re
import shutil
from itertools import pairwise

import pandas as pd
import pytest
from imitation_large import write_large
from imitation_run import NASTY, plant_partial_trials
from least_squares import fit_rows_and_columns
from page_reading import Page, drawn_in, figure_of, payload_of, table_under, text_of
from plotly.offline import get_plotlyjs

from analysis import RunError, load_run, mark_front, render_report, summarise_arms, write_report
from analysis.front.result import mark_membership


def test_the_page_is_whole_and_says_what_happened(run_folder, tmp_path):
    output = write_report([run_folder], tmp_path / "new" / "report.html")
    page = output.read_text(encoding="utf-8")
    assert sorted(path.name for path in output.parent.iterdir()) == ["report.html"]
    text = " ".join(Page(page).text.split())
    assert "imitation has records of 24 trials on digits, from 8 arms × 3 seeds" in text
    assert "started 1 March 2026, 12:00 UTC on laptop" in text
    assert "23 completed 0 stopped early 1 failed" in text
    assert "3 of 8 arms form the Pareto front: from 2,350 parameters with 90.20 ± 0.20%" in text
    assert "mean over an arm’s 2 to 3 seeds (n)" in text
    assert "ValueError: loss is <b>nan</b>" in text
    assert "lightsweep run sweeps/<imitation>.yaml" in text
    assert "name: imitation dataset: {name: digits} # <i>" in text
    packed = re.findall(r'id="plotly">([^<]*)<', page)
    assert [gzip.decompress(base64.b64decode(script)).decode() for script in packed] == [get_plotlyjs()]


def test_trials_that_have_not_run_are_counted(run_folder):
    """A killed run's report must not look like a finished one's."""
    (run_folder / "plan.json").write_text("[" + ", ".join(["{}"] * 30) + "]")
    text = " ".join(Page(render_report([load_run(run_folder)])).text.split())
    assert "Not run yet: 6 planned trials" in text
    (run_folder / "plan.json").write_text("[" + ", ".join(["{}"] * 24) + "]")
    assert "Not run yet" not in render_report([load_run(run_folder)])
    (run_folder / "plan.json").write_text("[{")
    with pytest.raises(RunError, match=r"plan\.json: not JSON"):
        load_run(run_folder)


def test_the_front_is_shown_with_its_certainty_its_hypervolume_and_the_best_per_budget(run_folder):
    page = render_report([load_run(run_folder)])
    header, *rows = table_under(page, "The front")
    assert header[8] == "On the front, probability"
    assert [(row[1], row[8]) for row in rows] == [("tiny", "100%"), ("small", "100%"), ("paper", "100%")]
    header, *rows = table_under(page, "Best net per parameter budget")
    assert header == ["Budget", "Arm", "Validation", "Test"]
    cross = '<br><span class="quiet">{} cross-chosen</span>'
    quiet = '<br><span class="quiet">{} parameters, n = 3</span>'
    assert rows == [
        ["5,000", "tiny" + quiet.format("2,350"), "90.20 ± 0.20%", "89.20 ± 0.20%" + cross.format("89.20%")],
        [
            "10,000",
            "small" + quiet.format("6,930"),
            "95.20 ± 0.20%",
            "94.20 ± 0.20%" + cross.format("94.20%"),
        ],
        [
            "15,000 to 50,000",
            "paper" + quiet.format("14,862"),
            "98.20 ± 0.20%",
            "97.20 ± 0.20%" + cross.format("97.20%"),
        ],
    ]
    steps = [(2_350, 0.902), (6_930, 0.952), (14_862, 0.982)]
    gains = [later - earlier for (_, earlier), (_, later) in pairwise([(0, 0.0), *steps])]
    share = sum(gain * (5 - math.log10(size)) / 5 for gain, (size, _) in zip(gains, steps, strict=True))
    text = text_of(page)
    assert (
        f"Hypervolume of the front: {share:.4f}. That is the share of the area between the reference point "
        "(100,000 parameters, accuracy 0%) and the best conceivable net (1 parameter, accuracy 100%)"
    ) in text
    assert "For each run’s own front" not in text
    assert "the share of 2,000 draws of the arms’ means from their posterior" in text
    assert "With fewer than 5 seeds, the spread of results is estimated from all arms together" in text
    assert "most likely" not in text


def costs_of(page):
    """The costs that the axis can be switched to."""
    return payload_of(page)["parts"][0]["marks"].keys()


def test_bytes_are_an_axis_where_they_say_more_than_parameters(run_folder):
    path = run_folder / "trials.parquet"
    plain = render_report([load_run(run_folder)])
    assert list(costs_of(plain)) == ["parameters", "macs"]
    assert '<button type="button">Bytes</button>' not in plain
    trials = pd.read_parquet(path)
    int8 = trials["arm"] == "wider"
    trials.assign(weight_bytes=trials["weight_bytes"].mask(int8, 9_000)).to_parquet(path)
    page = render_report([load_run(run_folder)])
    assert '<button type="button">Bytes</button>' in page
    assert list(costs_of(page)) == ["parameters", "macs", "weight_bytes"]
    assert table_under(page, "The front") == table_under(plain, "The front")
    header, *rows = table_under(page, "The front by bytes of weights")
    assert header[2] == "Bytes"
    # by hand: 9,400 bytes reach 90.2%, so 9,000 with 97.7% leave but paper, 59,448 with 98.2%
    assert [(row[1], row[2], *row[8:]) for row in rows] == [
        ("wider", "9,000", "3", "100%"),
        ("paper", "59,448", "3", "100%"),
    ]
    text = text_of(page)
    assert (
        "On digits, 2 of 8 arms form the Pareto front by bytes of weights: from 9,000 bytes of weights with "
        "97.70 ± 0.20% validation accuracy to 59,448 bytes of weights with 98.20 ± 0.20% validation accuracy."
    ) in text
    assert "at least as good in both bytes of weights and mean validation accuracy" in text
    assert "for int8 nets, 1 each and the scales" in text
    assert text.count("Hypervolume of the front") == 1


def test_arms_without_bytes_are_not_on_the_front_by_bytes(run_folder):
    path = run_folder / "trials.parquet"
    trials = pd.read_parquet(path)
    trials.loc[trials["arm"] == "tiny", "weight_bytes"] = None
    trials.to_parquet(path)
    assert "weight_bytes" not in costs_of(render_report([load_run(run_folder)]))
    trials.loc[trials["arm"] == "small", "weight_bytes"] = 99
    trials.to_parquet(path)
    page = render_report([load_run(run_folder)])
    assert "tiny" not in [row[1] for row in table_under(page, "The front by bytes of weights")]
    assert "Not drawn: 1 arm without a result or known bytes of weights." in text_of(page)


def test_each_run_has_its_own_hypervolume(run_folder, tmp_path):
    other = shutil.copytree(run_folder, tmp_path / "small")
    trials = pd.read_parquet(other / "trials.parquet")
    trials[trials["arm"] == "tiny"].to_parquet(other / "trials.parquet")
    text = text_of(render_report([load_run(run_folder), load_run(other)]))
    shares = re.search(r"the front: (0\.\d{4})\. .*own front: imitation (0\.\d{4}), small (0\.\d{4})\.", text)
    assert shares[1] == shares[2]
    assert shares[3] == f"{0.902 * (5 - math.log10(2_350)) / 5:.4f}" < shares[2]


def test_the_likeliest_arms_off_the_front_are_named(run_folder):
    trials = pd.read_parquet(run_folder / "trials.parquet")
    lucky = {"wide": 0.985, NASTY: 0.9849, "wider": 0.9848, "slow": 0.9535}
    for arm, accuracy in lucky.items():  # better than the front at seed 0, far worse at the others
        trials.loc[trials["arm"] == arm, "val_accuracy"] = [accuracy, 0.8, 0.8]
    trials.to_parquet(run_folder / "trials.parquet")
    run = load_run(run_folder)
    arms = mark_membership(mark_front(summarise_arms(run.trials)), run.trials).set_index("arm")
    chances = arms.loc[~arms["on_front"], "front_probability"].sort_values(ascending=False)
    likely = chances[chances >= 0.005].head(3)
    assert len(likely) == 2
    text = text_of(render_report([run]))
    named = text.split("Off the front, but most likely to be on it: ")[1].split("%.")[0] + "%"
    assert sorted(named.split("; ")) == sorted(
        f"{arm} ({arms.loc[arm, 'parameters']:,} parameters) {100 * chances[arm]:.0f}%"
        for arm in likely.index
    )


def test_one_seed_has_no_probability(run_folder):
    trials = pd.read_parquet(run_folder / "trials.parquet")
    trials[trials["seed"] == 0].to_parquet(run_folder / "trials.parquet")
    page = render_report([load_run(run_folder)])
    assert [row[8] for row in table_under(page, "The front")[1:]] == ["–"] * 3
    text = text_of(page)
    assert "so the probability of being on the front is unknown (–)" in text
    assert "bootstrap" not in text


def test_no_net_within_the_budgets_no_table_of_budgets(run_folder):
    trials = pd.read_parquet(run_folder / "trials.parquet")
    trials.assign(parameters=trials["parameters"] + 100_000).to_parquet(run_folder / "trials.parquet")
    page = render_report([load_run(run_folder)])
    assert "Best net per parameter budget" not in page
    assert "Hypervolume of the front: 0.0000." in text_of(page)


def test_partial_results_are_in_no_front_table_hypervolume_or_probability(run_folder, tmp_path):
    other = shutil.copytree(run_folder, tmp_path / "planted" / run_folder.name)
    plant_partial_trials(other)
    clean, planted = [render_report([load_run(folder)]) for folder in (run_folder, other)]
    for heading in ("The front", "Best net per parameter budget"):
        assert table_under(planted, heading) == table_under(clean, heading)
    for start, end in (
        ("Hypervolume of", "add nothing."),
        ("On the front, probability: ", "are subtracted."),
    ):
        found = [text_of(page).split(start)[1].split(end)[0] for page in (clean, planted)]
        assert found[0] == found[1]
    drawn = {
        trace["meta"]["layer"]: "".join(trace.get("hovertext", []))
        for trace in figure_of(planted, "pareto-1")["data"]
    }
    assert "<b>slow</b>" in drawn["own"]
    for absent in ("<b>stopped</b>", "<b>crashed</b>", "99.9"):
        assert absent not in drawn["own"]
    assert "<b>crashed</b>" in drawn["failed"]
    assert "Not drawn: 2 arms without a result." in text_of(planted)


def test_nothing_from_files_becomes_markup(run_folder):
    page = render_report([load_run(run_folder)])
    assert "<img" not in page.replace(Page(page).text, "")
    elements = Page(page).elements
    assert not {"img", "i"} & {tag for tag, _ in elements}
    assert NASTY not in page
    assert NASTY in Page(page).text
    assert sum(tag == "script" for tag, _ in elements) == page.count("</script>") == 3


def test_the_page_asks_for_nothing(run_folder):
    elements = Page(render_report([load_run(run_folder)])).elements
    links = [attributes.get(name) or "" for _, attributes in elements for name in ("src", "href", "action")]
    assert all(not link or link.startswith(("#", "data:")) for link in links)
    policies = [attributes["content"] for _, attributes in elements if "http-equiv" in attributes]
    assert policies[0].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policies[0].split("style-src")[0]


def test_several_runs_are_pooled_under_their_names(run_folder, tmp_path):
    other = shutil.copytree(run_folder, tmp_path / "elsewhere" / "imitation")
    page = write_report([run_folder, other], tmp_path / "report.html").read_text(encoding="utf-8")
    text = " ".join(Page(page).text.split())
    assert f"The sweep {other} has records of 24 trials" in text
    assert "46 completed" in text
    assert "6 of 16 arms form the Pareto front" in text
    assert f"{run_folder} · paper" in text


def test_each_data_set_has_its_figures(run_folder):
    table = pd.read_parquet(run_folder / "trials.parquet")
    table.loc[table["seed"] == 1, "dataset"] = "mnist"
    table.to_parquet(run_folder / "trials.parquet")
    page = render_report([load_run(run_folder)])
    assert "Accuracy against cost: mnist" in page
    assert drawn_in(page) == ["pareto-1", "pareto-2", "curves-1", "curves-2"]


@pytest.mark.parametrize("status", [None, "failed"])
def test_a_run_without_results_has_a_page_without_figures(run_folder, status):
    trials = pd.read_parquet(run_folder / "trials.parquet")
    trials = trials.iloc[:0] if status is None else trials.assign(status=status, val_accuracy=None)
    trials.to_parquet(run_folder / "trials.parquet")
    epochs = pd.read_parquet(run_folder / "epochs.parquet")
    epochs.iloc[:0].to_parquet(run_folder / "epochs.parquet")
    page = render_report([load_run(run_folder)])
    expected = "has no trials yet" if status is None else "No arm has a seed with a result on digits yet"
    assert expected in Page(page).text
    assert drawn_in(page) == []


def test_completed_trials_without_epochs_have_no_curves(run_folder):
    epochs = pd.read_parquet(run_folder / "epochs.parquet")
    epochs.iloc[:0].to_parquet(run_folder / "epochs.parquet")
    page = render_report([load_run(run_folder)])
    assert drawn_in(page) == ["pareto-1"]


def test_wrong_folders_and_outputs_are_run_errors(run_folder, tmp_path):
    for runs in ([], [run_folder, run_folder / ".." / run_folder.name]):
        with pytest.raises(RunError, match="name at least one run folder, and each only once"):
            write_report(runs, tmp_path / "report.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be written .*; name another file with -o"):
        write_report([run_folder], tmp_path / "file" / "report.html")
    with pytest.raises(RunError, match="cannot be written"):
        write_report([run_folder], run_folder)


def test_a_failed_write_leaves_the_old_report(run_folder, tmp_path, monkeypatch):
    output = tmp_path / "report.html"
    output.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RunError, match="No space left on device"):
        write_report([run_folder], output)
    assert output.read_text() == "old"
    assert not list(tmp_path.glob(".report-*"))


def test_the_numbers_are_those_of_the_file_of_trials(tmp_path):
    """Computed here anew from trials.parquet, with nothing of the analysis."""
    folder = write_large(tmp_path / "large", 60, 3)
    page = render_report([load_run(folder)])
    trials = pd.read_parquet(folder / "trials.parquet")
    ends = trials["status"].value_counts()
    assert (
        f"{ends['completed']} completed {ends['early_stopped']} stopped early {ends['failed']} failed"
    ) in text_of(page)
    done = trials[trials["status"] == "completed"].groupby("arm")
    completed = trials[trials["status"] == "completed"]  # one trial a seed
    tables = [
        completed.pivot(index="arm", columns="seed", values=f"{split}_accuracy") for split in ("val", "test")
    ]
    val, test = (
        dict(zip(table.index, fit_rows_and_columns(table.to_numpy())[0], strict=True)) for table in tables
    )
    arms = {arm: (int(rows["parameters"].iloc[0]), val[arm], rows) for arm, rows in done}

    def spread(mean, values):
        deviation = f" ± {100 * values.std(ddof=1):.2f}" if len(values) > 1 else ""
        return f"{100 * mean:.2f}{deviation}%{'*' if len(values) < 3 else ''}"

    def seeds(rows):
        return "3" if len(rows) == 3 else f"{len(rows)} of 3"

    def is_beaten(size, accuracy):
        return any(
            other_size <= size and other >= accuracy and (other_size < size or other > accuracy)
            for other_size, other, _ in arms.values()
        )

    front = sorted((size, arm) for arm, (size, accuracy, _) in arms.items() if not is_beaten(size, accuracy))
    expected = [
        [str(place), arm, f"{size:,}", f"{40 * size:,}", spread(val[arm], rows["val_accuracy"]),
         spread(test[arm], rows["test_accuracy"]), seeds(rows)]
        for place, (size, arm) in enumerate(front, 1)
        for rows in [arms[arm][2]]
    ]  # fmt: skip
    assert [[*row[:6], row[7]] for row in table_under(page, "The front")[1:]] == expected
    budgets = {row[1].split("<br>")[0]: row for row in table_under(page, "Best net per parameter budget")[1:]}
    for budget in (1_000, 2_000, 5_000, 10_000, 15_000, 20_000, 50_000):
        affordable = [(accuracy, -size, arm) for arm, (size, accuracy, _) in arms.items() if size <= budget]
        if affordable:
            _, size, best = max(affordable)
            low, _, high = budgets[best][0].replace(",", "").partition(" to ")
            assert int(low) <= budget <= int(high or low)
            assert f"{-size:,} parameters, n = {seeds(arms[best][2])}" in budgets[best][1]
            assert [cell.split("<br>")[0] for cell in budgets[best][2:]] == [
                spread(val[best], arms[best][2]["val_accuracy"]),
                spread(test[best], arms[best][2]["test_accuracy"]),
            ]
    data = payload_of(page)["trials"]
    for name in (
        "trial_id",
        "arm",
        "seed",
        "status",
        "parameters",
        "val_accuracy",
        "test_accuracy",
        "seconds",
    ):
        column = data[name]
        cells = column if isinstance(column, list) else [column["of"][code] for code in column["at"]]
        assert cells == trials[name].astype(object).where(trials[name].notna(), None).tolist()
