"""Texts of evil intent at every place where text enters, followed to terminal, log, tables, page, ONNX."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pandas as pd
import pytest
from forked import lightsweep
from PIL import Image
from runs_to_fuzz import SWEEP

EVIL = {
    "an escape sequence": "\x1b[2J\x1b]0;owned\x07",
    "a turned line": "abc\u202egnp.exe",
    "a script": "</script><img src=x onerror=alert(1)>",
    "a formula": '=HYPERLINK("http://x","y")',
    "markup": "[bold red]x[/] {{7*7}} ${HOME} %s",
    "several lines": "one\ntwo\r\nthree",
    "a long one": "x" * 5_000,
    "no UTF-8": "caf\udce9",
    "a password": "postgresql://me:hunter2@host/db",
}
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b\ufeff\ud800-\udfff]")


def folders(folder: Path, *names: bytes) -> None:
    """Write pictures of classes of these names, and of another."""
    for part in ("train", "test"):
        for label, each in enumerate((*names, b"other")):
            place = os.path.join(os.fsencode(folder / "pictures" / part), each)
            os.makedirs(place, exist_ok=True)
            for index in range(12):
                value = 30 * label + index + 20 * (part == "test")
                Image.new("L", (16, 16), value).save(os.path.join(os.fsdecode(place), f"{index}.png"))


def sweep(**changes: Any) -> dict[str, Any]:
    base = {**SWEEP["base"], **changes.pop("base", {})}
    data = {"name": "imagefolder", "path": "pictures", "validation": 6}
    return {**SWEEP, "dataset": data, "seeds": 1, "base": base, **changes}


def as_arm(text: str) -> dict[str, Any]:
    return sweep(ablation={"arms": {text: {"model.hidden": 8}}})


def as_stage(text: str) -> dict[str, Any]:
    stage = {"name": text, "train": "all", "loss": "fused", "optimizer": "adam", "lr": 0.01, "epochs": 1}
    return sweep(base={"stages": [stage]}, ablation={"arms": {"wide": {"model.hidden": 8}}})


ENTRANCES: dict[str, Callable[[str], dict[str, Any]]] = {"arm": as_arm, "stage": as_stage}


@pytest.mark.parametrize("text", EVIL.values(), ids=EVIL)
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_name_controls_nothing_wherever_it_is_shown(tmp_path: Path, entrance: str, text: str) -> None:
    folders(tmp_path, b"evil")
    (tmp_path / "sweep.yaml").write_text(json.dumps(ENTRANCES[entrance](text)))
    done = lightsweep("run", "sweep.yaml", cwd=tmp_path, HOME=str(tmp_path))
    if done.returncode == 2:  # no name of an arm or a stage: one line that shows it
        (error,) = done.stderr.splitlines()
        assert error.startswith("error: sweep.yaml, line 1")
        assert len(error) < 1_200
    else:
        assert done.returncode == 0, done.stderr
        check_commands(tmp_path)
        check_files(tmp_path)
    check_said(done)


def test_names_of_classes_control_nothing_wherever_they_are_shown(tmp_path: Path) -> None:
    names = [os.fsencode(text) for text in EVIL.values() if "/" not in text and len(text) < 200]
    assert len(names) >= 4
    folders(tmp_path, *names)
    (tmp_path / "sweep.yaml").write_text(json.dumps(sweep(ablation={"arms": {"wide": {"model.hidden": 8}}})))
    done = lightsweep("run", "sweep.yaml", cwd=tmp_path, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    check_said(done)
    check_commands(tmp_path, ["datasets", "pictures"], ["export", "runs/fuzzed", "TRIAL", "-o", "net.onnx"])
    check_files(tmp_path)


def check_said(done: subprocess.CompletedProcess[str]) -> None:
    said = done.stdout + done.stderr
    assert not CONTROLS.search(said), done
    assert "hunter2" not in said


def check_commands(folder: Path, *more: list[str]) -> None:
    """Look at what the commands say of the run."""
    trial = pd.read_parquet(folder / "runs/fuzzed/trials.parquet").trial_id.iloc[-1]
    for words in (["plan", "sweep.yaml"], ["status", "runs/fuzzed"], ["show", "runs/fuzzed", "TRIAL"], *more):
        done = lightsweep(*(trial if word == "TRIAL" else word for word in words), cwd=folder)
        assert done.returncode == 0, done.stderr
        check_said(done)


def check_files(folder: Path) -> None:
    """Look at what a run has written."""
    log = (folder / "runs/fuzzed/log.txt").read_text()
    assert not CONTROLS.search(log)
    page = (folder / "runs/fuzzed/report.html").read_text()
    assert "<img src=x" not in page
    assert not CONTROLS.search(page.partition("<body")[2]), "of what is shown"
    for table in ("trials", "stages", "epochs"):
        rows = pd.read_parquet(folder / f"runs/fuzzed/{table}.parquet")
        read = list(csv.reader(io.StringIO(rows.to_csv())))
        assert {len(row) for row in read} == {len(rows.columns) + 1}
    if (folder / "net.onnx").exists():
        for prop in onnx.load(folder / "net.onnx").metadata_props:
            prop.value.encode()
            assert not re.search("[\x00-\x1f]", prop.value)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run; to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    folders(folder, b"evil")
    (folder / "sweep.yaml").write_text(json.dumps(sweep(ablation={"arms": {"wide": {"model.hidden": 8}}})))
    assert lightsweep("run", "sweep.yaml", cwd=folder).returncode == 0
    return folder


@pytest.mark.parametrize("text", EVIL.values(), ids=EVIL)
def test_an_errors_text_controls_nothing_wherever_it_is_shown(
    tmp_path: Path, finished: Path, text: str
) -> None:
    """A host's name and a failure's reason come from other machines: here from a journal."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    journal = tmp_path / "runs/fuzzed/journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    clean = text.encode("utf-8", "replace").decode()  # JSON of others has no lone surrogates
    lines[-1]["trial"] |= {"status": "failed", "error": clean, "host": clean, "failure": "error"}
    for stage in lines[-1]["stages"]:
        stage["host"] = clean
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    trial = lines[-1]["trial"]["trial_id"]
    for words in (["status", "runs/fuzzed"], ["show", "runs/fuzzed", trial], ["report", "runs/fuzzed"]):
        done = lightsweep(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert not CONTROLS.search(done.stdout + done.stderr), done
        assert "hunter2" not in done.stdout, done
    page = (tmp_path / "runs/fuzzed/report.html").read_text()
    assert "<img src=x" not in page


@pytest.mark.parametrize("text", EVIL.values(), ids=EVIL)
@pytest.mark.parametrize(
    "words",
    [["run", "TEXT"], ["plan", "sweep.yaml", "--set", "TEXT=1"], ["status", "TEXT"], ["show", "TEXT", "x"],
     ["datasets", "--download", "TEXT"], ["store", "--limit", "TEXT"], ["TEXT"], ["run", "--TEXT"]],
    ids=" ".join,
)  # fmt: skip
def test_an_argument_is_echoed_in_one_harmless_line(tmp_path: Path, words: list[str], text: str) -> None:
    (tmp_path / "sweep.yaml").write_text(json.dumps(sweep()))
    done = lightsweep(*(word.replace("TEXT", text) for word in words), cwd=tmp_path)
    assert done.returncode == 2, done
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert not CONTROLS.search(error)
    assert len(error) < 1_200
    assert "hunter2" not in error
