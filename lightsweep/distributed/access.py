"""Who may reach a Ray cluster: tokens for ours, and a look at others before they are attached to.

Whoever reaches a Ray cluster without a token runs any code on it. Ray 2.60's token mode closes it
(https://docs.ray.io/en/latest/ray-security/token-auth.html); no token is ever printed or recorded here.
"""

import ipaddress
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from lightsweep.errors import InputError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
ASKING_SECONDS = 30
OTHERS = 0o077  # rights of a file's group and of everybody


@dataclass(frozen=True)
class Answer:
    """What the head of a cluster says to who asks for its nodes."""

    kind: Literal["yes", "needs a token", "silence"]
    nodes: tuple[str, ...] = ()
    """Addresses of the nodes that are alive."""


# Run in a process of its own, for Ray reads its mode once.
_ASK = """
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


def use_own_token(environment: MutableMapping[str, str]) -> None:
    """Close the cluster that this process is about to start to everybody else.

    Its token is drawn here and lives in the environment of this process and those that it starts; Ray
    itself would write one to ~/.ray, readable by everybody. What the user has set stays.
    """
    if not {MODE, TOKEN, TOKEN_PATH} & environment.keys():
        environment.update({MODE: "token", TOKEN: secrets.token_hex(32)})


def warn_of_readable_token(environment: Mapping[str, str]) -> str | None:
    """Return a warning if others on this machine can read the file of the user's token."""
    path = _token_path(environment)
    try:
        is_readable = bool(path.stat().st_mode & OTHERS)
    except OSError:
        return None
    return f"{path}: others can read this token; chmod 600 {path}" if is_readable else None


def check_access(place: str, environment: Mapping[str, str], insecure: bool) -> Literal["token", "disabled"]:
    """Look whether the cluster at host:port lets in us, and nobody without a token; return its mode.

    Whoever attaches must take the cluster's mode: in another one it refuses the cluster's own calls.

    Args:
        place: Where its head listens.
        environment: Of this process; says which token is used.
        insecure: Attach also to a cluster that lets everybody in.

    Raises:
        InputError: It lets everybody in, and others than this machine can reach it; or it does not let us in;
            or this machine is none of its nodes.

    """
    answer = ask(place, {**environment, MODE: "disabled"})
    if answer.kind == "yes" and not insecure and _is_open_to_others(place, answer.nodes):
        raise InputError(
            f"--address {place}: this cluster lets in whoever reaches it, and runs any code for them; start "
            "it with a token (ray get-auth-token --generate; RAY_AUTH_MODE=token at each ray start), or say "
            "--insecure if its network is yours alone"
        )
    mode: Literal["token", "disabled"] = "disabled"
    if answer.kind == "needs a token":
        mode = "token"
        given = _has_token(environment)
        answer = ask(place, {**environment, MODE: "token"}) if given else answer
        if answer.kind != "yes":
            ours = "the one given here is not its" if given else "none is given here"
            raise InputError(
                f"--address {place}: this cluster wants its authentication token, and {ours}; copy its head’s"
                " ~/.ray/auth_token to ~/.ray/auth_token here (mode 0600), or say with RAY_AUTH_TOKEN_PATH "
                "where it is"
            )
    if answer.nodes and not any(map(_is_of_this_machine, answer.nodes)):
        raise InputError(
            f"--address {place}: this machine is none of the cluster's nodes ({', '.join(answer.nodes[:3])}"
            f"{', …' if len(answer.nodes) > 3 else ''}), and a run is launched on one, best on its head: "
            "ray exec cluster.yaml 'lightsweep run SWEEP --address auto'"
        )
    return mode


def ask(place: str, environment: Mapping[str, str]) -> Answer:
    """Ask the head at host:port for its nodes, with the token of this environment if its mode is token."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK, place],
            env=dict(environment), capture_output=True, text=True, timeout=ASKING_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Answer("silence")
    if done.returncode == 0:
        return Answer("yes", tuple(done.stdout.split()))
    return Answer("needs a token" if done.returncode == 3 else "silence")


def _is_of_this_machine(address: str) -> bool:
    """Whether an IP address is one of this machine's own: only those can be listened on."""
    try:
        with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET):
            return True
    except OSError:
        return False


def _has_token(environment: Mapping[str, str]) -> bool:
    return bool(environment.get(TOKEN)) or _token_path(environment).is_file()


def _token_path(environment: Mapping[str, str]) -> Path:
    given = environment.get(TOKEN_PATH)
    return Path(given) if given else Path(environment.get("HOME", "/")) / ".ray" / "auth_token"


def _is_open_to_others(place: str, nodes: Sequence[str]) -> bool:
    """Whether others than this machine can reach a cluster, by whatever name it is reached here.

    They can if a node of it has an address other than this machine's loopback, or its head listens at one.
    """
    port = int(place.rpartition(":")[2])
    heard_at = [
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
    ]
    return not heard_at or not all(map(_is_loopback, [*nodes, *heard_at]))


def _is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
