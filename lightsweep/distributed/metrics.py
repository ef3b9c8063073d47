"""A sweep's course where Ray's own metrics go: each node's Prometheus endpoint, and so the dashboard."""

from ray.util.metrics import Gauge


class SweepMetrics:
    """Gauges of one run; Ray adds `ray_` to their names."""

    def __init__(self, run: str) -> None:
        """Make the gauges; a Ray cluster is attached."""
        self._run = run
        self._shown: object = None
        self._trials = Gauge("lightsweep_trials", "Trials of a run by what became of them", ("run", "state"))
        self._stages = Gauge("lightsweep_stages", "Stages and assessments of a run", ("run", "origin"))
        self._waited = Gauge(
            "lightsweep_waited_seconds", "What a run's workers waited for one another's stages", ("run",)
        )

    def show(self, trials: dict[str, int], made: int, reused: int, waited_seconds: float) -> None:
        """Set the gauges, unless they stand so already: most reports of trials change none.

        Args:
            trials: Number of the run's trials in each state.
            made: Stages and assessments that were trained.
            reused: Those that were found stored.
            waited_seconds: Sum over the workers.

        """
        now = trials, made, reused, waited_seconds
        if now == self._shown:
            return
        self._shown = now
        for state, count in trials.items():
            self._trials.set(count, {"run": self._run, "state": state})
        for origin, count in (("made", made), ("reused", reused)):
            self._stages.set(count, {"run": self._run, "origin": origin})
        self._waited.set(waited_seconds, {"run": self._run})
