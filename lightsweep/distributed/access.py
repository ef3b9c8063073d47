"""Access to Ray clusters: a token for our own, and a check of other clusters before attaching.

Anyone who can reach a Ray cluster without a token can run any code on it. Ray 2.60's token mode prevents
that (https://docs.ray.io/en/latest/ray-security/token-auth.html). Tokens are never printed or recorded here.
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

from lightsweep.distributed.internals import ASK
from lightsweep.errors import InputError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
ASKING_SECONDS = 30
OTHERS = 0o077  # permission bits of group and others


@dataclass(frozen=True)
class Answer:
    """Reply of a cluster's head to a query for its nodes."""

    kind: Literal["yes", "needs a token", "silence"]
    """Whether the head answered, refused for lack of a valid token, or did not answer."""
    nodes: tuple[str, ...] = ()
    """Addresses of the live nodes."""


def use_own_token(environment: MutableMapping[str, str]) -> None:
    """Protect the cluster that this process is about to start with a new token.

    The token exists only in the environment of this process and its children; Ray itself would write one to
    ~/.ray, readable by everybody. Any setting of the user takes precedence.
    """
    if not {MODE, TOKEN, TOKEN_PATH} & environment.keys():
        environment.update({MODE: "token", TOKEN: secrets.token_hex(32)})


def warn_of_readable_token(environment: Mapping[str, str]) -> str | None:
    """Return a warning if other users of this machine can read the user's token file."""
    path = _token_path(environment)
    try:
        is_readable = bool(path.stat().st_mode & OTHERS)
    except OSError:
        return None
    return f"{path}: others can read this token; chmod 600 {path}" if is_readable else None


def check_access(place: str, environment: Mapping[str, str], insecure: bool) -> Literal["token", "disabled"]:
    """Check that the cluster at host:port admits us, and nobody without a token; return its mode.

    A process that attaches must use the cluster's mode; otherwise it refuses the cluster's own calls.

    Args:
        place: Address of the cluster's head, host:port.
        environment: Environment of this process, which selects the token.
        insecure: Accept a cluster that requires no token.

    Raises:
        InputError: The cluster requires no token and is reachable from other machines; or it does not admit
            us; or this machine is not one of its nodes.

    """
    answer = ask(place, {**environment, MODE: "disabled"})
    if answer.kind == "yes" and not insecure and _is_open_to_others(place, answer.nodes):
        raise InputError(
            f"--address {place}: this cluster requires no token, so anyone who reaches it can run code on "
            "it; start it with a token (ray get-auth-token --generate; RAY_AUTH_MODE=token at each ray "
            "start), or pass --insecure if its network is private"
        )
    mode: Literal["token", "disabled"] = "disabled"
    if answer.kind == "needs a token":
        mode = "token"
        given = _has_token(environment)
        answer = ask(place, {**environment, MODE: "token"}) if given else answer
        if answer.kind != "yes":
            ours = "the one set here is wrong" if given else "none is set here"
            raise InputError(
                f"--address {place}: this cluster requires its authentication token, and {ours}; copy its "
                "head's ~/.ray/auth_token to ~/.ray/auth_token here (mode 0600), or set RAY_AUTH_TOKEN_PATH "
                "to its path"
            )
    if answer.nodes and not any(map(_is_of_this_machine, answer.nodes)):
        raise InputError(
            f"--address {place}: this machine is not one of the cluster's nodes "
            f"({', '.join(answer.nodes[:3])}"
            f"{', …' if len(answer.nodes) > 3 else ''}); launch the run on a node, preferably on its head: "
            "ray exec cluster.yaml 'lightsweep run SWEEP --address auto'"
        )
    return mode


def ask(place: str, environment: Mapping[str, str]) -> Answer:
    """Query the head at host:port for its nodes, using the environment's token if its mode is token."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASK, place],
            env=dict(environment), capture_output=True, text=True, timeout=ASKING_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Answer("silence")
    if done.returncode == 0:
        return Answer("yes", tuple(done.stdout.split()))
    return Answer("needs a token" if done.returncode == 3 else "silence")


def _is_of_this_machine(address: str) -> bool:
    """Return whether an IP address is this machine's own: only on those can a socket listen."""
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
    """Return whether other machines can reach a cluster, whatever name is used for it here.

    They can if any node's address, or an address at which the head listens, is not a loopback address.
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
