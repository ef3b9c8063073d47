"""A search: an Optuna study that is asked for trials and told what became of them.

The study is a real database with one writer, the launching process. A killed search goes on from it: a trial
is journalled before the study is told, trials that were under way are asked for again first (`resume`), and
every draw has a random stream of its own, derived from (seed, number).
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

MOST_IN_VAIN = 500  # draws in a row that cannot be trained, before the search gives up


class Study:
    """The study of one sweep's search, and its trials of this and earlier runs."""

    def __init__(
        self,
        planned: Plan,
        folder: Path,
        outcomes: Mapping[str, Outcome],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the study or create it, and repair what a killed run left.

        Args:
            planned: The sweep's plan.
            folder: The run's folder.
            outcomes: Outcomes of the trials that have a record, by trial id.
            clock: Returns seconds since any fixed moment; for a budget in minutes.

        Raises:
            InputError: The study there is of another search.
            WriteError: The database cannot be used.

        """
        self.sweep, self.search = planned.sweep, search_of(planned.sweep)
        self.info = planned.infos[planned.sweep.dataset]
        self.at_once = 1
        """Trials that may be under way at a time."""
        self._base = planned.sweep.base.model_dump(mode="json")
        self._database = StudyDatabase(self.sweep, folder)
        self._ledger = Ledger(self.sweep)
        self._objectives = Objectives(self.search, self.info)
        self._teller = Teller(self._database, self._objectives)
        self._under_way: dict[str, list[int]] = {}
        """Numbers of the study's trials that wait for a trial's end, by trial id."""
        with self._database.errors():
            spent = max(float(self._database.study.user_attrs.get("seconds", 0.0)), 0.0)
            self.budget = Budget(self.search, clock, spent)
            take_over(
                self._database, self._ledger, self._objectives, self._teller, self.budget, outcomes, self.info
            )

    @property
    def draws(self) -> Mapping[str, Draw]:
        """All that were ever trained, by trial id, in the order in which they were drawn."""
        return self._ledger.draws

    def ask(self) -> Draw | Literal["wait"] | None:
        """Return what to train next, "wait" while nothing is free or known, or None at the search's end.

        Raises:
            InputError: Too many draws in a row could not be trained: the space holds too little.

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
        """Tell the study what became of a trial, and of its repetitions that waited for it."""
        with self._database.errors():
            first, *same = self._under_way.pop(trial_id)
            draw = self.draws[trial_id]
            self.budget.spend(self._teller.ended(first, draw, outcome))
            for number in same:
                self._repeat(number, draw)
            self.budget.count_seconds()
            self._database.study.set_user_attr("seconds", self.budget.seconds)

    def share_done(self) -> float:
        """Return the share of the search that is over, 0 to 1."""
        return self.budget.share_done()

    def time_out(self) -> AbstractContextManager[None]:
        """Stop the clock of a budget of minutes, for instance while a cluster is waited for."""
        return self.budget.time_out()

    def to_confirm(self, accuracies: Mapping[str, float]) -> list[Draw]:
        """Return the draws to train again with fresh seeds (`confirm.choose_to_confirm`)."""
        return choose_to_confirm(self.search, list(self.draws.values()), accuracies)

    def leave(self, folder: Path) -> None:
        """End this run's work: queue what is under way for the next run; keep a copy in the run's folder."""
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
        """Ask the study once; None for what is not to be trained, of which it is told at once."""
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
        """Return a draw's trial and costs; None, and tell the study, if it cannot be trained."""
        changes = choose(self.search.space, self._base, _suggest_from(asked))
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
