"""The whole job of `lightsweep run`: plan, load, train what is not done yet, record."""

import itertools
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from rich.console import Console

from lightsweep import datasets
from lightsweep.attempt import Attempt, attempt
from lightsweep.environment import commit
from lightsweep.plan import Plan, design_tree, plan_keys
from lightsweep.progress import Progress
from lightsweep.records import Outcome, Record, record
from lightsweep.runfolder import RunFolder
from lightsweep.spec import DatasetSpec, InputError, WriteError
from lightsweep.stagefile import StageResult
from lightsweep.store import FolderStore, LookUps, NotStoredError
from lightsweep.storekeeping import cut_to_limit
from lightsweep.sweep import Resources
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
    attempt: Attempt = attempt,
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
        attempt: Runs one trial in a worker.

    Raises:
        InputError: Data is missing, a folder cannot be written, no cluster is at the address.

    """
    loaded = load_all(planned, data_dir, download)
    store = FolderStore(out / STORE)  # a folder that cannot be written is said before Ray starts
    run = RunFolder.create(out, planned.sweep)
    device_type = likely_device(planned.sweep.resources)
    keys = plan_keys(planned, {spec: data.fingerprint for spec, data in loaded.items()}, device_type)

    def say_waiting() -> None:
        console.print(
            f"another lightsweep run is at work in {run.folder}: waiting for its end", highlight=False
        )

    with run.alone(say_waiting):
        run.describe(planned.sweep, design_tree(planned), planned.trials, keys)
        store.remove_leftovers()
        done = {} if fresh else _done(planned.trials, run.records(), loaded, keys)
        left = [trial for trial in planned.trials if trial.trial_id not in done]
        with Progress(left, run.folder / "log.txt", console) as progress:
            progress.say(_headline(planned, len(done)))
            interrupted = False
            try:
                _keep_to_limit(store, out, {key for chain in keys.values() for key in chain}, progress)
                if not fresh:
                    left = _look_up(left, planned, loaded, keys, device_type, store, run, progress)
                if left:
                    _train(left, planned, loaded, run, out / STORE, address, fresh, progress, attempt)
                _keep_to_limit(store, out, (), progress)
            except KeyboardInterrupt:
                interrupted = True
            except WriteError as error:
                with suppress(WriteError):
                    run.compact()
                raise WriteError(f"{error}; what was recorded stays, and the same command goes on") from None
            finally:
                run.clear_scratch()
            if progress.done:
                progress.say(progress.ledger())
            final = run.compact()
    failures = tuple(r for r in final.values() if r.trial["status"] == "failed")
    completed = sum(r.trial["status"] == "completed" for r in final.values())
    return RunSummary(run.folder, len(planned.trials), completed, failures, interrupted)


def likely_device(resources: Resources) -> str:
    """Return the type of device, cpu or cuda, that trials will run on as far as this machine can tell."""
    return "cuda" if resources.gpus and torch.cuda.is_available() else "cpu"


def _keep_to_limit(
    store: FolderStore, out: Path, protected_keys: Collection[str], progress: Progress
) -> None:
    """Cut the store to its limit, if it has one."""
    limit = store.limit_bytes()
    if limit is None:
        return
    try:
        went = cut_to_limit(store, out, protected_keys, limit)
    except InputError as error:
        progress.say(f"warning: the store is not cut to its limit: {error}")
        return
    if went.entries:
        progress.say(
            f"the store was cut to its limit: {went.entries} entries went, unreferenced and oldest first"
        )


def _headline(planned: Plan, done: int) -> str:
    sizes = sorted({cost.parameters for cost in planned.costs.values()})
    span = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    already = f", {done} of them done already" if done else ""
    return f"{planned.sweep.name}: {len(planned.trials)} trials of {span} parameters{already}"


def _done(
    trials: Sequence[Trial],
    records: dict[str, Record],
    loaded: dict[DatasetSpec, datasets.Dataset],
    keys: dict[str, tuple[str, ...]],
) -> set[str]:
    """Return the ids of trials whose record is of a completed trial with the same content as now."""
    done = set()
    for trial in trials:
        found = records.get(trial.trial_id)
        if found is not None and found.trial["status"] == "completed":
            key = found.trial["result_key"]
            device, fingerprint = found.trial["device"], loaded[trial.dataset].fingerprint
            if key == keys[trial.trial_id][-1] or key == stage_keys(trial, fingerprint, device)[-1]:
                done.add(trial.trial_id)
    return done


def _look_up(
    trials: list[Trial],
    planned: Plan,
    loaded: dict[DatasetSpec, datasets.Dataset],
    keys: dict[str, tuple[str, ...]],
    device_type: str,
    store: FolderStore,
    run: RunFolder,
    progress: Progress,
) -> list[Trial]:
    """Record the trials whose every stage is stored, without Ray, and return the others."""
    code, look_ups, left = commit(), LookUps(store), []

    @cache
    def ends_chain(key: str) -> bool:
        data = store.read(key)
        return data is not None and "diverged" in StageResult.from_bytes(data, with_weights=False).metrics

    for trial in trials:
        chain = keys[trial.trial_id]
        there = list(itertools.takewhile(store.has, chain))
        try:
            if len(there) < len(chain) and not (there and ends_chain(there[-1])):
                raise NotStoredError(trial.label)
            steps = attempt(trial, loaded[trial.dataset], look_ups, torch.device(device_type))
            next(steps)
        except StopIteration as end:
            run.append(record(trial, planned.costs[trial.trial_id], end.value, code))
            progress.end(trial, end.value)
        except NotStoredError:
            left.append(trial)
    return left


def load_all(planned: Plan, data_dir: Path, download: bool) -> dict[DatasetSpec, datasets.Dataset]:
    """Load the plan's data sets, each once."""
    return {spec: datasets.load(spec, data_dir, download) for spec in planned.infos}


def _train(
    trials: list[Trial],
    planned: Plan,
    loaded: dict[DatasetSpec, datasets.Dataset],
    run: RunFolder,
    store: Path,
    address: str | None,
    fresh: bool,
    progress: Progress,
    attempt: Attempt,
) -> None:
    from lightsweep import launch  # Ray takes a second to import, and nothing else needs it

    code, resources = commit(), planned.sweep.resources

    def on_end(trial: Trial, outcome: Outcome) -> None:
        run.append(record(trial, planned.costs[trial.trial_id], outcome, code))
        progress.end(trial, outcome)

    with launch.cluster(address, run.scratch) as has:
        gpus = has.get("GPU", 0) if resources.gpus else 0
        slots = int(has.get("CPU", 1) // resources.cpus)
        if gpus:
            slots = min(slots, int(gpus / resources.gpus))
        if slots < 1 and address is None:  # a cluster may grow, this machine does not
            raise InputError(f"resources.cpus = {resources.cpus}: this machine has {int(has['CPU'])} cores")
        device, device_type = ("GPU", "cuda") if gpus else ("processor", "cpu")
        if device_type != likely_device(resources):  # the cluster has what this machine has not
            fingerprints = {spec: data.fingerprint for spec, data in loaded.items()}
            run.write_plan(planned.trials, plan_keys(planned, fingerprints, device_type))
        progress.say(f"Ray is up: {min(slots, len(trials))} trials at a time on the {device}")
        launch.run_trials(
            trials, loaded, store, run.scratch, resources, gpus, fresh,
            launch.Listener(progress.advance, progress.lose, on_end), attempt,
        )  # fmt: skip
