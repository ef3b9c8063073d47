"""Progress: what is done, running, failed and best, in plain lines where there is no terminal."""

import io

from rich.console import Console

from lightsweep.data.imagedata import Task
from lightsweep.runs.counts import Counts
from lightsweep.runs.progress import Progress
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.training.outcome import Outcome
from lightsweep.trials.trial import Trial

ARM = ArmSpec.model_validate({"stages": [{"name": "only", "epochs": 10, "loss": "fused"}]})
TRIALS = [Trial("base", DatasetSpec(name="digits"), ARM, Task((1, 28, 28), 10), seed) for seed in (0, 1)]


def outcome(accuracy: float | None) -> Outcome:
    common = {"started_at": "", "seconds": 1.5, "host": "box", "device": "cpu"}
    if accuracy is None:
        return Outcome(status="failed", error="NaN loss", **common)
    return Outcome(status="completed", error=None, accuracies={"val_accuracy": accuracy}, **common)


def test_lines_say_how_each_trial_ended_and_what_is_left(tmp_path):
    now, text = [0.0], io.StringIO()
    counts = Counts(TRIALS)
    with Progress(counts, tmp_path / "log.txt", Console(file=text), clock=lambda: now[0]) as shown:
        counts.advance(TRIALS[0], 0)
        shown.advance()
        counts.advance(TRIALS[1], 5)
        shown.advance()
        now[0] = 30.0
        counts.end(TRIALS[0], outcome(0.5))
        shown.end(TRIALS[0], outcome(0.5))
        counts.end(TRIALS[1], outcome(None))
        shown.end(TRIALS[1], outcome(None))
    assert text.getvalue().splitlines() == [
        "[1/2] base (seed 0): validation 50.00%, 1.5 s; 1 running, 0 failed, best 50.00%, about 10 s left",
        "[2/2] base (seed 1): FAILED: NaN loss; 0 running, 1 failed, best 50.00%, done",
    ]
    assert "FAILED: NaN loss" in (tmp_path / "log.txt").read_text()


def test_a_long_trial_is_heard_of(tmp_path):
    now, text = [0.0], io.StringIO()
    counts = Counts(TRIALS)
    with Progress(counts, tmp_path / "log.txt", Console(file=text), clock=lambda: now[0]) as shown:
        counts.advance(TRIALS[0], 1)
        shown.advance()
        now[0] = 61.0
        counts.advance(TRIALS[0], 2)
        shown.advance()
        counts.advance(TRIALS[0], 3)
        shown.advance()
    assert text.getvalue().splitlines() == ["[0/2] running: base (seed 0) 2 of 10 epochs; about 9 min left"]


def test_names_are_not_markup(tmp_path):
    text = io.StringIO()
    trial = Trial("[bold]x[/nosuch]", DatasetSpec(name="digits"), ARM, Task((1, 28, 28), 10), 0)
    counts = Counts([trial])
    with Progress(counts, tmp_path / "log.txt", Console(file=text, force_terminal=True)) as shown:
        counts.advance(trial, 1)
        shown.advance()
        counts.end(trial, outcome(0.5))
        shown.end(trial, outcome(0.5))
    assert "[bold]x[/nosuch]" in text.getvalue()
