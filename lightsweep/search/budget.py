"""The budget of a search and how much of it is spent, in trials, epochs or minutes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightsweep.sweepfile.search import Search


class Budget:
    """Counts what a search has spent of its budget.

    Trials count when they end. Repetitions count; trials that cannot be trained do not.
    """

    def __init__(self, search: Search, clock: Callable[[], float], seconds: float = 0.0) -> None:
        """Start counting.

        Args:
            search: The search, with its budget.
            clock: Returns seconds since any fixed moment.
            seconds: Time spent by earlier runs.

        """
        self.search = search
        self.trials = self.epochs = 0
        self.seconds = seconds
        self._clock = clock
        self._began = clock()

    def spend(self, epochs: int) -> None:
        """Count one ended trial and its epochs."""
        self.trials += 1
        self.epochs += epochs

    def share_done(self) -> float:
        """Return the fraction of the budget that is spent, from 0 to 1."""
        budget = self.search.budget
        if budget is None:
            assert self.search.trials is not None  # ensured by validation
            return min(1.0, self.trials / self.search.trials)
        if budget.epochs is not None:
            return min(1.0, self.epochs / budget.epochs)
        assert budget.minutes is not None
        return min(1.0, self._minutes() / budget.minutes)

    def is_spent(self, running_trials: int, running_epochs: int) -> bool:
        """Return whether the budget is spent, or will be once the running trials end."""
        budget = self.search.budget
        if budget is None:
            assert self.search.trials is not None
            return self.trials + running_trials >= self.search.trials
        if budget.epochs is not None:
            return self.epochs + running_epochs >= budget.epochs
        assert budget.minutes is not None
        return self._minutes() >= budget.minutes

    def count_seconds(self) -> None:
        """Add the time since the last count."""
        now = self._clock()
        self.seconds, self._began = self.seconds + now - self._began, now

    @contextmanager
    def time_out(self) -> Iterator[None]:
        """Stop the clock, for instance while waiting for a cluster."""
        self.count_seconds()
        try:
            yield
        finally:
            self._began = self._clock()

    def _minutes(self) -> float:
        return (self.seconds + self._clock() - self._began) / 60
