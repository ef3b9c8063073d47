from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.augmentation import RECIPES, TRANSFORM_RANGES, TransformSpec, transforms
from lightsweep.system.torchvision_import import import_torchvision
from lightsweep.training.augment import apply, augment, draw, inverse_matrices

import_torchvision()
from torchvision.transforms import InterpolationMode  # noqa: E402
from torchvision.transforms.v2 import functional as reference  # noqa: E402

SHAPES = [(5, 1, 28, 28), (4, 3, 32, 32), (4, 3, 20, 33), (3, 2, 17, 8)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_images(shape: tuple[int, ...], seed: int = 7) -> Tensor:
    images = torch.rand(shape, generator=generator(seed))
    return images.contiguous(memory_format=torch.channels_last)


def step(
    name: str, low: float | None = None, high: float | None = None, probability: float = 1.0
) -> TransformSpec:
    limits = None if low is None else (low, high)
    return TransformSpec.model_validate({"transform": name, "range": limits, "probability": probability})


def assert_like_reference(
    images: Tensor,
    steps: list[TransformSpec],
    one: Callable[..., Tensor],
    tolerance: float,
) -> None:
    """Compare with a function of (image [channels, height, width], amounts of each step) per image."""
    amounts = draw(images.shape, steps, generator())
    result = apply(images, steps, amounts)
    for index, image in enumerate(images):
        expected = one(image, *(amount[index].tolist() for amount in amounts))
        torch.testing.assert_close(result[index], expected, atol=tolerance, rtol=0)


def affine(image: Tensor, **changes: Any) -> Tensor:
    arguments: dict[str, Any] = {"angle": 0.0, "translate": [0.0, 0.0], "scale": 1.0, "shear": [0.0, 0.0]}
    bilinear = InterpolationMode.BILINEAR
    result: Tensor = reference.affine(image, **(arguments | changes), interpolation=bilinear)
    return result


# float32 coordinates of both agree to about 1e-5 pixels, and neighbouring pixels differ by at most 1
RESAMPLING_TOLERANCE = 5e-5


@pytest.mark.parametrize("shape", SHAPES)
class TestAgainstTorchvision:
    def test_rotate(self, shape: tuple[int, ...]) -> None:
        assert_like_reference(
            some_images(shape),
            [step("rotate", -180, 180)],
            lambda image, angle: affine(image, angle=angle[0]),
            RESAMPLING_TOLERANCE,
        )

    def test_shear(self, shape: tuple[int, ...]) -> None:
        assert_like_reference(
            some_images(shape),
            [step("shear", -40, 40)],
            lambda image, shear: affine(image, shear=[shear[0], 0.0]),
            RESAMPLING_TOLERANCE,
        )

    def test_scale(self, shape: tuple[int, ...]) -> None:
        assert_like_reference(
            some_images(shape),
            [step("scale", 0.5, 2)],
            lambda image, scale: affine(image, scale=scale[0]),
            RESAMPLING_TOLERANCE,
        )

    def test_shift(self, shape: tuple[int, ...]) -> None:
        height, width = shape[2:]
        assert_like_reference(
            some_images(shape),
            [step("shift", -0.5, 0.5)],
            lambda image, shift: affine(image, translate=[shift[0] * width, shift[1] * height]),
            RESAMPLING_TOLERANCE,
        )

    @pytest.mark.parametrize("recipe", ["affine", "affine-strong"])
    def test_affine_in_torchvisions_order(self, shape: tuple[int, ...], recipe: str) -> None:
        height, width = shape[2:]

        def one(
            image: Tensor, shear: list[float], scale: list[float], angle: list[float], shift: list[float]
        ) -> Tensor:
            return affine(
                image,
                angle=angle[0],
                translate=[shift[0] * width, shift[1] * height],
                scale=scale[0],
                shear=[shear[0], 0.0],
            )

        steps = list(RECIPES[recipe])  # type: ignore[index]
        assert [each.transform for each in steps] == ["shear", "scale", "rotate", "shift"]
        assert_like_reference(some_images(shape), steps, one, RESAMPLING_TOLERANCE)

    def test_flip_is_exact(self, shape: tuple[int, ...]) -> None:
        def one(image: Tensor, sign: list[float]) -> Tensor:
            return reference.horizontal_flip(image) if sign[0] < 0 else image  # type: ignore[no-any-return]

        assert_like_reference(some_images(shape), [step("flip", probability=0.5)], one, 0)

    def test_crop_is_pad_and_crop_exactly(self, shape: tuple[int, ...]) -> None:
        height, width = shape[2:]

        def one(image: Tensor, crop: list[float]) -> Tensor:
            right, down = map(int, crop)
            padded = reference.pad(image, [4, 4, 4, 4])
            cropped: Tensor = reference.crop(padded, 4 - down, 4 - right, height, width)
            return cropped

        assert_like_reference(some_images(shape), [step("crop", -4, 4)], one, 0)

    def test_crop_then_flip_is_exact(self, shape: tuple[int, ...]) -> None:
        height, width = shape[2:]

        def one(image: Tensor, crop: list[float], sign: list[float]) -> Tensor:
            right, down = map(int, crop)
            padded = reference.pad(image, [4, 4, 4, 4])
            cropped: Tensor = reference.crop(padded, 4 - down, 4 - right, height, width)
            return reference.horizontal_flip(cropped) if sign[0] < 0 else cropped  # type: ignore[no-any-return]

        assert_like_reference(some_images(shape), list(RECIPES["crop-flip"]), one, 0)

    def test_erase(self, shape: tuple[int, ...]) -> None:
        def one(image: Tensor, box: list[float]) -> Tensor:
            top, left, height, width = map(int, box)
            erased: Tensor = reference.erase(image, top, left, height, width, torch.zeros(()))
            return erased

        assert_like_reference(some_images(shape), [step("erase", 0, 0.6)], one, 0)

    def test_brightness(self, shape: tuple[int, ...]) -> None:
        def one(image: Tensor, factor: list[float]) -> Tensor:
            if image.shape[0] not in (1, 3):  # torchvision knows grey and RGB only
                return (image * factor[0]).clamp(0, 1)
            return reference.adjust_brightness(image, factor[0])  # type: ignore[no-any-return]

        assert_like_reference(some_images(shape), [step("brightness", 0, 3)], one, 1e-6)

    def test_contrast(self, shape: tuple[int, ...]) -> None:
        def one(image: Tensor, factor: list[float]) -> Tensor:
            if image.shape[0] not in (1, 3):
                return (factor[0] * image + (1 - factor[0]) * image.mean()).clamp(0, 1)
            return reference.adjust_contrast(image, factor[0])  # type: ignore[no-any-return]

        assert_like_reference(some_images(shape), [step("contrast", 0, 3)], one, 2e-6)


def test_noise_has_the_drawn_deviation_and_is_clamped() -> None:
    shape = (8, 1, 64, 64)
    (added,) = draw(shape, [step("noise", 0.05, 0.05)], generator())
    assert added.std(dim=(1, 2, 3)) == pytest.approx([0.05] * 8, rel=0.05)
    grey = torch.full(shape, 0.5)
    assert torch.equal(apply(grey, [step("noise", 0, 1)], [added]), (grey + added).clamp(0, 1))


def test_amounts_cover_their_range_evenly() -> None:
    shape = (4000, 1, 8, 8)
    shift, crop = draw(shape, [step("shift", -0.2, 0.4), step("crop", -2, 1)], generator())
    assert shift.min() >= -0.2
    assert shift.max() <= 0.4
    assert shift.mean(0).tolist() == pytest.approx([0.1, 0.1], abs=0.01)
    values, counts = crop.unique(return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1]
    assert counts.min() > 1850  # of 2,000 expected
    (rectangle,) = draw(shape, [step("erase", 0.25, 0.25)], generator())
    top, left, height, width = rectangle.unbind(1)
    assert (top + height).max() <= 8
    assert (left + width).max() <= 8
    assert (height * width).mean() == pytest.approx(16, rel=0.1)


def test_probability_is_the_share_of_images() -> None:
    (sign,) = draw((4000, 1, 8, 8), [step("flip", probability=0.3)], generator())
    assert (sign < 0).float().mean() == pytest.approx(0.3, abs=0.03)


ALL = [
    step(name, *((0.2, 0.4) if name in ("noise", "erase") else (1.2, 2)))
    for name in TRANSFORM_RANGES
    if name != "shift"
] + [step("shift", 0.2, 0.4), step("flip")]


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.transform)
def test_probability_zero_leaves_every_bit(each: TransformSpec) -> None:
    images = some_images((6, 3, 12, 9))
    never = each.model_copy(update={"probability": 0.0})
    assert torch.equal(augment(images, [never], generator()), images)
    assert not torch.equal(augment(images, [each], generator()), images)


def test_images_that_are_skipped_keep_every_bit() -> None:
    images = some_images((64, 1, 12, 9))
    steps = [step("rotate", 5, 20, probability=0.4), step("brightness", 0.5, 0.8, probability=0.4)]
    angle, factor = draw(images.shape, steps, generator())
    skipped = ((angle == 0) & (factor == 1)).flatten()
    assert 10 < skipped.sum() < 40
    result = apply(images, steps, (angle, factor))
    assert torch.equal(result[skipped], images[skipped])
    assert all((result[i] != images[i]).any() for i in (~skipped).nonzero().flatten())


def test_identity_ranges_change_nothing() -> None:
    images = some_images((6, 3, 28, 20))
    steps = [step("rotate", 0, 0), step("shear", 0, 0), step("scale", 1, 1), step("shift", 0, 0)]
    assert torch.equal(augment(images, steps, generator()), images)


def test_neighbouring_geometry_is_one_resampling() -> None:
    """Turned there and back, an image is as sharp as before, unless something stands between the turns."""
    images = some_images((4, 1, 16, 16))
    there, back, nothing = step("rotate", 30, 30), step("rotate", -30, -30), step("noise", 0, 0)
    for steps in ([there, back], [nothing, there, back]):
        torch.testing.assert_close(augment(images, steps, generator()), images, rtol=0, atol=1e-4)
    middle = (..., slice(4, 12), slice(4, 12))
    twice = augment(images, [there, nothing, back], generator())
    assert (twice - images)[middle].abs().mean() > 0.01
    torch.testing.assert_close(
        augment(images, [nothing, there, back], generator()), images, rtol=0, atol=1e-4
    )


def test_list_order_is_the_order_of_application() -> None:
    # a point 2 pixels right of the centre: shifted by 1 and then scaled by 2 it is at 6, the other way at 5
    one = torch.tensor([[2.0]])
    shift = torch.tensor([[0.1, 0.0]])
    first = inverse_matrices([("shift", shift), ("scale", one)], 10, 10)
    assert (first[0] @ torch.tensor([6.0, 0, 1])).tolist() == pytest.approx([2, 0])
    second = inverse_matrices([("scale", one), ("shift", shift)], 10, 10)
    assert (second[0] @ torch.tensor([5.0, 0, 1])).tolist() == pytest.approx([2, 0])


def test_same_seed_same_images_other_seed_others() -> None:
    images = some_images((8, 3, 16, 16))
    steps = [*RECIPES["affine"], *RECIPES["erasing"], *RECIPES["noise"], *RECIPES["crop-flip"]]
    before = images.clone()
    first, again, other = (augment(images, steps, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)


def test_global_generator_is_untouched() -> None:
    state = torch.random.get_rng_state()
    for recipe in RECIPES.values():
        augment(some_images((2, 1, 8, 8)), recipe, generator())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_nothing_to_do_returns_the_tensor_itself() -> None:
    images = some_images((2, 1, 8, 8))
    assert augment(images, transforms("none"), generator()) is images
    assert augment(images, (), generator()) is images


def test_transforms_of_names_and_of_themselves() -> None:
    table = ArmSpec.model_validate({"augmentation": [{"transform": "flip"}]}).augmentation
    assert transforms(table) == table
    assert transforms(ArmSpec().augmentation) == RECIPES["affine"]


@st.composite
def _steps(draw_one: st.DrawFn) -> list[TransformSpec]:
    steps = []
    for name in draw_one(st.lists(st.sampled_from([*TRANSFORM_RANGES, "flip"]), max_size=4)):
        probability = draw_one(st.sampled_from([0.0, 0.5, 1.0]))
        if name == "flip":
            steps.append(step(name, probability=probability))
        else:
            _, lowest, highest = TRANSFORM_RANGES[name]
            limits = sorted(draw_one(st.tuples(*[st.floats(lowest, highest)] * 2)))
            steps.append(step(name, *limits, probability=probability))
    return steps


@given(
    _steps(),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(4, 12), st.integers(4, 12)),
    st.booleans(),
    st.sampled_from(["random", "white"]),
)
def test_any_list_keeps_range_shape_type_and_memory_format(
    steps: list[TransformSpec], shape: tuple[int, ...], channels_last: bool, kind: str
) -> None:
    images = torch.ones(shape) if kind == "white" else torch.rand(shape, generator=generator())
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    images = images.contiguous(memory_format=memory_format)
    result = augment(images, steps, generator())
    assert result.shape == images.shape
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=memory_format)
    assert ((result >= 0) & (result <= 1)).all()
