"""A search: an Optuna study that is asked for trials and told what became of them.

The study is a real database, SQLite in the run folder or PostgreSQL, with one writer, the launching process.
It is kept such that a killed search goes on: a trial is journalled before the study is told, what was under
way is asked again first, and every draw has a stream of its own, derived from (seed, number).
"""

import platform
import random
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field, TypeAdapter
from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import TypedDict

from lightsweep.data.imagedata import DatasetInfo
from lightsweep.echo import one_line
from lightsweep.errors import InputError, WriteError
from lightsweep.files import open_plain
from lightsweep.hashing import content_hash
from lightsweep.nets.blocks import compressed
from lightsweep.nets.cost import Cost, cost, latency_ms
from lightsweep.plan.arms import apply_changes
from lightsweep.plan.plan import Plan
from lightsweep.search.space import Suggest, choose, parameters_of
from lightsweep.seeding import derive
from lightsweep.sweepfile.arm import ArmSpec
from lightsweep.sweepfile.search import ACCURACY, Search
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.training.outcome import Outcome
from lightsweep.trials.stages import stage_table
from lightsweep.trials.trial import Trial

STUDY_FILE = "study.db"
MOST_IN_VAIN = 500  # draws in a row that cannot be trained, before the search gives up
SURVEYED = 200

optuna.logging.set_verbosity(optuna.logging.ERROR)  # what goes wrong reaches the user as records


@dataclass(frozen=True)
class Draw:
    """A configuration to train."""

    number: int
    """Of the Optuna trial."""
    trial: Trial
    cost: Cost
    costs: dict[str, float]
    """Of the objectives and limits, by name."""
    lows: tuple[float, ...]
    """Of the objectives but accuracy, turned such that low is good."""


@dataclass(frozen=True)
class Survey:
    """What a space holds, from so many random draws."""

    draws: int
    feasible: int
    reasons: dict[str, int]
    """Why others cannot be trained, and how many."""
    parameters: tuple[int, ...]
    """Of the feasible draws, ascending."""
    start: tuple[tuple[dict[str, Any], Cost], ...]
    """Changes and cost of each configuration to start from."""


class Study:
    """The study of one sweep's search, and its trials of this and earlier runs."""

    def __init__(
        self,
        planned: Plan,
        folder: Path,
        outcomes: Mapping[str, Outcome],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the study, or begin it, and mend what a killed run left.

        Args:
            planned: The sweep's plan.
            folder: The run's folder.
            outcomes: What became of trials that have a record, by trial id.
            clock: Tells seconds, from any moment on; for a budget in minutes.

        Raises:
            InputError: The database cannot be used, or the study there is of another search.

        """
        self.sweep, self.search = planned.sweep, _search_of(planned.sweep)
        self.dataset, self.info = planned.sweep.dataset, planned.infos[planned.sweep.dataset]
        self.base = planned.sweep.base.model_dump(mode="json")
        self.at_once = 1
        """Trials that may be under way at a time."""
        self.draws: dict[str, Draw] = {}
        """All that were ever trained, by trial id, in the order in which they were drawn."""
        self._names: dict[str, Draw] = {}
        """The first draw of each configuration, by its settings' hash."""
        self._seeds: dict[str, set[int]] = {}
        """Those that each configuration was drawn with."""
        self._latencies: dict[str, float] = {}
        """Milliseconds by net: measured once in a study, so that a limit is kept as it was met."""
        self._under_way: dict[str, list[int]] = {}
        self._told = _Tally()
        self._clock = clock
        self._began = clock()
        self._study = _open(self.sweep, self.search, folder)
        with _database(self.sweep):
            self._take_over(outcomes)
            self._enqueue()

    # asking

    def ask(self) -> Draw | Literal["wait"] | None:
        """Return what to train next, "wait" while nothing is free or known, or None at the search's end.

        Raises:
            InputError: So many draws in a row could not be trained that the space must hold too little.

        """
        for _ in range(MOST_IN_VAIN):
            if self._is_enough() or len(self._under_way) >= self.at_once:
                return "wait" if self._under_way else None
            with _database(self.sweep):
                draw = self._draw()
            if draw is not None:
                return draw
        reasons = [trial.user_attrs.get("reason") for trial in self._study.get_trials(deepcopy=False)[-1:]]
        raise InputError(
            f"search: {MOST_IN_VAIN} draws in a row could not be trained (the last one: "
            f"{reasons[0] or 'a repetition'}); widen search.limits or narrow search.space"
        )

    def share_done(self) -> float:
        """Return how much of the search is over, 0 to 1."""
        budget = self.search.budget
        if budget is None:
            assert self.search.trials is not None  # the spec was validated
            return min(1.0, self._told.trials / self.search.trials)
        if budget.epochs is not None:
            return min(1.0, self._told.epochs / budget.epochs)
        assert budget.minutes is not None
        return min(1.0, self._minutes() / budget.minutes)

    def _is_enough(self) -> bool:
        """Whether the study was told enough, or will be when all under way has ended."""
        budget, running = self.search.budget, self._under_way
        if budget is None:
            assert self.search.trials is not None
            return self._told.trials + sum(map(len, running.values())) >= self.search.trials
        if budget.epochs is not None:
            expected = sum(stage.epochs for one in running for stage in self.draws[one].trial.stages)
            return self._told.epochs + expected >= budget.epochs
        assert budget.minutes is not None
        return self._minutes() >= budget.minutes

    def _minutes(self) -> float:
        return (self._told.seconds + self._clock() - self._began) / 60

    @contextmanager
    def time_out(self) -> Iterator[None]:
        """Do what is no part of the search, such as waiting for a cluster: a budget of minutes stands."""
        self._count_seconds()
        try:
            yield
        finally:
            self._began = self._clock()

    def _count_seconds(self) -> None:
        """Add the time since the last count to what the search has taken."""
        now = self._clock()
        self._told.seconds, self._began = self._told.seconds + now - self._began, now

    def _draw(self) -> Draw | None:
        """Ask the study once; None for what is not to be trained, of which it is told at once."""
        count = len(self._study.get_trials(deepcopy=False, states=(*_ENDED, TrialState.RUNNING)))
        self._study.sampler = _Sampler(self.search, count)
        asked = self._study.ask()
        made = self._make(asked)
        if made is None:
            return None
        arm, trial, its_cost, costs = made
        if "latency_ms" in costs:
            asked.set_user_attr("latency_ms", costs["latency_ms"])
        # one transaction: a trial without it was never handed out
        asked.set_user_attr(DRAWN, {"trial_id": trial.trial_id, "arm": arm, "seed": trial.seed})
        known = self.draws.get(trial.trial_id)
        if known is None:
            draw = Draw(asked.number, trial, its_cost, costs, self._lows(costs))
            self._take(draw)
            self._under_way[trial.trial_id] = [asked.number]
            return draw
        if trial.trial_id in self._under_way:
            self._under_way[trial.trial_id].append(asked.number)
        else:
            self._repeat(asked.number, known)
        return None

    def _make(self, asked: optuna.Trial) -> tuple[str, Trial, Cost, dict[str, float]] | None:
        changes = choose(self.search.space, self.base, _suggest_from(asked))
        try:
            spec, its_cost = configure(self.sweep, self.info, changes)
            costs = self._costs(spec, its_cost, asked.user_attrs.get("latency_ms"))
            over = self._excess(costs)
            reason = ", ".join(f"{key} = {costs[key]:g}" for key, excess in over.items() if excess > 0)
        except InputError as error:
            reason, costs = str(error), {}
        if reason:
            self._tell_infeasible(asked, reason, costs)
            return None
        name, settings = f"net {asked.number}", Trial("", self.dataset, spec, 0).spec_hash
        seed = self._seed(asked, settings)
        if settings in self._names:
            first = self._names[settings].trial
            name, spec, changes = first.arm, first.spec, first.changes
        return name, Trial(name, self.dataset, spec, seed, changes=changes), its_cost, costs

    def _take(self, draw: Draw) -> None:
        """Count a draw to those that were ever trained."""
        self.draws[draw.trial.trial_id] = draw
        settings = draw.trial.spec_hash
        self._names.setdefault(settings, draw)
        self._seeds.setdefault(settings, set()).add(draw.trial.seed)

    def _seed(self, asked: optuna.Trial, settings: str) -> int:
        """Return the seed to train with: the search's; for a repetition the next one if it is to be new."""
        drawn = _drawn_as(asked.user_attrs)
        if drawn is not None:  # it was under way when the search was killed
            return drawn["seed"]
        if self.search.repeats == "reuse":
            return self.search.seed
        taken, seed = self._seeds.get(settings, set()), self.search.seed
        while seed in taken or seed in self.sweep.seed_list:
            seed += 1
        return seed

    def _costs(self, spec: ArmSpec, its_cost: Cost, latency: float | None = None) -> dict[str, float]:
        """Return the costs of the objectives and limits; `latency` is what an earlier run measured."""
        wanted = {*self.search.objectives, *self.search.limits} - {ACCURACY}
        costs = {str(key): float(value) for key, value in asdict(its_cost).items() if key in wanted}
        if "latency_ms" in wanted:
            model = compressed(spec.model, spec.compression)
            key = content_hash(model.model_dump(mode="json"))
            if key not in self._latencies:
                self._latencies[key] = latency or latency_ms(model, _shape(self.info), len(self.info.classes))
            costs["latency_ms"] = self._latencies[key]
        return costs

    def _excess(self, costs: Mapping[str, float]) -> dict[str, float]:
        """Return by what share each limited cost exceeds its limit, below 0 if it does not; 1 if unknown."""
        limits = {str(key): limit for key, limit in self.search.limits.items() if key != ACCURACY}
        return {key: costs[key] / limit - 1 if key in costs else 1.0 for key, limit in limits.items()}

    def _lows(self, costs: Mapping[str, float]) -> tuple[float, ...]:
        signs = {key: 1.0 if way == "minimise" else -1.0 for key, way in self.search.objectives.items()}
        return tuple(sign * costs[key] for key, sign in signs.items() if key != ACCURACY)

    # telling

    def tell(self, trial_id: str, outcome: Outcome) -> None:
        """Tell the study what became of a trial, and of those that were the same."""
        with _database(self.sweep):
            first, *same = self._under_way.pop(trial_id)
            self._tell(first, self.draws[trial_id], outcome)
            for number in same:
                self._repeat(number, self.draws[trial_id])
            self._count_seconds()
            self._study.set_user_attr("seconds", self._told.seconds)

    def _tell(self, number: int, draw: Draw, outcome: Outcome) -> None:
        epochs = outcome.epochs_behind
        self._annotate(number, status=outcome.status, epochs=epochs, reason=outcome.error)
        accuracy = outcome.accuracies.get(ACCURACY)
        stopping, missed = self.search.early_stopping, 0.0
        if outcome.status == "early_stopped" and stopping and stopping.tell != "failed":
            accuracy = max(epoch[ACCURACY] for epoch in outcome.epochs)
            if stopping.tell == "infeasible":
                missed = 1 - epochs / sum(stage.epochs for stage in draw.trial.stages)
        if accuracy is None:
            self._finish(number, None)
        else:
            self._constrain(number, draw.costs, accuracy=accuracy, missed=missed)
            self._finish(number, self._values(draw.costs, accuracy))
        self._told.trials += 1
        self._told.epochs += epochs

    def _constrain(
        self,
        number: int,
        costs: Mapping[str, float],
        accuracy: float | None,
        missed: float,
        impossible: float = 0.0,
    ) -> None:
        """Set a trial's constraints, above 0 where it breaks one: all of them, as a Gaussian process needs.

        As `optuna.Trial.set_constraint` does it, which has no way to a trial that an earlier run asked.
        """
        constraints = {**self._excess(costs), "possible": impossible}
        if ACCURACY in self.search.limits:
            constraints[ACCURACY] = 0.0 if accuracy is None else self.search.limits[ACCURACY] - accuracy
        if self.search.early_stopping:
            constraints["epochs"] = missed
        self._set_constraints(number, constraints)

    def _set_constraints(self, number: int, constraints: Mapping[str, float]) -> None:
        trial_id = self._id(number)
        for key, excess in constraints.items():
            self._study._storage.set_trial_system_attr(trial_id, f"constraints:{key}", excess)

    def _repeat(self, number: int, draw: Draw) -> None:
        """Tell a repetition what the study was told of the first one."""
        first = self._study._storage.get_trial(self._id(draw.number))
        self._annotate(number, status="repeated", epochs=0, reason=f"as trial {draw.number}")
        self._set_constraints(number, first.constraints)
        self._finish(number, first.values)
        self._told.trials += 1

    def _tell_infeasible(self, asked: optuna.Trial, reason: str, costs: Mapping[str, float]) -> None:
        """Tell of what cannot be trained; samplers go by its constraints, the values are the worst so far."""
        latency = costs.get("latency_ms")
        self._annotate(asked.number, latency_ms=latency, status="infeasible", epochs=0, reason=reason)
        self._constrain(asked.number, costs, accuracy=None, missed=0.0, impossible=0.0 if costs else 1.0)
        known = [t.values for t in self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
        worst = [
            (min if direction == "maximise" else max)((values[place] for values in known), default=0.0)
            for place, direction in enumerate(self.search.objectives.values())
        ]
        values = [costs.get(key, bad) for key, bad in zip(self.search.objectives, worst, strict=True)]
        self._finish(asked.number, values)

    def _values(self, costs: Mapping[str, float], accuracy: float) -> list[float]:
        return [accuracy if key == ACCURACY else costs[key] for key in self.search.objectives]

    def _annotate(self, number: int, **attributes: Any) -> None:
        storage, trial_id = self._study._storage, self._id(number)
        for key, value in attributes.items():
            if value is not None:
                storage.set_trial_user_attr(trial_id, key, value)

    def _finish(self, number: int, values: Sequence[float] | None) -> None:
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        self._study.tell(number, values, state)

    def _id(self, number: int) -> int:
        """Return a trial's number in the database, which may hold several studies."""
        return self._study._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)

    # beginning, going on, ending

    def _take_over(self, outcomes: Mapping[str, Outcome]) -> None:
        """Take over the study's trials: tell it of those that have a record, ask again what has none."""
        self._told.seconds = max(float(self._study.user_attrs.get("seconds", 0.0)), 0.0)
        for frozen in self._study.get_trials(deepcopy=False):
            try:
                self._take_over_one(frozen, outcomes)
            except (InputError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
                why = str(error) if isinstance(error, InputError) else repr(error)
                raise InputError(
                    f"{_where(self.sweep)}: its trial {frozen.number} is none of this search ({why}); give "
                    "this search another name, or remove the folder"
                ) from None

    def _take_over_one(self, frozen: FrozenTrial, outcomes: Mapping[str, Outcome]) -> None:
        status, drawn = frozen.user_attrs.get("status"), _drawn_as(frozen.user_attrs)
        if "latency_ms" in frozen.user_attrs:
            self._costs(*self._configured(frozen), float(frozen.user_attrs["latency_ms"]))
        if frozen.state == TrialState.WAITING and drawn is not None and drawn["trial_id"] in outcomes:
            # recorded, then interrupted before the study was told
            self._study._storage.set_trial_state_values(frozen._trial_id, TrialState.RUNNING)
            frozen = self._study._storage.get_trial(frozen._trial_id)
        if frozen.state == TrialState.RUNNING and drawn is None:
            self._requeue(frozen)
        elif frozen.state != TrialState.WAITING and status != "infeasible":
            if drawn is None:
                raise ValueError("it ended and was never handed out")
            self._recall(frozen, drawn, outcomes)
        if frozen.state in _ENDED and status != "infeasible":
            self._told.trials += 1
            self._told.epochs += max(int(frozen.user_attrs.get("epochs", 0)), 0)

    def _recall(self, frozen: FrozenTrial, drawn: "Drawn", outcomes: Mapping[str, Outcome]) -> None:
        """Take over a trial that was once handed out."""
        spec, its_cost = self._configured(frozen)
        changes = self._changes_of(frozen)
        trial = Trial(drawn["arm"], self.dataset, spec, drawn["seed"], changes=changes)
        draw = self.draws.get(trial.trial_id)
        if draw is None:
            costs = self._costs(spec, its_cost)
            draw = Draw(frozen.number, trial, its_cost, costs, self._lows(costs))
            if frozen.state == TrialState.RUNNING and trial.trial_id not in outcomes:
                self._requeue(frozen)
                return
            self._take(draw)
            if frozen.state == TrialState.RUNNING:
                self._tell(frozen.number, draw, outcomes[trial.trial_id])
        elif frozen.state == TrialState.RUNNING:
            self._repeat(frozen.number, draw)

    def _changes_of(self, frozen: FrozenTrial) -> dict[str, Any]:
        return choose(self.search.space, self.base, lambda name, _: frozen.params[name])

    def _configured(self, frozen: FrozenTrial) -> tuple[ArmSpec, Cost]:
        return configure(self.sweep, self.info, self._changes_of(frozen))

    def _requeue(self, frozen: FrozenTrial) -> None:
        """Have a trial asked again, with the parameters that it has."""
        self._study._storage.set_trial_state_values(frozen._trial_id, TrialState.WAITING)

    def _enqueue(self) -> None:
        """Queue the configurations to start from that the study does not know yet."""
        known = [frozen.user_attrs.get("start_from") for frozen in self._study.get_trials(deepcopy=False)]
        for number, changes in enumerate(self.search.start_from):
            mark = content_hash(changes)
            if mark not in known:
                known.append(mark)
                place = f"search.start_from.{number}"
                parameters = parameters_of(self.search.space, self.base, changes, place)
                self._study.enqueue_trial(parameters, user_attrs={"start_from": mark})

    def leave(self, folder: Path) -> None:
        """End this run's work: what is under way waits for the next run, and a copy stands in the folder."""
        with _database(self.sweep):
            for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                self._requeue(frozen)
            self._under_way.clear()
            if self.search.storage is not None:
                _copy(self._study, folder / STUDY_FILE)

    def to_confirm(self, accuracies: Mapping[str, float]) -> list[Draw]:
        """Return the completed draws that are on the front or within the margin of it, in their order.

        Of more than `at_most` those nearest the front; of a front of more, as many of all its accuracies.

        Args:
            accuracies: Validation accuracy of each completed trial of the search, by trial id.

        """
        confirmation = self.search.confirmation
        if confirmation is None:
            return []
        best: dict[str, Draw] = {}
        floor = self.search.limits.get(ACCURACY, 0.0)
        for trial_id, draw in self.draws.items():  # of an arm's seeds the first stands for it
            if accuracies.get(trial_id, -1.0) >= floor:
                best.setdefault(draw.trial.arm, draw)
        draws = list(best.values())
        if not draws:
            return []
        points = np.array([(-accuracies[draw.trial.trial_id], *draw.lows) for draw in draws])
        misses = [_miss(points, index) for index in range(len(draws))]
        ranked = sorted(range(len(draws)), key=lambda index: (misses[index], points[index, 0]))
        front = [index for index in ranked if misses[index] <= 0]
        if len(front) > confirmation.at_most:
            last, most = len(front) - 1, confirmation.at_most
            chosen = [front[round(place * last / max(most - 1, 1))] for place in range(most)]
        else:
            near = [index for index in ranked if misses[index] <= confirmation.margin]
            chosen = near[: confirmation.at_most]
        return [draws[index] for index in sorted(chosen)]


DRAWN = "drawn"


class Drawn(TypedDict):
    """What was handed out for a trial of the study: its one attribute that counts, `DRAWN`."""

    trial_id: str
    arm: str
    seed: Annotated[int, Field(ge=0, lt=2**63)]


_DRAWN = TypeAdapter(Drawn)


def _drawn_as(attributes: Mapping[str, Any]) -> Drawn | None:
    """Return what was handed out for a trial with these attributes; None if it never was.

    Studies of older versions have an attribute for each.

    Raises:
        ValueError: They are none that a search writes.

    """
    older = {key: attributes[key] for key in ("trial_id", "arm", "seed") if key in attributes}
    found = attributes.get(DRAWN, older if len(older) == 3 else None)
    return None if found is None else _DRAWN.validate_python(found)


_ENDED = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)


@dataclass
class _Tally:
    """What the study was told: trials but those that could not be trained, their epochs; seconds so far."""

    trials: int = 0
    epochs: int = 0
    seconds: float = 0.0


def _miss(points: np.ndarray, index: int) -> float:
    """Return how much less the first column of a row must be for it to be non-dominated in points [n, m]."""
    no_worse = (points[:, 1:] <= points[index, 1:]).all(axis=1)
    return float(points[index, 0] - points[no_worse, 0].min())


def configure(sweep: Sweep, info: DatasetInfo, changes: Mapping[str, Any]) -> tuple[ArmSpec, Cost]:
    """Return base with a draw's changes, and its cost.

    Raises:
        InputError: Its settings do not go together, or the net does not fit the images.

    """
    _, spec = apply_changes(sweep, dict(changes), "search.space")
    stage_table(spec)
    return spec, cost(spec.model, _shape(info), len(info.classes), spec.compression)


def survey(planned: Plan) -> Survey:
    """Draw from a search's space at random, without training, to check it and to say what it holds.

    Raises:
        InputError: A key is none of base's, a configuration to start from is not in the space or cannot be
            trained, or no draw can be trained.

    """
    sweep, search = planned.sweep, _search_of(planned.sweep)
    info = planned.infos[sweep.dataset]
    base = sweep.base.model_dump(mode="json")
    for key in search.space:
        if key.split(".")[0] == "dataset":
            raise InputError(f"search.space.{key}: a search is on one data set; drop this key")
    stream = random.Random(derive(search.seed, "survey"))
    reasons: dict[str, int] = {}
    sizes: list[int] = []
    for _ in range(SURVEYED):
        changes = choose(search.space, base, lambda _, distribution: _random_value(stream, distribution))
        try:
            its_cost = configure(sweep, info, changes)[1]
        except InputError as error:
            if "no such key below base" in str(error) or "unknown key" in str(error):
                raise
            text = re.sub(r" = (\[[^]]*\]|[^:]*)(?=:)", "", str(error))  # the rule, whatever the value
            reasons[text] = reasons.get(text, 0) + 1
            continue
        over = [key for key, limit in search.limits.items() if getattr(its_cost, key, 0) > limit]
        if over:
            text = f"above the limit of {over[0]}"
            reasons[text] = reasons.get(text, 0) + 1
        else:
            sizes.append(its_cost.parameters)
    if not sizes:
        most = max(reasons, key=lambda reason: reasons[reason])
        raise InputError(f"search.space: none of {SURVEYED} random draws can be trained; most often: {most}")
    start = []
    for number, changes in enumerate(search.start_from):
        place = f"search.start_from.{number}"
        parameters_of(search.space, base, changes, place)
        try:
            start.append((changes, configure(sweep, info, changes)[1]))
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
    return Survey(SURVEYED, len(sizes), reasons, tuple(sorted(sizes)), tuple(start))


def _suggest_from(asked: optuna.Trial) -> Suggest:
    def suggest(name: str, distribution: BaseDistribution) -> Any:
        if isinstance(distribution, CategoricalDistribution):
            return asked.suggest_categorical(name, distribution.choices)
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        ask: Any = asked.suggest_int if isinstance(distribution, IntDistribution) else asked.suggest_float
        return ask(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)

    return suggest


def _random_value(stream: random.Random, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return stream.choice(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = distribution.low, distribution.high
    if distribution.log:
        value = low * (high / low) ** stream.random()
        return round(value) if isinstance(distribution, IntDistribution) else value
    if distribution.step:
        return low + distribution.step * stream.randint(0, int((high - low) / distribution.step + 1e-9))
    return stream.uniform(low, high)


def _shape(info: DatasetInfo) -> tuple[int, int, int]:
    return info.channels, info.height, info.width


def _search_of(sweep: Sweep) -> Search:
    assert sweep.search is not None
    return sweep.search


class _Sampler(optuna.samplers.BaseSampler):
    """The sampler for one draw, with a stream of its own: a search that goes on repeats no draws.

    What it draws parameter by parameter has a stream for each: where a search was killed between two of
    them, the others are drawn as they would have been.
    """

    def __init__(self, search: Search, number: int) -> None:
        self.search, self.number = search, number
        self.whole = _sampler(search, derive(search.seed, "sampler", number) % 2**32)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self.whole.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.whole.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        stream = derive(self.search.seed, "sampler", self.number, param_name) % 2**32
        one = _sampler(self.search, stream)
        return one.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.whole.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self.whole.after_trial(study, trial, state, values)


def _sampler(search: Search, stream: int) -> optuna.samplers.BaseSampler:
    """Return Optuna's sampler with a stream.

    Quasi-random points are a sequence, whose place the study keeps: its seed stays.
    """
    with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
        match search.sampler:
            case "tpe":
                return optuna.samplers.TPESampler(seed=stream)
            case "nsga2":
                return optuna.samplers.NSGAIISampler(population_size=20, seed=stream)
            case "gp":
                independent = optuna.samplers.RandomSampler(seed=stream)
                return optuna.samplers.GPSampler(seed=stream, independent_sampler=independent)
            case "qmc":
                return optuna.samplers.QMCSampler(
                    scramble=True,
                    seed=search.seed,
                    independent_sampler=optuna.samplers.RandomSampler(seed=stream),
                    warn_asynchronous_seeding=False,
                    warn_independent_sampling=False,
                )
            case "random":
                return optuna.samplers.RandomSampler(seed=stream)


def _open(sweep: Sweep, search: Search, folder: Path) -> optuna.Study:
    """Open or create the study, and refuse one of another search."""
    content = content_hash(
        {
            "dataset": sweep.dataset.model_dump(mode="json"),
            "base": sweep.base.model_dump(mode="json"),
            **search.model_dump(mode="json", include={"space", "objectives", "limits", "seed"}),
        }
    )
    where = f"{platform.node()}:{folder.absolute()}"
    directions = [
        StudyDirection.MINIMIZE if way == "minimise" else StudyDirection.MAXIMIZE
        for way in search.objectives.values()
    ]
    with _database(sweep):
        study = optuna.create_study(
            study_name=sweep.name,
            storage=_storage(search, folder),
            load_if_exists=True,
            directions=directions,
        )
        study.set_metric_names(list(search.objectives))
        before = study.user_attrs.get("search")
        if before is None:
            study.set_user_attr("search", content)
            study.set_user_attr("run_folder", where)
        elif search.storage is not None and study.user_attrs.get("run_folder") != where:
            raise InputError(
                f"search.storage = {search.storage}: has a study {sweep.name} already, of "
                f"{study.user_attrs.get('run_folder')}; give this sweep another name"
            )
        elif before != content:
            raise InputError(
                f"{folder}: its study is of another search (data, base, space, objectives, limits or seed "
                "differ); give this one another name, or remove the folder"
            )
    return study


def _storage(search: Search, folder: Path) -> optuna.storages.RDBStorage:
    if search.storage is None:
        path = (folder / STUDY_FILE).absolute()
        with suppress(FileNotFoundError):
            open_plain(path).close()
        return optuna.storages.RDBStorage(f"sqlite:///{path}")
    url = search.storage.replace("postgresql://", "postgresql+psycopg://", 1)
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except ImportError:
        raise InputError(
            "search.storage: PostgreSQL needs psycopg; pip install 'lightsweep[postgresql]'"
        ) from None


@contextmanager
def _database(sweep: Sweep):  # type: ignore[no-untyped-def]
    """Say in one line what a database refuses."""
    try:
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            yield
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        cause = one_line(error.__cause__ or error, 200)
        raise WriteError(f"{_where(sweep)}: the study's database cannot be used ({cause})") from None


def _where(sweep: Sweep) -> str:
    storage = _search_of(sweep).storage
    return f"search.storage = {storage}" if storage else STUDY_FILE


def copy_study(sweep: Sweep, folder: Path, path: Path) -> None:
    """Write a sweep's study, wherever it is, as an SQLite file.

    Raises:
        InputError: The database cannot be used.

    """
    with _database(sweep):
        study = optuna.load_study(study_name=sweep.name, storage=_storage(_search_of(sweep), folder))
        _copy(study, path)


def _copy(study: optuna.Study, path: Path) -> None:
    """Write a study as an SQLite file, whole or not at all."""
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    optuna.copy_study(
        from_study_name=study.study_name,
        from_storage=study._storage,
        to_storage=f"sqlite:///{draft.absolute()}",
    )
    draft.replace(path)
