"""A stage result to store, and when two are the same."""

import torch

from lightsweep.store.stagefile import StageResult


def some_result(size: int = 5) -> StageResult:
    return StageResult(
        weights={"a.head.weight": torch.arange(size, dtype=torch.float32), "steps": torch.tensor(3)},
        epochs=[{"epoch": 1, "val_accuracy": 0.1 + 0.2, "val_accuracy_heads": [0.5, 0.25]}],
        metrics={"network": "heads", "kept_epoch": 1, "reason": None},
        seconds=1.5,
        provenance={"host": "h", "device": "cpu"},
    )


def assert_same(one: StageResult | None, other: StageResult) -> None:
    assert one is not None
    assert one.weights.keys() == other.weights.keys()
    for name, tensor in other.weights.items():
        found = one.weights[name]
        assert (found.dtype, found.shape, found.device) == (tensor.dtype, tensor.shape, tensor.device)
        assert found.numpy(force=True).tobytes() == tensor.numpy(force=True).tobytes()
    for field in ("epochs", "metrics", "seconds", "provenance"):
        assert getattr(one, field) == getattr(other, field)
