"""What is measured of nets: memory against sums by hand, what a net is, and what becomes of costs.json."""

import io
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from lightsweep.cli import main as cli
from lightsweep.cli.views.costs import print_costs
from lightsweep.data.datasets import describe
from lightsweep.deliver import measure
from lightsweep.deliver.measure import (
    COSTS_FILE,
    distinct_nets,
    latency_ms,
    measure_run,
    onnx_bytes,
    peak_bytes,
)
from lightsweep.deliver.netfile import make_file
from lightsweep.errors import InputError, WriteError
from lightsweep.planning.design import design_tree
from lightsweep.planning.plan import Plan, plan
from lightsweep.runfolder.folder import RunFolder
from lightsweep.runfolder.records import DataIdentity, Record, SearchPart, record
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.training.outcome import Outcome

SWEEP = {
    "name": "small",
    "dataset": {"name": "digits", "validation": 100},
    "seeds": 2,
    "base": {"model": {"filters": [4, 8]}},
    "ablation": {
        "arms": {
            "slow": {"stages.lr": 0.0001},
            "wide": {"model.filters": [6, 12]},
            "int8": {"compression": {"quantise": "int8"}},
            "pruned": {"compression": {"prune": "filters", "epochs": 1}},
        },
        "datasets": {"digits": {}, "fashion-mnist": {}},
    },
}
TIME = "2026-01-01T00:00:00+00:00"
ACCURACIES = {"base": 0.9, "slow": 0.8, "wide": 0.95, "int8": 0.89, "pruned": 0.7}


class Calls(nn.Module):
    """A net of one function of its images."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor, _: Tensor) -> tuple[Tensor]:
        return (self.function(images),)


def _twice_and_sum(x: Tensor) -> Tensor:
    more = x.neg()  # 4 · n bytes
    return torch.cat([more, more], 1).sum(1)  # 8 · n bytes more, and 4 a row; all are held at the end


def _one_after_the_other(x: Tensor) -> Tensor:
    for _ in range(5):
        x = x.neg()  # two of them are held at a time: the last and the next
    return x


class TestPeak:
    """By hand: a float32 is four bytes, and the profiler sees every one."""

    @pytest.mark.parametrize("rows", [1, 16, 256])
    def test_is_what_is_held_at_a_time(self, rows: int) -> None:
        assert peak_bytes(Calls(_twice_and_sum), torch.zeros(rows, 64)) == 4 * rows * 64 * 3 + 4 * rows

    def test_counts_what_is_released_no_longer(self) -> None:
        assert peak_bytes(Calls(_one_after_the_other), torch.zeros(10, 100)) == 2 * 4000

    def test_counts_neither_weights_nor_images(self) -> None:
        layer = nn.Linear(1000, 3)
        assert peak_bytes(Calls(layer), torch.zeros(2, 1000)) == 4 * 2 * 3
        assert peak_bytes(Calls(torch.neg), torch.zeros(2, 1000)) == 8000

    def test_of_a_net_grows_with_the_batch(self) -> None:
        trial = _planned().trials[0]
        net = measure.final_net(trial, measure._UNTRAINED)
        one, many = (peak_bytes(net, torch.zeros(batch, 1, 28, 28)) for batch in (1, 100))
        assert one >= 4 * 4 * 26 * 26  # the first maps
        assert 50 * one < many <= 101 * one


class TestLatency:
    def test_is_a_median_between_its_quartiles(self) -> None:
        found = latency_ms(Calls(_one_after_the_other), torch.zeros(10, 100), least=30)
        assert 0 < found["low"] <= found["median"] <= found["high"]
        assert 30 <= found["n"] <= measure.MOST_REPEATS

    def test_warms_up_untimed_and_repeats_often_enough(self) -> None:
        """The first calls choose kernels and fill caches; slow nets are timed no more than they must."""
        clock, calls = 0.0, 0

        def run(x: Tensor) -> Tensor:
            nonlocal clock, calls
            calls += 1
            clock += 9.0 if calls <= 10 else 0.001 * calls  # seconds
            return x

        found = latency_ms(Calls(run), torch.zeros(1), least=30, clock=lambda: clock)
        assert calls == 40
        times = range(11, 41)
        assert found["n"] == 30
        assert found["median"] == pytest.approx(sum(times) / 30)
        assert found["low"] == pytest.approx(11 + 29 / 4)
        assert found["high"] == pytest.approx(11 + 3 * 29 / 4)

    def test_is_of_one_thread_and_gives_the_others_back(self) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        seen = set()

        def run(x: Tensor) -> Tensor:
            seen.add(torch.get_num_threads())
            return x.flatten(1)

        try:
            found = measure.measure(Calls(run), (1, 2, 2))
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(threads)
        assert 1 in seen
        assert found["latency_1_ms"]["n"] >= 30
        assert found["latency_256_ms"]["n"] >= 10


class TestFileSize:
    def test_is_that_of_a_trained_net(self) -> None:
        """Biases are zero before training, and zeros would not be in the file."""
        net = Calls(nn.Sequential(nn.Flatten(), nn.Linear(4, 30), nn.Linear(30, 7)))
        layers = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
        for layer in layers:
            nn.init.zeros_(layer.bias)
        untrained = onnx_bytes(net, (1, 2, 2))
        assert not any(layer.bias.any() for layer in layers)  # the net itself is as it was
        for layer in layers:
            nn.init.uniform_(layer.bias)
        assert untrained == len(make_file(".onnx", net, (1, 2, 2)))
        assert untrained > 4 * (5 * 30 + 31 * 7)

    def test_that_cannot_be_had_is_null_with_the_reason(self) -> None:
        found = measure.measure(Calls(lambda x: x.reshape(2, -1)[:, :2]), (1, 2, 2))
        assert found["onnx_bytes"] is None
        assert set(found["reasons"]) == {"onnx_bytes"}
        assert found["reasons"]["onnx_bytes"].startswith("torch cannot export this net to .onnx (")
        assert found["peak_1_bytes"] >= 0


def _planned() -> Plan:
    return plan(Sweep.model_validate(SWEEP), lambda spec: describe(spec, Path()))


def _records(planned: Plan, accuracies: dict[str, float] | None = None) -> dict[str, Record]:
    """A record of each trial on digits whose arm has an accuracy, as if it had been trained."""
    found = {}
    accuracies = accuracies or ACCURACIES
    for trial in planned.trials:
        if trial.arm in accuracies and trial.dataset.name == "digits":
            value = accuracies[trial.arm] + 0.01 * trial.seed
            machine = {"host": "host", "device": "cpu", "hardware": "cpu", "torch": "2", "started_at": TIME}
            entry = {"key": "0" * 64, "origin": "trained", "epochs": 1, "epochs_trained": 1, "seconds": 1.0}
            outcome = Outcome(
                "completed", None, TIME, 1.0, "host", "cpu",
                accuracies={f"{name}_accuracy": value for name in ("val", "test", "train")},
                stages=[
                    {**entry, "stage_index": index, "waited_seconds": 0.0, "warning": None, **machine}
                    for index in range(len(trial.stages) + 1)
                ],
            )  # fmt: skip
            found[trial.trial_id] = record(
                trial, planned.costs[trial.trial_id], outcome, "", DataIdentity(trial.dataset.name, "f1")
            )
    return found


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with records, of which nothing was trained: costs do not depend on weights."""
    planned = _planned()
    run = RunFolder.create(tmp_path, planned.sweep)
    run.describe(
        planned.sweep, design_tree(planned), planned.trials, {t.trial_id: () for t in planned.trials}
    )
    for found in _records(planned).values():
        run.journal.append(found)
    return run


class TestNets:
    def test_are_distinct_by_data_and_settings_of_the_net(self) -> None:
        """Arms that train the same net otherwise share it; what is not completed is left out."""
        planned = _planned()
        nets = distinct_nets(planned, _records(planned))
        assert [net.arms for net in nets] == [("wide",), ("int8",), ("base", "slow"), ("pruned",)]
        assert nets[2].val_accuracy == pytest.approx((0.9 + 0.91 + 0.8 + 0.81) / 4)
        other = next(t for t in planned.trials if (t.arm, t.dataset.name) == ("base", "fashion-mnist"))
        records = _records(planned, {"base": 0.8})
        records[other.trial_id] = next(iter(records.values()))
        nets = distinct_nets(planned, records)
        assert [net.trial.dataset.name for net in nets] == ["digits", "fashion-mnist"]

    def test_that_a_search_confirmed_come_first(self) -> None:
        planned = _planned()
        records = _records(planned)
        for trial in planned.trials:
            part = SearchPart("confirmation" if trial.arm == "pruned" else "search")
            if trial.trial_id in records:
                records[trial.trial_id].trial["phase"] = part.phase
        nets = distinct_nets(planned, records)
        assert [net.arms[0] for net in nets] == ["pruned", "wide", "int8", "base"]

    def test_that_failed_or_were_stopped_are_none(self) -> None:
        planned = _planned()
        records = _records(planned)
        for found in records.values():
            found.trial["status"] = "failed" if found.trial["arm"] == "wide" else "early_stopped"
        assert distinct_nets(planned, records) == []


class TestCosts:
    @pytest.fixture(autouse=True)
    def _few_repeats(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(measure, "LEAST_REPEATS", {1: 5, 256: 2})
        monkeypatch.setattr(measure, "ENOUGH_SECONDS", 0.01)

    def test_are_whole_and_those_of_the_plan(
        self, run: RunFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """costs.json has for each net all that a plan knows of it and all that is measured.

        As the command writes it: all four nets with --all, and the report; torch's profiler, which prints to
        the terminal, is kept from it.
        """
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        monkeypatch.setattr(measure, "NETS", 1)
        monkeypatch.setattr(measure.os, "getloadavg", lambda: (9.0, 0.0, 0.0))
        monkeypatch.setattr(sys, "argv", ["lightsweep", "costs", str(run.folder), "--all"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        assert (ended.value.code, err) == (0, "")
        lines = out.splitlines()
        assert lines[0].startswith("warning: this machine is busy (load 9.0 on ")
        assert lines[1] == "net 1 of 4: digits: wide"
        assert lines[3] == "net 3 of 4: digits: base and 1 more"
        assert lines[-1] == f"report: {run.folder / 'report.html'}"
        assert (run.folder / "report.html").is_file()

        planned, tree = _planned(), json.loads((run.folder / COSTS_FILE).read_text())
        assert (tree["machine"], tree["torch"], tree["threads"]) == (measure.cpu_name(), torch.__version__, 1)
        assert [net["arms"] for net in tree["nets"]] == [["wide"], ["int8"], ["base", "slow"], ["pruned"]]
        digits = (trial for trial in planned.trials if trial.dataset.name == "digits")
        costs = {trial.arm: planned.costs[trial.trial_id] for trial in digits}
        for net in tree["nets"]:
            own = vars(costs[net["arms"][0]])
            assert {name: net[name] for name in own} == own
            assert net["dataset"] == "digits"
            if net["arms"] == ["int8"]:
                continue
            assert net["reasons"] == {}
            for batch, least in measure.LEAST_REPEATS.items():
                latency = net[f"latency_{batch}_ms"]
                assert 0 < latency["low"] <= latency["median"] <= latency["high"]
                assert latency["n"] >= least
            assert 0 < net["peak_1_bytes"] < net["peak_256_bytes"]
        wide, int8, base, _ = tree["nets"]
        assert base["onnx_bytes"] > base["weight_bytes"]
        assert wide["onnx_bytes"] - base["onnx_bytes"] == pytest.approx(
            wide["weight_bytes"] - base["weight_bytes"], abs=200
        )
        assert int8["onnx_bytes"] < base["onnx_bytes"]
        assert set(int8["reasons"]) == {name for name, cost in int8.items() if cost is None}
        assert len(int8["reasons"]) == 4  # its time and memory would be those of a simulation in float32

    def test_are_of_so_many_nets_unless_all_are_asked_for(
        self, run: RunFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(measure, "NETS", 3)
        monkeypatch.setattr(measure, "measure", lambda *_: {"reasons": {}})
        said = []
        tree = measure_run(run, _planned(), False, lambda *what: said.append(what))
        assert json.loads((run.folder / COSTS_FILE).read_text()) == tree
        assert [(number, count, net["arms"]) for number, count, net in said] == [
            (1, 3, ["wide"]), (2, 3, ["int8"]), (3, 3, ["base", "slow"]),
        ]  # fmt: skip

    def test_of_nothing_completed_are_refused(self, run: RunFolder) -> None:
        run.journal.path.unlink()
        with pytest.raises(InputError, match="no trial is completed yet, so there is no net to measure"):
            measure_run(run, _planned(), False, lambda *_: None)
        assert not (run.folder / COSTS_FILE).exists()

    def test_are_written_whole_or_not_at_all(self, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(measure, "measure", lambda *_: {"reasons": {}})
        (run.folder / COSTS_FILE).mkdir()
        with pytest.raises(WriteError, match=r"costs\.json: cannot be written \(Is a directory\)"):
            measure_run(run, _planned(), False, lambda *_: None)
        (run.folder / COSTS_FILE).rmdir()
        (run.folder / COSTS_FILE).write_text("before")
        write = Path.write_text

        def half(path: Path, text: str, **rest: Any) -> None:
            write(path, text[: len(text) // 2], **rest)
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as full_disk:
            full_disk.setattr(Path, "write_text", half)
            with pytest.raises(WriteError, match="No space left on device"):
                measure_run(run, _planned(), False, lambda *_: None)
        assert (run.folder / COSTS_FILE).read_text() == "before"

        def interrupt(number: int, *_: object) -> None:
            if number == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            measure_run(run, _planned(), True, interrupt)
        assert (run.folder / COSTS_FILE).read_text() == "before"
        assert not list(run.folder.glob("*.tmp"))


NET: dict[str, Any] = {
    "dataset": "digits", "arms": ["base"], "parameters": 14_862, "total_parameters": 14_864,
    "macs": 568_240, "weight_bytes": 59_448, "int8_bytes": 15_800, "training_bytes": 178_344,
    "onnx_bytes": 64_452, "latency_1_ms": {"median": 0.3184, "low": 0.31, "high": 0.3342, "n": 300},
    "latency_256_ms": {"median": 34.82, "low": 19.8, "high": 57.4, "n": 10},
    "peak_1_bytes": 63_176, "peak_256_bytes": 12_926_976, "reasons": {},
}  # fmt: skip


def _shown(width: int = 200, **other: Any) -> str:
    console = Console(width=width, file=io.StringIO())
    tree = {"machine": "a processor", "torch": "2.13", "threads": 1, "nets": [{**NET, **other}]}
    print_costs(tree, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


class TestTable:
    def test_has_every_cost(self) -> None:
        cells = " ".join(_shown().replace("│", " ").split())
        assert "1 14,862 14,864 568,240" in cells
        assert "1 58.1 15.4 174.2 62.9" in cells
        assert "1 0.318 (0.31–0.334) 34.8 (19.8–57.4) 61.7 12,624.0" in cells
        assert "measured on a processor, torch 2.13, 1 thread" in cells

    def test_has_every_cost_whole_on_a_narrow_terminal(self) -> None:
        """A number that is cut would be read as another one; reference nets have large ones."""
        large = {"parameters": 12_236_682, "macs": 1_094_123_456, "training_bytes": 268_401_840}
        assert "…" not in _shown(80, **large)

    def test_explains_the_papers_size_beside_the_papers_net(self) -> None:
        assert "0.17 MB" in _shown()
        assert "0.17 MB" not in _shown(training_bytes=178_345)

    def test_gives_the_reason_for_what_is_missing(self) -> None:
        missing = {"onnx_bytes": None, "latency_256_ms": None, "reasons": {"onnx_bytes": "too strange [/]"}}
        text = _shown(**missing)
        assert "net 1 has no onnx_bytes: too strange [/]" in text
        assert text.count("–") == 3  # twice for what is missing, once between quartiles
