"""A sweep's progress in Ray's metrics: on each node's Prometheus endpoint, and so in the dashboard."""

from ray.util.metrics import Gauge

from lightsweep.runs.counts import Counts


class SweepMetrics:
    """Gauges of one run; Ray prefixes their names with `ray_`."""

    def __init__(self, run: str) -> None:
        """Create the gauges; a Ray cluster must be attached."""
        self._run = run
        self._shown: object = None
        self._trials = Gauge("lightsweep_trials", "Trials of a run by state", ("run", "state"))
        self._stages = Gauge("lightsweep_stages", "Stages and assessments of a run", ("run", "origin"))
        self._waited = Gauge(
            "lightsweep_waited_seconds", "Time that workers spent waiting for one another's stages", ("run",)
        )

    def show(self, counts: Counts) -> None:
        """Set the gauges, unless nothing changed, as in most of the trials' reports."""
        trials, made, reused = counts.states, counts.made, counts.reused
        now = trials, made, reused, counts.waited_seconds
        if now == self._shown:
            return
        self._shown = now
        for state, count in trials.items():
            self._trials.set(count, {"run": self._run, "state": state})
        for origin, count in (("made", made), ("reused", reused)):
            self._stages.set(count, {"run": self._run, "origin": origin})
        self._waited.set(counts.waited_seconds, {"run": self._run})
