"""All of Ray's that has no public name or is set by the environment, in one place; tested with Ray 2.60.0.

Nothing here imports Ray on import: it reads some of these variables then.
"""

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


ASK = """
import sys
from ray._raylet import GcsClient
from ray.core.generated.gcs_pb2 import GcsNodeInfo
from ray.exceptions import AuthenticationError
try:
    for node in GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10).values():
        if node.state == GcsNodeInfo.ALIVE:
            print(node.node_manager_address)
except AuthenticationError:
    sys.exit(3)
except Exception:
    sys.exit(4)
"""
"""Prints the addresses of a cluster's living nodes; status 3: it requires a token, 4: no answer.

Runs in a process of its own, because Ray reads its authentication mode once.
"""


def read_environment_again() -> None:
    """Have Ray's core read the environment again, for instance its authentication mode."""
    from ray._raylet import Config  # type: ignore[attr-defined]

    Config.initialize("")


def head_address(address: str) -> str:
    """Return the host and port of a cluster's head for an address such as `auto`.

    Raises:
        ConnectionError: No cluster runs here.

    """
    from ray._private.services import canonicalize_bootstrap_address_or_die

    return str(canonicalize_bootstrap_address_or_die(address))
