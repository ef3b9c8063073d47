"""The whole job of `lightsweep run`: plan, load, train what is not done yet, record."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lightsweep import datasets
from lightsweep.plan import Plan
from lightsweep.progress import Progress
from lightsweep.records import Outcome, Record, RunFolder, commit, record
from lightsweep.spec import DatasetSpec, InputError
from lightsweep.store import FolderStore
from lightsweep.trial import Trial, stage_keys

STORE = ".stages"


@dataclass(frozen=True)
class RunSummary:
    """What a run came to."""

    folder: Path
    planned: int
    completed: int
    failed: tuple[Record, ...]
    interrupted: bool


def run_sweep(
    planned: Plan,
    out: Path,
    data_dir: Path,
    address: str | None,
    fresh: bool,
    download: bool,
    console: Console,
) -> RunSummary:
    """Run a plan's trials that are not done yet; running again continues.

    Args:
        planned: What to run.
        out: Folder of run folders and of the stage store.
        data_dir: Folder of the data sets.
        address: Of a Ray cluster; None starts one on this machine.
        fresh: Train everything anew, whatever is stored.
        download: Whether missing data sets may be downloaded.
        console: For the progress.

    Raises:
        InputError: Data is missing, a folder cannot be written, no cluster is at the address.

    """
    sweep = planned.sweep
    loaded = load_all(planned, data_dir, download)
    FolderStore(out / STORE)  # a folder that cannot be written is said before Ray starts
    run = RunFolder.create(out, sweep, planned.trials)
    done = {} if fresh else run.records()
    left = [trial for trial in planned.trials if not _is_done(trial, done, loaded[trial.dataset].fingerprint)]
    with Progress(left, run.folder / "log.txt", console) as progress:
        sizes = sorted({cost.parameters for cost in planned.costs.values()})
        span = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
        already = len(planned.trials) - len(left)
        progress.say(
            f"{sweep.name}: {len(planned.trials)} trials of {span} parameters"
            + (f", {already} of them done already" if already else "")
        )
        interrupted = False
        try:
            if left:
                _train(left, planned, loaded, run, out / STORE, address, fresh, progress)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            final = run.compact()
    failures = tuple(r for r in final.values() if r.trial["status"] == "failed")
    completed = sum(r.trial["status"] == "completed" for r in final.values())
    return RunSummary(run.folder, len(planned.trials), completed, failures, interrupted)


def load_all(planned: Plan, data_dir: Path, download: bool) -> dict[DatasetSpec, datasets.Dataset]:
    """Load the plan's data sets, each once."""
    return {spec: datasets.load(spec, data_dir, download) for spec in planned.infos}


def _is_done(trial: Trial, records: dict[str, Record], fingerprint: str) -> bool:
    """Tell whether a trial's record is of a completed trial with the same content as now."""
    found = records.get(trial.trial_id)
    if found is None or found.trial["status"] != "completed":
        return False
    *_, assessment = stage_keys(trial, fingerprint, found.trial["device"])
    return bool(found.trial["result_key"] == assessment)


def _train(
    trials: list[Trial],
    planned: Plan,
    loaded: dict[DatasetSpec, datasets.Dataset],
    run: RunFolder,
    store: Path,
    address: str | None,
    fresh: bool,
    progress: Progress,
) -> None:
    from lightsweep import launch  # Ray takes a second to import, and nothing else needs it

    code, resources = commit(), planned.sweep.resources

    def on_end(trial: Trial, outcome: Outcome) -> None:
        run.append(record(trial, planned.costs[trial.trial_id], outcome, code))
        progress.end(trial, outcome)

    with launch.cluster(address) as has:
        gpus = has.get("GPU", 0) if resources.gpus else 0
        slots = int(has.get("CPU", 1) // resources.cpus)
        if gpus:
            slots = min(slots, int(gpus / resources.gpus))
        if slots < 1 and address is None:  # a cluster may grow, this machine does not
            raise InputError(f"resources.cpus = {resources.cpus}: this machine has {int(has['CPU'])} cores")
        device = "GPU" if gpus else "processor"
        progress.say(f"Ray is up: {min(slots, len(trials))} trials at a time on the {device}")
        launch.run_trials(
            trials, loaded, store, resources, gpus, fresh, progress.advance, progress.lose, on_end
        )
