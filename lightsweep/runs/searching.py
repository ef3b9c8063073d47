"""A search: ask the study for trials, look up or train them, report back; then confirm the front."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from lightsweep.runfolder.records import outcome_of
from lightsweep.runs.launching import Launcher, StoredTrials
from lightsweep.search.draws import Draw
from lightsweep.search.halving import Rungs
from lightsweep.search.study import Study
from lightsweep.sweepfile.search import ACCURACY
from lightsweep.training.outcome import Outcome
from lightsweep.trials.trial import Trial


class Searching:
    """One run's part of a search."""

    def __init__(self, study: Study, stored: StoredTrials, launcher: Launcher) -> None:
        self.study, self.stored, self.launcher = study, stored, launcher
        self.recorder, self.trials = launcher.recorder, launcher.trials
        search = self.trials.sweep.search
        assert search is not None
        self.rungs = Rungs(search.early_stopping) if search.early_stopping else None
        self.accuracies: dict[str, float] = {}
        """Validation accuracy of each completed trial, by trial id."""

    def search(self) -> list[Draw]:
        """Train what the study asks for until the search is over; return the draws to confirm."""
        self._recall()
        rung_epochs, goes_on = (self.rungs.epochs, self._goes_on) if self.rungs else ((), None)

        def source() -> Trial | Literal["wait"] | None:
            while True:
                self.study.at_once = self.launcher.slots_now() or self.study.at_once
                draw = self.study.ask()
                if draw is None or draw == "wait":
                    return draw
                self.trials.add([draw.trial], draw, "search")
                self.recorder.counts.add(draw.trial)
                if not self.stored.look_up(draw.trial, self._end, rung_epochs, goes_on):
                    return draw.trial

        first = source()
        if first is not None:
            assert first != "wait"  # no trial is running that it could wait for
            with self.study.time_out():
                self.study.at_once = self.launcher.start().total
            given = itertools.chain([first], iter(source, object()))
            self.launcher.run(lambda: next(given), self._end, rung_epochs, goes_on)
        return self.study.to_confirm(self.accuracies)

    def confirmation(self, draws: Sequence[Draw]) -> list[Trial]:
        """Return the trials, except those done, that confirm a search's draws with the sweep's seeds."""
        seeds, progress = self.trials.sweep.seed_list, self.recorder.progress
        found = []
        for draw in draws:
            trials = [replace(draw.trial, seed=seed) for seed in seeds]
            self.trials.add(trials, draw, "confirmation")
            found += trials
        done = set() if self.stored.job.fresh else self.trials.done(found, self.trials.run.journal.records())
        if found:
            progress.say(
                f"the search is over; confirming {len(draws)} nets on or near its front with {len(seeds)} "
                f"fresh seeds each: {len(found)} trials"
                f"{f', {len(done)} already done' if done else ''}"
            )
        left = [trial for trial in found if trial.trial_id not in done]
        self.recorder.counts.begin_list(left)
        progress.begin_list()
        return left

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        self.recorder.journal(trial, outcome)
        self.study.tell(trial.trial_id, outcome)
        self._learn(trial.trial_id, outcome)
        self.recorder.count(trial, outcome)

    def _learn(self, trial_id: str, outcome: Outcome) -> None:
        if self.rungs:
            self.rungs.add(trial_id, _course(outcome), self.study.draws[trial_id].lows)
        if outcome.status == "completed":
            self.accuracies[trial_id] = outcome.accuracies[ACCURACY]

    def _goes_on(self, trial: Trial, outcome: Outcome) -> bool:
        is_last = len(outcome.epochs) >= sum(stage.epochs for stage in trial.stages)
        assert self.rungs is not None
        lows = self.study.draws[trial.trial_id].lows
        return self.rungs.goes_on(trial.trial_id, _course(outcome), lows) or is_last

    def _recall(self) -> None:
        """Restore accuracies and the state of early stopping from the records of the study's trials."""
        records = self.trials.run.journal.records()
        for trial_id, found in records.items():
            draw = self.study.draws.get(trial_id)
            if draw is not None:
                self.trials.add([draw.trial], draw, "search")
                self._learn(trial_id, outcome_of(found))
        learnt = (self.study.draws[trial_id].trial for trial_id in self.accuracies)
        current = self.trials.done(learnt, records)
        if len(current) < len(self.accuracies):
            self.recorder.progress.say(
                f"warning: {len(self.accuracies) - len(current)} trials of this search were trained with "
                "different training code or images; remove the run's folder to start the search again"
            )


def _course(outcome: Outcome) -> list[float]:
    """Return the validation accuracy after each epoch."""
    return [epoch[ACCURACY] for epoch in outcome.epochs]
