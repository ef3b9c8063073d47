"""What a run says of its data before it trains."""

from collections.abc import Mapping

from lightsweep.data.imagedata import Dataset
from lightsweep.data.splits import validates_itself
from lightsweep.plan.design import dataset_labels
from lightsweep.plan.plan import Plan
from lightsweep.sweepfile.dataset import DatasetSpec


def shared_text(shared: int, total: int) -> str:
    """Say that so many of a data set's test images are not new to a net."""
    return (
        f"{shared:,} of {total:,} test images are among the training or validation images, pixel for pixel: "
        "test accuracy is too high"
    )


def data_notes(planned: Plan, loaded: Mapping[DatasetSpec, Dataset]) -> list[str]:
    """Say of each data set what was passed over when it was read, and what makes its test images too easy."""
    found = []
    labels = dataset_labels(planned, {spec: data.fingerprint for spec, data in loaded.items()})
    for spec, data in loaded.items():
        found += [f"{labels[spec]}: {note}" for note in data.notes]
        own_count = data.info.validation_count
        if own_count and not validates_itself(spec, own_count, planned.sweep.folds):
            why = "folds are" if planned.sweep.folds else "dataset.validation is"
            found.append(f"{labels[spec]}: its own validation images are not used, for {why} set")
        if shared := data.shared_with_test():
            found.append(f"warning: {labels[spec]}: {shared_text(shared, len(data.test.labels))}")
    return list(dict.fromkeys(found))
