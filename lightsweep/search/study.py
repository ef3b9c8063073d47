"""A search: an Optuna study that is asked for trials and told their outcomes.

The study is a database whose only writer is the launching process. A killed search resumes from it: a trial
is journalled before the study is told, interrupted trials are asked for again first (`search.resume`), and
every draw has its own random stream, derived from (seed, number).
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from lightsweep.errors import InputError
from lightsweep.nets.cost import Cost
from lightsweep.planning.plan import Plan
from lightsweep.search.budget import Budget
from lightsweep.search.confirm import choose_to_confirm
from lightsweep.search.database import ENDED, STUDY_FILE, StudyDatabase, Teller
from lightsweep.search.draws import DRAWN, Draw, Ledger, Objectives, configure, drawn_as, search_of
from lightsweep.search.resume import take_over
from lightsweep.search.samplers import DrawSampler
from lightsweep.search.space import Suggest, choose
from lightsweep.training.outcome import Outcome
from lightsweep.trials.trial import Trial

MOST_IN_VAIN = 500  # consecutive draws that cannot be trained before the search gives up


class Study:
    """The study of one sweep's search, with the trials of this run and earlier ones."""

    def __init__(
        self,
        planned: Plan,
        folder: Path,
        outcomes: Mapping[str, Outcome],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open or create the study, and restore the state that a killed run left.

        Args:
            planned: The sweep's plan.
            folder: The run's folder.
            outcomes: Outcomes of the trials that have a record, by trial id.
            clock: Returns seconds since any fixed moment; for a budget in minutes.

        Raises:
            InputError: The existing study belongs to another search.
            WriteError: The database cannot be used.

        """
        self.sweep, self.search = planned.sweep, search_of(planned.sweep)
        self.info = planned.infos[planned.sweep.dataset]
        self.at_once = 1
        """Maximum number of trials in progress at the same time."""
        self._database = StudyDatabase(self.sweep, folder)
        self._ledger = Ledger(self.sweep, self.info.task)
        self._objectives = Objectives(self.search, self.info)
        self._teller = Teller(self._database, self._objectives)
        self._under_way: dict[str, list[int]] = {}
        """Numbers of the study's trials that wait for the outcome of a trial, by its id."""
        with self._database.errors():
            spent = max(float(self._database.study.user_attrs.get("seconds", 0.0)), 0.0)
            self.budget = Budget(self.search, clock, spent)
            take_over(self._ledger, self._teller, self.budget, outcomes)

    @property
    def draws(self) -> Mapping[str, Draw]:
        """All draws trained so far, by trial id, in the order of drawing."""
        return self._ledger.draws

    def ask(self) -> Draw | Literal["wait"] | None:
        """Return the next draw to train, "wait" if running trials must end first, or None at the end.

        Raises:
            InputError: Too many consecutive draws cannot be trained.

        """
        for _ in range(MOST_IN_VAIN):
            if self._is_enough() or len(self._under_way) >= self.at_once:
                return "wait" if self._under_way else None
            with self._database.errors():
                draw = self._draw()
            if draw is not None:
                return draw
        reasons = [trial.user_attrs.get("reason") for trial in self._database.trials()[-1:]]
        raise InputError(
            f"search: {MOST_IN_VAIN} draws in a row could not be trained (the last one: "
            f"{reasons[0] or 'a repetition'}); widen search.limits or narrow search.space"
        )

    def tell(self, trial_id: str, outcome: Outcome) -> None:
        """Tell the study the outcome of a trial and of the repetitions that waited for it."""
        with self._database.errors():
            first, *same = self._under_way.pop(trial_id)
            draw = self.draws[trial_id]
            self.budget.spend(self._teller.ended(first, draw, outcome))
            for number in same:
                self._repeat(number, draw)
            self.budget.count_seconds()
            self._database.study.set_user_attr("seconds", self.budget.seconds)

    def share_done(self) -> float:
        """Return the fraction of the search that is done, from 0 to 1."""
        return self.budget.share_done()

    def time_out(self) -> AbstractContextManager[None]:
        """Stop the clock of a budget in minutes, for instance while waiting for a cluster."""
        return self.budget.time_out()

    def to_confirm(self, accuracies: Mapping[str, float]) -> list[Draw]:
        """Return the draws to train again with fresh seeds (`search.confirm.choose_to_confirm`)."""
        return choose_to_confirm(self.search, list(self.draws.values()), accuracies)

    def leave(self, folder: Path) -> None:
        """End this run: queue unfinished trials for the next run; copy an external study to the folder."""
        with self._database.errors():
            for frozen in self._database.trials(TrialState.RUNNING):
                self._database.requeue(frozen.number)
            self._under_way.clear()
            if self.search.storage is not None:
                self._database.copy(folder / STUDY_FILE)

    def _is_enough(self) -> bool:
        running = self._under_way
        epochs = sum(stage.epochs for one in running for stage in self.draws[one].trial.stages)
        return self.budget.is_spent(sum(map(len, running.values())), epochs)

    def _draw(self) -> Draw | None:
        """Ask the study once; return None if there is nothing to train, after telling the study why."""
        study = self._database.study
        study.sampler = DrawSampler(self.search, len(self._database.trials(*ENDED, TrialState.RUNNING)))
        asked = study.ask()
        made = self._make(asked)
        if made is None:
            return None
        trial, its_cost, costs = made
        if "latency_ms" in costs:
            asked.set_user_attr("latency_ms", costs["latency_ms"])
        # one transaction: a trial without it was never handed out
        asked.set_user_attr(DRAWN, {"trial_id": trial.trial_id, "arm": trial.arm, "seed": trial.seed})
        known = self.draws.get(trial.trial_id)
        if known is None:
            draw = Draw(asked.number, trial, its_cost, costs, self._objectives.lows(costs))
            self._ledger.add(draw)
            self._under_way[trial.trial_id] = [asked.number]
            return draw
        if trial.trial_id in self._under_way:
            self._under_way[trial.trial_id].append(asked.number)
        else:
            self._repeat(asked.number, known)
        return None

    def _make(self, asked: optuna.Trial) -> tuple[Trial, Cost, dict[str, float]] | None:
        """Return a draw's trial and costs; if it cannot be trained, tell the study and return None."""
        changes = choose(self.search.space, self._ledger.base, _suggest_from(asked))
        try:
            spec, its_cost = configure(self.sweep, self.info, changes)
            costs = self._objectives.costs(spec, its_cost, asked.user_attrs.get("latency_ms"))
            over = self._objectives.excess(costs)
            reason = ", ".join(f"{key} = {costs[key]:g}" for key, excess in over.items() if excess > 0)
        except InputError as error:
            reason, costs = str(error), {}
        if reason:
            self._teller.infeasible(asked.number, reason, costs)
            return None
        return self._ledger.trial_of(asked.number, spec, changes, drawn_as(asked.user_attrs)), its_cost, costs

    def _repeat(self, number: int, draw: Draw) -> None:
        self._teller.repeated(number, draw)
        self.budget.spend(0)


def _suggest_from(asked: optuna.Trial) -> Suggest:
    def suggest(name: str, distribution: BaseDistribution) -> Any:
        if isinstance(distribution, CategoricalDistribution):
            return asked.suggest_categorical(name, distribution.choices)
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        ask: Any = asked.suggest_int if isinstance(distribution, IntDistribution) else asked.suggest_float
        return ask(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)

    return suggest
