"""A run that is killed, or gets Ctrl-C, before any of its writes goes on to what an undisturbed run gives.

The places are found by counting: an undisturbed run says what it writes, and in which order. `pytest` takes
the last write of every kind and some more, `pytest -m campaign` every single one. Trials are trained in one
process, without Ray (`plain_cluster`): what is protected is the journal, the store with its claims and
checkpoints, the study and the tables. Ray's part is in `test_ray_runs.py`.
"""

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from forked import INTERRUPTED, Child, Setting, start, start_training
from run_reading import assert_as_if_undisturbed, results
from small_images import SPEC, write_images
from studies import assert_whole, states, study_trials

SWEEP: dict[str, Any] = {
    "name": "killed",
    "dataset": SPEC,
    "seeds": 1,
    "base": {
        "model": {"filters": [2, 3]},
        "stages": {"preset": "paper", "epochs": {"dual": 2, "fusion": 1, "finetune": 1}, "patience": None},
    },
    "grid": {"model.hidden": [4, 8]},
    "resources": {"checkpoint_seconds": 0},
}
SEARCH: dict[str, Any] = {
    **{key: value for key, value in SWEEP.items() if key != "grid"},
    "seeds": 2,
    "search": {
        "space": {
            "model.hidden": {"low": 4, "high": 9},
            "stages.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        },
        "trials": 5,
        "sampler": "random",
        "early_stopping": {"first": 2, "factor": 2},
        "confirmation": {"at_most": 1},
    },
}
SWEEPS = {"sweep": SWEEP, "search": SEARCH}
LARGER: dict[str, dict[str, Any]] = {
    "sweep of 4": {**SWEEP, "seeds": 2},
    "search of 8": {**SEARCH, "search": {**SEARCH["search"], "trials": 8, "confirmation": {"at_most": 2}}},
    "compressed": {
        **{key: value for key, value in SWEEP.items() if key != "grid"},
        "base": {
            **SWEEP["base"],
            "compression": {"prune": "weights", "amount": 0.5, "epochs": 1, "quantise": "int8"},
        },
    },
}
"""What `pytest -m campaign` stops before every single write, the page's among them."""
MORE = 4
"""Places of a search beside those in the journal."""


class Undisturbed:
    """A run that nobody disturbed, and what it wrote."""

    def __init__(self, folder: Path, sweep: dict[str, Any], has_page: bool = False) -> None:
        self.folder, self.sweep, self.has_page = folder, sweep, has_page
        begin(folder, sweep)
        child = self.start(folder)
        done = child.end()
        assert done.returncode == 0, done.stdout + done.stderr
        self.writes = child.writes()
        self.draws = [trial.params for trial in study_trials(folder)] if "search" in sweep else []

    def start(self, folder: Path, setting: Setting | None = None) -> Child:
        """Start the same run in a folder."""
        if self.has_page:
            return start("run", "sweep.yaml", "--data-dir", "data", cwd=folder, setting=setting)
        return start_training(folder, setting=setting)

    def some_places(self) -> list[int]:
        """The last write of each kind; of a search those into the journal, and some more, evenly spread.

        A draft that was renamed is removed in vain: that is the place after the renaming.
        """
        last = {
            what: place
            for place, what in enumerate(self.writes)
            if not (what.startswith("os.remove") and what.endswith(".tmp"))
        }
        if "search" in self.sweep:
            last = {what: place for what, place in last.items() if "journal" in what}
        more = range(0, len(self.writes), len(self.writes) // MORE) if "search" in self.sweep else ()
        return sorted({*last.values(), *more})


def begin(folder: Path, sweep: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "sweep.yaml").write_text(json.dumps(sweep))  # JSON is YAML
    write_images(folder / "data/images.npz")


@pytest.fixture(scope="module")
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp(request.param) / "run", SWEEPS[request.param])


def stop_and_go_on(reference: Undisturbed, folder: Path, places: Sequence[int], how: signal.Signals) -> None:
    """Stop a run before each of these writes, and run the same command again."""
    for place in places:
        here, what = folder / str(place), f"before write {place}: {reference.writes[place]}"
        begin(here, reference.sweep)
        stopped = reference.start(here, Setting(before=place, gets=how)).end()
        expected = -signal.SIGKILL if how == signal.SIGKILL else INTERRUPTED
        assert stopped.returncode == expected, (what, stopped.stdout + stopped.stderr)
        assert "Traceback" not in stopped.stderr, (what, stopped.stderr)
        if how == signal.SIGINT and "search" in reference.sweep:
            assert "RUNNING" not in states(here), what
        stored = {key: path.stat() for key, path in results(here).items()}
        done = reference.start(here).end()
        assert done.returncode == 0, (what, done.stdout + done.stderr)
        assert (here / "runs/killed/report.html").exists() == reference.has_page, what
        try:
            for key, before in stored.items():
                after = results(here)[key].stat()
                assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
            assert_as_if_undisturbed(here, reference.folder)
            if "search" in reference.sweep:
                search = reference.sweep["search"]
                assert_whole(here, search["trials"], confirmed=search["confirmation"]["at_most"])
                assert [trial.params for trial in study_trials(here)] == reference.draws
        except AssertionError as error:
            error.add_note(f"stopped {what}")
            raise


BOTH = pytest.mark.parametrize("undisturbed", SWEEPS, indirect=True)
SIGNALS = pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])


@BOTH
@SIGNALS
def test_stopped_before_some_writes_of_each_kind(
    undisturbed: Undisturbed, tmp_path: Path, how: signal.Signals
) -> None:
    places = undisturbed.some_places()
    if how == signal.SIGINT:
        places = places[::2]  # what lies on disk is the same; the way out is not
    stop_and_go_on(undisturbed, tmp_path, places, how)


@pytest.mark.campaign
@pytest.mark.parametrize("name", LARGER)
@SIGNALS
def test_stopped_before_every_single_write(name: str, tmp_path: Path, how: signal.Signals) -> None:
    undisturbed = Undisturbed(tmp_path / "undisturbed", LARGER[name], has_page=name == "compressed")
    print(f"\n{name}: {len(undisturbed.writes)} writes")
    stop_and_go_on(undisturbed, tmp_path, range(len(undisturbed.writes)), how)
