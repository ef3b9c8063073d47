"""Content keys of a trial's stages: hashes of everything that can change their results."""

from collections.abc import Mapping
from typing import Any

from lightsweep.hashing import content_hash
from lightsweep.kernels.library import source_hash
from lightsweep.nets.blocks import network_of
from lightsweep.owncode.reference import parse_reference
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.augmentation import transforms
from lightsweep.sweepfile.net import ModelSpec, Network
from lightsweep.sweepfile.stages import QuantiseStage, StageSpec
from lightsweep.trials.sources import own_code, training_code
from lightsweep.trials.trial import Trial, settings_of, stage_settings


def stage_keys(
    trial: Trial, fingerprint: str, device_type: str, code: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Return the keys of the stages and, last, of the assessment: SHA-256 of all that affects the result.

    A key covers the data set's fingerprint and split, the seed, the training code and its libraries' versions
    (`sources.training_code`), the device type and its arithmetic, and the settings used by this stage and
    those before it. Names, paths, worker counts, order and unused settings are excluded, so arms that differ
    only in later stages share their first ones.

    Args:
        trial: The trial.
        fingerprint: Fingerprint of its data set.
        device_type: cpu or cuda; any for keys that are only compared with one another.
        code: Training code and library versions; None for those installed here.

    """
    code = code or training_code()
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
            "tf32": trial.spec.tf32 and device_type != "cpu",
            **_arithmetic(trial, device_type),
        }
    )
    keys = []
    model = trial.spec.model
    if model.fusion == "fresh" and all(network_of(stage) == "fused" for stage in trial.stages):
        model = model.model_copy(
            update={"fusion": "conv1x1"}
        )  # no trained heads to discard, so both are the same
    for stage in trial.stages:
        key = content_hash([key, _stage_content(trial.spec, model, stage)])
        keys.append(key)
    return (*keys, content_hash([key, "assessment", _model_content(model, "fused")]))


def _arithmetic(trial: Trial, device_type: str) -> dict[str, str]:
    """Return what identifies kernels of our own; nothing where torch computes, as in older keys."""
    if device_type == "cuda" or not trial.has_images_last:
        return {}
    return {"kernels": source_hash()}


def _stage_content(spec: ArmSpec, model: ModelSpec, stage: StageSpec) -> dict[str, Any]:
    network = network_of(stage)
    sees_augmented = model.inputs == "single" or stage.of != "head-a"
    sees_augmented = sees_augmented and not isinstance(stage, QuantiseStage)
    recipe = [settings_of(transform) for transform in transforms(spec.augmentation)]
    return {
        "stage": _identified(stage_settings((stage,))),
        "network": network,
        "model": _model_content(model, network),
        "augmentation": _identified(recipe) if sees_augmented else None,
    }


def _identified(content: Any) -> Any:
    """Return plain content with what code does in place of its name."""
    if isinstance(content, dict):
        return {key: _identified(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_identified(value) for value in content]
    return own_code(content) if parse_reference(content) else content


def _model_content(model: ModelSpec, network: Network) -> dict[str, Any]:
    """Return the settings used by this form of the net."""
    content = {**settings_of(model), "net": own_code(model.net)}
    if network == "heads":
        del content["fusion"]
    if network == "heads" or not model.has_trunk:
        del content["hidden"]
    if network == "heads" or not model.has_trunk or not model.hidden:
        del content["dropout"]
    return content
