"""The command that starts a study of one's own: init."""

from pathlib import Path
from typing import Any, Literal

import click

from lightsweep.cli.shared import DATA_DIR, open_console, say
from lightsweep.errors import InputError, WriteError

NET = '''"""A small net of your own: edit it, or replace it by yours."""

from typing import Annotated

import torch
from lightsweep import Range
from torch import nn


class Block(nn.Module):
    """A convolution with batch normalisation, ReLU and 2×2 pooling."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.max_pool2d(torch.relu(self.norm(self.convolution(x))), 2)


def build(
    shape: tuple[int, int, int],  # channels, height and width of the images
    classes: int,
    *,  # what follows are the keys of model: in sweep.yaml
    width: Annotated[int, Range(4, 64, log=True)] = 12,
) -> nn.Module:
    """Return a net that maps images [n, channels, height, width] to logits [n, classes].

    Its children are the blocks, from input to output: what `train: last-2` and freezing count.
    """
    head = nn.Linear(2 * width, classes)
    mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(Block(shape[0], width), Block(width, 2 * width), mean, head)
'''
SWEEP = """\
name: {name}                               # of the run, and of its folder below runs/
dataset: {dataset}   # {found}
seeds: {seeds}                                   # every arm is trained with each; differences are paired by seed
base:                                      # what every arm starts from
  model: {{net: net.py:build, width: 12}}    # your net and its keywords; inputs: dual, fusion: conv1x1 add the method
  augmentation: shift                      # none, shift, affine, crop-flip, …, a list, or FILE.py:function
  batch_size: 64                           # images per step
  stages:                                  # trained one after the other; each is stored, none is trained twice
    - name: train                          # its name in tables and figures
      optimizer: nadam                     # adam, sgd, {{name: AdamW, betas: [0.9, 0.95]}}, or FILE.py:function
      lr: 0.003                            # peak learning rate
      schedule: cosine                     # its course over the stage: constant, linear, cosine
      epochs: 10                           # passes over the training images
"""
KINDS = {
    "grid": """\
grid:                                      # every combination is an arm
  model.width: [6, 12, 24]                 # a keyword of your net
  augmentation: [none, shift]              # any key below base
""",
    "ablation": """\
ablation:                                  # arms as changes to base, each compared with it
  placebo: true                            # base again with other seeds: what noise alone looks like
  arms:                                    # by name, with what differs from base
    no augmentation: {augmentation: none}  # a key below base and its value
    paper's method, equal parameters: {model.inputs: dual, model.fusion: conv1x1, match: parameters, within: 0.1}  # two narrower nets, fused
    plain CNN, equal parameters: {model.net: plain-cnn, match: parameters, within: 0.1}  # a baseline of your size
""",
    "search": """\
search:                                    # arms chosen one by one, for accuracy against parameters
  space:                                   # what may be chosen
    model.width:                           # nothing said: the range in your net's signature
    stages.train.lr: {low: 5.0e-4, high: 2.0e-2, log: true}  # a range, on a logarithmic scale
    augmentation: [none, shift, affine]    # or one of these
  objectives: {val_accuracy: maximise, parameters: minimise}  # what a front is of
  trials: 30                               # nets to train
  start_from: [{}]                         # base itself first
  confirmation: {margin: 0.003, at_most: 8}  # nets near the front, trained again with the seeds above
""",
}
Kind = Literal["grid", "ablation", "search"]


@click.command()
@click.argument("name")
@click.option(
    "--dataset",
    "dataset",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Your images: a folder with a folder per class, or an npz file; without it, scikit-learn's digits.",
)
@click.option(
    "--kind",
    type=click.Choice(list(KINDS)),
    default="ablation",
    show_default=True,
    help="What the sweep file holds.",
)
@DATA_DIR
def init(name: str, dataset: Path | None, kind: Kind, data_dir: Path) -> None:
    """Write a folder NAME to start from: sweep.yaml and net.py.

    The images are looked at first: their classes, sizes and counts.
    """
    from lightsweep.sweepfile.sweep import RUN_NAME

    folder, console = Path(name), open_console()
    if not RUN_NAME.fullmatch(folder.name):
        raise InputError(f"{name}: the name of a run has letters, digits, '.', '_' and '-' only")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{name}: is already there; take another name, or an empty folder")
    entry, found = _look_at(dataset, folder, data_dir)
    seeds = 10 if kind == "ablation" else 5 if kind == "search" else 3
    sweep = SWEEP.format(name=folder.name, dataset=entry, found=found, seeds=seeds) + KINDS[kind]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "net.py").write_text(NET, encoding="utf-8")
        (folder / "sweep.yaml").write_text(sweep, encoding="utf-8")
    except OSError as error:
        raise WriteError(f"{error.filename}: cannot be written ({error.strerror})") from None
    say(console, f"{folder / 'sweep.yaml'}: {found}")
    if "image_size" in entry:
        say(console, f"the pictures have several sizes and are resized; look: lightsweep datasets {dataset}")
    say(console, f"{folder / 'net.py'}: a net of your own, to be edited")
    sweep_file = folder / "sweep.yaml"
    say(console, f"next: lightsweep plan {sweep_file}")
    if kind != "search":
        first = f"--set name={folder.name}-first --set seeds=2 --set base.stages.train.epochs=2"
        say(console, f"a first look in minutes: lightsweep run {sweep_file} {first}")
    say(console, f"then: lightsweep run {sweep_file}")


def _look_at(dataset: Path | None, folder: Path, data_dir: Path) -> tuple[str, str]:
    """Return the value of `dataset:` for some images, and what they are in words."""
    from lightsweep.data.datasets import describe
    from lightsweep.sweepfile.dataset import DatasetSpec
    from lightsweep.sweepfile.reading import flow_text

    settings: dict[str, Any] = {"name": "digits", "validation": 0.2}
    if dataset is not None:
        kind = "imagefolder" if dataset.is_dir() else "npz"
        settings = {"name": kind, "path": str(dataset.absolute()), "validation": 0.2}
    spec = DatasetSpec.model_validate(settings)
    try:
        info = describe(spec, data_dir)
    except InputError as error:
        if "set dataset.image_size" not in str(error):
            raise
        settings["image_size"] = 32  # they have several sizes
        info = describe(DatasetSpec.model_validate(settings), data_dir)
    if info.validation_count:
        del settings["validation"]  # they have validation images of their own
    own = f" and {info.validation_count:,} validation" if info.validation_count else ""
    found = (
        f"{info.train_count:,} training{own} and {info.test_count:,} test images of {len(info.classes)} classes, "
        f"{info.size_text}"
    )
    return flow_text(settings), found
