"""Stratified splits of labelled images: training and validation, folds, nested limits."""

import numpy as np
import numpy.typing as npt

from lightsweep.errors import InputError
from lightsweep.seeding import derive
from lightsweep.sweepfile.dataset import DatasetSpec

Integers = npt.NDArray[np.int64]
DEFAULT_VALIDATION = 0.1
"""Fraction of the training images for validation if neither the sweep file nor the data set it."""
_TEST_SHARE = 5  # one image in 5 is a test image if a data set has no test set


def validates_itself(spec: DatasetSpec, own_count: int, folds: int | None) -> bool:
    """Return whether the data set's own validation images are used, so that all training images train."""
    return bool(own_count) and spec.validation is None and folds is None


def held_out(spec: DatasetSpec, train_count: int, own_count: int, folds: int | None) -> int:
    """Return the number of training images that are held out for validation.

    Args:
        spec: Settings of the split.
        train_count: Number of training images.
        own_count: Number of the data set's own validation images.
        folds: Number of folds, or None without cross-validation.

    """
    if folds is not None:
        return train_count // folds
    if validates_itself(spec, own_count, folds):
        return 0
    share = DEFAULT_VALIDATION if spec.validation is None else spec.validation
    return share if isinstance(share, int) else round(share * train_count)


def split(
    labels: Integers, spec: DatasetSpec, seed: int, fold: int | None, folds: int | None, own_count: int = 0
) -> tuple[Integers, Integers]:
    """Split the training images, stratified, into training and validation images.

    The validation images are spec.validation of them or, with folds, fold number `fold`; there are none if
    the data set has its own validation images and spec.validation is null. Then at most spec.train_limit
    training images are kept; a smaller limit keeps a subset of a larger one. The share of each class in each
    part is within one image of its share of all images.

    Args:
        labels: Labels of the training images, int64 [n].
        spec: Settings of the split.
        seed: Any integer of 0 or more; the same arguments give the same split.
        fold: Index of the validation fold, from 0, or None without cross-validation.
        folds: Number of folds, or None without cross-validation.
        own_count: Number of the data set's own validation images.

    Returns:
        Sorted indices of the training and of the validation images, int64.

    Raises:
        InputError: There are too few images for the split.

    """
    if fold is None or folds is None:
        if validates_itself(spec, own_count, None):
            train, validation = np.arange(len(labels)), np.empty(0, np.int64)
        else:
            count = held_out(spec, len(labels), own_count, None)
            train, validation = _hold_out(labels, count, derive(seed, "validation"), "dataset.validation")
    else:
        smallest = int(np.unique(labels, return_counts=True)[1].min())
        if smallest < folds:
            raise InputError(
                f"folds: {folds} folds need at least as many training images per class, and one class has "
                f"{smallest}; set folds to at most {smallest}, or give that class more images"
            )
        from sklearn.model_selection import StratifiedKFold  # takes a second to import

        splitter = StratifiedKFold(folds, shuffle=True, random_state=derive(seed, "folds") % 2**32)
        train, validation = list(splitter.split(labels, labels))[fold]
    if spec.train_limit is not None and spec.train_limit < len(train):
        train = train[_nested_subset(labels[train], spec.train_limit, derive(seed, "train_limit"))]
    return np.sort(train).astype(np.int64), np.sort(validation).astype(np.int64)


def hold_out_test(labels: Integers, key: str) -> tuple[Integers, Integers]:
    """Split off a test set for a data set without one, the same for every seed."""
    return _hold_out(labels, round(len(labels) / _TEST_SHARE), derive(0, "test"), key)


def _hold_out(labels: Integers, count: int, seed: int, key: str) -> tuple[Integers, Integers]:
    """Split images, stratified, into the remaining ones and `count` held-out ones."""
    total = len(labels)
    classes, sizes = np.unique(labels, return_counts=True)
    if sizes.min() < 2:
        raise InputError(
            f"{key}: class {classes[sizes.argmin()]} has only 1 image; a stratified split needs 2 or more "
            f"per class: add images or leave the class out"
        )
    if not len(classes) <= count <= total - len(classes):
        raise InputError(
            f"{key}: holding out {count} of {total} images; the held-out and the remaining images must "
            f"each include all {len(classes)} classes: set {len(classes)} to {total - len(classes)}"
        )
    from sklearn.model_selection import StratifiedShuffleSplit  # takes a second to import

    splitter = StratifiedShuffleSplit(1, test_size=count, random_state=seed % 2**32)
    kept, held_out = next(splitter.split(labels, labels))
    return np.sort(kept), np.sort(held_out)


def _nested_subset(labels: Integers, limit: int, seed: int) -> Integers:
    """Return the first `limit` images of an order in which every prefix is stratified.

    After m images, each class has its share of m to within one image: the next image comes from the class
    with the earliest deadline among those not ahead of their share (R. Tijdeman, The chairman assignment
    problem, 1980).
    """
    draws = np.random.default_rng(seed)
    classes, sizes = np.unique(labels, return_counts=True)
    if limit < len(classes):
        raise InputError(
            f"dataset.train_limit: {limit} images are too few for {len(classes)} classes; "
            f"set it to {len(classes)} or more"
        )
    order = draws.permutation(len(classes))  # breaks ties
    members = [draws.permutation(np.flatnonzero(labels == classes[index])) for index in order]
    sizes, total = sizes[order], len(labels)
    taken = np.zeros(len(classes), np.int64)
    for step in range(limit):
        deadline = -(-(taken + 1) * total // sizes)
        taken[np.where(taken * total < (step + 1) * sizes, deadline, np.iinfo(np.int64).max).argmin()] += 1
    return np.concatenate([indices[:number] for indices, number in zip(members, taken, strict=True)])
