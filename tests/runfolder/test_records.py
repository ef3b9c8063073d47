"""What a worker says of a trial, and the columns of its settings."""

from lightsweep.data.imagedata import Task
from lightsweep.nets.cost import Cost
from lightsweep.runfolder.records import DataIdentity, config_columns, outcome_of, record
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.training.chain import StageEntry
from lightsweep.training.outcome import Outcome, failed
from lightsweep.trials.trial import Trial

STAGES = [{"name": "dual", "epochs": 2}, {"name": "fusion", "epochs": 1}]
COST = Cost(1, 1, 1, 1, 1, 1)
DIGITS = DataIdentity("digits", "f1")
EPOCH = {
    "epoch": 1, "learning_rate": 0.1, "train_loss": 3.0, "train_accuracy": 0.5, "val_loss": None,
    "seconds": 0.1, "val_accuracy": 0.1, "val_accuracy_heads": (0.1,),
    "stage_index": 0, "trial_epoch": 1, "is_kept": False,
}  # fmt: skip
TRIALS = [
    Trial(
        "base",
        DatasetSpec(name="digits"),
        ArmSpec.model_validate({"stages": STAGES}),
        Task((1, 28, 28), 10),
        0,
    )
]


def test_every_setting_is_a_config_column():
    columns = config_columns(TRIALS[0])
    assert columns["config.model.filters"] == "[10, 20]"
    assert columns["config.batch_size"] == 64
    assert columns["config.stages.dual.epochs"] == 2
    assert columns["config.dataset.validation"] is None
    assert columns["config.augmentation"] == "affine"


def test_a_failed_trial_keeps_its_reason_in_one_line_and_the_stages_that_it_had():
    where = {"host": "box", "device": "cpu", "hardware": "CPU", "torch": "2", "started_at": "then"}
    entry = StageEntry(0, "k1", "trained", 2, 2, 3.0, 0.0, where, "something is discarded")
    outcome = failed("a long\n  story" + "!" * 600, "diverged", "now", 1.0, "box", "cpu", [entry], [EPOCH])
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error.startswith("a long story!!")
    assert len(outcome.error) == 500
    assert outcome.stages == [
        {
            "host": "box", "device": "cpu", "hardware": "CPU", "torch": "2", "started_at": "then",
            "stage_index": 0, "key": "k1", "origin": "trained", "epochs": 2, "epochs_trained": 2,
            "seconds": 3.0, "waited_seconds": 0.0, "warning": "something is discarded",
        }
    ]  # fmt: skip
    assert outcome.warnings == ["something is discarded"]
    assert outcome.epochs_behind == 1
    found = record(TRIALS[0], COST, outcome, "c0ffee", DIGITS)
    assert (found.trial["failure"], found.trial["epochs_trained"]) == ("diverged", 1)
    assert [row["val_loss"] for row in found.epochs] == [None]
    again = outcome_of(found)
    assert (again.failure, again.epochs_behind) == ("diverged", 1)


def test_the_confusion_of_the_test_images_is_in_the_record_and_comes_back():
    confusion = [[5, 1], [0, 4]]
    stages = [{"stage_index": 2, "key": "k", "origin": "trained", "seconds": 1.0, "waited_seconds": 0.0}]
    outcome = Outcome(
        "completed", None, "now", 1.0, "box", "cpu", {"test_accuracy": 0.9}, stages,
        test_confusion=confusion, test_hits="gA==",
    )  # fmt: skip
    found = record(TRIALS[0], COST, outcome, "c0ffee", DIGITS)
    assert found.trial["test_confusion"] == "[[5, 1], [0, 4]]"
    assert outcome_of(found).test_confusion == confusion
    assert found.trial["test_hits"] == outcome_of(found).test_hits == "gA=="
    assert (found.trial["dataset"], found.trial["data_fingerprint"]) == ("digits", "f1")
    gone = record(TRIALS[0], COST, failed("x", "error", "now", 1.0, "box", "cpu"), "c0ffee", DIGITS)
    assert gone.trial["test_confusion"] is None
    assert outcome_of(gone).test_confusion is None
