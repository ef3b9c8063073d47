"""Load run folders as checked tables, and give their data sets unambiguous names.

The content of a run folder is described in `lightsweep.runfolder`. Everything is checked here, once; the
other modules trust these tables.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from analysis import notation
from analysis.costs.result import ONE_IMAGE, Costs, parse_costs
from analysis.design import (
    DataIdentity,
    Design,
    SearchDesign,
    parse_classes,
    parse_data,
    parse_design,
    parse_folds,
    parse_search,
)
from analysis.reading import (
    CONFUSION_COLUMNS,
    COST_COLUMNS,
    EPOCH_COLUMNS,
    IDENTITY_COLUMNS,
    PHASES,
    SEARCH_COLUMNS,
    STAGE_COLUMNS,
    STATUSES,
    TRIAL_COLUMNS,
    RunError,
    no_rows,
    parse_file,
    printable,
    read_plain_text,
    read_table,
)
from analysis.statistics.contrasts import check_comparisons
from lightsweep.echo import plain

if TYPE_CHECKING:
    from analysis.design import DataIdentity


@dataclass(frozen=True)
class Run:
    """One run folder, read and checked.

    `trials` has a row per trial, `epochs` a row per trial, stage and epoch, and `stages` a row per trial and
    stage (and a last one for the assessment), with the columns of `TRIAL_COLUMNS`, `EPOCH_COLUMNS` and
    `STAGE_COLUMNS` and a column `run` (this run's name). `trials` also has the columns of `SEARCH_COLUMNS`,
    `IDENTITY_COLUMNS`, `COST_COLUMNS` and `CONFUSION_COLUMNS`, a column `folds` (planned trials per seed), a
    column `is_placebo` (base with other seeds, to show noise) and a column `config.<key>` per hyperparameter.
    Data sets with different images have different names in column `dataset`. Accuracies are fractions, times
    seconds. If `lightsweep costs` measured the run, `latency_ms` is its median for one image (null for nets
    that it left out), else what a search measured.
    """

    name: str
    folder: Path
    trials: pd.DataFrame
    epochs: pd.DataFrame
    stages: pd.DataFrame
    """Row per trial and stage; empty if the folder does not record stages."""
    sweep_text: str
    environment: Mapping[str, Any]
    n_planned: int | None
    """Number of planned trials, including those without a record; None if the folder does not say."""
    design: Design | None = None
    """Design of the ablation; None if the run is not an ablation."""
    search: SearchDesign | None = None
    """Design of the search; None if the run is not a search."""
    costs: Costs | None = None
    """Measured costs of its nets; None if they were not measured."""
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Data set -> names of its classes, in the order of the labels; only data sets whose classes are
    recorded."""
    data: Mapping[str, DataIdentity] = field(default_factory=dict)
    """Data set -> identity of its images; empty if the folder predates fingerprints."""

    @property
    def n_left(self) -> int:
        """Number of planned trials without a record."""
        return max((self.n_planned or 0) - len(self.trials), 0)


def load_run(folder: Path | str, name: str | None = None) -> Run:
    """Read the run folder `folder`; `name` labels it in tables and figures (default: the folder's name).

    Raises:
        RunError: The folder, a file or a column is missing, or a file is unreadable or holds what no run
            writes (unknown status, accuracy outside [0, 1], a trial twice, a completed trial without result).

    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(
            f"{folder}: no such run folder; name a folder that `lightsweep run` wrote, as runs/NAME"
        )
    name = name or folder.resolve().name
    optional = {**SEARCH_COLUMNS, **IDENTITY_COLUMNS, **COST_COLUMNS, **CONFUSION_COLUMNS}
    trials = read_table(folder / "trials.parquet", TRIAL_COLUMNS, optional).assign(run=name)
    epochs = read_table(folder / "epochs.parquet", EPOCH_COLUMNS).assign(run=name)
    has_stages = (folder / "stages.parquet").is_file()
    stages = read_table(folder / "stages.parquet", STAGE_COLUMNS) if has_stages else no_rows(STAGE_COLUMNS)
    _check_trials(folder / "trials.parquet", trials)
    try:
        environment = printable(json.loads(read_plain_text(folder / "environment.json")))
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"{folder / 'environment.json'}: not JSON ({error}); repeat the run to rewrite it"
        ) from error
    if not isinstance(environment, dict):
        raise RunError(f"{folder / 'environment.json'}: not a JSON object; repeat the run to rewrite it")
    sweep_text = plain(read_plain_text(folder / "sweep.yaml"))
    design, search, classes, data, folds = parse_file(
        folder / "design.json",
        lambda tree: (
            check_comparisons(parse_design(tree)), parse_search(tree), parse_classes(tree), parse_data(tree),
            parse_folds(tree),
        ),
        "a run's design",
        "repeat the run to rewrite it",
    ) or (None, None, {}, {}, None)  # fmt: skip
    n_planned = _count_planned(folder / "plan.json")
    remedy = "measure them again: lightsweep costs"
    costs = parse_file(folder / "costs.json", parse_costs, "a run's costs", remedy)
    trials = _with_latencies(trials, costs).assign(
        dataset=label_data(trials, data),
        folds=folds or max(trials["fold"].nunique(), 1),
        is_placebo=trials["arm"].isin([design.placebo.arm] if design and design.placebo else []),
    )
    return Run(
        name, folder, trials, epochs, stages.assign(run=name), sweep_text,
        environment, n_planned, design, search, costs, classes, data,
    )  # fmt: skip


def load_runs(folders: Sequence[Path | str]) -> list[Run]:
    """Read several run folders; a run is named after its folder, or by its path if two names clash.

    Data sets with identical images get the same name, all others different names.

    Raises:
        RunError: There is no folder, one is given twice, or one cannot be used (see `load_run`).

    """
    paths = [Path(folder) for folder in folders]
    if not paths or len({path.resolve() for path in paths}) < len(paths):
        raise RunError("report: name at least one run folder, and each only once")
    names = [path.resolve().name for path in paths]
    runs = [
        load_run(path, str(path) if names.count(name) > 1 else name)
        for path, name in zip(paths, names, strict=True)
    ]
    return tell_apart(runs)


def _with_latencies(trials: pd.DataFrame, costs: Costs | None) -> pd.DataFrame:
    """Replace the trials' latencies by those that `lightsweep costs` measured for one image, if any."""
    measured = {
        (net.dataset, arm): latency.median
        for net in (costs.nets if costs else ())
        for arm in net.arms
        if (latency := net.latencies[ONE_IMAGE]) is not None
    }
    if not measured:
        return trials
    found = [measured.get(key) for key in zip(trials["dataset"], trials["arm"], strict=True)]
    return trials.assign(latency_ms=pd.Series(found, trials.index, "float64"))


def _count_planned(path: Path) -> int | None:
    """Count the trials of a plan; None if there is no plan."""
    if not path.exists():
        return None
    try:
        planned = json.loads(read_plain_text(path))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: not JSON ({error}); repeat the run to rewrite it") from error
    if not isinstance(planned, list):
        raise RunError(f"{path}: not a JSON list; repeat the run to rewrite it")
    drawn = path.with_suffix(".jsonl")  # of a search in progress
    return len(planned) + (len(read_plain_text(drawn).splitlines()) if drawn.exists() else 0)


def _check_trials(path: Path, trials: pd.DataFrame) -> None:
    """Reject rows that no run writes, naming the first offending trial."""
    completed = trials["status"] == "completed"
    accuracies = trials[["val_accuracy", "test_accuracy", "train_accuracy"]]
    rules = {
        "trial_id is in more than one row": trials["trial_id"].duplicated(),
        f"status is none of {', '.join(STATUSES)}": ~trials["status"].isin(STATUSES),
        f"phase is none of {', '.join(PHASES)}": ~(trials["phase"].isin(PHASES) | trials["phase"].isna()),
        "an accuracy lies outside [0, 1] (accuracies are fractions)": (
            accuracies.lt(0) | accuracies.gt(1)
        ).any(axis=1),
        "status is completed, but val_accuracy is missing": completed & trials["val_accuracy"].isna(),
        "status is completed, but parameters is missing": completed & trials["parameters"].isna(),
        "parameters is below 1": trials["parameters"].lt(1).fillna(value=False).astype(bool),
    }
    for wrong, rows in rules.items():
        if rows.any():
            trial = trials.loc[rows, "trial_id"].iloc[0]
            raise RunError(
                f"{path}: trial {trial!r}: {wrong}; repeat the run, or remove the trial from the file"
            )


Kept = TypeVar("Kept")


PLACE = ("config.dataset.path", "config.dataset.image_size")


def label_data(trials: pd.DataFrame, known: Mapping[str, "DataIdentity"]) -> "pd.Series[str]":
    """Return a data set name for each trial of one run, so that different images never share a name.

    `known` are the labels in the run's design; a trial on any other images was recorded before the images of
    its sweep file changed.
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


def tell_apart(runs: Sequence[Run]) -> list[Run]:
    """Give data sets of several runs the same name if, and only if, their images are identical."""
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


def _fingerprints(run: Run) -> dict[str, str]:
    """Return the fingerprint of each of a run's data sets that has one, by its label."""
    known = run.trials[["dataset", "data_fingerprint"]].dropna().drop_duplicates("dataset")
    return {str(label): str(fingerprint) for label, fingerprint in known.itertuples(index=False)}


def _renamed(run: Run, names: Mapping[str, str]) -> Run:
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
