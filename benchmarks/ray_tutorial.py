"""A sweep over schedules as Ray Tune's PyTorch tutorial writes it: the peer that Lightsweep is timed against.

The tutorial is https://docs.ray.io/en/latest/tune/examples/tune-pytorch-cifar.html: a function per trial,
torchvision's data set with transforms image by image, a plain net, `tune.report` after each epoch, and every
trial trains all of its stages. Stages, counts and settings are those of a sweep file (the argument; else
unfreezing.yaml beside this file); MNIST is read below $LIGHTSWEEP_DATA. The last line printed is JSON.
"""
# ruff: noqa: E402 (the clock starts before the imports, for they count)

import time

STARTED = time.perf_counter()

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ruamel.yaml import YAML
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, NAdam, Optimizer
from torch.utils.data import DataLoader, Subset

from lightsweep.system.torchvision_import import import_torchvision

LEVELS = ("conv1", "conv2", "head", "hidden", "output")
POSITIONS = 5 * 5  # of the second block's map, for images of 28×28 pixels
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Stage:
    """A training stage, with those keys of the sweep file that are followed here; others are refused."""

    name: str
    train: str
    loss: str
    optimizer: str
    lr: float
    epochs: int
    momentum: float = 0.0


class Submodel(nn.Module):
    """Two blocks of convolution, ReLU and pooling, and a dense head."""

    def __init__(self, filters: list[int]) -> None:
        super().__init__()
        first, second = filters
        self.conv1 = nn.Conv2d(1, first, 3)
        self.conv2 = nn.Conv2d(first, second, 3)
        self.pool = nn.MaxPool2d(2)
        self.head: nn.Module = nn.Linear(second * POSITIONS, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [batch, 1, 28, 28] to logits [batch, 10]."""
        x = self.pool(functional.relu(self.conv1(x)))
        x = self.pool(functional.relu(self.conv2(x)))
        logits: Tensor = self.head(x.flatten(1))
        return logits


class DualNet(nn.Module):
    """Submodel a for original and submodel b for augmented images."""

    def __init__(self, filters: list[int]) -> None:
        super().__init__()
        self.a, self.b = Submodel(filters), Submodel(filters)
        self.apply(initialise)

    def forward(self, original: Tensor, augmented: Tensor) -> tuple[Tensor, ...]:
        """Return each submodel's logits."""
        return self.a(original), self.b(augmented)


class FusedNet(nn.Module):
    """A trained dual net, its heads made 1×1 convolutions, with a hidden layer and an output on top."""

    def __init__(self, dual: DualNet, hidden: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(20, hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, 10)
        self.apply(initialise)
        self.dual = dual
        for submodel in (dual.a, dual.b):
            submodel.head = as_convolution(submodel.head)

    def forward(self, original: Tensor, augmented: Tensor) -> tuple[Tensor, ...]:
        """Return the fused logits, alone."""
        x = torch.cat(self.dual(original, augmented), 1)
        return (self.output(self.dropout(functional.relu(self.hidden(x)))),)


def initialise(layer: nn.Module) -> None:
    """Make a layer's weights Glorot-uniform and its biases zero."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def as_convolution(head: nn.Module) -> nn.Module:
    """Return a dense head as a 1×1 convolution over the flattened map, with the same numbers."""
    weight, bias = head.state_dict()["weight"], head.state_dict()["bias"]
    convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    convolution.load_state_dict({"weight": weight[:, :, None, None], "bias": bias})
    return nn.Sequential(nn.Unflatten(1, (-1, 1, 1)), convolution, nn.Flatten())


def freeze(net: nn.Module, train: str) -> list[nn.Parameter]:
    """Freeze all but `train`, which is all or the fused net's last-N levels; return what trains."""
    trainable = LEVELS if train == "all" else LEVELS[-int(train.removeprefix("last-")) :]
    for name, parameter in net.named_parameters():
        parameter.requires_grad = any(level in name.split(".") for level in trainable)
    return [parameter for parameter in net.parameters() if parameter.requires_grad]


def load_data(data_dir: str, counts: dict[str, Any], seed: int) -> tuple[Any, Any, Any]:
    """Return training images (each original and augmented), validation images and test images."""
    import_torchvision()
    from torchvision import datasets, transforms

    plain = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    mode = transforms.InterpolationMode.BILINEAR
    affine = transforms.RandomAffine(10, translate=(0.1, 0.1), scale=(0.9, 1.1), shear=5, interpolation=mode)
    pairs = datasets.MNIST(data_dir, train=True, transform=lambda image: (plain(image), plain(affine(image))))
    singles = datasets.MNIST(data_dir, train=True, transform=plain)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed)).tolist()
    held_out = counts["validation"]
    training = Subset(pairs, order[held_out : held_out + counts["train_limit"]])
    test = datasets.MNIST(data_dir, train=False, transform=plain)
    return training, Subset(singles, order[:held_out]), test


@torch.no_grad()
def evaluate(net: nn.Module, loader: DataLoader[Any]) -> tuple[float, float]:
    """Return loss and accuracy, of several heads the mean; both inputs get the original image."""
    net.eval()
    loss, correct, total = 0.0, 0.0, 0
    for images, labels in loader:
        for logits in net(images, images):
            loss += functional.cross_entropy(logits, labels, reduction="sum").item()
            correct += (logits.argmax(1) == labels).sum().item()
            total += len(labels)
    return loss / total, correct / total


def train_schedule(config: dict[str, Any], sweep: dict[str, Any], data_dir: str) -> None:
    """Train one schedule with one seed; report every epoch and, at the end, the accuracy on test images."""
    started = time.perf_counter()
    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    training, validation, test = load_data(data_dir, sweep["dataset"], config["seed"])
    train_loader = DataLoader(training, batch_size=sweep["base"]["batch_size"], shuffle=True)
    validation_loader = DataLoader(validation, batch_size=EVALUATION_BATCH)
    model = sweep["base"]["model"]
    net: nn.Module = DualNet(model["filters"])
    for table in sweep["grid"]["stages"][config["schedule"]]:
        stage = Stage(**table)
        if stage.loss == "fused" and isinstance(net, DualNet):
            net = FusedNet(net, model["hidden"], model["dropout"])
        sgd = partial(SGD, momentum=stage.momentum)
        optimizers: dict[str, Callable[..., Optimizer]] = {"nadam": NAdam, "sgd": sgd}
        optimizer = optimizers[stage.optimizer](freeze(net, stage.train), lr=stage.lr)
        for _ in range(stage.epochs):
            net.train()
            for (original, augmented), labels in train_loader:
                outputs = net(original, augmented)
                loss = torch.stack([functional.cross_entropy(logits, labels) for logits in outputs]).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            val_loss, val_accuracy = evaluate(net, validation_loader)
            tune.report({"stage": stage.name, "loss": val_loss, "accuracy": val_accuracy})
    _, accuracy = evaluate(net, DataLoader(test, batch_size=EVALUATION_BATCH))
    tune.report({**config, "test_accuracy": accuracy, "seconds": time.perf_counter() - started})


def main() -> None:
    """Train every schedule with every seed."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("unfreezing.yaml")
    sweep = YAML(typ="safe").load(path)
    model, seeds = sweep["base"]["model"], sweep["seeds"]
    kind = (sweep["dataset"]["name"], model["inputs"], model["fusion"], sweep["base"]["augmentation"])
    if kind != ("mnist", "dual", "conv1x1", "affine") or list(sweep["grid"]) != ["stages"]:
        raise SystemExit(f"{path}: must be mnist, dual, conv1x1, affine and a grid of nothing but stages")
    data_dir = str(Path(os.environ.get("LIGHTSWEEP_DATA", "data")).resolve())
    trainable = tune.with_parameters(train_schedule, sweep=sweep, data_dir=data_dir)
    with tempfile.TemporaryDirectory() as storage:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={
                "schedule": tune.grid_search(list(range(len(sweep["grid"]["stages"])))),
                "seed": tune.grid_search(list(range(seeds)) if isinstance(seeds, int) else seeds),
            },
            run_config=tune.RunConfig(storage_path=storage, verbose=0),
        )
        results = tuner.fit()
    for error in results.errors:
        raise error
    metrics = [results[index].metrics or {} for index in range(len(results))]
    trials = [
        {key: last[key] for key in ("schedule", "seed", "test_accuracy", "seconds")} for last in metrics
    ]
    mean = statistics.fmean(trial["test_accuracy"] for trial in trials)
    seconds = time.perf_counter() - STARTED
    print(json.dumps({"seconds": seconds, "trials": trials, "mean_test_accuracy": mean}))


if __name__ == "__main__":
    main()
