"""The trials of a run, planned or added by a search, with their costs, keys and data sets."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch

from lightsweep.planning.design import dataset_labels
from lightsweep.planning.plan import Plan, plan_keys
from lightsweep.runfolder.folder import RunFolder
from lightsweep.runfolder.records import DataIdentity, Record, SearchPart
from lightsweep.runs.cluster import Job
from lightsweep.sweepfile.sweep import Resources
from lightsweep.trials.keys import stage_keys
from lightsweep.trials.trial import Trial

if TYPE_CHECKING:
    from lightsweep.search.draws import Draw


def likely_device(resources: Resources) -> str:
    """Return the device type, cpu or cuda, that trials will probably use, judging by this machine."""
    has_gpu = torch.cuda.is_available() or resources.device == "gpu"
    return "cuda" if resources.gpus and has_gpu else "cpu"


class PlannedTrials:
    """All trials of one run, and what is known about them before training."""

    def __init__(self, planned: Plan, job: Job, run: RunFolder) -> None:
        self.sweep, self.run = planned.sweep, run
        self.trials, self.costs = list(planned.trials), dict(planned.costs)
        """Trials of the plan and those added by a search, and their costs by trial id."""
        self.device_type = likely_device(job.resources)
        self.fingerprints = {spec: data.fingerprint for spec, data in job.datasets.items()}
        labels = dataset_labels(planned, self.fingerprints)
        self.data = {spec: DataIdentity(labels[spec], key) for spec, key in self.fingerprints.items()}
        self.keys = plan_keys(self.trials, self.fingerprints, self.device_type)
        """Keys of each trial's stages and assessment, by trial id."""
        self.parts: dict[str, SearchPart] = {}
        """Role of each of a search's trials, by trial id."""

    def all_keys(self) -> set[str]:
        """Return the keys of all stages and assessments."""
        return {key for chain in self.keys.values() for key in chain}

    def keys_on(self, trial: Trial, device_type: str) -> tuple[str, ...]:
        """Return the keys of a trial's stages and assessment on a device type, cpu or cuda."""
        if device_type == self.device_type and trial.trial_id in self.keys:
            return self.keys[trial.trial_id]
        return stage_keys(trial, self.fingerprints[trial.dataset], device_type)

    def move_to(self, device_type: str) -> None:
        """Recompute all keys if the cluster's device type differs from the likely one."""
        if device_type != self.device_type:
            self.device_type = device_type
            self.keys = plan_keys(self.trials, self.fingerprints, device_type)
            self.run.write_plan(self.trials, self.keys)

    def done(self, trials: Iterable[Trial], records: Mapping[str, Record]) -> set[str]:
        """Return the ids of trials recorded as completed with the same content as now."""
        done = set()
        for trial in trials:
            found = records.get(trial.trial_id)
            if found is not None and found.trial["status"] == "completed":
                on_this, on_its_own = self.device_type, found.trial["device"]
                keys = (self.keys_on(trial, device)[-1] for device in (on_this, on_its_own))
                if found.trial["result_key"] in keys:
                    done.add(trial.trial_id)
        return done

    def add(self, trials: Sequence[Trial], draw: "Draw", phase: Literal["search", "confirmation"]) -> None:
        """Add the trials of a search's draw that are not known yet."""
        new = [trial for trial in trials if trial.trial_id not in self.costs]
        for trial in trials:
            self.parts[trial.trial_id] = SearchPart(phase, draw.number, draw.costs.get("latency_ms"))
        if not new:
            return
        for trial in new:
            self.costs[trial.trial_id] = draw.cost
            self.keys[trial.trial_id] = self.keys_on(trial, self.device_type)
        self.trials += new
        self.run.plan.add(new, self.keys)
