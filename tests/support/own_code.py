"""Small files as users write them, and sweeps that name them."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from lightsweep.data.datasets import describe, load
from lightsweep.planning.plan import Plan, plan
from lightsweep.sweepfile.reading import load_sweep

NET = """
import torch
from torch import nn

WIDER = 2

class Net(nn.Module):
    def __init__(self, channels, classes, width):
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride=2)
        self.second = nn.Conv2d(width, WIDER * width, 3, stride=2)
        self.head = nn.Linear(WIDER * width, classes)

    def features(self, x):
        return torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3))

    def forward(self, x):
        return self.head(self.features(x))

def build(shape, classes, *, width: int = 4):
    return Net(shape[0], classes, width)
"""
SEQUENCE = """
from torch import nn

def build(shape: tuple[int, int, int], classes: int, *, width: int = 4, drop: float = 0.0) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(shape[0], width, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(drop),
        nn.Conv2d(width, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, classes),
    )
"""
AUGMENTATION = """
import torch

def darken(images, generator, *, most: float = 0.5):
    return images * (1 - most * torch.rand(len(images), 1, 1, 1, generator=generator))
"""
OPTIMIZER = '''
import torch

class Slow(torch.optim.Optimizer):
    """Signs with momentum; keeps a tensor, a number and a list for each parameter."""

    def __init__(self, parameters, lr, beta):
        super().__init__(parameters, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["mean"], state["steps"], state["last"] = torch.zeros_like(parameter), 0, [0.0]
                state["mean"].lerp_(parameter.grad, 1 - group["beta"])
                state["steps"] += 1
                state["last"] = [float(state["mean"].abs().sum())]
                factor = 1 / (1 + state["steps"] * 0.01 + 1e-3 * state["last"][0])
                parameter.sub_(group["lr"] * factor * state["mean"].sign())

def slow(parameters, *, lr, beta: float = 0.9):
    return Slow(parameters, lr, beta)
'''
LOSS = """
from torch.nn.functional import cross_entropy

def focal(logits, labels, *, gamma: float = 2.0):
    each = cross_entropy(logits, labels, reduction="none")
    return ((1 - (-each).exp()) ** gamma * each).mean()
"""
SCHEDULE = """
def steps(epoch, epochs, *, factor: float = 0.1):
    return 1.0 if epoch < epochs / 2 else factor
"""
DATA = '''
import numpy as np
from lightsweep import Data

def stripes(data_dir, *, count: int = 60, side: int = 12):
    """Three classes of stripes: across, down, and none."""
    draws = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = draws.integers(0, 60, (count, side, side), np.uint8)
    images[labels == 0, ::3] = 250
    images[labels == 1, :, ::3] = 250
    return Data(images, labels, classes=["across", "down", "none"])
'''
FILES = {
    "net.py": NET, "sequence.py": SEQUENCE, "aug.py": AUGMENTATION, "opt.py": OPTIMIZER, "loss.py": LOSS,
    "schedule.py": SCHEDULE, "data.py": DATA,
}  # fmt: skip
STAGES: dict[str, Any] = {
    "preset": "paper", "epochs": {"dual": 1, "fusion": 1, "finetune": 1}, "patience": None,
}  # fmt: skip


def write_files(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def write_sweep(folder: Path, base: dict[str, Any], **settings: Any) -> Path:
    tree = {"name": "t", "dataset": {"name": "data.py:stripes", "validation": 12}, "seeds": 1,
            "base": {"stages": STAGES, "batch_size": 16, **base}, **settings}  # fmt: skip
    file = folder / "sweep.yaml"
    with file.open("w") as stream:
        YAML().dump(tree, stream)
    return file


def plan_own(folder: Path, base: dict[str, Any], **settings: Any) -> Plan:
    """Plan a sweep of the files in a folder."""
    sweep = load_sweep(write_sweep(folder, base, **settings))
    return plan(sweep, lambda spec: describe(spec, folder))


def data_of(planned: Plan, folder: Path) -> Any:
    return load(planned.sweep.dataset, folder, False)
