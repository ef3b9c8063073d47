import json
import re

import pytest
from imitation_alternatives import costs_tree, net_tree, write_alternatives
from imitation_run import NASTY
from page_reading import text_of

from analysis import RunError, load_run, render_report
from analysis.costs.result import COUNTS, LATENCIES, Latency, parse_costs
from analysis.costs.words import TITLES, lay_out_costs


@pytest.fixture
def folder(tmp_path):
    return write_alternatives(tmp_path / "alternatives")


def cells(page: str) -> dict[str, list[str]]:
    """Return the table's rows by their first arm."""
    table = page.split("<h2>What the nets cost</h2>")[1].split("</table>")[0]
    rows = [re.findall("<td[^>]*>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", table, re.DOTALL)]
    return {row[0].split(";")[0]: row[1:] for row in rows if row}


def test_costs_are_read_as_they_stand():
    costs = parse_costs(costs_tree())
    paper, int8, _ = costs.nets
    assert (costs.machine, costs.threads, len(paper.arms)) == ("an Intel Xeon with 2 cores", 1, 6)
    assert paper.counts["training_bytes"] == 178_344
    assert paper.latencies["latency_256_ms"] == Latency(12.345, 12.0, 13.0, 50)
    assert (int8.counts["onnx_bytes"], int8.latencies["latency_256_ms"]) == (None, None)
    assert int8.reasons["onnx_bytes"] == "int8 nets are not exported"


def test_every_cost_has_a_column():
    assert set(TITLES) == {*COUNTS, *LATENCIES}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"macs": -1}, "macs is -1; it must be 0 or more"),
        ({"arms": "paper"}, "arms is 'paper'; it must be a list"),
        (
            {"latency_1_ms": {"median": 1, "low": 2, "high": 3, "n": 4}},
            "quartiles 2.0 and 3.0 about the median 1",
        ),
        ({"latency_1_ms": {"median": 1, "low": 1, "high": float("nan"), "n": 4}}, "quartiles"),
        ({"latency_1_ms": {"median": 1}}, "KeyError"),
        ({"parameters": "many"}, "invalid literal"),
    ],
)
def test_what_nobody_writes_is_a_run_error(folder, changes, message):
    tree = {**costs_tree(), "nets": [{**net_tree(("paper",), 14_862), **changes}]}
    (folder / "costs.json").write_text(json.dumps(tree))
    with pytest.raises(RunError, match=rf"costs\.json: not a run's costs .*{message}.*measure them again"):
        load_run(folder)


@pytest.mark.parametrize("text", ["[]", "{", '{"machine": "a"}'])
def test_a_broken_file_is_a_run_error(folder, text):
    (folder / "costs.json").write_text(text)
    with pytest.raises(RunError, match=r"costs\.json: not a run's costs"):
        load_run(folder)


def test_the_page_has_a_row_per_net_from_small_to_large(folder):
    page = render_report([load_run(folder)])
    rows = cells(page)
    assert list(rows)[1:] == ["paper", "big, int8"]
    assert rows["paper"][:7] == ["14,862", "14,864", "594,480", "59,448", "14,962", "178,344", "60,447"]
    assert rows["paper"][7:] == [
        '0.5<br><span class="quiet">0.25 to 0.75</span>',
        '12.3<br><span class="quiet">12 to 13</span>',
        "1.5",
        "1,540",
    ]
    assert NASTY not in page
    text = text_of(page)
    assert "and 3 more" in text
    assert "Measured on an Intel Xeon with 2 cores with torch 2.13.0 on 1 thread, 2 March 2026." in text
    assert (
        "median (first to third quartile) over repeats, n = 200 with 1 image and 50 with 256 images." in text
    )


def test_a_missing_value_has_its_reason_once(folder):
    page = render_report([load_run(folder)])
    rows = cells(page)
    (mobilenet,) = [row for arm, row in rows.items() if arm.startswith("mobilenet")]
    assert (rows["big, int8"][6], mobilenet[6]) == ("–<sup>1</sup>", "–<sup>1</sup>")
    assert mobilenet[9] == "–<sup>2</sup>"
    assert rows["big, int8"][8] == "–<sup>3</sup>"
    notes = re.findall(r"<sup>(\d)</sup> (.*?)</p>", page)
    assert notes == [
        ("1", "int8 nets are not exported"),
        ("2", "not measured; costs.json gives no reason"),
        ("3", "&lt;b&gt;too slow&lt;/b&gt;"),
    ]


def test_the_papers_megabytes_are_explained_where_its_net_is():
    """Its 0.17 MB are three numbers a parameter: 12 × 14,862 bytes."""
    assert 12 * 14_862 == 178_344
    assert f"{178_344 / 2**20:.3f} {4 * 14_862:,} {4 * 14_862 / 2**20:.3f}" == "0.170 59,448 0.057"
    tree = costs_tree()
    assert "178,344 bytes, 0.170 MiB" in lay_out_costs(parse_costs(tree), "").caption
    without = {**tree, "nets": tree["nets"][1:]}
    assert "2501.15547" not in lay_out_costs(parse_costs(without), "").caption


def test_repeats_that_differ_are_a_range_and_none_is_none():
    latency = {"median": 1, "low": 1, "high": 1, "n": 30}
    nets = [net_tree(("a",), 1), net_tree(("b",), 2, latency_1_ms=latency, latency_256_ms=None)]
    part = lay_out_costs(parse_costs({**costs_tree(), "nets": nets}), "")
    assert "n = 30 to 200 with 1 image and 50 with 256 images" in part.caption
    nets = [net_tree(("a",), 1, latency_1_ms=None, latency_256_ms=None)]
    part = lay_out_costs(parse_costs({**costs_tree(), "nets": nets, "measured_at": "once"}), "")
    assert "Latency" not in part.caption
    assert "on 1 thread. Parameters" in part.caption


def test_runs_without_costs_have_no_table(folder):
    (folder / "costs.json").unlink()
    run = load_run(folder)
    assert run.costs is None
    assert "What the nets cost" not in render_report([run])
    assert lay_out_costs(parse_costs({**costs_tree(), "nets": []}), "") is None


def test_large_and_small_numbers_have_three_digits_and_no_exponent():
    latency = {"median": 12_345.6, "low": 0.001234, "high": 99_999, "n": 3}
    (row,) = lay_out_costs(
        parse_costs({**costs_tree(), "nets": [net_tree(("a",), 1, latency_1_ms=latency)]}), ""
    ).rows
    cell = row.cells[list(TITLES).index("latency_1_ms")]
    assert (cell.text, cell.quartiles) == ("12,300", "0.00123 to 100,000")
