"""Resuming a search: restore its state from the study, and complete what was left unfinished."""

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from lightsweep.errors import InputError
from lightsweep.hashing import content_hash
from lightsweep.nets.cost import Cost
from lightsweep.search.budget import Budget
from lightsweep.search.database import ENDED, StudyDatabase, Teller
from lightsweep.search.draws import Draw, Drawn, Ledger, configure, drawn_as
from lightsweep.search.space import choose, parameters_of
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.training.outcome import Outcome
from lightsweep.trials.trial import Trial


def take_over(ledger: Ledger, teller: Teller, budget: Budget, outcomes: Mapping[str, Outcome]) -> None:
    """Restore the study's trials: tell the study those that have a record, and queue the others again.

    Args:
        ledger: Receives all draws trained so far.
        teller: Tells the study about trials; its objectives receive the measured latencies.
        budget: Receives what was spent.
        outcomes: Outcomes of the trials that have a record, by trial id.

    Raises:
        InputError: The study has a trial that no search of this sweep can have created.

    """
    database, resumed = teller.database, _Resumed(ledger, teller, outcomes)
    for frozen in database.trials():
        try:
            epochs = resumed.take_over(frozen)
        except (InputError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            why = str(error) if isinstance(error, InputError) else repr(error)
            raise InputError(
                f"{database.where}: its trial {frozen.number} does not belong to this search ({why}); give "
                "this search another name, or remove the folder"
            ) from None
        if epochs is not None:
            budget.spend(epochs)
    _enqueue(database, ledger)


class _Resumed:
    """State restored from a study while its trials are read one by one."""

    def __init__(self, ledger: Ledger, teller: Teller, outcomes: Mapping[str, Outcome]) -> None:
        self.ledger, self.teller, self.outcomes = ledger, teller, outcomes
        self.database, self.objectives = teller.database, teller.objectives

    def take_over(self, frozen: FrozenTrial) -> int | None:
        """Restore one trial; return its epochs to count, or None if it does not count."""
        status, drawn = frozen.user_attrs.get("status"), drawn_as(frozen.user_attrs)
        if "latency_ms" in frozen.user_attrs:
            configured = self._configured(self._changes(frozen))
            self.objectives.costs(*configured, float(frozen.user_attrs["latency_ms"]))
        if frozen.state == TrialState.WAITING and drawn is not None and drawn["trial_id"] in self.outcomes:
            frozen = self.database.resume(frozen.number)  # recorded, but the study was not told about it
        spent = None
        if frozen.state == TrialState.RUNNING and drawn is None:
            self.database.requeue(frozen.number)
        elif frozen.state != TrialState.WAITING and status != "infeasible":
            if drawn is None:
                raise ValueError("it ended but was never handed out")
            spent = self._recall(frozen, drawn)
        if frozen.state in ENDED and status != "infeasible":
            return max(int(frozen.user_attrs.get("epochs", 0)), 0)
        return spent

    def _recall(self, frozen: FrozenTrial, drawn: Drawn) -> int | None:
        """Restore a trial that was handed out; return its epochs if the study is told about it now."""
        changes = self._changes(frozen)
        spec, its_cost = self._configured(changes)
        trial = Trial(
            drawn["arm"], self.ledger.sweep.dataset, spec, self.ledger.task, drawn["seed"], changes=changes
        )
        is_running = frozen.state == TrialState.RUNNING
        draw = self.ledger.draws.get(trial.trial_id)
        if draw is not None:
            if not is_running:
                return None
            self.teller.repeated(frozen.number, draw)
            return 0
        if is_running and trial.trial_id not in self.outcomes:
            self.database.requeue(frozen.number)
            return None
        costs = self.objectives.costs(spec, its_cost)
        draw = Draw(frozen.number, trial, its_cost, costs, self.objectives.lows(costs))
        self.ledger.add(draw)
        if is_running:
            return self.teller.ended(frozen.number, draw, self.outcomes[trial.trial_id])
        return None

    def _changes(self, frozen: FrozenTrial) -> dict[str, Any]:
        return choose(self.ledger.search.space, self.ledger.base, lambda name, _: frozen.params[name])

    def _configured(self, changes: Mapping[str, Any]) -> tuple[ArmSpec, Cost]:
        return configure(self.ledger.sweep, self.objectives.info, changes)


def _enqueue(database: StudyDatabase, ledger: Ledger) -> None:
    """Queue those configurations of `start_from` that are not in the study yet."""
    search = ledger.search
    known = [frozen.user_attrs.get("start_from") for frozen in database.trials()]
    for number, changes in enumerate(search.start_from):
        mark = content_hash(changes)
        if mark not in known:
            known.append(mark)
            parameters = parameters_of(search.space, ledger.base, changes, f"search.start_from.{number}")
            database.study.enqueue_trial(parameters, user_attrs={"start_from": mark})
