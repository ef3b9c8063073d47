"""From run folders to checked tables, and from trials to a row per arm.

What a run folder holds is said in the design, section 5. Everything is checked here, once; the other modules
trust these tables.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from analysis import notation
from analysis.costs.result import ONE_IMAGE, Costs, parse_costs
from analysis.design import (
    DataIdentity,
    Design,
    Search,
    parse_classes,
    parse_data,
    parse_design,
    parse_folds,
    parse_search,
)
from analysis.identity import label_data, tell_apart
from analysis.seeds import seed_effects, whole_seeds
from analysis.statistics.contrasts import check_comparisons
from lightsweep.echo import plain
from lightsweep.errors import InputError
from lightsweep.system.files import UnreadableError, open_plain, read_text

MOST_CELLS = 500_000_000  # of a table: a hundred thousand trials of 250 epochs
STATUSES = ("completed", "early_stopped", "failed")
PHASES = ("search", "confirmation")

# Columns that must be there, with the dtype they get: str and float64 hold NaN, Int64 holds NA for missing.
TRIAL_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("trial_id", "arm", "dataset", "status", "error", "host", "device"), "str"),
    **dict.fromkeys(("spec_hash", "commit", "started_at"), "str"),
    **dict.fromkeys(("seed", "fold", "parameters", "macs", "weight_bytes"), "Int64"),
    **dict.fromkeys(("epochs_trained", "stages_total", "stages_reused"), "Int64"),
    **dict.fromkeys(("val_accuracy", "test_accuracy", "train_accuracy", "seconds"), "float64"),
}
# Columns that folders older than searches lack: null there, and in runs that are no search.
SEARCH_COLUMNS: Mapping[str, str] = {"phase": "str", "study_number": "Int64", "latency_ms": "float64"}
# Columns that folders older than fingerprints lack: which images (SHA-256), what kind of failure, and base64
# of a bit for each test image, in order, the first byte's highest first: whether it was classified right.
IDENTITY_COLUMNS: Mapping[str, str] = dict.fromkeys(("data_fingerprint", "failure", "test_hits"), "str")
# Columns that folders older than reference nets lack.
COST_COLUMNS: Mapping[str, str] = {"total_parameters": "Int64", "int8_bytes": "Int64"}
# Text: JSON of the number of test images by [true class][predicted class]. Older folders lack it.
CONFUSION_COLUMNS: Mapping[str, str] = {"test_confusion": "str"}
EPOCH_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("trial_id", "arm", "stage"), "str"),
    **dict.fromkeys(("seed", "fold", "stage_index", "epoch", "trial_epoch"), "Int64"),
    **dict.fromkeys(("learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy"), "float64"),
    **dict.fromkeys(("val_accuracy_a", "val_accuracy_b", "seconds"), "float64"),
    "is_kept": "bool",
}
STAGE_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("trial_id", "arm", "stage", "origin", "host", "started_at"), "str"),
    **dict.fromkeys(("seed", "fold", "stage_index", "epochs", "epochs_trained"), "Int64"),
    **dict.fromkeys(("seconds", "waited_seconds"), "float64"),
}
NEVER_NULL = ("trial_id", "arm", "seed", "dataset", "status", "stage", "stage_index", "epoch", "trial_epoch")

Parsed = TypeVar("Parsed")

ARM_KEY = ["run", "dataset", "arm"]
SPLITS = ("val", "test", "train")
ACCURACIES = [f"{split}_accuracy" for split in SPLITS]
ARCHITECTURE = "config.model.architecture"
OWN = "submodels"  # every other architecture is a reference net's


class RunError(InputError):
    """A run folder cannot be used: the message names the file, what is wrong, and the remedy."""


@dataclass(frozen=True)
class Run:
    """One run folder, read and checked.

    ``trials`` has a row per trial, ``epochs`` a row per trial, stage and epoch, and ``stages`` a row per
    trial and stage (and one, after the last, for the assessment), with the columns of ``TRIAL_COLUMNS``,
    ``EPOCH_COLUMNS`` and ``STAGE_COLUMNS``, a column ``run`` (this run's name) and, in ``trials``, those of
    ``SEARCH_COLUMNS``, ``IDENTITY_COLUMNS``, ``COST_COLUMNS`` and ``CONFUSION_COLUMNS``, a column ``folds``
    (how many trials a seed has by the plan), a column ``is_placebo`` (base once more, to show noise) and a
    column ``config.<key>`` per hyperparameter. No two data sets have the same name in column ``dataset``.
    Accuracies are fractions, times seconds. Where `lightsweep costs` measured, ``latency_ms`` is its median
    for one image (null for nets that it left out), else what a search measured.
    """

    name: str
    folder: Path
    trials: pd.DataFrame
    epochs: pd.DataFrame
    stages: pd.DataFrame
    """Empty if the folder does not say."""
    sweep_text: str
    environment: Mapping[str, Any]
    n_planned: int | None
    """Trials of the plan, those without a record included; None if the folder does not say."""
    design: Design | None = None
    """What its arms are to one another; None if it is no ablation."""
    search: Search | None = None
    """What was searched; None if it is no search."""
    costs: Costs | None = None
    """What its nets cost, where they were measured; None if they were not."""
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Data set -> names of its classes, in the order of the labels; without data sets it does not say of."""
    data: Mapping[str, DataIdentity] = field(default_factory=dict)
    """Data set -> which images it is; empty if the folder is older than fingerprints."""

    @property
    def n_left(self) -> int:
        """Planned trials without a record."""
        return max((self.n_planned or 0) - len(self.trials), 0)


def load_run(folder: Path | str, name: str | None = None) -> Run:
    """Read the run folder ``folder``; ``name`` labels it in tables and figures (default: the folder's name).

    Raises RunError if the folder, a file or a column is missing, or if a file is unreadable or holds what no
    run writes (unknown status, accuracy outside [0, 1], a trial twice, a completed trial without result).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(
            f"{folder}: no such run folder; name a folder that `lightsweep run` wrote, as runs/NAME"
        )
    name = name or folder.resolve().name
    optional = {**SEARCH_COLUMNS, **IDENTITY_COLUMNS, **COST_COLUMNS, **CONFUSION_COLUMNS}
    trials = _read_table(folder / "trials.parquet", TRIAL_COLUMNS, optional).assign(run=name)
    epochs = _read_table(folder / "epochs.parquet", EPOCH_COLUMNS).assign(run=name)
    has_stages = (folder / "stages.parquet").is_file()
    stages = _read_table(folder / "stages.parquet", STAGE_COLUMNS) if has_stages else _no_rows(STAGE_COLUMNS)
    _check_trials(folder / "trials.parquet", trials)
    try:
        environment = _printable(json.loads(_read_text(folder / "environment.json")))
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"{folder / 'environment.json'}: not JSON ({error}); repeat the run to rewrite it"
        ) from error
    if not isinstance(environment, dict):
        raise RunError(f"{folder / 'environment.json'}: not a JSON object; repeat the run to rewrite it")
    sweep_text = plain(_read_text(folder / "sweep.yaml"))
    design, search, classes, data, folds = _parse_file(
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
    costs = _parse_file(folder / "costs.json", parse_costs, "a run's costs", remedy)
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
    """Read several run folders. A run is called by its folder's name, or by its path where two names agree.

    Data sets of equal images are called the same, and others by other names.

    Raises RunError if there is no folder, one is given twice, or one cannot be used (see ``load_run``).
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


def _no_rows(columns: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in columns.items()})


def _with_latencies(trials: pd.DataFrame, costs: Costs | None) -> pd.DataFrame:
    """Take the latencies of one image that were measured beside each other where there are any."""
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


def _parse_file(path: Path, parse: Callable[[Any], Parsed], what: str, remedy: str) -> Parsed | None:
    """Read and parse a JSON file; None where there is none, for not every folder has it."""
    if not path.exists():
        return None
    try:
        return parse(_printable(json.loads(_read_text(path))))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise RunError(f"{path}: not {what} ({error!r}); {remedy}") from error


def _count_planned(path: Path) -> int | None:
    """Count the trials of a plan; None where there is no plan."""
    if not path.exists():
        return None
    try:
        planned = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: not JSON ({error}); repeat the run to rewrite it") from error
    if not isinstance(planned, list):
        raise RunError(f"{path}: not a JSON list; repeat the run to rewrite it")
    drawn = path.with_suffix(".jsonl")  # by a search that is under way
    return len(planned) + (len(_read_text(drawn).splitlines()) if drawn.exists() else 0)


def summarise_arms(trials: pd.DataFrame) -> pd.DataFrame:
    """Reduce trials (of ``Run.trials``, or several concatenated) to a row per run, data set and arm.

    Columns: run, dataset, arm; label (the arm, with its run in front if there are several); n_completed,
    n_early_stopped, n_failed (trials); n_seeds (whose every fold completed); n_seeds_tried (of which any
    trial ended in some way); parameters, macs (Int64, known also for arms
    without a completed trial); weight_bytes (Int64, the most that one of its trials stores, for a compressed
    net's may differ a little from seed to seed); latency_ms (median over its trials); val_mean, val_std,
    test_mean, test_std, train_mean, train_std (fractions, over the n_seeds: see ``seeds.whole_seeds``; sample
    standard deviation over seeds, ddof 1, null below two; null if one of them lacks the value);
    is_corrected (bool: the arm lacks seeds that others of its run have, and its means are those that it
    would have over all seeds by the model arm + seed, see ``seeds.seed_effects``; nets of a search, which
    were planned with a seed each, are left as they are); seconds (mean over completed trials); config
    (text: the hyperparameters in which the arms differ); is_reference (bool: a reference net, not one of
    submodels).

    Raises RunError if the trials of one arm differ in parameters or MACs.
    """
    groups = trials.groupby(ARM_KEY, sort=False)
    arms = pd.DataFrame(index=groups.size().index)
    for status in STATUSES:
        arms[f"n_{status}"] = trials["status"].eq(status).groupby([trials[key] for key in ARM_KEY]).sum()
    for cost in ("parameters", "macs"):
        differing = groups[cost].nunique().gt(1)
        if differing.any():
            run, dataset, arm = differing.index[differing.to_numpy()][0]
            found = sorted(groups[cost].unique().loc[(run, dataset, arm)].dropna())
            raise RunError(
                f"run {run}, data set {dataset}: the trials of arm {arm!r} have different {cost} ({found}); "
                "an arm is one model: give different models different arm names"
            )
        arms[cost] = groups[cost].first()
    arms["weight_bytes"] = groups["weight_bytes"].max()
    arms["latency_ms"] = groups["latency_ms"].median()
    completed = trials[trials["status"] == "completed"]
    by_seed = whole_seeds(trials, ACCURACIES)
    over_seeds = by_seed.groupby(level=ARM_KEY, sort=False)
    arms["n_seeds"] = over_seeds.size().reindex(arms.index, fill_value=0)
    arms["n_seeds_tried"] = groups["seed"].nunique()
    for split, column in zip(SPLITS, ACCURACIES, strict=True):
        arms[f"{split}_mean"] = over_seeds[column].mean(skipna=False)
        arms[f"{split}_std"] = over_seeds[column].std(ddof=1, skipna=False)
    arms["is_corrected"] = False
    _correct_means(arms, by_seed, trials)
    arms["seconds"] = completed.groupby(ARM_KEY, sort=False)["seconds"].mean(skipna=False)
    arms["config"] = _describe_configs(trials)
    if ARCHITECTURE in trials:
        architecture = groups[ARCHITECTURE].first()
        arms["is_reference"] = (architecture.notna() & architecture.ne(OWN)).to_numpy(bool)
    else:
        arms["is_reference"] = False
    arms = arms.reset_index()
    labels = arms["arm"] if arms["run"].nunique() <= 1 else arms["run"] + " · " + arms["arm"]
    return arms.assign(label=labels)


def _correct_means(arms: pd.DataFrame, by_seed: pd.DataFrame, trials: pd.DataFrame) -> None:
    """Set the means of arms that lack seeds which others of their run have to what they would be over all."""
    searched = set(trials.loc[trials["phase"] == "search", "run"]) if "phase" in trials else set()
    for key, rows in by_seed.groupby(level=["run", "dataset"], sort=False):
        if key[0] in searched:
            continue
        for split, column in zip(SPLITS, ACCURACIES, strict=True):
            table = rows[column].unstack("seed")
            known = table.notna()
            effects = seed_effects(table.to_numpy(np.float64))
            lacking = ~known.all(axis=1) & known.any(axis=1)
            if not effects.is_estimable or not lacking.any():
                continue
            seen = (known * effects.columns).sum(axis=1) / known.sum(axis=1)
            index = lacking.index[lacking]
            arms.loc[index, f"{split}_mean"] -= seen[lacking]
            arms.loc[index, "is_corrected"] = True


def differing_settings(trials: pd.DataFrame) -> list[str]:
    """List the columns ``config.<key>`` that have two or more values, missing being one, in ``trials``."""
    columns = [str(column) for column in trials if str(column).startswith("config.")]
    return [column for column in columns if trials[column].map(notation.value).nunique() > 1]


def _describe_configs(trials: pd.DataFrame) -> list[str]:
    """Write per arm, in order of appearance, the hyperparameters that differ somewhere, a line for each.

    What an arm lacks of a group of settings (``compression.epochs`` of a net that is not compressed) is left
    out.
    """
    columns = differing_settings(trials)
    groups = trials[columns].map(notation.value).groupby([trials[key] for key in ARM_KEY], sort=False)
    descriptions = []
    for _, rows in groups:
        settings = {column.removeprefix("config."): rows[column].unique() for column in columns}
        lines = [
            f"{key} = {found[0] if len(found) == 1 else 'varies'}"
            for key, found in settings.items()
            if "." not in key or list(found) != [notation.MISSING]
        ]
        descriptions.append("\n".join(lines))
    return descriptions


def _read_text(path: Path) -> str:
    try:
        return read_text(path)
    except FileNotFoundError as error:
        raise RunError(
            f"{path}: missing; repeat the run to rewrite it, or name another run folder"
        ) from error
    except UnreadableError as error:
        raise RunError(f"{error}; repeat the run to rewrite it") from error


def _printable(tree: Any) -> Any:
    """Return plain content whose texts have no controls, as those of tables (see ``_read_table``)."""
    if isinstance(tree, str):
        return plain(tree)
    if isinstance(tree, list):
        return [_printable(part) for part in tree]
    if isinstance(tree, dict):
        return {plain(key): _printable(part) for key, part in tree.items()}
    return tree


def _read_table(
    path: Path, columns: Mapping[str, str], optional: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read a table and give its columns their dtypes; ``optional`` ones are null where there are none.

    Controls in its texts are written out (``lightsweep.echo.plain``): on a page they would turn lines round.
    """
    try:
        with open_plain(path) as file:
            size = pa.parquet.ParquetFile(file).metadata  # a small file can hold a table of any size
            if size.num_rows * size.num_columns > MOST_CELLS:
                raise ValueError(f"{size.num_rows:,} rows and {size.num_columns:,} columns are too many")
            file.seek(0)
            table = pd.read_parquet(file)
    except UnreadableError as error:
        raise RunError(f"{error}; repeat the run to rewrite it") from error
    except FileNotFoundError as error:
        raise RunError(
            f"{path}: missing; repeat the run to rewrite it, or name another run folder"
        ) from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunError(
            f"{path}: not a readable Parquet file ({error}); repeat the run to rewrite it"
        ) from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise RunError(
            f"{path}: no column {', '.join(missing)}; was it written by another version? Repeat the run"
        )
    optional = optional or {}
    table = table.assign(**{column: None for column in optional if column not in table})
    dtypes = {**columns, **optional}
    table = table.assign(**{column: _cast(path, table[column], dtype) for column, dtype in dtypes.items()})
    return _without_controls(table).rename(columns=lambda name: plain(str(name)))


def _without_controls(table: pd.DataFrame) -> pd.DataFrame:
    texts = [str(name) for name in table if pd.api.types.is_string_dtype(table[name])]
    changes = {}
    for name in texts:
        found = {text: plain(text) for text in table[name].dropna().unique() if text != plain(text)}
        if found:
            changes[name] = table[name].replace(found)
    return table.assign(**changes)


def _cast(path: Path, column: "pd.Series[Any]", dtype: str) -> "pd.Series[Any]":
    """Give a column its dtype, refusing text for numbers, numbers for text and nulls where none may be."""
    present = column.dropna()
    if len(present) < len(column) and (column.name in NEVER_NULL or dtype == "bool"):
        raise RunError(
            f"{path}: column {column.name} has missing values, and none may be missing; repeat the run"
        )
    is_text = pd.api.types.is_string_dtype(present) and not present.empty
    is_bool = pd.api.types.is_bool_dtype(present) and not present.empty
    fits = present.empty or (is_text == (dtype == "str") and is_bool == (dtype == "bool"))
    try:
        if fits:
            return column.astype(dtype)  # type: ignore[call-overload,no-any-return]
    except (TypeError, ValueError):
        pass
    raise RunError(
        f"{path}: column {column.name} holds {column.dtype} where {dtype} is expected; repeat the run"
    )


def _check_trials(path: Path, trials: pd.DataFrame) -> None:
    """Refuse rows that no run writes, naming the first trial that is wrong."""
    completed = trials["status"] == "completed"
    accuracies = trials[["val_accuracy", "test_accuracy", "train_accuracy"]]
    rules = {
        "trial_id stands in more than one row": trials["trial_id"].duplicated(),
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
