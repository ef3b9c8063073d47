"""No damage of a run folder, a store, a study or data gives a traceback or a hang, or reaches other files.

Each case is a whole command in a process of its own. `pytest` has a few, `-m slow` more, `-m campaign`
thousands; with `-s` it prints how many there were, what came of them, and the longest time.
"""

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from forked import lightsweep
from fuzzing import damage_arrays, damage_file, damage_pictures, damage_store
from PIL import Image
from run_reading import table
from runs_to_fuzz import SWEEPS, begin
from small_images import write_images

STATUSES = (0, 1, 2, 3)
HOW_OFTEN = {"pytest": 8, "slow": 16, "campaign": 1000}


def tiers(*values: Any) -> Any:
    """Parametrize by the number of cases, each tier with its mark."""
    marks: dict[str, Any] = {"slow": pytest.mark.slow, "campaign": pytest.mark.campaign, "pytest": ()}
    return pytest.mark.parametrize(
        "cases", [pytest.param(HOW_OFTEN[t], marks=marks[t], id=t) for t in values]
    )


@dataclass
class Figures:
    """What a number of cases came to."""

    cases: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    longest_seconds: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        self.cases += 1
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.longest_seconds = max(self.longest_seconds, seconds)


def check(figures: Figures, what: str, folder: Path, *words: object) -> int:
    """Run a command, which must end in one of the statuses, without a traceback, and soon."""
    started = time.monotonic()
    done = lightsweep(*words, cwd=folder, LIGHTSWEEP_DATA="data")
    seconds = time.monotonic() - started
    said = (what, words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    assert done.returncode in STATUSES, said
    assert "Traceback" not in done.stdout + done.stderr, said
    assert "\x1b" not in done.stdout + done.stderr, said
    assert all(len(line) < 5_000 for line in done.stderr.splitlines()), said
    if done.returncode in (2, 3):
        assert sum(line.startswith("error: ") for line in done.stderr.splitlines()) == 1, said
    figures.add(done.returncode, seconds)
    return done.returncode


def each(cases: int, one: Callable[[int], None]) -> None:
    """Try all cases, and show those that went wrong."""
    wrong = []
    for number in range(cases):
        try:
            one(number)
        except AssertionError as error:
            wrong.append(str(error)[:3_000])
    assert not wrong, f"{len(wrong)} of {cases} cases:\n" + "\n\n".join(wrong[:10])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished sweep and a finished search, to be copied and damaged."""
    found = {}
    for name, sweep in SWEEPS.items():
        found[name] = tmp_path_factory.mktemp(name) / "base"
        begin(found[name], sweep)
        done = lightsweep("run", "sweep.yaml", cwd=found[name], LIGHTSWEEP_DATA="data")
        assert done.returncode == 0, done.stderr
    return found


COMMANDS: list[Callable[[str], list[Any]]] = [
    lambda trial: ["status", "runs/fuzzed"],
    lambda trial: ["show", "runs/fuzzed", trial],
    lambda trial: ["report", "runs/fuzzed"],
    lambda trial: ["store"],
    lambda trial: ["store", "--prune"],
    lambda trial: ["run", "sweep.yaml"],
    lambda trial: ["verify", "runs/fuzzed", trial],
    lambda trial: ["export", "runs/fuzzed", trial, "-o", "net.onnx"],
    lambda trial: ["export", "runs/fuzzed", "--best-under", "9999", "-o", "net.onnx"],
    lambda trial: ["plan", "sweep.yaml"],
]


@pytest.mark.parametrize("kind", SWEEPS)
@tiers("pytest", "slow", "campaign")
def test_run_folders(runs: dict[str, Path], tmp_path: Path, kind: str, cases: int) -> None:
    figures = Figures()
    trial = table(runs[kind], "trials", "fuzzed")["trial_id"].iloc[0]

    def one(number: int) -> None:
        draws = random.Random(f"run folder {kind} {number}")
        folder = Path(shutil.copytree(runs[kind], tmp_path / str(number), symlinks=True))
        names = sorted(path.name for path in (folder / "runs/fuzzed").iterdir() if path.is_file())
        what = damage_file(folder / "runs/fuzzed" / draws.choice(names), draws)
        (folder / "mine").mkdir()
        (folder / "mine/letters").write_text("mine")
        command = draws.choice(COMMANDS[:6] if cases <= HOW_OFTEN["slow"] else COMMANDS)
        check(figures, f"case {number}: {what}", folder, *command(trial))
        assert (folder / "mine/letters").read_text() == "mine"
        shutil.rmtree(folder)

    each(cases, one)
    print(f"\nrun folders of a {kind}: {figures}")


@tiers("pytest", "slow", "campaign")
def test_stores(runs: dict[str, Path], tmp_path: Path, cases: int) -> None:
    """Whatever lies there, the results are an undisturbed run's; or it says that it cannot write there."""
    figures = Figures()
    expected = table(runs["sweep"], "trials", "fuzzed").set_index("trial_id")["test_accuracy"].to_dict()

    def one(number: int) -> None:
        draws = random.Random(f"store {number}")
        folder = Path(shutil.copytree(runs["sweep"], tmp_path / str(number), symlinks=True))
        shutil.rmtree(folder / "runs/fuzzed")  # only the store knows anything
        what = damage_store(folder / "runs/.stages", draws)
        status = check(figures, f"case {number}: {what}", folder, "run", "sweep.yaml")
        if status == 0:
            found = table(folder, "trials", "fuzzed").set_index("trial_id")["test_accuracy"].to_dict()
            assert found == expected, (number, what)
        else:
            assert status in (2, 3), (number, what)
            assert "link" in what or "claims" in what, (number, what)
        shutil.rmtree(folder)

    each(cases // 2, one)
    print(f"\nstores: {figures}")


DATASETS = {
    "pictures": "{name: imagefolder, path: pictures, image_size: 8}",
    "arrays": "{name: npz, path: images.npz}",
}


@tiers("pytest", "slow", "campaign")
@pytest.mark.parametrize("kind", DATASETS)
def test_data(tmp_path: Path, kind: str, cases: int) -> None:
    figures = Figures()

    def one(number: int) -> None:
        draws = random.Random(f"{kind} {number}")
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / ("pictures" if kind == "pictures" else "images.npz")
        if kind == "pictures":
            write_pictures(path, draws.choice(["", "train test", "Training Testing valid"]))
            what = damage_pictures(path, draws)
        else:
            write_images(path)
            what = damage_arrays(path, draws)
        (folder / "sweep.yaml").write_text(
            f"name: fuzzed\ndataset: {DATASETS[kind]}\nseeds: 1\nbase: {{model: {{filters: [2, 3]}}}}\n"
        )
        check(figures, f"case {number}: {what}", folder, "datasets", path.name)
        check(figures, f"case {number}: {what}", folder, "plan", "sweep.yaml")
        shutil.rmtree(folder)

    each(cases // 4, one)
    print(f"\n{kind}: {figures}")


def write_pictures(folder: Path, splits: str) -> None:
    """Write ten grey pictures a class, in splits if there are any."""
    for split in splits.split() or [""]:
        for label, name in enumerate("abc"):
            (folder / split / name).mkdir(parents=True)
            for index in range(10):
                value = (37 * index + 11 * label + 5 * len(split)) % 256
                Image.new("L", (8, 8), value).save(folder / split / name / f"{index}.png")


def test_the_same_case_is_made_again(tmp_path: Path) -> None:
    """A failing case is found again by its number."""
    said = []
    for name in ("one", "two"):
        for number in range(40):
            path = tmp_path / name / str(number) / "plan.json"
            path.parent.mkdir(parents=True)
            path.write_text('[{"trial_id": "t", "arm": "a", "keys": ["k"]}]')
            what = damage_file(path, random.Random(f"x {number}"))
            said.append((number, what, path.read_bytes() if path.is_file() else None))
    assert said[:40] == said[40:]
