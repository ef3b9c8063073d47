"""Kernels with the images last equal torch in float64, whatever the shapes, and stay within their arrays."""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from giving_up import give_up
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from lightsweep.kernels.compiling import compile_library, compilers
from lightsweep.kernels.convolution import convolve
from lightsweep.kernels.layers import images_last
from lightsweep.kernels.library import library, open_library
from lightsweep.nets.models import build
from lightsweep.sweepfile.net import ModelSpec


@pytest.fixture(autouse=True)
def _kernels() -> None:
    if library() is None:
        give_up("needs the kernels: there was no C compiler when lightsweep was installed")


class Case(NamedTuple):
    channels: int
    outputs: int
    groups: int
    kernel: int
    padding: int
    height: int
    width: int
    images: int
    pool: bool
    relu: bool
    seed: int = 0


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kernel = draw(st.integers(1, 9))
    padding = draw(st.integers(0, kernel - 1))
    is_depthwise = draw(st.booleans())
    channels = draw(st.integers(1, 40 if kernel < 4 else 7))
    outputs = channels * draw(st.integers(1, 2)) if is_depthwise else draw(st.integers(1, 20))
    least = max(1, kernel - 2 * padding)
    height, width = (least + draw(st.integers(0, 7)) for _ in range(2))
    pool = draw(st.booleans()) and min(height, width) + 2 * padding - kernel + 1 >= 2
    return Case(
        channels, outputs, channels if is_depthwise else 1, kernel, padding, height, width,
        draw(st.integers(1, 40) | st.sampled_from([63, 64, 65, 257])), pool, draw(st.booleans()),
        draw(st.integers(0, 99)),
    )  # fmt: skip


def drawn(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    stream = torch.Generator().manual_seed(case.seed)
    x = torch.randn(case.channels, case.height, case.width, case.images, generator=stream)
    weight = torch.randn(
        case.outputs, case.channels // case.groups, case.kernel, case.kernel, generator=stream
    )
    return x, weight, torch.randn(case.outputs, generator=stream)


def by_torch(case: Case, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y = functional.conv2d(x.permute(3, 0, 1, 2), weight, bias, padding=case.padding, groups=case.groups)
    y = functional.max_pool2d(y, 2) if case.pool else y
    return (functional.relu(y) if case.relu else y).permute(1, 2, 3, 0)


def ours(case: Case, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return convolve(x, weight, bias, case.padding, case.groups, case.pool, case.relu)


def gradients(f: Callable[..., Tensor], case: Case, tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """Return the output and the gradients of a weighted sum of it."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    y = f(case, *leaves)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, leaves, weights)]


@given(cases())
@settings(max_examples=120)
@example(Case(1, 10, 1, 3, 0, 28, 28, 64, True, True))
@example(Case(10, 20, 1, 3, 0, 13, 13, 33, True, True))
@example(Case(3, 1, 1, 7, 6, 1, 1, 1, False, True))
@example(Case(3, 3, 3, 9, 4, 9, 9, 9, True, False))
def test_output_and_gradients_are_those_of_torch(case: Case) -> None:
    found = gradients(ours, case, drawn(case))
    tensors = tuple(tensor.double() for tensor in drawn(case))
    for mine, theirs in zip(found, gradients(by_torch, case, tensors), strict=True):
        assert mine.shape == theirs.shape
        largest = float(theirs.abs().max()) or 1.0
        assert float((mine - theirs).abs().max()) <= 2e-5 * largest


@given(cases())
@settings(max_examples=40)
def test_an_image_has_the_same_bits_in_any_batch(case: Case) -> None:
    x, weight, bias = drawn(case)
    whole = ours(case, x, weight, bias)
    for image in {0, case.images // 2, case.images - 1}:
        alone = ours(case, x[..., image : image + 1], weight, bias)
        assert torch.equal(alone[..., 0], whole[..., image])


def test_of_equal_maxima_the_first_gets_the_gradient_and_relu_cuts_at_zero() -> None:
    x = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])[None, :, :, None].requires_grad_()
    y = convolve(x, torch.ones(1, 1, 1, 1), None, 0, 1, True, True)
    y.sum().backward()
    assert y.flatten().tolist() == [1, 0]
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("pool", "relu"), [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("place", [(0, 0), (1, 1), (3, 2)])
def test_nan_and_infinity_pass_as_in_torch(
    value: float, pool: bool, relu: bool, place: tuple[int, int]
) -> None:
    case = Case(1, 2, 1, 1, 0, 4, 4, 9, pool, relu)
    x, weight, bias = drawn(case)
    x[0, place[0], place[1], 3] = value
    found, expected = (gradients(f, case, (x, weight, bias)) for f in (ours, by_torch))
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_only_the_gradients_that_are_asked_for_are_computed() -> None:
    case = Case(2, 3, 1, 3, 1, 6, 6, 10, False, True)
    x, weight, bias = drawn(case)
    for asked in ((True, False, False), (False, True, False), (False, False, True)):
        leaves = [
            t.clone().requires_grad_(wanted) for t, wanted in zip((x, weight, bias), asked, strict=True)
        ]
        y = ours(case, *leaves)
        y.sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == list(asked)
        index = asked.index(True)
        assert torch.allclose(leaves[index].grad, gradients_of_sum(case, (x, weight, bias))[index], atol=1e-4)


def gradients_of_sum(case: Case, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    return torch.autograd.grad(by_torch(case, *leaves).sum(), leaves)


# whole nets

NETS: list[dict[str, Any]] = [
    {},
    {"filters": [3, 5, 2], "kernel": 2, "convolutions": 2},
    {"filters": [4, 6], "batch_norm": True},
    {"filters": [4, 6], "batch_norm": True, "separable": True, "head": "average"},
    {"net": "plain-cnn", "width": 0.25},
    {"net": "lenet-5", "width": 0.5},
    {"net": "logistic-regression"},
]


@pytest.mark.parametrize("settings", NETS, ids=str)
@pytest.mark.parametrize("is_training", [True, False])
def test_a_net_computes_the_same_with_the_images_last(settings: dict[str, Any], is_training: bool) -> None:
    """Its logits, its gradients, and what batch normalisation keeps."""
    images = torch.rand(2, 21, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    found = []
    for has_images_last in (False, True):
        net = build(ModelSpec.model_validate(settings), (3, 28, 28), 5, "heads", seed=0).train(is_training)
        if has_images_last:
            net.put_images_last()
            assert net.has_images_last
        logits = torch.stack(net(*images))
        logits.logsumexp(-1).sum().backward()
        kept = {name: buffer for name, buffer in net.named_buffers() if "running" in name}
        grads = {name: parameter.grad for name, parameter in net.named_parameters()}
        found.append({"logits": logits.detach(), **kept, **grads})
    for name, theirs in found[0].items():
        mine = found[1][name]
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=2e-5 * float(theirs.abs().max() + 1)), name


def test_a_copy_of_a_net_computes_with_its_own_layers() -> None:
    images = torch.rand(2, 3, 1, 28, 28)
    net = build(ModelSpec.model_validate({}), (1, 28, 28), 5, "heads", seed=0)
    net.put_images_last()
    before = net(*images)[0]
    copied = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert torch.equal(copied(*images)[0], before)
    assert not net(*images)[0].any()


@pytest.mark.parametrize(
    "layers",
    [
        [nn.MaxPool2d(2)],
        [nn.ReLU(), nn.MaxPool2d(2), nn.ReLU()],
        [nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.MaxPool2d(2)],
        [
            nn.Conv2d(3, 4, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ],
        [nn.AvgPool2d(1)],
        [nn.AvgPool2d(2), nn.Tanh(), nn.AvgPool2d(3)],
        [nn.Flatten(), nn.Linear(3 * 11 * 13, 2, bias=False)],
        [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.0), nn.Linear(3, 2)],
    ],
    ids=str,
)
def test_layers_in_any_order_compute_what_torch_does(layers: list[nn.Module]) -> None:
    images = torch.randn(9, 3, 11, 13, generator=torch.Generator().manual_seed(0))
    steps = images_last(layers)
    assert steps is not None
    found = []
    for f in (steps, nn.Sequential(*layers)):
        x = images.clone().requires_grad_()
        y = f(x)
        y.square().sum().backward()
        found.append((y, x.grad))
    for mine, theirs in zip(*found, strict=True):
        assert mine.shape == theirs.shape
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 2, 3, stride=2)],
        [nn.Conv2d(1, 2, (3, 5))],
        [nn.Conv2d(1, 2, 3, dilation=2)],
        [nn.Conv2d(1, 2, 3, padding=3)],
        [nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")],
        [nn.MaxPool2d(3)],
        [nn.MaxPool2d(2, ceil_mode=True)],
        [nn.Linear(3, 4)],  # not flattened
        [nn.ConvTranspose2d(1, 1, 3)],
        [nn.Sequential(nn.ReLU(), nn.Upsample(8))],
    ],
    ids=str,
)
def test_layers_that_are_not_known_are_left_to_torch(layers: list[nn.Module]) -> None:
    assert images_last(layers) is None


def test_a_layer_that_is_hooked_or_that_does_something_of_its_own_is_left_to_torch() -> None:
    class Twice(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(super().forward(x))

    class Own(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return x

    hooked = nn.ReLU()
    hooked.register_forward_hook(lambda *_: None)
    assert images_last([Twice(nn.ReLU())]) is images_last([Own()]) is images_last([hooked]) is None


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not compilers():
        give_up("needs a C compiler")
    return tmp_path_factory.mktemp("compiled")


@pytest.mark.parametrize(("vector_bytes", "registers"), [(64, 32), (32, 16), (16, 32)])
def test_vectors_of_other_processors_give_the_same(
    compiled: Path, monkeypatch: pytest.MonkeyPatch, vector_bytes: int, registers: int
) -> None:
    """As AVX-512, AVX2 and arm64 compute, by instructions of whatever processor this is."""
    file = compiled / f"{vector_bytes}-{registers}.so"
    options = [f"-DVECTOR_BYTES={vector_bytes}", f"-DREGISTERS={registers}", "-O0", "-Wno-psabi"]
    compile_library(compilers()[0], file, options)
    opened = open_library(file)
    assert opened is not None
    assert opened.lanes() == vector_bytes // 4
    monkeypatch.setattr("lightsweep.kernels.convolution.library", lambda: opened)
    for case in (
        Case(1, 10, 1, 3, 0, 28, 28, 64, True, True), Case(10, 20, 1, 3, 0, 13, 13, 33, True, True),
        Case(7, 13, 1, 5, 2, 6, 9, 17, False, True), Case(4, 8, 4, 3, 1, 7, 7, 40, True, False),
        Case(2, 3, 1, 7, 3, 5, 5, 5, False, False), Case(3, 5, 1, 2, 0, 2, 2, 16, False, True),
    ):  # fmt: skip
        found = gradients(ours, case, drawn(case))
        expected = gradients(by_torch, case, tuple(tensor.double() for tensor in drawn(case)))
        for mine, theirs in zip(found, expected, strict=True):
            assert float((mine - theirs).abs().max()) <= 2e-5 * float(theirs.abs().max())


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("groups", [1, 3])
def test_gradients_are_those_of_finite_differences(
    compiled: Path, monkeypatch: pytest.MonkeyPatch, pool: bool, groups: int
) -> None:
    """On the kernels for float64, which are of the same source."""
    file = compiled / "double.so"
    if not file.exists():
        compile_library(compilers()[0], file, ["-DDOUBLE", "-O0", "-Wno-psabi"])
    opened = open_library(file)
    monkeypatch.setattr("lightsweep.kernels.convolution._library", lambda x: opened)
    case = Case(3, 6, groups, 3, 1, 5, 4, 3, pool, True)
    tensors = [tensor.double().requires_grad_() for tensor in drawn(case)]
    assert torch.autograd.gradcheck(lambda *leaves: ours(case, *leaves), tensors)


SANITISED = Path(__file__).with_name("sanitised.py")


def test_no_access_beyond_the_arrays(tmp_path: Path) -> None:
    """Every function on arrays that end where they must, compiled with AddressSanitizer and UBSan."""
    done = subprocess.run([sys.executable, SANITISED, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "shapes without a fault" in done.stdout
    done = subprocess.run([sys.executable, SANITISED, tmp_path, "fault"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
