"""The command line as a user meets it: what it prints, writes and refuses.

Trials are trained without Ray, in forked processes (see `forked`); what is Ray's is in `tests/distributed`.
"""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from forked import INTERRUPTED, Setting, lightsweep, start
from run_reading import told, weights

SMALL = """
name: small
dataset: {name: digits, validation: 100, train_limit: 150}
seeds: 2
base:
  model: {filters: [2, 3]}
  stages: {preset: paper, epochs: {dual: 2, fusion: 1, finetune: 1}}
grid:
  model.hidden: [4, 8]
"""
TEST_IMAGES = 359  # of digits


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder in which a small sweep was run, with its output in `output.txt` and `writes.txt`."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(SMALL)
    child = start("run", "small.yaml", cwd=folder)
    done = child.end()
    (folder / "output.txt").write_text(done.stdout + done.stderr)
    (folder / "writes.txt").write_text("\n".join(child.writes()))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def places_of(folder: Path, file: str) -> list[int]:
    """Return which writes of an undisturbed run were to this file."""
    writes = (folder / "writes.txt").read_text().splitlines()
    return [place for place, what in enumerate(writes) if file in what]


class TestRun:
    """Mostly of one run, `finished`."""

    def test_records_every_trial_with_its_costs_and_settings(self, finished):
        trials = pd.read_parquet(finished / "runs/small/trials.parquet")
        assert trials.status.tolist() == ["completed"] * 4
        assert trials.test_accuracy.tolist() == pytest.approx(  # whole images
            [round(accuracy * TEST_IMAGES) / TEST_IMAGES for accuracy in trials.test_accuracy], abs=1e-12
        )
        assert trials.test_accuracy.gt(0).all()
        assert sorted(trials["config.model.hidden"].tolist()) == [4, 4, 8, 8]
        epochs = pd.read_parquet(finished / "runs/small/epochs.parquet")
        assert epochs.groupby("trial_id").size().tolist() == [4] * 4

    def test_shares_first_stages(self, finished):
        """Two seeds of two arms: the arms' first stages are the same two."""
        assert len(weights(finished)) == 2 + 4 + 4 + 4

    def test_prints_plain_lines(self, finished):
        ended, lines = told((finished / "output.txt").read_text())
        assert lines[0] == "small: 4 trials of 1,808 to 1,932 parameters"
        assert lines[1] == "this process is up: 2 trials at a time on the processor"
        assert ended == ["[1", "[2", "[3", "[4"]
        assert lines[2].startswith("stages and assessments: 14 made, 2 reused; ")
        assert lines[3] == "4 completed, 0 failed, 0 left; records in runs/small"
        assert all(line.startswith("failure signs: ") for line in lines[4:-1])
        assert lines[-1] == "report: runs/small/report.html"

    def test_again_trains_nothing_and_starts_no_cluster(self, finished):
        done = lightsweep("run", "small.yaml", cwd=finished)
        assert done.returncode == 0
        assert "4 already done" in done.stdout
        assert " is up: " not in done.stdout

    def test_extending_trains_only_what_is_new(self, tmp_path):
        """2 arms × 2 seeds; then one more arm, then one more seed, then another name for an arm."""
        two = SMALL.replace("[4, 8]", "[4, 5]")
        three = two.replace("[4, 5]", "[4, 5, 6]")
        more = three.replace("seeds: 2", "seeds: 3")
        steps = {"two arms": (two, 2 + 4 * 3), "one more": (three, 2 * 3), "three seeds": (more, 1 + 3 * 3)}
        known: set[str] = set()
        for step, (content, new) in steps.items():
            (tmp_path / "small.yaml").write_text(content)
            done = lightsweep("run", "small.yaml", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            made = pd.read_parquet(tmp_path / "runs/small/stages.parquet").query("origin != 'stored'").key
            assert made.is_unique
            assert len(set(made) - known) == new, step
            known |= set(made)
            assert known == set(weights(tmp_path))
        table = (
            "stages:\n    - {name: other, loss: heads, epochs: 2, patience: 5}\n"
            "    - {name: fusion, train: last-2, epochs: 1}\n"
            "    - {name: finetune, optimizer: sgd, momentum: 0.9, epochs: 1, patience: 5}"
        )
        preset = "stages: {preset: paper, epochs: {dual: 2, fusion: 1, finetune: 1}}"
        axis = "grid:\n  stages.other.name: [renamed]\n"
        renamed = more.replace(preset, table).replace("grid:\n", axis)
        (tmp_path / "small.yaml").write_text(renamed)
        done = lightsweep("run", "small.yaml", cwd=tmp_path)
        assert "9 completed, 0 failed, 0 left" in done.stdout
        assert "already done" not in done.stdout  # the arms have other names
        assert "9 of the trials that are recorded here are not in this plan" in done.stdout
        assert "stages and assessments: 0 made, 36 reused" in done.stdout
        assert " is up: " not in done.stdout

    def test_a_failing_trial_is_named_and_the_rest_goes_on(self, tmp_path):
        """SGD at an absurd rate diverges in one arm: a NaN loss is a failure with that name."""
        text = SMALL.replace("model.hidden: [4, 8]", "stages.finetune_lr: [0.001, 1.0e+30]")
        (tmp_path / "small.yaml").write_text(text)
        done = lightsweep("run", "small.yaml", cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert "2 completed, 2 failed, 0 left" in done.stdout
        assert "stage finetune: the training loss is NaN in epoch 1" in done.stdout
        trials = pd.read_parquet(tmp_path / "runs/small/trials.parquet").set_index("arm")
        failed = trials.loc["finetune_lr 1e+30"]
        assert failed.status.tolist() == ["failed"] * 2
        assert failed.test_accuracy.isna().all()
        assert "2</" in (tmp_path / "runs/small/report.html").read_text()
        status = lightsweep("status", "runs/small", cwd=tmp_path).stdout
        assert "2 of 4 trials done, 2 failed, 0 left" in status
        assert status.count("loss is NaN") == 2

    def test_fresh_trains_everything_to_the_same_bits(self, finished, tmp_path):
        (tmp_path / "small.yaml").write_text(SMALL)
        before = weights(finished)
        done = lightsweep("run", "small.yaml", "--fresh", "--out", finished / "runs", cwd=tmp_path)
        assert done.returncode == 0
        ledger = pd.read_parquet(finished / "runs/small/stages.parquet")
        assert ledger[ledger.origin == "trained"].key.value_counts().eq(1).all()
        assert set(ledger[ledger.origin == "trained"].key) == set(before)
        assert "already done" not in done.stdout
        assert weights(finished) == before

    def test_show_prints_one_trial_whole(self, finished):
        trial = pd.read_parquet(finished / "runs/small/trials.parquet").iloc[0]
        shown = lightsweep("show", "runs/small", trial.trial_id[:8], cwd=finished, COLUMNS="120").stdout
        assert trial.spec_hash in shown
        assert "config.model.hidden" in shown
        for stage in ("dual", "fusion", "finetune"):
            assert stage in shown
        assert f"{trial.test_accuracy:.2%}" in shown

    @pytest.mark.parametrize("words", [("status", "runs/small"), ("report", "runs/small"), ("store",)])
    def test_what_only_reads_does_not_wait_for_torch(self, finished, words):
        """It takes seconds to import."""
        code = (
            "import sys; from lightsweep.cli.main import main\n"
            "try: main()\n"
            "finally: print('torch' in sys.modules, file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=finished, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "False")

    def test_show_of_an_unknown_trial_is_one_line(self, finished):
        done = lightsweep("show", "runs/small", "nosuch", cwd=finished)
        assert done.returncode == 2
        row = pd.read_parquet(finished / "runs/small/trials.parquet").set_index("trial_id")
        named = re.findall(r"(\w{12}) \((.+?), seed (\d+)\)", done.stderr)
        assert done.stderr.startswith("error: runs/small: trial nosuch has no record; there are ")
        assert done.stderr.count("\n") == 1
        assert named
        for trial_id, arm, seed in named:
            assert (row.arm[trial_id], row.seed[trial_id]) == (arm, int(seed))

    def test_show_takes_an_arm_that_has_one_trial_and_else_names_its_trials(self, finished):
        arms = pd.read_parquet(finished / "runs/small/trials.parquet").groupby("arm").trial_id.agg(set)
        done = lightsweep("show", "runs/small", arms.index[0], cwd=finished)
        assert done.returncode == 2
        assert f"matches {len(arms.iloc[0])} trials" in done.stderr
        assert set(re.findall(r"\w{12}(?= \()", done.stderr)) == arms.iloc[0]

    def test_verify_trains_again_to_the_same_bits(self, finished):
        """A worker trained it, this is another process."""
        trial = pd.read_parquet(finished / "runs/small/trials.parquet").iloc[-1]
        done = lightsweep("verify", "runs/small", trial.trial_id[:8], cwd=finished)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == "confirmed: bit-equal"
        assert "weights compared with the stored ones: 3 of 3 stages" in done.stdout

    def test_report_of_a_run(self, finished):
        done = lightsweep("report", "runs/small", "-o", "page.html", cwd=finished)
        assert done.stdout.strip() == "page.html"
        assert "<html" in (finished / "page.html").read_text()[:500]

    def test_plan_tells_what_is_stored(self, finished):
        tree = json.loads(lightsweep("plan", "small.yaml", "--json", cwd=finished).stdout)
        assert [trial["parameters"] for trial in tree["trials"]].count(1808) == 2
        stages = tree["stages"]
        assert (stages["total"], stages["unique"], stages["stored"]) == (12, 10, 10)
        assert all(stage["stored"] for trial in tree["trials"] for stage in trial["stages"])
        (dual,) = tree["tree"]
        assert (dual["name"], dual["times"], dual["stored"], dual["arms"]) == (
            "dual", 2, 2, ["hidden 4", "hidden 8"]
        )  # fmt: skip
        assert (stages["epochs_alone"], stages["epochs_unique"], stages["epochs_left"]) == (16, 12, 0)


def test_plan_of_the_paper_needs_no_data(tmp_path):
    """14,862 parameters on MNIST and Fashion-MNIST, 19,622 on CIFAR-10."""
    sweeps = Path(__file__).parents[2] / "sweeps"
    for name, parameters in (("mnist", 14_862), ("fashion-mnist", 14_862), ("cifar10", 19_622)):
        done = lightsweep("plan", sweeps / f"paper-{name}.yaml", "--json", "--data-dir", "none", cwd=tmp_path)
        tree = json.loads(done.stdout)
        assert {trial["parameters"] for trial in tree["trials"]} == {parameters}
        assert tree["stages"]["stored"] is None
        assert "--download" in tree["stages"]["stored_unknown_because"]
    assert not (tmp_path / "runs").exists()  # a plan writes nothing


WRONG = {
    "no such command": (["rum"], "error: No such command 'rum'"),
    "no such option": (["plan", "small.yaml", "--jsn"], "error: No such option '--jsn'"),
    "unknown key": (["plan", "typo.yaml"], "error: typo.yaml, line 3: nme: unknown key; did you mean name?"),
    "filters that do not fit": (
        ["plan", "small.yaml", "--set", "base.model.filters=[1, 2, 3, 4]"],
        "error: small.yaml: arm hidden 4: model.filters = [1, 2, 3, 4]: 4 blocks are too many for images",
    ),
    "missing data": (
        ["run", "small.yaml", "--set", "dataset.name=mnist", "--offline", "--data-dir", "nodata"],
        "error: data set mnist is not here: no MNIST/raw/train-images-idx3-ubyte (and 3 more) below nodata",
    ),
    "missing file": (
        ["run", "small.yaml", "--set", "dataset={name: npz, path: none.npz}"],
        "none.npz",
    ),
    "a folder that cannot be written": (
        ["run", "small.yaml", "--out", "small.yaml/runs"],
        "cannot be written",
    ),
    "a run that is none": (["status", "nowhere"], "error: nowhere: not a run's folder"),
    "a report of no run": (["report", "nowhere"], "error: nowhere: not a run's folder"),
    "no data set": (["datasets", "--download", "mnst"], "did you mean mnist?"),
    "more cores than there are": (
        ["run", "small.yaml", "--set", "resources.cpus=1000"],
        "error: resources.cpus = 1000: this machine has ",
    ),
    "no cluster": (["run", "small.yaml", "--address", "127.0.0.1:1"], "no Ray cluster answers there"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_exit_status_2(case, tmp_path):
    arguments, expected = WRONG[case]
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "typo.yaml").write_text("dataset: {name: digits}\n\nnme: x\n")
    done = start(*arguments, cwd=tmp_path, setting=Setting(ray="--address" in arguments)).end()
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.tmp"))


def test_schema_is_a_json_schema(tmp_path):
    assert json.loads(lightsweep("schema", cwd=tmp_path).stdout)["title"] == "Sweep"


def test_datasets_says_what_is_here_and_what_is_missing(tmp_path):
    shown = lightsweep("datasets", "--data-dir", "nodata", cwd=tmp_path, COLUMNS="200").stdout
    assert "digits" in shown
    assert "nodata" in shown


def test_help_loads_nothing_heavy():
    """So that --help answers at once."""
    code = (
        "import sys; from lightsweep.cli.main import cli; cli(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'ray', 'pandas', 'plotly', 'sklearn', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_ctrl_c_leaves_a_run_that_continues_and_shows_what_it_has(finished, tmp_path):
    """Before the last record is written."""
    (tmp_path / "small.yaml").write_text(SMALL)
    setting = Setting(before=places_of(finished, "journal.jsonl")[-1], gets=signal.SIGINT)
    interrupted = start("run", "small.yaml", cwd=tmp_path, setting=setting).end()
    assert interrupted.returncode == INTERRUPTED, interrupted.stderr
    assert "run the same command again to continue" in interrupted.stdout
    recorded = len(pd.read_parquet(tmp_path / "runs/small/trials.parquet"))
    assert 1 <= recorded < 4
    assert f"{recorded} of 4 trials done" in lightsweep("status", "runs/small", cwd=tmp_path).stdout
    again = lightsweep("run", "small.yaml", cwd=tmp_path)
    assert again.returncode == 0
    assert f"{recorded} already done" in again.stdout
    assert "4 completed, 0 failed, 0 left" in again.stdout


def test_a_killed_run_shows_what_it_had(finished, tmp_path):
    """Kill -9 while the tables are written: status and report show the records there are."""
    (tmp_path / "small.yaml").write_text(SMALL)
    setting = Setting(before=places_of(finished, "trials.parquet")[0])
    killed = start("run", "small.yaml", cwd=tmp_path, setting=setting).end()
    assert killed.returncode == -signal.SIGKILL
    assert "4 of 4 trials done" in lightsweep("status", "runs/small", cwd=tmp_path).stdout
    assert lightsweep("report", "runs/small", cwd=tmp_path).returncode == 0
