import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets_of_specs import block_of, feature_side, used_side
from torch import Tensor, nn
from torch.nn import functional

from lightsweep.errors import InputError
from lightsweep.nets.blocks import block_names
from lightsweep.nets.models import (
    build,
    fuse,
)  # fmt: skip
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.zoo.paper_cnn import _max_pool

PAPER = ModelSpec()
GREY, COLOUR = (1, 28, 28), (3, 32, 32)


def smallest_side(model: ModelSpec) -> int:
    """Invert each block's (side - convolutions · (kernel - 1)) // 2 from a last map of one position."""
    side = 1
    for _ in model.filters:
        side = 2 * side + model.convolutions * (model.kernel - 1)
    return side


@st.composite
def nets(draw: st.DrawFn) -> tuple[ModelSpec, tuple[int, int, int], int]:
    model = draw(st.from_type(ModelSpec))
    side = smallest_side(model)
    sides = st.integers(side, side + 5)
    return model, (draw(st.integers(1, 3)), draw(sides), draw(sides)), draw(st.integers(2, 6))


def images(shape: tuple[int, int, int], count: int, seed: int = 0) -> Tensor:
    drawn = torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))
    return drawn.contiguous(memory_format=torch.channels_last)


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("shape", "submodel", "dual", "fused"), [(GREY, 6_930, 13_860, 14_862), (COLOUR, 9_310, 18_620, 19_622)]
)
def test_the_papers_numbers_of_weights(shape: Any, submodel: int, dual: int, fused: int) -> None:
    """ArXiv 2501.15547, tables for MNIST (1×28×28) and CIFAR-10 (3×32×32)."""
    heads = build(PAPER, shape, 10, "heads", seed=0)
    assert count(heads.get_submodule("a")) == count(heads.get_submodule("b")) == submodel
    assert count(heads) == dual
    assert count(build(PAPER, shape, 10, "fused", seed=0)) == fused


def hand_count(model: ModelSpec, shape: tuple[int, int, int], classes: int, fused: bool) -> int:
    """Count weights layer by layer, as on paper."""
    channels, height, width = shape
    sub = 0
    for filters in model.filters:
        for _ in range(model.convolutions):
            if model.separable:
                sub += channels * model.kernel**2 + channels * filters
            else:
                sub += channels * model.kernel**2 * filters
            sub += 2 * filters if model.batch_norm else filters  # scale and shift, or bias
            channels, height, width = filters, height - model.kernel + 1, width - model.kernel + 1
        height, width = height // 2, width // 2
    features = channels if model.head == "average" else channels * height * width
    if not (fused and model.fusion == "concatenate"):
        sub += features * classes + classes
    subs = 1 if model.inputs == "single" else 2
    if not fused or model.fusion in ("none", "average"):
        return subs * sub
    joined = subs * (features if model.fusion == "concatenate" else classes)
    if model.hidden is None:
        return subs * sub + joined * classes + classes
    return subs * sub + joined * model.hidden + model.hidden + model.hidden * classes + classes


@given(nets())
def test_blocks_cover_the_net_and_it_gives_logits(net: tuple[ModelSpec, tuple[int, int, int], int]) -> None:
    """Every name of `block_names` is a submodule, and no parameter is outside of them or in two."""
    model, shape, classes = net
    for network in ("heads", "fused"):
        built = build(model, shape, classes, network, seed=1)
        names = block_names(model, shape, classes, network)
        in_blocks = [id(p) for name in names for p in built.get_submodule(name).parameters()]
        assert sorted(in_blocks) == sorted(id(p) for p in built.parameters())
        assert count(built) == hand_count(model, shape, classes, network == "fused")
        outputs = built.eval()(images(shape, 3), images(shape, 3, seed=1))
        heads = len(model.submodels) if network == "heads" or model.fusion == "none" else 1
        assert [output.shape for output in outputs] == [(3, classes)] * heads
        assert all(output.isfinite().all() for output in outputs)


@given(nets(), st.integers(1, 9), st.integers(0, 10))
@settings(max_examples=50)
def test_a_1x1_convolution_gives_bit_for_bit_what_the_dense_head_gave(
    net: Any, batch: int, seed: int
) -> None:
    model, shape, classes = net
    model = model.model_copy(update={"fusion": "conv1x1"})
    heads = build(model, shape, classes, "heads", seed).eval()
    with torch.no_grad():
        for parameter in heads.parameters():  # biases, too
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    fused = build(model, shape, classes, "fused", seed + 1).eval()
    fuse(heads.state_dict(), fused, transfer_heads=True)
    x, y = images(shape, batch), images(shape, batch, seed=1)
    for before, after in zip(heads(x, y), fused.streams(x, y), strict=True):
        assert torch.equal(before, after)


def test_the_1x1_head_is_a_convolution_over_the_flattened_map() -> None:
    fused = build(PAPER, GREY, 10, "fused", seed=0)
    head: nn.Linear = fused.get_submodule("a.head")  # type: ignore[assignment]
    x = torch.rand(4, 500)
    expected = functional.conv2d(x[:, :, None, None], head.weight[:, :, None, None], head.bias).flatten(1)
    torch.testing.assert_close(head(x), expected)


@given(st.from_type(ModelSpec), st.integers(1, 3), st.integers(0, 3))
@settings(max_examples=50)
def test_relu_after_pooling_equals_relu_before(model: ModelSpec, channels: int, more: int) -> None:
    block = block_of(model, channels, 5)
    used = model.convolutions * (model.kernel - 1)
    y = x = images((channels, used + 4 + more, used + 2 + more), 4) - 0.5
    for layer in (*block.before, block):
        y = layer.convolution(y if layer.depthwise is None else layer.depthwise(y))
        y = functional.relu(y if layer.norm is None else layer.norm(y))
    assert torch.equal(block.train()(x), functional.max_pool2d(y, 2))


def test_fusion_average_is_the_mean_of_the_logits() -> None:
    model = ModelSpec(fusion="average")
    heads = build(model, GREY, 10, "heads", seed=0)
    fused = build(model, GREY, 10, "fused", seed=9)
    fuse(heads.state_dict(), fused, transfer_heads=True)
    x, y = images(GREY, 5), images(GREY, 5, seed=1)
    a, b = heads(x, y)
    (logits,) = fused(x, y)
    torch.testing.assert_close(logits, (a + b) / 2, rtol=0, atol=1e-6)


def test_fused_logits_by_hand() -> None:
    """Outputs side by side, dense, ReLU, dense; dropout only in training."""
    net = build(PAPER, GREY, 10, "fused", seed=0)
    assert net.hidden is not None
    assert net.output is not None
    x, y = images(GREY, 5), images(GREY, 5, seed=1)
    joined = torch.cat([net.a(x), net.b(y)], 1)  # type: ignore[misc]
    expected = torch.relu(joined @ net.hidden.weight.T + net.hidden.bias) @ net.output.weight.T
    torch.testing.assert_close(net.eval()(x, y)[0], expected + net.output.bias)
    assert not torch.allclose(net.train()(x, y)[0], expected + net.output.bias)


def test_concatenate_joins_the_features() -> None:
    net = build(ModelSpec(fusion="concatenate", hidden=None), GREY, 10, "fused", seed=0)
    assert net.output is not None
    assert net.hidden is None
    x, y = images(GREY, 5), images(GREY, 5, seed=1)
    assert net.a(x).shape == (5, 500)
    torch.testing.assert_close(net(x, y)[0], net.output(torch.cat([net.a(x), net.b(y)], 1)))  # type: ignore[misc]


def test_fresh_heads_are_not_carried_over_but_convolutions_are() -> None:
    model = ModelSpec(fusion="fresh", batch_norm=True)
    heads = build(model, GREY, 10, "heads", seed=0)
    with torch.no_grad():
        for tensor in heads.state_dict().values():
            tensor.add_(1)
    fused = build(model, GREY, 10, "fused", seed=0)
    before = {name: tensor.clone() for name, tensor in fused.state_dict().items()}
    fuse(heads.state_dict(), fused, transfer_heads=False)
    carried = {name for name, tensor in fused.state_dict().items() if not torch.equal(tensor, before[name])}
    assert carried == {name for name in heads.state_dict() if ".head." not in name}
    assert all(torch.equal(fused.state_dict()[name], heads.state_dict()[name]) for name in carried)


def test_fusing_carries_everything_that_both_have() -> None:
    """Buffers too: batch normalisation's statistics and the images' mean and deviation."""
    model = ModelSpec(fusion="concatenate", batch_norm=True)
    heads = build(model, GREY, 10, "heads", seed=0)
    with torch.no_grad():
        for tensor in heads.state_dict().values():
            tensor.add_(1)
    fused = build(model, GREY, 10, "fused", seed=0)
    fuse(heads.state_dict(), fused, transfer_heads=True)
    for name, tensor in heads.state_dict().items():
        if ".head." in name:
            assert name not in fused.state_dict()
        else:
            assert torch.equal(fused.state_dict()[name], tensor)


def test_nets_share_what_they_have_in_common() -> None:
    """So that arms are paired: the same seed gives the same weights wherever name and shape agree."""
    nets_of_seed_0 = [
        build(PAPER, GREY, 10, "heads", seed=0),
        build(PAPER, GREY, 10, "fused", seed=0),
        build(ModelSpec(hidden=None), GREY, 10, "fused", seed=0),
        build(ModelSpec(inputs="single", fusion="none"), GREY, 10, "heads", seed=0),
        build(ModelSpec(filters=(10, 7)), GREY, 10, "heads", seed=0),
        build(ModelSpec(fusion="concatenate"), GREY, 10, "fused", seed=0),
    ]
    reference = nets_of_seed_0[0].state_dict()
    for net in nets_of_seed_0:
        shared = {
            n: t for n, t in net.state_dict().items() if n in reference and t.shape == reference[n].shape
        }
        assert "a.conv1.convolution.weight" in shared
        assert all(torch.equal(tensor, reference[name]) for name, tensor in shared.items())
    other = build(PAPER, GREY, 10, "heads", seed=1).state_dict()
    weights = [name for name in reference if name.endswith("weight")]
    assert len(weights) == 6
    assert not any(torch.equal(other[name], reference[name]) for name in weights)
    assert not torch.equal(reference["a.conv1.convolution.weight"], reference["b.conv1.convolution.weight"])


def test_weights_are_glorot_uniform_and_biases_zero() -> None:
    """Glorot & Bengio 2010, equation 16: uniform within ± sqrt(6 / (fan in + fan out))."""
    net = build(PAPER, GREY, 10, "heads", seed=0)
    weight = net.get_parameter("a.head.weight")
    bound = (6 / (500 + 10)) ** 0.5
    assert 0.98 * bound < weight.abs().max() <= bound
    assert weight.var().item() == pytest.approx(bound**2 / 3, rel=0.05)
    assert weight.mean().abs() < 0.05 * bound
    assert not any(p.any() for name, p in net.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize(("separable", "convolutions"), [(False, 1), (True, 1), (False, 3), (True, 2)])
def test_feature_side_against_a_real_forward_pass(
    kernel: int, blocks: int, separable: bool, convolutions: int
) -> None:
    model = ModelSpec(filters=(1,) * blocks, kernel=kernel, separable=separable, convolutions=convolutions)
    smallest = smallest_side(model)
    for side in range(smallest, smallest + 4):
        x = torch.zeros(1, 1, side, side)
        for _ in range(blocks):
            x = block_of(model, 1, 1)(x)
        assert feature_side(model, side) == x.shape[2] == x.shape[3]
    with pytest.raises(InputError, match=f"at most {blocks - 1} fit"):
        feature_side(model, smallest - 1)
    with pytest.raises(InputError, match="too many for images of"):
        build(model, (1, smallest, smallest - 1), 10, "fused", seed=0)


def test_images_are_normalised_by_the_net() -> None:
    net = build(PAPER, COLOUR, 10, "heads", seed=0)
    x, y = images(COLOUR, 4), images(COLOUR, 4, seed=1)
    plain = net(x, y)
    mean, deviation = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 2.0, 4.0])
    net.mean.copy_(mean[:, None, None])
    net.deviation.copy_(deviation[:, None, None])
    scaled = [batch * deviation[:, None, None] + mean[:, None, None] for batch in (x, y)]
    for before, after in zip(plain, net(*scaled), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", ["heads", "fused"])
def test_a_single_net_sees_the_augmented_images_only(network: Any) -> None:
    net = build(ModelSpec(inputs="single"), GREY, 10, network, seed=0).eval()
    x, y = images(GREY, 2), images(GREY, 2, seed=1)
    assert torch.equal(net(x, y)[0], net(y, y)[0])
    assert not torch.equal(net(x, y)[0], net(x, x)[0])


def test_submodel_a_sees_original_and_b_augmented_images() -> None:
    net = build(PAPER, GREY, 10, "heads", seed=0)
    x, y = images(GREY, 2), images(GREY, 2, seed=1)
    a, b = net(x, y)
    assert torch.equal(a, net(x, x)[0])
    assert torch.equal(b, net(y, y)[1])
    assert not torch.equal(a, net(y, y)[0])


def test_an_average_head_sees_the_mean_over_the_positions() -> None:
    net = build(ModelSpec(head="average"), GREY, 10, "heads", seed=0)
    x = images(GREY, 3)
    maps = net.a.get_submodule("conv2")(net.a.get_submodule("conv1")(x))
    assert maps.shape == (3, 20, 5, 5)
    torch.testing.assert_close(net.a(x), net.a.get_submodule("head")(maps.sum((2, 3)) / 25))


def test_a_net_is_a_function_of_each_image_alone_in_evaluation() -> None:
    net = build(ModelSpec(batch_norm=True), GREY, 10, "fused", seed=0).eval()
    x = images(GREY, 6)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    whole = net(x, x)[0]
    parts = torch.cat([net(x[i : i + 1], x[i : i + 1])[0] for i in range(6)])
    torch.testing.assert_close(whole, parts)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())


def test_building_leaves_the_global_stream_where_it_was() -> None:
    before = torch.get_rng_state()
    build(ModelSpec(), (1, 28, 28), 10, "fused", seed=3)
    assert torch.equal(before, torch.get_rng_state())


def test_the_papers_net_uses_26_of_28_and_30_of_32_pixels() -> None:
    assert (used_side(ModelSpec(), 28), used_side(ModelSpec(), 32)) == (26, 30)


@given(model=st.from_type(ModelSpec), height=st.integers(24, 40), width=st.integers(24, 40))
@settings(max_examples=40)
def test_the_rows_that_training_leaves_out_reach_no_output(model: ModelSpec, height: int, width: int) -> None:
    """Training mode (without dropout) gives what evaluation gives, and the rows left out do not matter."""
    model = model.model_copy(update={"dropout": 0.0, "batch_norm": False, "kernel": min(model.kernel, 3)})
    net = build(model, (1, height, width), 3, "fused", seed=1)
    images = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0))
    expected = net.eval()(images, images)[0]
    torch.testing.assert_close(net.train()(images, images)[0], expected, rtol=1e-5, atol=1e-6)
    rows, columns = used_side(model, height), used_side(model, width)
    images[:, :, rows:], images[:, :, :, columns:] = 9.0, 9.0
    torch.testing.assert_close(net.eval()(images, images)[0], expected, rtol=1e-5, atol=1e-6)


@given(nets(), st.integers(1, 5))
@settings(max_examples=50)
def test_pooling_without_gradients_gives_the_same_bits(net: Any, batch: int) -> None:
    model, shape, classes = net
    built = build(model, shape, classes, "fused", 0).eval()
    x = images(shape, batch)
    (with_gradients,) = built(x, x)
    with torch.no_grad():
        (without,) = built(x, x)
    assert with_gradients.requires_grad
    assert not without.requires_grad
    assert torch.equal(with_gradients, without)


def test_pooling_keeps_what_is_not_a_number() -> None:
    """Or a net that left the finite numbers would look as if it had not."""
    x = torch.zeros(1, 1, 4, 5)
    x[0, 0, 1, 2] = math.nan
    assert torch.equal(_max_pool(x).isnan(), functional.max_pool2d(x, 2).isnan())
