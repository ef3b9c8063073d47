"""Which trials are on the same data set: those on the same images, whatever they are called or lie.

Images are told apart by their fingerprint. Folders older than fingerprints say where the images lay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from analysis import notation

if TYPE_CHECKING:
    from analysis.design import DataIdentity
    from analysis.tables import Run

Kept = TypeVar("Kept")

PLACE = ("config.dataset.path", "config.dataset.image_size")


def label_data(trials: pd.DataFrame, known: Mapping[str, "DataIdentity"]) -> "pd.Series[str]":
    """Say what the data set of each trial of one run is called, so that no two are called the same.

    ``known`` are the labels that the run's design gives; a trial on other images than these was recorded
    before its sweep file's images changed.
    """
    labels = {identity.fingerprint: label for label, identity in known.items()}
    fingerprints = trials["data_fingerprint"]
    found = trials["dataset"].copy()
    is_known = fingerprints.notna()
    found[is_known] = [
        labels.get(fingerprint, f"{name} (other images, {fingerprint[:6]})")
        for fingerprint, name in zip(fingerprints[is_known], trials.loc[is_known, "dataset"], strict=True)
    ]
    older = trials[~is_known]
    for _, rows in older.groupby("dataset", sort=False):
        columns = [column for column in PLACE if column in rows and rows[column].nunique(dropna=False) > 1]
        for column in columns:
            places = rows[column].map(notation.value)
            told = found[rows.index] + " (" + places + ")"
            found[rows.index] = found[rows.index].where(places == notation.MISSING, told)
    return found


def tell_apart(runs: Sequence["Run"]) -> list["Run"]:
    """Call data sets of several runs the same if, and only if, their images are."""
    owners: dict[str, dict[str, tuple[Run, str]]] = {}
    for run in runs:
        for label, fingerprint in _fingerprints(run).items():
            owners.setdefault(label, {}).setdefault(fingerprint, (run, label))
    names: dict[str, str] = {}
    for label, found in owners.items():
        for fingerprint, (run, _) in found.items():
            if fingerprint in names:
                continue
            if len(found) == 1:
                names[fingerprint] = label
                continue
            paths = {each: run_.data[label].path for each, (run_, _) in found.items() if label in run_.data}
            is_told_by_path = None not in paths.values() and len(set(paths.values())) == len(found)
            names[fingerprint] = f"{label} ({paths[fingerprint] if is_told_by_path else run.name})"
    return [
        _renamed(run, {label: names[fingerprint] for label, fingerprint in _fingerprints(run).items()})
        for run in runs
    ]


def _fingerprints(run: "Run") -> dict[str, str]:
    """Return the fingerprint of each of a run's data sets that has one, by its label."""
    known = run.trials[["dataset", "data_fingerprint"]].dropna().drop_duplicates("dataset")
    return {str(label): str(fingerprint) for label, fingerprint in known.itertuples(index=False)}


def _renamed(run: "Run", names: Mapping[str, str]) -> "Run":
    if all(old == new for old, new in names.items()):
        return run
    design, costs = run.design, run.costs
    if design is not None:
        arms, images = _keyed(design.arms, names), _keyed(design.test_images, names)
        design = replace(design, arms=arms, test_images=images)
    if costs is not None:
        nets = tuple(replace(net, dataset=names.get(net.dataset, net.dataset)) for net in costs.nets)
        costs = replace(costs, nets=nets)
    return replace(
        run,
        trials=run.trials.assign(dataset=run.trials["dataset"].replace(dict(names))),
        design=design,
        costs=costs,
        classes=_keyed(run.classes, names),
        data=_keyed(run.data, names),
    )


def _keyed(tree: Mapping[str, Kept], names: Mapping[str, str]) -> dict[str, Kept]:
    return {names.get(key, key): value for key, value in tree.items()}
