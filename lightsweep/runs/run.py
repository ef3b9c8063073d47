"""The work of `lightsweep run`: load the data, train the trials that are not done, record them."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from lightsweep.data import datasets
from lightsweep.data.imagedata import Dataset
from lightsweep.data.splits import validates_itself
from lightsweep.errors import InputError, LostError, WriteError
from lightsweep.kernels.library import require_library
from lightsweep.owncode.sources import sources_in
from lightsweep.planning.design import dataset_labels, design_tree
from lightsweep.planning.plan import Plan, check_splits, with_trials
from lightsweep.runfolder.code import keep_own_code, keep_sources
from lightsweep.runfolder.folder import RunFolder
from lightsweep.runfolder.planfile import PlannedTrial
from lightsweep.runfolder.records import Record, outcome_of
from lightsweep.runfolder.references import references, refuse
from lightsweep.runs.cluster import Cluster, Job
from lightsweep.runs.counts import Counts
from lightsweep.runs.launching import Launcher, StoredTrials, train_all
from lightsweep.runs.planned import PlannedTrials
from lightsweep.runs.progress import Progress
from lightsweep.runs.recorder import Recorder, open_run_trackers
from lightsweep.store.folder import STORE, FolderStore
from lightsweep.store.keeping import cut_to_limit
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.system.files import UnreadableError
from lightsweep.system.terminal import say
from lightsweep.training.attempt import Attempt, attempt
from lightsweep.trials.sources import source_fingerprint, training_sources

if TYPE_CHECKING:
    from lightsweep.search.study import Study

PATIENCE_SECONDS, AT_CTRL_C_SECONDS = 60.0, 3.0  # wait for a stalled tracker


@dataclass(frozen=True)
class RunSummary:
    """Result of a run."""

    folder: Path
    """The run's folder."""
    planned: int
    """Number of trials planned; for a search, those drawn so far."""
    completed: int
    """Number of trials completed."""
    stopped: int
    """Number of a search's trials that were stopped early."""
    failed: tuple[Record, ...]
    """Records of the trials that failed."""
    interrupted: bool
    """Whether Ctrl-C ended the run."""


def run_sweep(
    planned: Plan,
    out: Path,
    data_dir: Path,
    cluster: Cluster,
    fresh: bool,
    download: bool,
    console: Console,
    attempt: Attempt = attempt,
) -> RunSummary:
    """Run the trials of a plan that are not done, or continue its search; run again to continue.

    Args:
        planned: The plan to run.
        out: Folder of run folders and of the stage store.
        data_dir: Folder of the data sets.
        cluster: Cluster that trains trials; started or attached to when first needed.
        fresh: Whether to train everything again and ignore stored results.
        download: Whether missing data sets may be downloaded.
        console: Console for the progress.
        attempt: Runs one trial in a worker.

    Returns:
        Number of trials by status, and where their records are.

    Raises:
        InputError: Data is missing, a folder cannot be written, or the cluster cannot be used.
        LostError: The cluster, the disk or the study's database is gone; records are kept.

    """
    if any(trial.has_images_last for trial in planned.trials):
        require_library()
    loaded = load_all(planned, data_dir, download)
    check_splits(planned, {spec: data.train.labels for spec, data in loaded.items()})
    store = FolderStore(out / STORE)  # fails before Ray starts if the folder cannot be written
    run = RunFolder.create(out, planned.sweep)

    def say_waiting() -> None:
        console.print(
            f"another lightsweep run is using {run.folder}; waiting for it to finish", highlight=False
        )

    with run.alone(say_waiting):
        study, records = None, run.journal.records()
        if planned.sweep.search:
            from lightsweep.search.study import Study  # Optuna takes a second to import

            outcomes = {trial_id: outcome_of(found) for trial_id, found in records.items()}
            study = Study(planned, run.folder, outcomes)
            before: Sequence[PlannedTrial] = ()
            if run.plan.exists():
                try:
                    before = run.plan.trials()
                except UnreadableError as error:  # the study and the journal know the same trials
                    say(console, f"warning: {error}")
            planned = with_trials(planned, before)
        own = sources_in(planned.sweep.model_dump(mode="json"))
        job = Job(loaded, out / STORE, data_dir, planned.sweep.resources, fresh, attempt, own)
        trials = PlannedTrials(planned, job, run)
        run.describe(planned.sweep, design_tree(planned, trials.fingerprints), trials.trials, trials.keys)
        keep_sources(run.folder, training_sources(), source_fingerprint())
        keep_own_code(run.folder, job.own)
        store.remove_leftovers()
        done = set() if fresh else trials.done(planned.trials, records)
        left = [trial for trial in planned.trials if trial.trial_id not in done]
        aside = len(records.keys() - {trial.trial_id for trial in planned.trials})
        trackers = open_run_trackers(planned.sweep, run)
        counts = Counts([] if study else left)
        share_done = study.share_done if study else None
        with Progress(counts, run.folder / "log.txt", console, share_done) as progress:
            recorder = Recorder(trials, cluster, counts, progress, trackers)
            progress.say(_headline(planned, len(done), study))
            if aside and not study:
                progress.say(
                    f"{aside} of the trials that are recorded here are not in this plan, so the report "
                    "leaves them out; --set name=NEW gives each plan a run of its own"
                )
            for line in data_notes(planned, loaded):
                progress.say(line)
            interrupted = False
            try:
                _keep_to_limit(store, out, trials.all_keys(), progress)
                stored = StoredTrials(trials, job, store)
                with Launcher(trials, job, cluster, recorder) as launcher:
                    if study:
                        from lightsweep.runs.searching import Searching

                        searching = Searching(study, stored, launcher)
                        left = searching.confirmation(searching.search())
                    train_all(left, stored, launcher)
                _keep_to_limit(store, out, (), progress)
            except KeyboardInterrupt:
                interrupted = True
            except (WriteError, LostError) as error:
                with suppress(InputError):
                    run.compact()
                raise _goes_on(error) from None
            finally:
                if trackers:
                    trackers.close(AT_CTRL_C_SECONDS if interrupted else PATIENCE_SECONDS)
                if study:
                    with suppress(WriteError):  # the next run repairs what is left incomplete
                        study.leave(run.folder)
            if counts.done:
                progress.say(progress.ledger())
            try:
                run.write_plan(trials.trials, trials.keys)
                final = run.compact()
            except (WriteError, UnreadableError) as error:
                raise _goes_on(error) from None
    statuses = [found.trial["status"] for found in final.values()]
    failures = tuple(found for found in final.values() if found.trial["status"] == "failed")
    completed, stopped = (statuses.count(status) for status in ("completed", "early_stopped"))
    return RunSummary(run.folder, len(trials.trials), completed, stopped, failures, interrupted)


def shared_text(shared: int, total: int) -> str:
    """Return a warning that some test images are also among the training or validation images."""
    return (
        f"{shared:,} of {total:,} test images are among the training or validation images, pixel for pixel: "
        "test accuracy is too high"
    )


def data_notes(planned: Plan, loaded: Mapping[DatasetSpec, Dataset]) -> list[str]:
    """Return notes on each data set: what was skipped when reading it, and why test accuracy is too high."""
    found = []
    labels = dataset_labels(planned, {spec: data.fingerprint for spec, data in loaded.items()})
    for spec, data in loaded.items():
        found += [f"{labels[spec]}: {note}" for note in data.notes]
        own_count = data.info.validation_count
        if own_count and not validates_itself(spec, own_count, planned.sweep.folds):
            why = "folds are" if planned.sweep.folds else "dataset.validation is"
            found.append(f"{labels[spec]}: its own validation images are not used, because {why} set")
        if shared := data.shared_with_test():
            found.append(f"warning: {labels[spec]}: {shared_text(shared, len(data.test.labels))}")
    return list(dict.fromkeys(found))


def _goes_on(error: InputError) -> LostError:
    return LostError(f"{error}; records are kept; run the same command again to continue")


def _keep_to_limit(
    store: FolderStore, out: Path, protected_keys: Collection[str], progress: Progress
) -> None:
    """Cut the store to its limit, if it has one."""
    limit = store.limit_bytes()
    if limit is None:
        return
    try:
        went = cut_to_limit(store, partial(references, out, refuse), protected_keys, limit)
    except InputError as error:
        progress.say(f"warning: the store is not cut to its limit: {error}")
        return
    if went.entries:
        progress.say(
            f"the store was cut to its limit: {went.entries} entries removed, unreferenced and oldest first"
        )


def _headline(planned: Plan, done: int, study: "Study | None") -> str:
    already = f", {done} already done" if done else ""
    if study:
        return f"{planned.sweep.name}: a search, {study.share_done():.0%} already done"
    sizes = sorted({cost.parameters for cost in planned.costs.values()})
    span = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    return f"{planned.sweep.name}: {len(planned.trials)} trials of {span} parameters{already}"


def load_all(planned: Plan, data_dir: Path, download: bool) -> dict[DatasetSpec, Dataset]:
    """Load each of the plan's data sets once."""
    return {spec: datasets.load(spec, data_dir, download) for spec in planned.infos}
