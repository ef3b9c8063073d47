import os
import re
import shutil
from html.parser import HTMLParser

import pandas as pd
import pytest
from imitation_run import NASTY

from analysis import RunError, load_run, render_report, write_report


class Page(HTMLParser):
    """Collects the elements and texts that a browser would see."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] not in ("script", "style"):
            self.text += data


def test_the_page_is_whole_and_says_what_happened(run_folder, tmp_path):
    output = write_report([run_folder], tmp_path / "new" / "report.html")
    page = output.read_text(encoding="utf-8")
    assert sorted(path.name for path in output.parent.iterdir()) == ["report.html"]
    text = " ".join(Page(page).text.split())
    assert "imitation has records of 24 trials on digits, from 8 arms × 3 seeds" in text
    assert "started 1 March 2026, 12:00 UTC on laptop" in text
    assert "23 completed 0 stopped early 1 failed" in text
    assert "3 of 8 arms form the Pareto front: from 2,350 parameters with 90.20 ± 0.20%" in text
    assert "mean of an arm’s 2 to 3 completed trials" in text
    assert "ValueError: loss is <b>nan</b>" in text
    assert "lightsweep run sweeps/<imitation>.yaml" in text
    assert "name: imitation dataset: {name: digits} # <i>" in text
    assert page.count("plotly.js v") == 1


def test_trials_that_have_not_run_are_counted(run_folder):
    """A killed run's report must not look like a finished one's."""
    (run_folder / "plan.json").write_text("[" + ", ".join(["{}"] * 30) + "]")
    text = " ".join(Page(render_report([load_run(run_folder)])).text.split())
    assert "6 planned trials have not run yet" in text
    (run_folder / "plan.json").write_text("[" + ", ".join(["{}"] * 24) + "]")
    assert "not run yet" not in render_report([load_run(run_folder)])
    (run_folder / "plan.json").write_text("[{")
    with pytest.raises(RunError, match=r"plan\.json: not JSON"):
        load_run(run_folder)


def test_nothing_from_files_becomes_markup(run_folder):
    page = render_report([load_run(run_folder)])
    assert "<img" not in page.replace(Page(page).text, "")
    elements = Page(page).elements
    assert not {"img", "i"} & {tag for tag, _ in elements}
    assert NASTY not in page
    assert NASTY in Page(page).text
    assert sum(tag == "script" for tag, _ in elements) == page.count("</script>") == 4


def test_the_page_asks_for_nothing(run_folder):
    elements = Page(render_report([load_run(run_folder)])).elements
    links = [attributes.get(name) or "" for _, attributes in elements for name in ("src", "href", "action")]
    assert all(not link or link.startswith(("#", "data:")) for link in links)
    policies = [attributes["content"] for _, attributes in elements if "http-equiv" in attributes]
    assert policies[0].startswith("default-src 'none'")


def test_missing_is_a_dash_and_a_failed_row_is_marked(run_folder):
    page = render_report([load_run(run_folder)])
    row = re.search(r'<tr class="failed">(.*?)</tr>', page, re.DOTALL)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row.group(1))
    assert cells[:9] == ["dead", "2", "failed", "9,000", "–", "–", "–", "–", "2"]


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
    assert "Accuracy against parameters: mnist" in page
    assert page.count('<script type="application/json"') == 4


@pytest.mark.parametrize("status", [None, "failed"])
def test_a_run_without_results_has_a_page_without_figures(run_folder, status):
    trials = pd.read_parquet(run_folder / "trials.parquet")
    trials = trials.iloc[:0] if status is None else trials.assign(status=status, val_accuracy=None)
    trials.to_parquet(run_folder / "trials.parquet")
    epochs = pd.read_parquet(run_folder / "epochs.parquet")
    epochs.iloc[:0].to_parquet(run_folder / "epochs.parquet")
    page = render_report([load_run(run_folder)])
    expected = "has no trials yet" if status is None else "No arm has a completed trial on digits yet"
    assert expected in Page(page).text
    assert '<script type="application/json"' not in page


def test_completed_trials_without_epochs_have_no_curves(run_folder):
    epochs = pd.read_parquet(run_folder / "epochs.parquet")
    epochs.iloc[:0].to_parquet(run_folder / "epochs.parquet")
    page = render_report([load_run(run_folder)])
    assert page.count('<script type="application/json"') == 1


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


@pytest.fixture
def browser():
    def give_up(reason):
        if os.environ.get("LIGHTSWEEP_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)

    chromium = shutil.which("chromium")
    if chromium is None:
        give_up("needs a chromium on PATH")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        give_up("needs playwright: pip install lightsweep[test]")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.browser
def test_the_page_works_in_a_browser(run_folder, tmp_path, browser):
    page = browser.new_page()
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(write_report([run_folder], tmp_path / "report.html").as_uri())

    points = page.locator("#pareto-1 .scatterlayer .point")
    points.first.wait_for()
    assert points.count() == 8
    assert page.locator("#pareto-1 .ytitle").text_content() == "mean validation accuracy (%)"
    page.get_by_label("Test").check()
    page.get_by_text("mean test accuracy (%)").wait_for()
    assert points.count() == 8
    page.locator("#pareto-1").hover()
    assert page.locator(".modebar-btn").count() > 0
    assert page.locator(".modebar-btn[data-attr=cloud], .modebar-btn[data-title*=Share]").count() == 0

    lines = page.locator("#curves-1 .scatterlayer .trace")
    assert lines.count() == 9
    page.get_by_label("Arms shown").select_option(NASTY)
    page.wait_for_function("document.querySelectorAll('#curves-1 .scatterlayer .trace').length === 3")
    page.get_by_label("Arms shown").select_option("all")
    page.wait_for_function("document.querySelectorAll('#curves-1 .scatterlayer .trace').length === 24")

    assert complaints == []
    assert all(url.startswith(("file:", "data:")) for url in requests)


@pytest.mark.browser
def test_headings_sort_by_number_and_keep_missing_last(run_folder, tmp_path, browser):
    page = browser.new_page()
    page.goto(write_report([run_folder], tmp_path / "report.html").as_uri())

    def column(title):
        titles = page.locator("#trials th").all_inner_texts()
        place = [text.strip(" ↑↓") for text in titles].index(title) + 1
        return page.locator(f"#trials tbody td:nth-child({place})").all_inner_texts()

    heading = page.locator("#trials th", has_text="Parameters")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column("Parameters")[::3] == [
        "2,350",
        "6,930",
        "6,930",
        "9,000",
        "14,862",
        "14,862",
        "21,000",
        "101,770",
    ]
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert column("Parameters")[0] == "101,770"

    for _ in range(2):
        page.get_by_role("button", name="MACs").click()
        assert column("MACs")[-1] == "–"
    assert heading.get_attribute("aria-sort") is None
    page.get_by_role("button", name="Arm").click()
    assert column("Arm") == sorted(column("Arm"), key=str.lower)
