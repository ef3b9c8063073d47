"""What a run's folder keeps beside its records: the plan, to which a search adds, and the training code."""

import json
import zipfile
from dataclasses import replace

from lightsweep.data.imagedata import Task
from lightsweep.runfolder.code import keep_sources
from lightsweep.runfolder.folder import RunFolder
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.trials.sources import fingerprint_of, source_fingerprint, training_sources
from lightsweep.trials.trial import Trial

SWEEP = Sweep.model_validate({"name": "small", "dataset": {"name": "digits"}})
TRIALS = [
    Trial(f"net {seed}", DatasetSpec(name="digits"), ArmSpec(), Task((1, 28, 28), 10), seed)
    for seed in range(4)
]
KEYS = {trial.trial_id: ("1" * 64, "2" * 64) for trial in TRIALS}


def test_a_plan_is_added_to_without_being_written_again(tmp_path):
    run = RunFolder.create(tmp_path, SWEEP)
    run.write_plan(TRIALS[:1], KEYS)
    written = (run.folder / "plan.json").read_text()
    run.plan.add(TRIALS[1:2], KEYS)
    run.plan.add(TRIALS[2:], KEYS)
    assert (run.folder / "plan.json").read_text() == written
    assert [entry["trial_id"] for entry in run.plan.trials()] == [trial.trial_id for trial in TRIALS]
    assert run.plan.trials()[3] == {
        "trial_id": TRIALS[3].trial_id, "arm": "net 3", "seed": 3, "fold": None, "changes": {},
        "keys": ["1" * 64, "2" * 64],
    }  # fmt: skip


def test_a_whole_plan_takes_the_place_of_what_was_added(tmp_path):
    run = RunFolder.create(tmp_path, SWEEP)
    run.write_plan(TRIALS[:1], KEYS)
    run.plan.add(TRIALS[1:], KEYS)
    run.write_plan(TRIALS, KEYS)
    assert sorted(path.name for path in run.folder.iterdir()) == ["plan.json"]
    assert len(json.loads((run.folder / "plan.json").read_text())) == len(run.plan.trials()) == 4


def test_a_line_that_a_killed_search_cut_and_one_that_the_plan_has_are_passed_over(tmp_path):
    run = RunFolder.create(tmp_path, SWEEP)
    run.write_plan(TRIALS[:1], KEYS)
    run.plan.add(TRIALS[:2], KEYS)
    with (run.folder / "plan.jsonl").open("a") as file:
        file.write('{"trial_id": "')
    run.plan.add([replace(TRIALS[2])], KEYS)
    assert [entry["arm"] for entry in run.plan.trials()] == ["net 0", "net 1", "net 2"]


def test_the_code_that_trains_is_kept_by_its_hash(tmp_path):
    """So that what a stage names as its source can be read years later."""
    run = RunFolder.create(tmp_path, SWEEP)
    keep_sources(run.folder, training_sources(), source_fingerprint())
    keep_sources(run.folder, {}, source_fingerprint())  # it is there
    (path,) = (run.folder / "code").iterdir()
    with zipfile.ZipFile(path) as archive:
        texts = {name.removesuffix(".py"): archive.read(name).decode() for name in archive.namelist()}
    assert texts == training_sources()
    assert path.stem == fingerprint_of(texts.values())
