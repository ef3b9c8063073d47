"""Stratified divisions of labelled images: training and validation, folds, nested limits."""

import numpy as np
import numpy.typing as npt

from lightsweep.errors import InputError
from lightsweep.seeding import derive
from lightsweep.sweepfile.dataset import DatasetSpec

Integers = npt.NDArray[np.int64]
DEFAULT_VALIDATION = 0.1
"""Of the training images, where neither the sweep file nor the data says otherwise."""
_TEST_SHARE = 5  # one image of so many is a test image, where a data set has no test images of its own


def validates_itself(spec: DatasetSpec, own_count: int, folds: int | None) -> bool:
    """Whether the validation images that the data brings along are used, so that all others train."""
    return bool(own_count) and spec.validation is None and folds is None


def held_out(spec: DatasetSpec, train_count: int, own_count: int, folds: int | None) -> int:
    """Return how many of the training images are validation images.

    Args:
        spec: How to split.
        train_count: Number of training images.
        own_count: Number of validation images that the data brings along.
        folds: Number of parts, or None.

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

    Validation images are spec.validation of them or, with folds, the fold-th (from 0) of so many parts; none
    where the data brings validation images along and spec.validation is null.
    Then at most spec.train_limit training images are kept; a smaller limit's are among a larger one's.
    A class's share of each part is within one image of its share of all images.

    Args:
        labels: int64 [n], the training images' classes.
        spec: How to split.
        seed: Any integer from 0; the same arguments give the same split.
        fold: Which part validates, or None without folds.
        folds: Number of parts, or None.
        own_count: Number of validation images that the data brings along.

    Returns:
        Indices of the training and of the validation images, int64, sorted.

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
                f"folds: {folds} folds need as many training images of each class, and one class has "
                f"{smallest}; set folds to at most {smallest}, or give that class more images"
            )
        from sklearn.model_selection import StratifiedKFold  # takes a second to import

        splitter = StratifiedKFold(folds, shuffle=True, random_state=derive(seed, "folds") % 2**32)
        train, validation = list(splitter.split(labels, labels))[fold]
    if spec.train_limit is not None and spec.train_limit < len(train):
        train = train[_nested_subset(labels[train], spec.train_limit, derive(seed, "train_limit"))]
    return np.sort(train).astype(np.int64), np.sort(validation).astype(np.int64)


def hold_out_test(labels: Integers, key: str) -> tuple[Integers, Integers]:
    """Divide images without a test set of their own, the same way for every seed."""
    return _hold_out(labels, round(len(labels) / _TEST_SHARE), derive(0, "test"), key)


def _hold_out(labels: Integers, count: int, seed: int, key: str) -> tuple[Integers, Integers]:
    """Divide images, stratified, into all but count of them and count of them."""
    total = len(labels)
    classes, sizes = np.unique(labels, return_counts=True)
    if sizes.min() < 2:
        raise InputError(
            f"{key}: class {classes[sizes.argmin()]} has only 1 image; to divide images, stratified, each "
            f"class needs 2 or more: add images or leave the class out"
        )
    if not len(classes) <= count <= total - len(classes):
        raise InputError(
            f"{key}: holding out {count} of {total} images; held out and left must each have at least "
            f"one image for each of {len(classes)} classes: set {len(classes)} to {total - len(classes)}"
        )
    from sklearn.model_selection import StratifiedShuffleSplit  # takes a second to import

    splitter = StratifiedShuffleSplit(1, test_size=count, random_state=seed % 2**32)
    kept, held_out = next(splitter.split(labels, labels))
    return np.sort(kept), np.sort(held_out)


def _nested_subset(labels: Integers, limit: int, seed: int) -> Integers:
    """Choose images, stratified: the first `limit` of an order of which every beginning is stratified.

    Class after class is chosen so that after m images each has had its share of m to within one: of the
    classes that are not ahead of their share, the one that will first fall behind (earliest deadline
    first; R. Tijdeman, The chairman assignment problem, 1980).
    """
    draws = np.random.default_rng(seed)
    classes, sizes = np.unique(labels, return_counts=True)
    if limit < len(classes):
        raise InputError(
            f"dataset.train_limit: {limit} images cannot have one of each of {len(classes)} classes; "
            f"set it to {len(classes)} or more"
        )
    order = draws.permutation(len(classes))  # who wins a tie
    members = [draws.permutation(np.flatnonzero(labels == classes[index])) for index in order]
    sizes, total = sizes[order], len(labels)
    taken = np.zeros(len(classes), np.int64)
    for step in range(limit):
        deadline = -(-(taken + 1) * total // sizes)
        taken[np.where(taken * total < (step + 1) * sizes, deadline, np.iinfo(np.int64).max).argmin()] += 1
    return np.concatenate([indices[:number] for indices, number in zip(members, taken, strict=True)])
