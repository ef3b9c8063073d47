"""The content keys of a trial's stages: all that can change their results, hashed."""

from collections.abc import Mapping
from typing import Any

from lightsweep.hashing import content_hash
from lightsweep.nets.blocks import network_of
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.augmentation import transforms
from lightsweep.sweepfile.net import ModelSpec, NetSpec, Network
from lightsweep.sweepfile.stages import QuantiseStage, StageSpec
from lightsweep.trials.sources import training_code, version_of
from lightsweep.trials.trial import Trial, settings_of, stage_settings


def stage_keys(
    trial: Trial, fingerprint: str, device_type: str, code: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Return the key of each stage and, last, of the assessment: SHA-256 of all that can change its result.

    That is the data set's fingerprint and split, the seed, the training code and its libraries' versions
    (`sources.training_code`), the type of device and its arithmetic, and for this stage and those before it
    the settings that they use. Names, paths, worker counts and order are not in it, nor settings that a stage
    does not use: arms that differ later share their first stages.

    Args:
        trial: The trial.
        fingerprint: Of its data set.
        device_type: cpu or cuda.
        code: By what it is trained, if not by what is installed here.

    """
    code = code or training_code()
    if trial.spec.model.is_of_torchvision:
        code = {**code, "torchvision": version_of("torchvision")}
    key = content_hash(
        {
            "data": fingerprint,
            "split": trial.dataset.model_dump(mode="json", include={"validation", "train_limit"})
            if trial.folds is None
            else {"fold": trial.fold, "folds": trial.folds, "train_limit": trial.dataset.train_limit},
            "seed": trial.seed,
            "batch_size": trial.spec.batch_size,
            "code": code,
            "device": device_type,
            "tf32": trial.spec.tf32 and device_type == "cuda",
        }
    )
    keys = []
    model = trial.spec.model
    if model.fusion == "fresh" and all(network_of(stage) == "fused" for stage in trial.stages):
        model = model.model_copy(update={"fusion": "conv1x1"})  # no heads whose weights would be left behind
    for stage in trial.stages:
        key = content_hash([key, _stage_content(trial.spec, model, stage)])
        keys.append(key)
    return (*keys, content_hash([key, "assessment", _model_content(model, "fused")]))


def _stage_content(spec: ArmSpec, model: NetSpec, stage: StageSpec) -> dict[str, Any]:
    network = network_of(stage)
    sees_augmented = model.inputs == "single" or stage.loss != "head-a"
    sees_augmented = sees_augmented and not isinstance(stage, QuantiseStage)
    recipe = [settings_of(transform) for transform in transforms(spec.augmentation)]
    return {
        "stage": stage_settings((stage,)),
        "network": network,
        "model": _model_content(model, network),
        "augmentation": recipe if sees_augmented else None,
    }


def _model_content(model: NetSpec, network: Network) -> dict[str, Any]:
    """Return the settings that this form of the net uses."""
    content = settings_of(model)
    if not isinstance(model, ModelSpec):
        return content
    if network == "heads":
        del content["fusion"]
    if network == "heads" or not model.has_trunk:
        del content["hidden"]
    if network == "heads" or not model.has_trunk or not model.hidden:
        del content["dropout"]
    return content
