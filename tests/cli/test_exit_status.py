"""Exit statuses are a contract, which scripts and schedulers go by: a test for each."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forked import Setting, lightsweep, start
from runs_to_fuzz import SWEEP, begin
from test_docs import README
from waiting import HANGS_SECONDS

from lightsweep.cli.shared import INPUT_IS_WRONG, INTERRUPTED, LOST, TRIALS_FAILED

LIGHTSWEEP = [sys.executable, "-m", "lightsweep"]
HERE = {"LIGHTSWEEP_DATA": "data"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    begin(tmp_path, SWEEP)
    return tmp_path


def test_the_table_in_the_readme_is_the_contract(tmp_path: Path) -> None:
    table = README.split("Exit statuses are a contract")[1].split("##")[0]
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", table, re.M)
    statuses = {0, TRIALS_FAILED, INPUT_IS_WRONG, LOST, INTERRUPTED}
    assert {int(status) for status, _ in rows} == statuses
    help_text = lightsweep("--help", cwd=tmp_path).stdout
    assert set(map(int, re.findall(r"(?:status: |; )(\d+)", " ".join(help_text.split())))) == statuses


def test_0_is_done(folder: Path) -> None:
    for words in (["run", "sweep.yaml"], ["status", "runs/fuzzed"], ["report", "runs/fuzzed"], ["store"]):
        done = lightsweep(*words, cwd=folder, **HERE)
        assert (done.returncode, "error" in done.stderr) == (0, False), done


def test_1_is_done_but_trials_failed_and_they_are_named(folder: Path) -> None:
    sweep = {**SWEEP, "ablation": {"arms": {"diverges": {"stages.lr": 1e30}}}}
    (folder / "sweep.yaml").write_text(json.dumps(sweep))
    done = lightsweep("run", "sweep.yaml", cwd=folder, **HERE)
    assert done.returncode == TRIALS_FAILED, done.stderr
    assert done.stdout.count("\nfailed: ") == 2
    again = lightsweep("run", "sweep.yaml", cwd=folder, **HERE)
    assert again.returncode == TRIALS_FAILED  # that they failed before is no reason to call it done


def test_1_is_a_verification_that_does_not_confirm(folder: Path) -> None:
    assert lightsweep("run", "sweep.yaml", cwd=folder, **HERE).returncode == 0
    journal = folder / "runs/fuzzed/journal.jsonl"
    line = json.loads(journal.read_text().splitlines()[0])
    line["trial"]["test_accuracy"] = 0.123
    journal.write_text(json.dumps(line) + "\n")
    done = lightsweep("verify", "runs/fuzzed", line["trial"]["trial_id"], cwd=folder, **HERE)
    assert (done.returncode, "NOT confirmed" in done.stdout) == (1, True)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "missing.yaml"], ["plan", "sweep.yaml", "--set", "no.such=1"], ["status", "runs/none"],
        ["report", "runs/none"], ["run"], ["nothing"], ["datasets", "none"], ["store", "--limit", "much"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_2_is_wrong_input_in_one_line(folder: Path, words: list[str]) -> None:
    before = sorted(folder.rglob("*"))
    done = lightsweep(*words, cwd=folder, **HERE)
    assert done.returncode == INPUT_IS_WRONG
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert [path for path in sorted(folder.rglob("*")) if not path.name.startswith(".said")] == [
        path for path in before if not path.name.startswith(".said")
    ]


def test_3_is_a_run_folder_that_goes_while_it_runs_and_the_same_command_goes_on(folder: Path) -> None:
    gate = folder / "gate"
    gate.mkdir()
    child = start("run", "sweep.yaml", cwd=folder, setting=Setting(HERE, gate=gate))
    child.await_state(lambda: len(list(gate.iterdir())) >= 1)
    (folder / "runs/fuzzed").rename(folder / "gone")
    (gate / "open").touch()
    done = child.end()
    assert done.returncode == LOST, done.stdout + done.stderr
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: runs/fuzzed: cannot be written (No such file or directory)")
    assert error.endswith("records are kept; run the same command again to continue")
    again = lightsweep("run", "sweep.yaml", cwd=folder, **HERE)
    assert again.returncode == 0, again.stderr
    assert "stages reused" in again.stdout  # the store was not in that folder


@pytest.mark.parametrize(
    "words", [["plan", "sweep.yaml"], ["datasets"], ["schema"], ["--help"]], ids=" ".join
)
def test_3_is_an_output_that_cannot_be_written(folder: Path, words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*LIGHTSWEEP, *words], cwd=folder, env={**os.environ, **HERE}, stdout=full,
            stderr=subprocess.PIPE, text=True, timeout=HANGS_SECONDS, check=False,
        )  # fmt: skip
    assert done.returncode == LOST, done.stderr
    assert done.stderr == "error: standard output: No space left on device\n"


def test_3_is_a_reader_that_has_gone_without_a_word(folder: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*LIGHTSWEEP, "plan", "sweep.yaml"], cwd=folder, env={**os.environ, **HERE},
        stdout=write, stderr=subprocess.PIPE, text=True, timeout=HANGS_SECONDS, check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (LOST, "")


def test_a_run_whose_reader_has_gone_goes_on_to_its_end(folder: Path) -> None:
    """As `lightsweep run | head` leaves it: the training is worth more than its lines, which log.txt has."""
    done = start("run", "sweep.yaml", cwd=folder, setting=Setting(HERE, is_read=False)).end()
    assert (done.returncode, done.stderr) == (LOST, "")
    log = (folder / "runs/fuzzed/log.txt").read_text()
    assert "[4/4] " in log
    assert lightsweep("status", "runs/fuzzed", cwd=folder).stdout.startswith("fuzzed: 4 of 4 trials done")


def test_3_is_too_little_memory(folder: Path) -> None:
    """OpenBLAS interrupts its process, as Ctrl-C would, where it gets no memory for its threads."""
    done = subprocess.run(
        ["bash", "-c", f"ulimit -v 1000000; exec {sys.executable} -m lightsweep plan sweep.yaml"],
        cwd=folder, env={**os.environ, **HERE}, capture_output=True, text=True, timeout=HANGS_SECONDS,
        check=False,
    )  # fmt: skip
    assert done.returncode == LOST, done.stderr
    assert "error: the memory limit here (ulimit -v) of 977 MiB is too low for this command" in done.stderr
    assert "Traceback" not in done.stderr


def test_130_is_interrupted_and_the_same_command_goes_on(folder: Path) -> None:
    gate = folder / "gate"
    gate.mkdir()
    child = start("run", "sweep.yaml", cwd=folder, setting=Setting(HERE, gate=gate))
    child.await_state(lambda: len(list(gate.iterdir())) >= 1)
    child.send(signal.SIGINT)
    done = child.end()
    assert (done.returncode, done.stderr) == (INTERRUPTED, "")
    assert done.stdout.endswith("interrupted; run the same command again to continue\n")
    (gate / "open").touch()
    assert lightsweep("run", "sweep.yaml", cwd=folder, **HERE).returncode == 0
