"""A sweep's course where Ray's own metrics go: each node's Prometheus endpoint, and so the dashboard."""

from ray.util.metrics import Gauge

from lightsweep.runs.counts import Counts


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

    def show(self, counts: Counts) -> None:
        """Set the gauges, unless they have these values already: most reports of trials change none."""
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
