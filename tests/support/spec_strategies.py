"""Hypothesis strategies of specs, by type: tests say `st.from_type(ModelSpec)`; `conftest` registers them."""

import unicodedata
from typing import Any

from hypothesis import strategies as st

from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.augmentation import TRANSFORM_RANGES, TransformSpec
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.settings import MOST_SEED
from lightsweep.sweepfile.stages import PresetEpochs, StagePreset, StageSpec
from lightsweep.sweepfile.sweep import Resources, Sweep

COUNTS = st.integers(1, 10**6)
RATES = st.floats(1e-12, 1e12)
FRACTIONS = st.floats(0, 1)
BELOW_ONE = st.floats(0, 1, exclude_max=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
LINES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
    lambda text: any(unicodedata.category(character)[0] not in "CZ" for character in text)
)
"""With a character that can be seen."""
KEYS = TEXTS
PRESETS = st.sampled_from(["paper", "gradual", "all-at-once", "frozen", "scratch"])


@st.composite
def models(draw: st.DrawFn) -> ModelSpec:
    """Nets of every kind, small enough to be built and run."""
    inputs = draw(st.sampled_from(["single", "dual"]))
    fusions = ["conv1x1", "concatenate", "fresh", "none" if inputs == "single" else "average"]
    filters, kernel = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)), draw(st.integers(1, 4))
    return ModelSpec(
        inputs=inputs,
        filters=filters,
        convolutions=draw(st.integers(1, 2 if len(filters) == 1 and kernel <= 3 else 1)),
        kernel=kernel,
        batch_norm=draw(st.booleans()),
        separable=draw(st.booleans()),
        head=draw(st.sampled_from(["flatten", "average"])),
        fusion=draw(st.sampled_from(fusions)),
        hidden=draw(st.none() | st.integers(1, 9)),
        dropout=draw(BELOW_ONE),
    )


@st.composite
def datasets(draw: st.DrawFn) -> DatasetSpec:
    name = draw(st.sampled_from(["digits", "mnist", "cifar10", "npz", "imagefolder"]))
    return DatasetSpec(
        name=name,
        path=draw(TEXTS) if name in ("npz", "imagefolder") else None,
        validation=draw(COUNTS | st.floats(0, 1, exclude_min=True, exclude_max=True)),
        image_size=draw(st.none() | st.integers(4, 512)),
        train_limit=draw(st.none() | COUNTS),
    )


@st.composite
def transforms(draw: st.DrawFn) -> TransformSpec:
    name = draw(st.sampled_from(["flip", *TRANSFORM_RANGES]))
    limits: Any = None
    if name != "flip":
        _, lowest, highest = TRANSFORM_RANGES[name]
        limits = sorted(draw(st.tuples(st.floats(lowest, highest), st.floats(lowest, highest))))
    return TransformSpec(transform=name, range=limits, probability=draw(FRACTIONS))


@st.composite
def stages(draw: st.DrawFn) -> StageSpec:
    epochs = draw(st.integers(1, 1000))
    optimizer = draw(st.sampled_from(["nadam", "adam", "sgd"]))
    return StageSpec(
        name=draw(LINES),
        train=draw(TEXTS | st.lists(TEXTS, min_size=1, max_size=3).map(tuple)),
        loss=draw(st.sampled_from([None, "heads", "head-a", "head-b", "fused"])),
        optimizer=optimizer,
        lr=draw(RATES),
        momentum=draw(BELOW_ONE) if optimizer == "sgd" else 0.0,
        weight_decay=draw(st.floats(0, 1e6)),
        schedule=draw(st.sampled_from(["constant", "cosine", "linear"])),
        warmup_epochs=draw(st.floats(0, epochs, exclude_max=True)),
        epochs=epochs,
        patience=draw(st.none() | COUNTS),
    )


def presets() -> st.SearchStrategy[StagePreset]:
    return st.builds(
        StagePreset,
        preset=PRESETS,
        epochs=st.builds(PresetEpochs, dual=COUNTS, fusion=COUNTS, finetune=COUNTS),
        patience=st.none() | COUNTS,
        lr=RATES,
        finetune_lr=RATES,
        schedule=st.sampled_from(["constant", "cosine", "linear"]),
    )


def arms() -> st.SearchStrategy[ArmSpec]:
    recipes = st.sampled_from(["none", "affine", "crop-flip", "photometric"])
    tables = st.lists(st.from_type(StageSpec), min_size=1, max_size=3, unique_by=lambda stage: stage.name)
    return st.builds(
        ArmSpec,
        model=st.from_type(ModelSpec),
        augmentation=recipes | st.lists(st.from_type(TransformSpec), max_size=3).map(tuple),
        batch_size=COUNTS,
        stages=PRESETS | st.from_type(StagePreset) | tables.map(tuple),
    )


def sweeps() -> st.SearchStrategy[Sweep]:
    scalars = (
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
    )
    values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(KEYS, scalars, max_size=2)
    grids = st.dictionaries(KEYS, st.lists(values, min_size=1, max_size=3), min_size=1, max_size=3)
    seeds = st.lists(st.integers(0, MOST_SEED), min_size=1, max_size=4, unique=True)
    return st.builds(
        Sweep,
        name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True),
        dataset=st.from_type(DatasetSpec),
        seeds=st.integers(1, 10_000) | seeds.map(tuple),
        folds=st.none() | st.integers(2, 100),
        base=st.from_type(ArmSpec),
        grid=st.none() | grids,
        resources=st.builds(Resources, cpus=COUNTS, gpus=FRACTIONS),
    )


def register() -> None:
    """Tell Hypothesis of them."""
    st.register_type_strategy(ModelSpec, models())
    st.register_type_strategy(DatasetSpec, datasets())
    st.register_type_strategy(TransformSpec, transforms())
    st.register_type_strategy(StageSpec, stages())
    st.register_type_strategy(StagePreset, presets())
    st.register_type_strategy(ArmSpec, arms())
    st.register_type_strategy(Sweep, sweeps())
