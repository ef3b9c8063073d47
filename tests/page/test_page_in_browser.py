"""The page in a real browser: what each click changes, what it must never do, who can use it.

Every page that is opened here is watched: no request, no complaint in the console (see ``conftest.opened``).
"""

import io
import json
import re
import shutil
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
import pandas as pd
import pytest
from imitation_large import write_large
from imitation_run import NASTY, plant_partial_trials
from playwright.sync_api import expect

from analysis import load_run, mark_front, pareto_figure, render_report, summarise_arms, write_report
from analysis.front.result import mark_membership

pytestmark = pytest.mark.browser

POINTS = "#pareto-1 .scatterlayer .point"


def rows_of(page):
    return page.locator("#trials tbody tr")


def state_of(page):
    return {name: values[0] for name, values in parse_qs(page.evaluate("location.hash.slice(1)")).items()}


def drawn_arms(page):
    """The arms that the first figure shows now."""
    return page.evaluate(
        """() => document.getElementById("pareto-1").data
          .filter((trace) => trace.meta.of === "arms" && trace.customdata)
          .flatMap((trace) => trace.customdata.map((arm) => cell(data.parts[0].arms.label, arm))).sort()"""
    )


def column(page, title):
    titles = page.locator("#trials thead th").all_inner_texts()
    place = [text.strip(" ↑↓") for text in titles].index(title) + 1
    return page.locator(f"#trials tbody td:nth-child({place})").all_inner_texts()


class TestPages:
    def test_of_a_real_run(self, real_run, opened):
        page = opened(real_run)
        expect(page.locator("h1")).to_have_text("real")
        expect(page.get_by_text("2 failed – why")).to_be_visible()
        expect(page.locator("#failures")).to_contain_text("the training loss is NaN")
        assert rows_of(page).count() == 4
        rows_of(page).filter(has_text="completed").first.click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_role("region", name="Stages of the trial").locator("tbody tr")).to_have_count(4)
        confusion = dialog.get_by_role("region", name="Confusion of the test images")
        counts = [int(text) for text in confusion.locator("td").all_inner_texts()]
        assert (len(counts), sum(counts)) == (100, 359)  # the digits that are held back for the test

    @pytest.mark.parametrize("arms", [40, pytest.param(2_000, marks=pytest.mark.slow)])
    def test_of_more_trials_than_a_page_of_the_table_has(self, tmp_path, opened, arms):
        trials = 5 * arms
        page = opened(write_large(tmp_path / "large", arms, 5))
        expect(page.locator("#shown")).to_have_text(f"{trials:,} of {trials:,} trials")
        assert rows_of(page).count() == 100
        page.get_by_role("button", name="Next").click()
        expect(page.locator("#place")).to_have_text(f"Rows 101 to 200 of {trials:,}")
        assert state_of(page) == {"page": "2"}
        rows_of(page).first.get_by_role("button").click()
        page.get_by_role("button", name="Close").click()
        assert state_of(page) == {
            "page": "2"
        }  # a trial that was opened and closed leaves the table as it was
        page.get_by_role("button", name="Test", exact=True).click()
        expect(page.locator("#trials th[aria-sort=ascending]")).to_have_text(re.compile("Test"))
        page.get_by_label("Search").fill("batch_size=48 augmentation=affine")
        table = pd.read_parquet(tmp_path / "large" / "trials.parquet")
        settings = table["config.batch_size"].astype(str) + table["config.augmentation"].astype(str)
        found = int((settings == "48affine").sum())  # about a sixth
        assert trials / 9 < found < trials / 3
        expect(page.locator("#shown")).to_have_text(f"{found:,} of {trials:,} trials")
        assert page.locator(POINTS).count() < 600

    def test_of_an_empty_run(self, run_folder, opened):
        for name in ("trials", "epochs"):
            path = run_folder / f"{name}.parquet"
            pd.read_parquet(path).iloc[:0].to_parquet(path)
        page = opened(run_folder)
        expect(page.get_by_text("has no trials yet")).to_be_visible()
        expect(page.get_by_role("heading", name="Provenance")).to_be_visible()
        assert page.locator("#trials, .plot").count() == 0
        expect(page.locator("#filters")).to_be_hidden()

    def test_of_failures_alone(self, run_folder, opened):
        trials = pd.read_parquet(run_folder / "trials.parquet")
        trials.assign(
            status="failed", error="out of memory", val_accuracy=None, test_accuracy=None
        ).to_parquet(run_folder / "trials.parquet")
        epochs = pd.read_parquet(run_folder / "epochs.parquet")
        epochs.iloc[:0].to_parquet(run_folder / "epochs.parquet")
        page = opened(run_folder)
        expect(page.get_by_text("No arm has a seed with a result on digits yet")).to_be_visible()
        expect(page.get_by_text("24 trials failed and are excluded from all averages")).to_be_visible()
        assert page.locator("#failures li").count() == 24
        assert rows_of(page).count() == 24
        rows_of(page).first.click()
        expect(page.get_by_role("dialog")).to_contain_text("out of memory")
        expect(page.get_by_role("dialog")).to_contain_text("No epochs are recorded.")

    def test_of_one_trial(self, run_folder, opened):
        for name in ("trials", "epochs"):
            path = run_folder / f"{name}.parquet"
            table = pd.read_parquet(path)
            table[table["trial_id"] == "03-1"].to_parquet(path)
        page = opened(run_folder)
        assert page.locator(POINTS).count() == 1
        expect(page.locator(".finding").first).to_contain_text("1 of 1 arm is the Pareto front")
        expect(page.get_by_text("1 of 1 arm has one seed")).to_be_visible()
        expect(page.locator("#save")).to_have_text("Save 1 trial as CSV")

    def test_of_two_runs_compared(self, run_folder, tmp_path, opened):
        other = shutil.copytree(run_folder, tmp_path / "other")
        (other / "sweep.yaml").write_text(
            "name: imitation\ndataset: {name: digits}\nseeds: 3\nbase: {batch_size: 32}\n"
        )
        trials = pd.read_parquet(other / "trials.parquet")
        trials.assign(test_accuracy=trials["test_accuracy"] - 0.01).to_parquet(other / "trials.parquet")
        page = opened(run_folder, other)
        expect(page.get_by_role("heading", name="The runs compared")).to_be_visible()
        expect(page.locator("main")).to_contain_text("base.batch_size")
        assert page.locator(POINTS).count() == 16 + 2  # arms of both, and two failed trials
        expect(page.locator("#pareto-1 .legend")).to_contain_text("other: arms")
        page.get_by_label("Search").fill("other tiny")
        expect(page.locator("#shown")).to_have_text("3 of 48 trials")
        rows_of(page).first.click()
        expect(page.get_by_role("dialog")).to_contain_text("other, digits, trial 00-0")
        assert state_of(page)["trial-run"] == "other"

    def test_is_small(self, tmp_path):
        page = render_report([load_run(write_large(tmp_path / "large", 200, 5))])
        assert len(page.encode()) < 3_000_000  # 1,000 trials; the issue allows 7


class TestFilters:
    """Each acts on the figure, the table and the address together."""

    def test_arm(self, page):
        page.get_by_label("Arm", exact=True).fill("wide")
        expect(page.locator("#shown")).to_have_text("6 of 24 trials")
        assert set(column(page, "Arm")) == {"wide", "wider"}
        assert drawn_arms(page) == ["wide", "wider"]
        assert state_of(page) == {"arm": "wide"}
        lines = page.evaluate(
            "document.getElementById('curves-1').data.filter((trace) => trace.visible).length"
        )
        assert lines == 0  # neither is on the front
        page.get_by_label("Arms shown").select_option("all")
        expect(page.locator("#curves-1 .scatterlayer .trace")).to_have_count(6)
        page.get_by_role("button", name="Reset", exact=True).click()
        expect(page.locator("#shown")).to_have_text("24 of 24 trials")
        assert len(drawn_arms(page)) == 8
        assert state_of(page) == {}

    def test_status(self, page):
        page.get_by_label("Status").select_option("failed")
        expect(rows_of(page)).to_have_count(1)
        assert column(page, "Arm") == ["dead"]
        assert drawn_arms(page) == ["dead"]
        assert state_of(page) == {"status": "failed"}

    def test_budget(self, page):
        page.locator("select[name=budget]").select_option("10000")
        expect(rows_of(page)).to_have_count(12)
        assert drawn_arms(page) == ["dead", "slow", "small", "tiny"]
        assert state_of(page) == {"budget": "10000"}

    def test_data_set(self, run_folder, opened):
        path = run_folder / "trials.parquet"
        trials = pd.read_parquet(path)
        trials.assign(dataset=trials["dataset"].mask(trials["seed"] == 1, "mnist")).to_parquet(path)
        page = opened(run_folder)
        expect(page.locator("#pareto-1")).to_be_visible()
        page.get_by_label("Data set").select_option("mnist")
        expect(page.locator("#pareto-1")).to_be_hidden()
        expect(page.locator("#pareto-2")).to_be_visible()
        expect(rows_of(page)).to_have_count(8)
        assert state_of(page) == {"dataset": "mnist"}

    def test_search_looks_into_settings_and_errors(self, page):
        page.get_by_label("Search").fill("loss is")
        expect(rows_of(page)).to_have_count(1)
        page.get_by_label("Search").fill("augmentation=affine SMALL")
        expect(rows_of(page)).to_have_count(3)
        page.get_by_label("Search").fill("no such thing")
        expect(page.locator("#place")).to_have_text("No trial matches the filters.")
        assert drawn_arms(page) == []


def place_of(page, cost, accuracy):
    """Where the first figure has this point, in pixels of the window."""
    return page.evaluate(
        """([cost, accuracy]) => {
          const box = document.getElementById("pareto-1"), {left, top} = box.getBoundingClientRect();
          const {xaxis, yaxis} = box._fullLayout;
          return [left + xaxis._offset + xaxis.d2p(cost), top + yaxis._offset + yaxis.d2p(accuracy)]; }""",
        [cost, accuracy],
    )


class TestFigure:
    def test_every_cost_and_view_shows_what_python_draws(self, run_folder, opened):
        """The script that switches the axes and the function that draws them are two; they must agree."""
        path = run_folder / "trials.parquet"
        trials = pd.read_parquet(path)
        int8 = trials["arm"] == "wider"
        latency = 0.2 + trials["parameters"].astype(float) / 50_000
        trials.assign(
            weight_bytes=trials["weight_bytes"].mask(int8, 9_000),
            latency_ms=latency.mask(trials["arm"] == "slow"),
        ).to_parquet(path)
        run, page = load_run(run_folder), opened(run_folder)
        arms = summarise_arms(run.trials)
        for cost in ("macs", "weight_bytes", "latency_ms", "parameters"):
            page.locator("select[name=cost]").select_option(cost)
            marked = mark_membership(mark_front(arms, cost), run.trials, cost)
            for view in ("test", "validation"):
                page.get_by_role("radio", name=view).check()
                expected = pareto_figure(marked, cost, view)
                expect(page.locator("#pareto-1 .ytitle")).to_have_text(expected.layout.yaxis.title.text)
                expect(page.locator("#pareto-1 .xtitle")).to_have_text(expected.layout.xaxis.title.text)
                layers = "(trace) => ['front', 'own'].includes(trace.meta.layer)"
                shown = page.evaluate(f"document.getElementById('pareto-1').data.filter({layers})")
                for found, wanted in zip(shown, expected.data, strict=True):
                    wanted = json.loads(wanted.to_json())
                    for key in ("x", "y", "text", "customdata", "hovertext"):
                        assert found.get(key) == pytest.approx(wanted.get(key)), (cost, view, key)
                    assert found.get("marker", {}).get("color") == wanted.get("marker", {}).get("color")
                    bars = [each.get("error_y", {}).get("array") for each in (found, wanted)]
                    assert bars[0] == pytest.approx(bars[1])
                ranges = page.evaluate(
                    """() => ["xaxis", "yaxis"].map(
                      (axis) => document.getElementById("pareto-1").layout[axis].range)"""
                )
                assert ranges[0] == pytest.approx(expected.layout.xaxis.range)
                assert ranges[1] == pytest.approx(expected.layout.yaxis.range)
                heading = "The front" if cost == "parameters" else "The front by"
                assert page.get_by_role("heading", name=heading, exact=cost == "parameters").count() == 1

    def test_layers_hide_by_checkbox_and_by_legend(self, run_folder, opened):
        plant_partial_trials(run_folder)
        page = opened(run_folder)
        failed = page.get_by_role("checkbox", name="failed")
        expect(page.locator(POINTS)).to_have_count(8 + 4)
        failed.uncheck()
        expect(page.locator(POINTS)).to_have_count(8)
        assert state_of(page) == {"layer-failed": "0"}
        page.locator("#pareto-1 .legendtoggle").first.click()  # the front
        expect(page.get_by_role("checkbox", name="the front")).not_to_be_checked()
        expect(page.locator("#pareto-1 .js-line")).to_have_count(0)
        page.get_by_role("checkbox", name="budgets").uncheck()
        expect(page.locator("#pareto-1 .shapelayer path")).to_have_count(0)

    def test_a_click_on_a_point_opens_its_trial(self, run_folder, opened):
        path = run_folder / "trials.parquet"
        trials = pd.read_parquet(path)
        confusion = np.diag([30] * 10)
        confusion[4, 9], confusion[4, 4] = 6, 24
        trials.assign(test_confusion=json.dumps(confusion.tolist())).to_parquet(path)
        page = opened(run_folder)
        x, y = place_of(page, 2_350, 90.2)
        page.mouse.move(x, y)
        page.mouse.click(x, y)
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_role("heading", name="tiny")).to_be_visible()
        for text in (
            "2,350",
            "90.00%",
            "89.00%",
            "augmentation",
            "Most frequent confusions: 4 for 9 (6).",
        ):
            expect(dialog).to_contain_text(text)
        expect(dialog).to_contain_text("submodel A classifies 85.79% and submodel B 85.79%")
        names = page.evaluate("document.getElementById('trial-curves').data.map((trace) => trace.name)")
        assert names == ["validation", "training", "submodel A, validation", "submodel B, validation", "kept"]
        notes = page.evaluate(
            "document.getElementById('trial-curves').layout.annotations.map((note) => note.text)"
        )
        assert notes == ["dual", "fusion", "finetune"]
        expect(dialog).to_contain_text(f"lightsweep verify {run_folder} 00-0")
        expect(dialog).to_contain_text(f"lightsweep export {run_folder} 00-0 -o model.onnx")
        assert state_of(page) == {"trial": "00-0", "trial-run": "imitation"}
        dialog.get_by_role("combobox").select_option("seed 2 (validation 90.40%)")
        expect(dialog).to_contain_text("trial 00-2")
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        assert state_of(page) == {}

    def test_the_numbers_of_a_figure_are_a_table(self, page):
        page.locator("details.numbers[data-of=pareto-1] summary").click()
        table = page.get_by_role("region", name="Numbers of the figure: Accuracy against cost")
        expect(table.locator("tbody tr").first).to_be_visible()
        rows = [row.split("\t") for row in table.locator("tbody tr").all_inner_texts()]
        small = next(row for row in rows if row[3].startswith("small"))
        assert small[:3] == ["arms", "6930", "95.2"]
        assert NASTY in table.inner_text()
        page.get_by_label("Arm", exact=True).fill("tiny")
        expect(table.locator("tbody tr")).to_have_count(1)


class TestTable:
    def test_headings_sort_by_number_and_keep_missing_last(self, page):
        heading = page.locator("#trials th[data-field=parameters]")
        heading.get_by_role("button").click()
        expect(heading).to_have_attribute("aria-sort", "ascending")
        assert column(page, "Parameters")[::3] == [
            "2,350", "6,930", "6,930", "9,000", "14,862", "14,862", "21,000", "101,770",
        ]  # fmt: skip
        heading.get_by_role("button").press("Enter")
        expect(heading).to_have_attribute("aria-sort", "descending")
        assert column(page, "Parameters")[0] == "101,770"
        assert state_of(page) == {"sort": "-parameters"}
        for way in ("ascending", "descending"):
            page.get_by_role("button", name="MACs").click()
            expect(page.locator("#trials th[data-field=macs]")).to_have_attribute("aria-sort", way)
            assert column(page, "MACs")[-1] == "–"
        assert heading.get_attribute("aria-sort") is None
        page.get_by_role("button", name="Arm").click()
        assert column(page, "Arm") == sorted(column(page, "Arm"), key=str.lower)

    def test_a_row_opens_by_click_and_by_keyboard(self, page):
        rows_of(page).nth(4).locator("td").last.click()
        expect(page.get_by_role("dialog")).to_contain_text("trial 01-1")
        page.get_by_role("button", name="Close").click()
        expect(page.get_by_role("dialog")).to_be_hidden()
        rows_of(page).nth(5).get_by_role("button").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_contain_text("trial 01-2")

    def test_the_csv_is_the_table_of_trials(self, run_folder, opened):
        path = run_folder / "trials.parquet"
        nasty = pd.read_parquet(path)
        nasty.loc[nasty["arm"] == "wider", "arm"] = '=cmd("calc"), or so'
        nasty.loc[nasty["arm"] == "wide", "arm"] = "-dropout"
        nasty.assign(val_accuracy=nasty["val_accuracy"] / 3).to_parquet(path)
        page = opened(run_folder)
        with page.expect_download() as download:
            page.get_by_role("button", name="Save 24 trials as CSV").click()
        assert download.value.suggested_filename == "trials.csv"
        text = Path(download.value.path()).read_text(encoding="utf-8")
        assert text.startswith("\ufeff")  # else Excel takes é for Ã©
        text = text.removeprefix("\ufeff")
        found = pd.read_csv(io.StringIO(text)).astype({"macs": "Int64", "fold": "Int64"})
        run = load_run(run_folder)
        wanted = run.trials.drop(columns="test_confusion")
        wanted["arm"] = wanted["arm"].replace('=cmd("calc"), or so', '\'=cmd("calc"), or so')
        assert list(found) == list(wanted)
        for name in wanted:
            assert found[name].isna().equals(wanted[name].isna()), name
            assert found[name].dropna().tolist() == wanted[name].dropna().tolist() or name == "spec_hash", (
                name
            )
        page.get_by_label("Arm", exact=True).fill("-drop")
        with page.expect_download() as download:
            page.get_by_role("button", name="Save 3 trials as CSV").click()
        assert len(Path(download.value.path()).read_text().splitlines()) == 4


def test_a_link_shows_the_same_view(run_folder, opened):
    page = opened(run_folder)
    page.locator("select[name=budget]").select_option("20000")
    page.get_by_label("Search").fill("affine")
    page.locator("select[name=cost]").select_option("macs")
    page.get_by_role("radio", name="test").check()
    page.get_by_role("checkbox", name="failed").uncheck()
    page.get_by_label("Arms shown").select_option("all")
    page.get_by_role("button", name="Train", exact=True).click()
    rows_of(page).nth(2).locator("td").last.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    address = page.evaluate("location.hash")
    look = """() => [
        document.getElementById("pareto-1").data.map((trace) => [trace.x, trace.y, trace.visible]),
        document.getElementById("curves-1").data.map((trace) => trace.visible),
        document.getElementById("trials").innerText,
        document.querySelector("dialog").innerText,
        readForm()]"""
    other = opened(run_folder, address=address)
    expect(other.get_by_role("dialog")).to_be_visible()
    assert other.evaluate(look) == page.evaluate(look)
    assert other.evaluate("location.hash") == address
    other.evaluate("location.hash = '#arm=tiny'")
    expect(other.locator("#shown")).to_have_text("3 of 24 trials")
    expect(other.get_by_role("dialog")).to_be_hidden()


BROKEN = [
    "#failures",
    "#sort=nothing&page=99&budget=7&trial=gone&layer-=0",
    "#%E0%A4%A",
    "#arm=%00&cost=evil",
]


@pytest.mark.parametrize("address", BROKEN[1:3])
def test_a_broken_link_shows_the_page(run_folder, opened, address):
    page = opened(run_folder, address=address)
    expect(page.locator("#shown")).to_have_text(re.compile(r"of 24 trials"))
    assert page.locator("#pareto-1 .main-svg").count() > 0


def test_a_broken_link_in_an_open_page_shows_the_page(page):
    for address in BROKEN:
        page.evaluate("address => { location.hash = address; }", address)
        expect(page.locator("#shown")).to_have_text(re.compile(r"of 24 trials"))
        assert page.locator("#pareto-1 .main-svg").count() > 0


def test_nothing_that_files_say_is_executed(run_folder, tmp_path, opened):
    """In names of arms, data sets, stages, hosts and runs, errors, settings, the sweep file, the folder."""
    hostile = f"\"'>{NASTY}<script>alert(2)</script><b onmouseover=alert(3)>"
    for name in ("trials", "epochs"):
        path = run_folder / f"{name}.parquet"
        table = pd.read_parquet(path)
        table["arm"] = table["arm"].replace("tiny", hostile)
        if name == "trials":
            table = table.assign(dataset=hostile, host=hostile, commit=hostile, device=hostile)
            table["error"] = table["error"].mask(table["error"].notna(), hostile)
            table[f"config.{hostile}"] = [f"{hostile} {place % 2}" for place in range(len(table))]
            table.loc[0, "status"] = "early_stopped"
        else:
            table["stage"] = table["stage"] + hostile
        table.to_parquet(path)
    (run_folder / "sweep.yaml").write_text(f"name: x\nnote: |\n  {hostile}\n")
    environment = json.loads((run_folder / "environment.json").read_text())
    (run_folder / "environment.json").write_text(
        json.dumps({**environment, "commit": hostile, "cpu": hostile})
    )
    (run_folder / "design.json").write_text(json.dumps({"base": None, "classes": {hostile: [hostile] * 2}}))
    folder = run_folder.rename(tmp_path / "<img src=x onerror=alert(4)>")
    page = opened(folder)
    for details in page.locator("details.numbers summary").all():
        details.click()
    page.locator("#pareto-1").scroll_into_view_if_needed()
    page.mouse.move(*place_of(page, 2_350, 90.3))  # seed 0 was stopped early
    expect(page.locator("#pareto-1 .hovertext").first).to_be_visible()
    rows_of(page).filter(has_text="alert(2)").first.click()
    expect(page.get_by_role("dialog").locator("h2")).to_have_text(hostile)
    expect(page.get_by_role("dialog").locator(".annotation-text").first).to_contain_text("alert(2)")
    assert page.locator("img, b[onmouseover], main script").count() == 0


class TestForEveryone:
    def test_axe_finds_no_serious_violation(self, search_folder, run_folder, opened):
        """On a page that has all there is: a search, a sweep, and the two compared."""
        plant_partial_trials(run_folder)
        self.check(opened(search_folder, run_folder))

    @pytest.mark.slow
    def test_axe_finds_no_serious_violation_on_a_page_of_one_run(self, real_run, search_folder, opened):
        for folder in (real_run, search_folder):
            self.check(opened(folder))

    def check(self, page):
        """Everything in the light, and the contrasts in the dark, which differs by colours alone."""
        from axe_playwright_python.sync_playwright import Axe

        def violations(context=None):
            options, contrast = {"resultTypes": ["violations"]}, {"runOnly": ["color-contrast"]}
            page.emulate_media(color_scheme="light")
            light = self.serious(Axe().run(page, context=context, options=options))
            page.emulate_media(color_scheme="dark")
            return light + self.serious(Axe().run(page, context=context, options=options | contrast))

        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        found = violations()
        rows_of(page).first.click()
        expect(page.get_by_role("dialog").locator(".main-svg").first).to_be_visible()
        assert found + violations("dialog") == []

    @staticmethod
    def serious(results):
        return [
            (found["id"], node["target"], node["failureSummary"])
            for found in results.response["violations"]
            if found["impact"] in ("serious", "critical")
            for node in found["nodes"]
        ]

    def test_the_page_fits_the_screen(self, run_folder, opened):
        """Wide tables and panels scroll within themselves, and a long arm's name widens nothing."""
        for file in (run_folder / "trials.parquet", run_folder / "epochs.parquet"):
            table = pd.read_parquet(file)
            table.assign(arm=table["arm"].replace("tiny", "a very long name " * 6)).to_parquet(file)
        page = opened(run_folder, viewport={"width": 390, "height": 900})
        for width in (390, 768, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function(f"document.documentElement.scrollWidth === {width}")
            rows_of(page).first.click()
            expect(page.get_by_role("dialog").locator(".main-svg").first).to_be_visible()
            box = page.get_by_role("dialog").bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            page.keyboard.press("Escape")

    def test_it_prints(self, page):
        pdf = page.pdf(format="A4")
        assert pdf.startswith(b"%PDF")
        page.emulate_media(media="print")
        expect(page.locator("#filters")).to_be_hidden()
        expect(page.locator("#pareto-1")).to_be_visible()
        expect(page.locator("h2", has_text="All trials")).to_be_visible()

    def test_without_a_script_it_says_so_and_shows_its_tables(self, run_folder, tmp_path, browser):
        page = browser.new_context(java_script_enabled=False).new_page()
        page.goto(write_report([run_folder], tmp_path / "report.html").as_uri())
        expect(page.get_by_text("Figures and the table of trials need JavaScript")).to_be_visible()
        expect(page.get_by_role("region", name="The front: its arms")).to_be_visible()
