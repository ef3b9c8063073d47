"""Environment variables that configure Ray; set when a run begins, not on import."""

import os

# No usage statistics, no result files, no snapshots, no signal handler of its own; start workers in parallel.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "100",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}
# Otherwise, after a network outage of under a minute, Ray waits five minutes for a lost answer.
_DEFAULTS = {
    "RAY_grpc_client_keepalive_time_ms": "20000",
    "RAY_grpc_client_keepalive_timeout_ms": "20000",
}


def apply_settings() -> None:
    """Set the variables; call this before importing Ray, which reads some of them on import."""
    os.environ |= _SETTINGS
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
