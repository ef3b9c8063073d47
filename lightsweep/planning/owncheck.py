"""Checks of the user's own code before training: each function is called once with small inputs."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from lightsweep.data.imagedata import Task
from lightsweep.errors import InputError
from lightsweep.nets.blocks import compressed, network_of, untrained
from lightsweep.nets.models import build
from lightsweep.owncode.loading import named_errors, own_sources
from lightsweep.owncode.reference import parse_reference, without_digests
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.augmentation import TransformSpec, transforms
from lightsweep.sweepfile.net import ModelSpec
from lightsweep.sweepfile.stages import LossSpec, PruneStage, QuantiseStage, ScheduleSpec, StageSpec
from lightsweep.training.augment import augment
from lightsweep.training.functions import criterion_of, optimizer_of
from lightsweep.training.schedules import learning_rate
from lightsweep.trials.stages import stage_table


def images_for(task: Task) -> int:
    """Return a number of images that differs from that of the classes, so that a mix-up does not fit."""
    return 4 if task.classes != 4 else 5


def check_own(arm: ArmSpec, task: Task) -> None:
    """Check an arm's net, transforms, optimizers, losses and schedules that are not our own.

    Raises:
        InputError: One of them fails, or does not do what its contract says; the message is one line with the
            key, and with the user's file and line where there is one.

    """
    if parse_reference(arm.model.net):
        _check_net(arm.model, task)
    for step in transforms(arm.augmentation):
        if step.is_own:
            _check_transform(step, task)
    for index, stage in enumerate(stage_table(arm, task)):
        is_compressing = isinstance(stage, PruneStage | QuantiseStage)
        model = compressed(arm.model, arm.compression if is_compressing else None, task.shape, task.classes)
        try:
            _check_stage(stage, model, task)
        except InputError as error:
            raise InputError(f"stages.{index} (stage {stage.name}): {error}") from error


@lru_cache(maxsize=256)
def _check_net(model: ModelSpec, task: Task) -> None:
    """Check that the net maps images to finite logits, and is a function of its settings and the seed."""
    name = f"model.net = {without_digests(model.net)}"
    net, again = (build(model, task.shape, task.classes, "heads", seed=0) for _ in range(2))
    one, other = net.state_dict(), again.state_dict()
    differing = [key for key in one if key not in other or not torch.equal(one[key], other[key])]
    if one.keys() != other.keys() or differing:
        what = differing[0].partition(".")[2] if differing else "its layers"
        raise InputError(
            f"{name}: two builds from one seed differ ({what}); draw only from torch's global generator, "
            "which is seeded for each build"
        )
    stream = torch.Generator().manual_seed(0)
    count = images_for(task)
    images = torch.rand(count, *task.shape, generator=stream)
    for mode in (True, False):
        net.train(mode)
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=[]),
            named_errors(own_sources(model.net), "failed"),
        ):
            logits = net.a(images)
        if not isinstance(logits, Tensor) or logits.shape != (count, task.classes):
            found = f"{list(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"{name}: maps {count} images {list(task.shape)} to {found}, not to logits "
                f"{[count, task.classes]}"
            )
        if not logits.isfinite().all():
            raise InputError(f"{name}: its logits for random images are NaN or infinite before training")


@lru_cache(maxsize=256)
def _check_transform(step: TransformSpec, task: Task) -> None:
    images = torch.rand(images_for(task), *task.shape, generator=torch.Generator().manual_seed(0))
    given = images.clone()
    found = augment(images, [step], torch.Generator().manual_seed(1))
    again = augment(given.clone(), [step], torch.Generator().manual_seed(1))
    name = f"augmentation: {without_digests(step.transform)}"
    if not torch.equal(images, given):
        raise InputError(f"{name}: changes the images that it is given; return new ones")
    if not torch.equal(found, again):
        raise InputError(f"{name}: is not repeatable; draw only from the generator that it is given")
    if not found.isfinite().all():
        raise InputError(f"{name}: returns NaN or infinite values")


@lru_cache(maxsize=1024)
def _check_stage(stage: StageSpec, model: ModelSpec, task: Task) -> None:
    if not isinstance(stage.optimizer, str):
        net = untrained(model, task.shape, task.classes, network_of(stage))
        optimizer_of(stage, list(net.parameters()))
    if isinstance(stage.loss, LossSpec):
        stream = torch.Generator().manual_seed(0)
        count = images_for(task)
        logits = torch.randn(count, task.classes, generator=stream).requires_grad_()
        labels = torch.arange(count) % task.classes
        loss = criterion_of(stage)(logits, labels)
        name = f"loss = {without_digests(stage.loss.name)}"
        if not loss.requires_grad:
            raise InputError(f"{name}: does not depend on the logits, so nothing would be trained")
        if not math.isfinite(loss.item()):
            raise InputError(f"{name}: is {loss.item()} for random logits")
    if isinstance(stage.schedule, ScheduleSpec):
        for epoch in (stage.warmup_epochs, (stage.warmup_epochs + stage.epochs) / 2, float(stage.epochs)):
            learning_rate(stage, epoch)
