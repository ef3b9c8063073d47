"""Faults in code of the user's own: one line each with the user's file and line, and nothing half done."""

from pathlib import Path
from typing import Any

import pytest
import torch
from own_code import DATA, FILES, NET, data_of, plan_own, write_files

from lightsweep.errors import InputError
from lightsweep.store.claims import LocalStore
from lightsweep.store.folder import FolderStore
from lightsweep.training.attempt import attempt
from lightsweep.training.outcome import Outcome

HEAD = "import torch\nfrom torch import nn\n"
NETS = {
    # what the file says -> what is said of it
    "wrong keyword": (NET, {"widht": 3}, "base.model.widht: unknown key; did you mean width?"),
    "wrong type": (NET, {"width": "x"}, "base.model.width = 'x': must be a valid integer"),
    "a keyword of ours": (
        "def build(s, c, *, hidden: int = 3): pass\n", {}, "its keyword hidden is a key of ours; give the parameter"
    ),
    "missing keyword": ("def build(s, c, *, width: int): pass\n", {}, "needs the key width: int"),
    "not Python": ("def build(s, c):\n    return (\n", {}, "net.py, line 2: not valid Python: "),
    "no such function": ("def make(s, c): pass\n", {}, "net.py: defines no function build at its top level"),
    "missing import": (
        "import no_such_package\ndef build(s, c): pass\n", {},
        "net.py, line 1: build cannot be imported: ModuleNotFoundError: No module named 'no_such_package'",
    ),
    "exception at import": (
        "X = [][0]\ndef build(s, c): pass\n", {}, "net.py, line 1: build cannot be imported: IndexError"
    ),
    "exception in build": (
        HEAD + "def build(s, c):\n    return nn.Conv2d(s[0], 4, 3, padding='x')\n", {},
        "net.py, line 4: build failed: ValueError: ",
    ),
    "exit in build": (
        "import sys\ndef build(s, c):\n    sys.exit(3)\n", {}, "net.py, line 3: build failed: SystemExit: 3"
    ),
    "too few parameters": ("def build(shape):\n    pass\n", {}, "is called with shape and classes, then keywords; its positional parameters are shape"),
    "no module": ("def build(s, c):\n    return 3\n", {}, "net.py:build: must return a torch.nn.Module, not int"),
    "a module without blocks": (
        HEAD + "def build(s, c):\n    return nn.Identity()\n", {}, "no children with parameters, so it has no blocks"
    ),
    "a loose parameter": (
        HEAD + "class N(nn.Module):\n    def __init__(s):\n        super().__init__()\n"
        "        s.scale, s.head = nn.Parameter(torch.ones(1)), nn.Linear(1, 1)\ndef build(s, c):\n    return N()\n",
        {}, "its parameter scale belongs to no child module",
    ),
    "exception in forward": (
        NET.replace("return self.head(self.features(x))", "return self.head(x)"), {},
        "net.py, line 18: build failed on an image: RuntimeError: ",
    ),
    "wrong shape": (
        NET.replace("nn.Linear(WIDER * width, classes)", "nn.Linear(WIDER * width, classes + 1)"), {},
        "maps 4 images [1, 12, 12] to [4, 4], not to logits [4, 3]",
    ),
    "not a tensor": (
        NET.replace("return self.head(self.features(x))", "return [self.head(self.features(x))]"), {},
        "maps 4 images [1, 12, 12] to list, not to logits [4, 3]",
    ),
    "NaN at once": (
        NET.replace("return self.head(self.features(x))", "return self.head(self.features(x)) / 0 * 0"), {},
        "its logits for random images are NaN or infinite before training",
    ),
    "two builds that differ": (
        NET.replace("import torch\n", "import torch, random\n", 1)
        .replace("    return Net(shape[0], classes, width)",
                 "    net = Net(shape[0], classes, width)\n    net.head.bias.data.fill_(random.random())\n    return net"),
        {}, "two builds from one seed differ (head.bias)",
    ),
    "features without a method": (
        NET.replace("def features", "def middle").replace("self.features", "self.middle"),
        {"inputs": "dual", "fusion": "concatenate"}, "does not say what its features are",
    ),
    "features of another shape": (
        NET.replace(".mean((2, 3))", "").replace("self.head(self.features(x))", "self.head(self.features(x).mean((2, 3)))"),
        {"inputs": "dual", "fusion": "concatenate"}, "features of net.py:build for 2 images must be [2, n], not [2, 8, ",
    ),
}  # fmt: skip
FUNCTIONS: dict[str, tuple[dict[str, str], dict[str, Any], str]] = {
    "transform of another shape": (
        {"aug.py": "def f(images, generator):\n    return images[:, :, 1:]\n"},
        {"augmentation": [{"transform": "aug.py:f"}]}, "must return images like those given, [4, 1, 12, 12]",
    ),
    "transform that draws elsewhere": (
        {"aug.py": "import torch\ndef f(images, generator):\n    return images * torch.rand(1)\n"},
        {"augmentation": [{"transform": "aug.py:f"}]}, "is not repeatable; draw only from the generator",
    ),
    "transform in place": (
        {"aug.py": "def f(images, generator):\n    return images.mul_(0.5)\n"},
        {"augmentation": [{"transform": "aug.py:f"}]}, "changes the images that it is given",
    ),
    "transform that fails": (
        {"aug.py": "def f(images, generator):\n    x = 1\n    return images + y\n"},
        {"augmentation": [{"transform": "aug.py:f"}]}, "aug.py, line 3: f failed: NameError: name 'y' is not defined",
    ),
    "transform that does not exist": (
        {}, {"augmentation": [{"transform": "rotat", "range": [1, 2]}]}, "or FILE.py:function; did you mean rotate?"
    ),
    "optimizer of torch that does not exist": (
        {}, {"stages": [{"name": "a", "epochs": 1, "optimizer": {"name": "AdamX"}}]}, "did you mean Adam",
    ),
    "keyword that torch's optimizer lacks": (
        {}, {"stages": [{"name": "a", "epochs": 1, "optimizer": {"name": "AdamW", "beta": 1}}]},
        "optimizer.beta: AdamW takes lr, betas, ",
    ),
    "value that torch's optimizer refuses": (
        {}, {"stages": [{"name": "a", "epochs": 1, "optimizer": {"name": "AdamW", "betas": [2, 3]}}]},
        "stages.0 (stage a): optimizer = AdamW: Invalid beta parameter",
    ),
    "optimizer that cannot be used": (
        {}, {"stages": [{"name": "a", "epochs": 1, "optimizer": {"name": "LBFGS"}}]}, "calls the loss several times",
    ),
    "optimizer that is none": (
        {"opt.py": "def f(parameters, *, lr):\n    return None\n"},
        {"stages": [{"name": "a", "epochs": 1, "optimizer": "opt.py:f"}]},
        "opt.py:f: must return a torch.optim.Optimizer, not NoneType",
    ),
    "loss that is no scalar": (
        {"loss.py": "def f(logits, labels):\n    return logits.sum(1)\n"},
        {"stages": [{"name": "a", "epochs": 1, "loss": "loss.py:f"}]}, "must return a scalar tensor, not a tensor [4]",
    ),
    "loss without a gradient": (
        {"loss.py": "def f(logits, labels):\n    return logits.detach().sum()\n"},
        {"stages": [{"name": "a", "epochs": 1, "loss": "loss.py:f"}]}, "does not depend on the logits",
    ),
    "loss that takes classes for images": (
        {"loss.py": "from torch.nn.functional import mse_loss\ndef f(logits, labels): return mse_loss(logits, labels)\n",
         "data.py": FILES["data.py"].replace("% 3", "% 4").replace('"none"', '"none", "none, too"')},
        {"stages": [{"name": "a", "epochs": 1, "loss": "loss.py:f"}]}, "loss.py, line 2: f failed",
    ),
    "schedule that is none": (
        {"s.py": "def f(epoch, epochs):\n    return -1\n"},
        {"stages": [{"name": "a", "epochs": 1, "schedule": "s.py:f"}]}, "a factor of at least 0, not -1 (epoch 0)",
    ),
    "loss of too many parameters": (
        {"loss.py": "def f(logits, labels, weight): return logits.sum()\n"},
        {"stages": [{"name": "a", "epochs": 1, "loss": "loss.py:f"}]},
        "is called with logits and labels, then keywords; its positional parameters are logits, labels, weight",
    ),
    "key that is not keyword-only": (
        {"loss.py": "def f(logits, labels, gamma=2.0): return logits.sum()\n"},
        {"stages": [{"name": "a", "epochs": 1, "loss": {"name": "loss.py:f", "gamma": 1.0}}]},
        "loss.gamma: unknown key; gamma of loss.py:f is none, as it is not keyword-only; write *, before it",
    ),
    "recipe that is none": (
        {}, {"augmentation": "shif"}, "affine-strong, crop-flip, flip, erasing, noise, photometric, FILE.py:function; did",
    ),
    "loss that has no such name": (
        {}, {"stages": [{"name": "a", "epochs": 1, "loss": "cross_entropy"}]},
        "loss = 'cross_entropy': must be one of heads, head-a, head-b, fused, FILE.py:function",
    ),
    "block that is nowhere": (
        {}, {"stages": [{"name": "a", "epochs": 1, "train": "secnd"}]}, "matches no block of the net; did you mean second?",
    ),
}  # fmt: skip
DATASETS = {
    "exception": (
        "def load(d):\n    return open('nowhere.npy')\n",
        "data.py, line 2: load failed: FileNotFoundError",
    ),
    "nothing": ("def load(d):\n    pass\n", "must return lightsweep.Data, a mapping"),
    "floats": (
        "import numpy as np\ndef load(d):\n    return np.zeros((9, 8, 8)), np.arange(9) % 3, None\n",
        "train_images are float64 (9, 8, 8); it must be uint8",
    ),
    "channels first": (
        "import numpy as np\ndef load(d):\n    return np.zeros((9, 3, 8, 8), np.uint8), np.arange(9) % 3, None\n",
        "as [n, channels, height, width]; it must be",
    ),
    "too few labels": (
        "import numpy as np\ndef load(d):\n    return np.zeros((9, 8, 8), np.uint8), np.arange(8) % 3, None\n",
        "9 train_images and 8 train_labels",
    ),
    "a class without images": (
        "import numpy as np\ndef load(d):\n    return np.zeros((9, 8, 8), np.uint8), np.arange(9) % 2, list('abc')\n",
        "of 2 of 3 classes",
    ),
    "labels beyond the classes": (
        "import numpy as np\ndef load(d):\n    return np.zeros((9, 8, 8), np.uint8), np.arange(9) % 3, list('ab')\n",
        "has labels 0 to 2 for 2 classes",
    ),
}


def refusal(folder: Path, base: dict[str, Any], **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        plan_own(folder, base, **settings)
    assert "\n" not in str(caught.value)
    assert "@" not in str(caught.value)  # no digest is shown
    return str(caught.value)


@pytest.mark.parametrize("name", NETS)
def test_a_bad_net_is_refused_in_one_line_before_training(tmp_path: Path, name: str) -> None:
    text, keywords, message = NETS[name]
    write_files(tmp_path, {**FILES, "net.py": text})
    assert message in refusal(tmp_path, {"model": {"net": "net.py:build", **keywords}})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_bad_function_is_refused_in_one_line_before_training(tmp_path: Path, name: str) -> None:
    files, base, message = FUNCTIONS[name]
    write_files(tmp_path, {**FILES, **files})
    assert message in refusal(tmp_path, {"model": {"net": "net.py:build"}, **base})


@pytest.mark.parametrize("name", DATASETS)
def test_a_bad_data_set_is_refused_in_one_line_before_training(tmp_path: Path, name: str) -> None:
    text, message = DATASETS[name]
    write_files(tmp_path, {**FILES, "data.py": text})
    dataset = {"name": "data.py:load", "validation": 3}
    assert message in refusal(tmp_path, {"model": {"net": "net.py:build"}}, dataset=dataset)


def outcome(folder: Path, base: dict[str, Any]) -> Outcome:
    planned = plan_own(folder, base)
    store = LocalStore(FolderStore(folder / "store"))
    steps = attempt(planned.trials[0], data_of(planned, folder), store, torch.device("cpu"))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Outcome = end.value
            return found


LATER = NET.replace("def forward(self, x):", "def forward(self, x):\n        if len(x) > 4: FAULT")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("raise KeyError('gone')", "net.py, line 18: KeyError: 'gone'"),
        ("x = x.reshape(3, 7)", "net.py, line 18: RuntimeError: shape '[3, 7]' is invalid for input"),
        ("exit(5)", "net.py, line 18: SystemExit: 5"),
    ],
)
def test_an_exception_in_training_fails_the_trial_with_file_and_line(
    tmp_path: Path, fault: str, error: str
) -> None:
    write_files(tmp_path, {**FILES, "net.py": LATER.replace("FAULT", fault)})
    found = outcome(tmp_path, {"model": {"net": "net.py:build"}})
    assert (found.status, found.failure) == ("failed", "error")
    assert found.error is not None
    assert error in found.error
    assert found.epochs == []


def test_a_loss_that_becomes_nan_is_a_divergence(tmp_path: Path) -> None:
    text = "def f(logits, labels):\n    return logits.sum() * (float('nan') if len(logits) > 4 else 1.0)\n"
    write_files(tmp_path, {**FILES, "loss.py": text})
    stages = [{"name": "a", "epochs": 1, "loss": "loss.py:f"}]
    found = outcome(tmp_path, {"model": {"net": "net.py:build"}, "stages": stages})
    assert (found.status, found.failure) == ("failed", "diverged")


def test_the_same_file_mended_is_read_anew(tmp_path: Path) -> None:
    write_files(tmp_path, {**FILES, "net.py": "def build(s, c):\n    return 1 / 0\n"})
    refusal(tmp_path, {"model": {"net": "net.py:build"}})
    write_files(tmp_path, {"net.py": NET, "data.py": DATA})
    assert len(plan_own(tmp_path, {"model": {"net": "net.py:build"}}).trials) == 1
