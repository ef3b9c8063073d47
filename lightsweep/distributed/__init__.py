"""Trials on a Ray cluster, and all that knows Ray."""

import os

# Read by Ray when it is imported: no phoning home, no result files, no snapshots, no handler of
# its own, and workers started at once, not one after the other.
os.environ |= {
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
# An answer that is lost while a machine is cut off for less than a minute is else waited for during five.
for _name in ("RAY_grpc_client_keepalive_time_ms", "RAY_grpc_client_keepalive_timeout_ms"):
    os.environ.setdefault(_name, "20000")
