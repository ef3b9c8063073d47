"""The whole job of `lightsweep run`: plan, load, train what is not done yet, record."""

import itertools
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.console import Console

from lightsweep.data import datasets
from lightsweep.data.imagedata import Dataset
from lightsweep.errors import InputError, LostError, WriteError
from lightsweep.plan.design import dataset_labels, design_tree
from lightsweep.plan.plan import Plan, check_splits, plan_keys, with_trials
from lightsweep.runfolder.environment import commit
from lightsweep.runfolder.folder import RunFolder
from lightsweep.runfolder.planfile import PlannedTrial
from lightsweep.runfolder.records import DataIdentity, Record, SearchPart, outcome_of, record
from lightsweep.runfolder.references import references, refuse
from lightsweep.runs.cluster import Cluster, GoesOn, Job, Listener
from lightsweep.runs.notes import data_notes
from lightsweep.runs.placement import Placement, Slots, slots
from lightsweep.runs.progress import Progress
from lightsweep.store.claims import LookUps, NotStoredError
from lightsweep.store.folder import FolderStore
from lightsweep.store.keeping import cut_to_limit
from lightsweep.store.stagefile import StageResult
from lightsweep.sweepfile.dataset import DatasetSpec
from lightsweep.sweepfile.reading import dump_sweep
from lightsweep.sweepfile.search import ACCURACY
from lightsweep.sweepfile.sweep import Resources
from lightsweep.system.files import UnreadableError
from lightsweep.system.terminal import say
from lightsweep.training.attempt import Attempt, attempt
from lightsweep.training.outcome import Outcome
from lightsweep.trials.keys import stage_keys
from lightsweep.trials.sources import source_fingerprint, training_sources
from lightsweep.trials.trial import Trial

if TYPE_CHECKING:
    from lightsweep.search.draws import Draw
    from lightsweep.search.halving import Rungs
    from lightsweep.search.study import Study
    from lightsweep.tracking.trackers import Trackers

STORE = ".stages"
PATIENCE_SECONDS, AT_CTRL_C_SECONDS = 60.0, 3.0  # with a tracker that shows nothing more


@dataclass(frozen=True)
class RunSummary:
    """What a run came to."""

    folder: Path
    planned: int
    """Of a search as far as it came."""
    completed: int
    stopped: int
    """Early, of a search."""
    failed: tuple[Record, ...]
    interrupted: bool


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
    """Run a plan's trials that are not done yet, or go on with its search; running again continues.

    Args:
        planned: What to run.
        out: Folder of run folders and of the stage store.
        data_dir: Folder of the data sets.
        cluster: What trains trials; it is started or attached to when the first one needs it.
        fresh: Train everything anew, whatever is stored.
        download: Whether missing data sets may be downloaded.
        console: For the progress.
        attempt: Runs one trial in a worker.

    Raises:
        InputError: Data is missing, a folder cannot be written, or the cluster cannot be used.
        LostError: The cluster, the disk or the study's database is gone; what was recorded stays.

    """
    loaded = load_all(planned, data_dir, download)
    check_splits(planned, {spec: data.train.labels for spec, data in loaded.items()})
    store = FolderStore(out / STORE)  # a folder that cannot be written is said before Ray starts
    run = RunFolder.create(out, planned.sweep)

    def say_waiting() -> None:
        console.print(
            f"another lightsweep run is at work in {run.folder}: waiting for its end", highlight=False
        )

    with run.alone(say_waiting):
        study = None
        if planned.sweep.search:
            from lightsweep.search.study import Study  # Optuna takes a second to import

            outcomes = {trial_id: outcome_of(found) for trial_id, found in run.journal.records().items()}
            study = Study(planned, run.folder, outcomes)
            before: Sequence[PlannedTrial] = ()
            if run.plan.exists():
                try:
                    before = run.plan.trials()
                except UnreadableError as error:  # the study and the journal know the same trials
                    say(console, f"warning: {error}")
            planned = with_trials(planned, before)
        job = Job(loaded, out / STORE, data_dir, planned.sweep.resources, fresh, attempt)
        work = _Work(planned, job, run, store, cluster)
        run.describe(planned.sweep, design_tree(planned, work.fingerprints), work.trials, work.keys)
        run.keep_sources(training_sources(), source_fingerprint())
        store.remove_leftovers()
        done = set() if fresh else work.done(planned.trials)
        left = [trial for trial in planned.trials if trial.trial_id not in done]
        work.track()
        share_done = study.share_done if study else None
        with Progress([] if study else left, run.folder / "log.txt", console, share_done) as progress:
            work.progress = progress
            progress.say(_headline(planned, len(done), study))
            for line in data_notes(planned, loaded):
                progress.say(line)
            interrupted = False
            try:
                _keep_to_limit(store, out, work.all_keys(), progress)
                with work:
                    if study:
                        left = work.confirmation(work.search(study))
                    work.train(left)
                _keep_to_limit(store, out, (), progress)
            except KeyboardInterrupt:
                interrupted = True
            except (WriteError, LostError) as error:
                with suppress(InputError):
                    run.compact()
                raise _goes_on(error) from None
            finally:
                if work.trackers:
                    work.trackers.close(AT_CTRL_C_SECONDS if interrupted else PATIENCE_SECONDS)
                if study:
                    with suppress(WriteError):  # the next run mends what is not left in order
                        study.leave(run.folder)
            if progress.done:
                progress.say(progress.ledger())
            try:
                run.write_plan(work.trials, work.keys)
                final = run.compact()
            except (WriteError, UnreadableError) as error:
                raise _goes_on(error) from None
    statuses = [found.trial["status"] for found in final.values()]
    failures = tuple(found for found in final.values() if found.trial["status"] == "failed")
    completed, stopped = (statuses.count(status) for status in ("completed", "early_stopped"))
    return RunSummary(run.folder, len(work.trials), completed, stopped, failures, interrupted)


def _goes_on(error: InputError) -> LostError:
    return LostError(f"{error}; what was recorded stays, and the same command goes on")


def likely_device(resources: Resources) -> str:
    """Return the type of device, cpu or cuda, that trials will run on as far as this machine can tell."""
    has_gpu = torch.cuda.is_available() or resources.device == "gpu"
    return "cuda" if resources.gpus and has_gpu else "cpu"


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
            f"the store was cut to its limit: {went.entries} entries went, unreferenced and oldest first"
        )


def _headline(planned: Plan, done: int, study: "Study | None") -> str:
    already = f", {done} of them done already" if done else ""
    if study:
        return f"{planned.sweep.name}: a search, {study.share_done():.0%} of it done already"
    sizes = sorted({cost.parameters for cost in planned.costs.values()})
    span = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    return f"{planned.sweep.name}: {len(planned.trials)} trials of {span} parameters{already}"


class _Work:
    """One run's trials on their way from the plan to the records, on a Ray cluster from the first need on."""

    progress: Progress

    def __init__(self, planned: Plan, job: Job, run: RunFolder, store: FolderStore, cluster: Cluster) -> None:
        self.planned, self.job, self.run, self.store, self.cluster = planned, job, run, store, cluster
        self.trials, self.costs = list(planned.trials), dict(planned.costs)
        """Of the plan, and what a search adds to it."""
        self.device_type = likely_device(job.resources)
        self.fingerprints = {spec: data.fingerprint for spec, data in job.datasets.items()}
        labels = dataset_labels(planned, self.fingerprints)
        self.data = {spec: DataIdentity(labels[spec], key) for spec, key in self.fingerprints.items()}
        self.keys = plan_keys(self.trials, self.fingerprints, self.device_type)
        self.parts: dict[str, SearchPart] = {}
        """Of a search's trials, by trial id."""
        self.code = commit()
        self.trackers: Trackers | None = None
        self._stack = ExitStack()
        self._slots: Slots | None = None
        self._placement: Placement | None = None

    def __enter__(self) -> "_Work":
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def track(self) -> None:
        """Show trials where the sweep says, those that have a record at once.

        Raises:
            InputError: There they cannot be shown.

        """
        sweep = self.planned.sweep
        if not sweep.tracking:
            return
        from lightsweep.tracking.trackers import open_trackers  # what it needs is an extra

        text = dump_sweep(sweep)
        self.trackers = open_trackers(sweep.tracking, self.run.folder, sweep.name, text)
        for found in self.run.journal.records().values():
            self.trackers.end(found)

    def all_keys(self) -> set[str]:
        """Return the keys of all stages and assessments of the plan."""
        return {key for chain in self.keys.values() for key in chain}

    def done(self, trials: Iterable[Trial]) -> set[str]:
        """Return the ids of trials whose record is of a completed trial with the same content as now."""
        records, done = self.run.journal.records(), set()
        for trial in trials:
            found = records.get(trial.trial_id)
            if found is not None and found.trial["status"] == "completed":
                key, device = found.trial["result_key"], found.trial["device"]
                if key in (
                    self.keys[trial.trial_id][-1],
                    stage_keys(trial, self.fingerprints[trial.dataset], device)[-1],
                ):
                    done.add(trial.trial_id)
        return done

    def train(self, trials: Sequence[Trial]) -> None:
        """Record trials: those whose every stage is stored without Ray, then the others."""
        left = list(trials)
        if not self.job.fresh:
            left = [trial for trial in left if not self._look_up(trial, self._end)]
        if left:
            self._start_cluster()
            trials_left = iter(left)
            self._launch(lambda: next(trials_left, None), self._end)

    def search(self, study: "Study") -> list["Draw"]:
        """Train what a study asks for until it has enough, and return what of it is to be confirmed."""
        rungs, accuracies = self._recall(study)

        def on_end(trial: Trial, outcome: Outcome) -> None:
            self._record(trial, outcome)
            study.tell(trial.trial_id, outcome)
            if rungs:
                rungs.add(trial.trial_id, _course(outcome), study.draws[trial.trial_id].lows)
            if outcome.status == "completed":
                accuracies[trial.trial_id] = outcome.accuracies[ACCURACY]
            self._count(trial, outcome)

        def goes_on(trial: Trial, outcome: Outcome) -> bool:
            is_last = len(outcome.epochs) >= sum(stage.epochs for stage in trial.stages)
            assert rungs is not None
            return (
                rungs.goes_on(trial.trial_id, _course(outcome), study.draws[trial.trial_id].lows) or is_last
            )

        rung_epochs, ask = (rungs.epochs, goes_on) if rungs else ((), None)

        def source() -> Trial | Literal["wait"] | None:
            while True:
                if self._placement is not None:
                    study.at_once = max(self._placement.slots().total, 1)
                draw = study.ask()
                if draw is None or draw == "wait":
                    return draw
                self._add([draw.trial], draw, "search")
                self.progress.add(draw.trial)
                if self.job.fresh or not self._look_up(draw.trial, on_end, rung_epochs, ask):
                    return draw.trial

        first = source()
        if first is not None:
            assert first != "wait"  # nothing is under way that it could wait for
            with study.time_out():
                study.at_once = self._start_cluster().total
            given = itertools.chain([first], iter(source, object()))
            self._launch(lambda: next(given), on_end, rung_epochs, ask)
        return study.to_confirm(accuracies)

    def confirmation(self, draws: Sequence["Draw"]) -> list[Trial]:
        """Return the trials, not done yet, that train a search's best draws with the sweep's seeds."""
        found = []
        for draw in draws:
            trials = [replace(draw.trial, seed=seed) for seed in self.planned.sweep.seed_list]
            self._add(trials, draw, "confirmation")
            found += trials
        done = set() if self.job.fresh else self.done(found)
        if found:
            seeds = len(self.planned.sweep.seed_list)
            self.progress.say(
                f"the search is over; its front and what is near it, {len(draws)} nets, with {seeds} fresh "
                f"seeds each: {len(found)} trials{f', {len(done)} of them done already' if done else ''}"
            )
        left = [trial for trial in found if trial.trial_id not in done]
        self.progress.begin_list(left)
        return left

    def _recall(self, study: "Study") -> tuple["Rungs | None", dict[str, float]]:
        """Return what the records say of a study's trials: for early stopping, and the accuracies."""
        from lightsweep.search.halving import Rungs

        assert self.planned.sweep.search is not None
        spec = self.planned.sweep.search.early_stopping
        rungs, accuracies = Rungs(spec) if spec else None, {}
        for trial_id, found in self.run.journal.records().items():
            draw = study.draws.get(trial_id)
            if draw is None:
                continue
            self._add([draw.trial], draw, "search")
            outcome = outcome_of(found)
            if rungs:
                rungs.add(trial_id, _course(outcome), draw.lows)
            if outcome.status == "completed":
                accuracies[trial_id] = outcome.accuracies[ACCURACY]
        current = self.done(study.draws[trial_id].trial for trial_id in accuracies)
        if len(current) < len(accuracies):
            self.progress.say(
                f"warning: {len(accuracies) - len(current)} trials of this search were trained by other "
                "training code or on other images than now; remove the run's folder to search anew"
            )
        return rungs, accuracies

    def _add(self, trials: Sequence[Trial], draw: "Draw", phase: Literal["search", "confirmation"]) -> None:
        """Add trials of a draw to the plan, unless they are in it."""
        new = [trial for trial in trials if trial.trial_id not in self.costs]
        for trial in trials:
            self.parts[trial.trial_id] = SearchPart(phase, draw.number, draw.costs.get("latency_ms"))
        if not new:
            return
        for trial in new:
            self.costs[trial.trial_id] = draw.cost
            self.keys[trial.trial_id] = stage_keys(trial, self.fingerprints[trial.dataset], self.device_type)
        self.trials += new
        self.run.plan.add(new, self.keys)

    def _look_up(
        self, trial: Trial, on_end: Any, rungs: Sequence[int] = (), goes_on: GoesOn | None = None
    ) -> bool:
        """Record a trial, without Ray, if its every stage is stored; say whether it was.

        At a rung it asks whether it goes on, as it would if it were trained.
        """
        types = ("cuda", "cpu") if self.job.resources.device == "any" else (self.device_type,)
        return any(self._look_up_of(device_type, trial, on_end, rungs, goes_on) for device_type in types)

    def _look_up_of(
        self, device_type: str, trial: Trial, on_end: Any, rungs: Sequence[int], goes_on: GoesOn | None
    ) -> bool:
        chain = self.keys[trial.trial_id]
        if device_type != self.device_type:
            chain = stage_keys(trial, self.fingerprints[trial.dataset], device_type)
        there = list(itertools.takewhile(self.store.has, chain))
        if len(there) < len(chain) and not (there and self._ends_chain(there[-1])):
            return False
        steps = self.job.attempt(
            trial, self.job.datasets[trial.dataset], LookUps(self.store), torch.device(device_type)
        )
        try:
            while True:
                so_far = next(steps)
                if len(so_far.epochs) in rungs and goes_on is not None and not goes_on(trial, so_far):
                    on_end(trial, so_far)
                    return True
        except StopIteration as end:
            on_end(trial, end.value)
            return True
        except NotStoredError:
            return False

    def _ends_chain(self, key: str) -> bool:
        """Whether a stage's result is that it diverged."""
        data = self.store.read(key)
        return (
            data is not None and "diverged" in StageResult.from_bytes(data, key, with_weights=False).metrics
        )

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        self._record(trial, outcome)
        self._count(trial, outcome)

    def _count(self, trial: Trial, outcome: Outcome) -> None:
        """Say how far the sweep is after a trial."""
        self.progress.end(trial, outcome)
        said = self.progress
        if self.trackers:
            self.trackers.counts(said.done, said.failed, said.stopped, said.reused, said.waited_seconds)
        self._measure()

    def _advance(self, trial: Trial, epochs: int) -> None:
        """Say how far a trial is."""
        self.progress.advance(trial, epochs)
        self._measure()

    def _measure(self) -> None:
        """Show the sweep's course among the cluster's metrics, once there is a cluster."""
        said = self.progress
        if self._slots is not None:
            name = self.planned.sweep.name
            self.cluster.show(name, said.states, said.made, said.reused, said.waited_seconds)

    def _record(self, trial: Trial, outcome: Outcome) -> None:
        """Journal what became of a trial."""
        part = self.parts.get(trial.trial_id)
        costs = self.costs[trial.trial_id]
        new = record(trial, costs, outcome, self.code, self.data[trial.dataset], part)
        self.run.journal.append(new)
        if self.trackers:
            self.trackers.end(new)

    def _start_cluster(self) -> Slots:
        """Start or join the cluster, once, and return how many trials fit on it at a time."""
        if self._slots is not None:
            return self._slots
        resources = self.job.resources
        self._stack.enter_context(self.cluster.attached(resources, self.progress.say))
        rooms = self.cluster.rooms()
        found = slots(resources, rooms)
        device_type = "cuda" if found.on_gpus else "cpu"
        if device_type != self.device_type:  # the cluster has what this machine has not
            self.device_type = device_type
            self.keys = plan_keys(self.trials, self.fingerprints, device_type)
            self.run.write_plan(self.trials, self.keys)
        if not found.total:
            cores = max(int(room.cpus) for room in rooms)
            raise InputError(f"resources.cpus = {resources.cpus}: this machine has {cores} cores")
        if resources.device == "gpu" and not found.on_gpus:
            raise InputError(
                "resources.device = gpu: there is no GPU here; auto trains on the processor, too"
            )
        self.progress.say(f"{self.cluster.name} is up: {found}")
        self._slots = found
        return found

    def _launch(self, source: Any, on_end: Any, rungs: Sequence[int] = (), goes_on: Any = None) -> None:
        def size(trial: Trial) -> float:
            return self.costs[trial.trial_id].macs * trial.spec.batch_size

        said = self.progress
        self._placement = Placement(self.job.resources, self.cluster.rooms, size)
        listener = Listener(self._advance, said.lose, on_end, said.say)
        self.cluster.run_trials(self.job, source, self._placement, listener, rungs, goes_on)


def _course(outcome: Outcome) -> list[float]:
    """Return the validation accuracy after each epoch."""
    return [epoch[ACCURACY] for epoch in outcome.epochs]


def load_all(planned: Plan, data_dir: Path, download: bool) -> dict[DatasetSpec, Dataset]:
    """Load the plan's data sets, each once."""
    return {spec: datasets.load(spec, data_dir, download) for spec in planned.infos}
