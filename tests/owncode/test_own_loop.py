"""A training loop of one's own is a stage like any other: frozen, stored, resumed by epoch, validated."""

from pathlib import Path
from typing import Any

import pytest
import torch
from own_code import FILES, data_of, plan_own, write_files

from lightsweep.errors import InputError
from lightsweep.store.claims import LocalStore
from lightsweep.store.folder import FolderStore
from lightsweep.training.attempt import attempt
from lightsweep.training.chain import TrialResult, run_trial, trial_steps
from lightsweep.training.state import EpochRecord

CPU = torch.device("cpu")
LOOP = """
import torch
from torch.nn.functional import cross_entropy

def pretrain(net, data, *, epochs, seed, state, lr, share: float = 1.0):
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr)
    if "optimizer" in state:
        optimizer.load_state_dict(state["optimizer"])
    for epoch in range(state.get("epochs", 0), epochs):
        stream = torch.Generator().manual_seed(seed + epoch)
        order = torch.randperm(len(data.train))[: int(share * len(data.train))]
        for positions in order.split(data.batch_size):
            images = data.augment(data.train.images_of(positions), stream)
            labels = data.train.labels_of(positions)
            loss = sum(cross_entropy(logits, labels) for logits in net(images, images))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        state["optimizer"], state["epochs"] = optimizer.state_dict(), epoch + 1
        yield {"loss": loss.item()}
"""
STAGE = {"name": "pretrain", "run": "mine.py:pretrain", "epochs": 3, "lr": 0.01}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, {**FILES, "mine.py": LOOP})
    return tmp_path


def base(*stages: dict[str, Any]) -> dict[str, Any]:
    return {"model": {"net": "net.py:build"}, "stages": list(stages), "augmentation": "none"}


def train(folder: Path, *stages: dict[str, Any], store: str = "store") -> TrialResult:
    planned = plan_own(folder, base(*stages))
    local = LocalStore(FolderStore(folder / store))
    return run_trial(planned.trials[0], data_of(planned, folder), local, CPU)


def test_it_trains_what_the_stage_does_not_freeze_and_we_validate(folder: Path) -> None:
    first = {"name": "first", "epochs": 1}
    result = train(folder, first, {**STAGE, "train": "last-1"}, {"name": "after", "epochs": 1})
    before, after = result.stages[0].weights, result.stages[1].weights
    assert {n for n in before if not torch.equal(before[n], after[n])} == {"a.head.weight", "a.head.bias"}
    epochs = result.stages[1].epochs
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    assert all(epoch["train_loss"] > 0 and 0 <= epoch["val_accuracy"] <= 1 for epoch in epochs)
    assert len(result.stages) == 3


def test_its_keywords_are_keys_and_decide_its_key(folder: Path) -> None:
    arms = {"half": {"stages.pretrain.share": 0.5}, "longer": {"stages.pretrain.epochs": 4}}
    planned = plan_own(folder, base(STAGE), ablation={"arms": arms})
    assert planned.arms[1].spec.stages[0].keywords == {"share": 0.5}  # type: ignore[union-attr]
    with pytest.raises(InputError, match="shar: unknown key; did you mean share"):
        plan_own(folder, base({**STAGE, "shar": 1}))


def test_killed_after_an_epoch_it_goes_on_to_the_same_bits(folder: Path) -> None:
    whole = train(folder, STAGE, store="whole")
    planned = plan_own(folder, base(STAGE))
    store = LocalStore(FolderStore(folder / "killed"), checkpoint_seconds=0)
    steps = trial_steps(planned.trials[0], data_of(planned, folder), store, CPU)
    seen = [next(steps) for _ in range(2)]
    assert [step.epoch for step in seen if isinstance(step, EpochRecord)] == [1, 2]
    steps.close()
    again = run_trial(planned.trials[0], data_of(planned, folder), store, CPU)
    assert again.entries[0].origin == "continued"
    for name, tensor in whole.stages[0].weights.items():
        assert torch.equal(tensor, again.stages[0].weights[name])


def test_without_state_it_starts_anew_and_ends_the_same(folder: Path) -> None:
    text = LOOP.replace(", state, lr", ", lr").replace("    if", "    state = {}\n    if", 1)
    write_files(folder, {"mine.py": text})
    whole = train(folder, STAGE, store="whole")
    planned = plan_own(folder, base(STAGE))
    store = LocalStore(FolderStore(folder / "killed"), checkpoint_seconds=0)
    steps = trial_steps(planned.trials[0], data_of(planned, folder), store, CPU)
    for _ in range(2):
        next(steps)
    steps.close()
    again = run_trial(planned.trials[0], data_of(planned, folder), store, CPU)
    assert again.entries[0].origin == "trained"
    assert torch.equal(whole.stages[0].weights["a.head.weight"], again.stages[0].weights["a.head.weight"])


def test_patience_keeps_the_best_epoch(folder: Path) -> None:
    result = train(folder, {**STAGE, "epochs": 8, "patience": 2, "lr": 0.5})
    accuracies = [epoch["val_accuracy"] for epoch in result.stages[0].epochs]
    kept = result.stages[0].metrics["kept_epoch"]
    assert accuracies[kept - 1] == max(accuracies)
    assert len(accuracies) <= kept + 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def pretrain(net, data, *, epochs):\n    return 3\n", "must be a generator"),
        ("def pretrain(net, data, *, epochs):\n    yield 3\n", "must yield a mapping"),
        ("def pretrain(net, data, *, epochs):\n    if 0: yield\n", "yielded no record"),
        ("def pretrain(net, data, *, epochs):\n    yield {'loss': 'x'}\n", "loss = 'x': must be a number"),
        (
            "def pretrain(net, data, *, epochs):\n    yield {'accuracy': 55}\n",
            "accuracy = 55: must be a fraction",
        ),
        (
            "def pretrain(net, data, *, epochs):\n    1 / 0\n    yield\n",
            "mine.py, line 2: pretrain failed: ZeroDiv",
        ),
        (
            "def pretrain(net, data, *, epochs):\n    yield {'loss': float('nan')}\n",
            "the training loss is nan",
        ),
    ],
)
def test_a_bad_loop_fails_its_trial_with_the_reason(folder: Path, text: str, message: str) -> None:
    write_files(folder, {"mine.py": text})
    planned = plan_own(folder, base({key: STAGE[key] for key in ("name", "run", "epochs")}))
    store = LocalStore(FolderStore(folder / "store"))
    steps = attempt(planned.trials[0], data_of(planned, folder), store, CPU)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            outcome = end.value
            break
    assert outcome.status == "failed"
    assert message in outcome.error
