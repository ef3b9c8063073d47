"""Attach to a Ray cluster or start one on this machine, and wait until it has room for a trial."""

import logging
import math
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.autoscaler.sdk import request_resources
from ray.job_config import JobConfig

from lightsweep.distributed.access import MODE, check_access, use_own_token
from lightsweep.distributed.internals import apply_settings, head_address, read_environment_again
from lightsweep.distributed.watch import Watch
from lightsweep.echo import one_line
from lightsweep.errors import InputError
from lightsweep.runs.placement import Room, first_share
from lightsweep.sweepfile.sweep import Resources
from lightsweep.system.supervise import end_descendants
from lightsweep.trials.sources import PACKAGE_FOLDER

WAITING_SAYS_SECONDS = 30.0


@contextmanager
def cluster(address: str | None, scratch: Path, insecure: bool) -> Iterator[Watch]:
    """Attach to a Ray cluster, or start a private one on this machine; yield its watch.

    Args:
        address: Address of a cluster; None starts one.
        scratch: Folder for temporary files, also those of our own cluster; created if missing.
        insecure: Accept a cluster that requires no token.

    Raises:
        InputError: There is no cluster at the address, or it may not be used.
        LostError: The cluster was lost before the body ended.

    """
    apply_settings()
    scratch.mkdir(exist_ok=True)
    with _handled({signal.SIGTERM: signal.getsignal(signal.SIGTERM)}):  # puts it back; Ray sets its own
        _connect(address, scratch, insecure)
        watch = Watch(_listeners())
        with _handled({signal.SIGTERM: signal.default_int_handler}):  # Ray's ends us with a stack trace
            try:
                with watch.watching(), _silent_core(scratch / "stderr"):
                    yield watch
            except BaseException:
                if watch.gone is None:
                    raise
                end_descendants()
                raise watch.error() from None
            finally:
                # if interrupted here, Ray's threads would end this process silently
                with _handled({signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_IGN}):
                    if watch.gone is None:  # otherwise Ray would wait for it
                        ray.shutdown()


def _connect(address: str | None, scratch: Path, insecure: bool) -> None:
    """Start or attach to the cluster; see `cluster`."""
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # failures reach the user as records
    try:
        with warnings.catch_warnings(action="ignore"):
            if address is None:
                use_own_token(os.environ)
                read_environment_again()  # Ray had read its mode on import
                ray.init(
                    address="local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    job_config=_Job(),
                    _temp_dir=str(scratch),
                )
            else:
                place = _find(address)
                os.environ[MODE] = check_access(place, os.environ, insecure)
                read_environment_again()
                ray.init(
                    address=place, log_to_driver=False, logging_level=logging.CRITICAL, job_config=_Job()
                )
    except InputError:
        raise
    except Exception as error:  # Ray also raises bare exceptions
        ray.shutdown()
        name = f"--address {address}: no Ray cluster answers there" if address else "Ray does not start here"
        raise InputError(f"{name} ({type(error).__name__}: {one_line(error, 200)})") from None


@contextmanager
def _handled(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    """Set signal handlers temporarily; a no-op outside the main thread, which alone receives signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _silent_core(log: Path) -> Iterator[None]:
    """Redirect what Ray's core writes to standard error to a file; keep Python's own output."""
    before, real = sys.stderr, os.dup(2)
    sys.stderr.flush()
    with log.open("wb") as file, os.fdopen(real, "w", closefd=False) as terminal:
        os.dup2(file.fileno(), 2)
        if _is_standard_error(before):  # not so in a notebook
            sys.stderr = terminal
        try:
            yield
        finally:
            terminal.flush()
            os.dup2(real, 2)
            os.close(real)
            sys.stderr = before


def _is_standard_error(stream: object) -> bool:
    try:
        return stream.fileno() == 2  # type: ignore[attr-defined,no-any-return]
    except (AttributeError, OSError, ValueError):
        return False


class _Job(JobConfig):
    """Makes workers import the same lightsweep as this process, and nothing from the current folder."""

    def __init__(self) -> None:
        paths = [] if PACKAGE_FOLDER.name in ("site-packages", "dist-packages") else [str(PACKAGE_FOLDER)]
        super().__init__(_py_driver_sys_path=paths)

    def _runtime_env_has_working_dir(self) -> bool:
        """Return True, so that Ray adds neither the current nor the script's folder to the workers' path."""
        return True


def _listeners() -> dict[str, tuple[str, int]]:
    """Return the addresses that must respond while a run is attached: the head and this node's raylet."""
    context = ray.get_runtime_context()
    head = urlsplit(f"//{context.gcs_address}")
    here = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    return {
        "its head (GCS)": (head.hostname or "", head.port or 0),
        "this node's raylet": (here["NodeManagerAddress"], here["NodeManagerPort"]),
    }


def rooms() -> list[Room]:
    """Return the CPUs and GPUs of each live node of the attached cluster."""
    found = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return [Room(has.get("CPU", 0), has.get("GPU", 0)) for has in found]


def wait_for_room(resources: Resources, say: Callable[[str], None]) -> None:
    """Wait until a node of the attached cluster has the resources of one trial.

    Requests such a node from the autoscaler. Ctrl-C ends the wait.

    Args:
        resources: Resources of one trial; a GPU counts only if the device must be one.
        say: Called now and then with a line that says what is missing.

    """
    gpu = {"GPU": first_share(resources)} if resources.device == "gpu" else {}
    takes = {"CPU": float(resources.cpus)} | gpu
    said = -math.inf
    while not any(room.cpus >= resources.cpus and room.gpus >= takes.get("GPU", 0) for room in rooms()):
        if said == -math.inf:
            request_resources(bundles=[{name: math.ceil(amount) for name, amount in takes.items()}])
        if time.monotonic() - said >= WAITING_SAYS_SECONDS:
            said = time.monotonic()
            say(
                f"waiting for a node with {_in_words(takes)}, which one trial takes; the cluster has "
                f"{_in_words(ray.cluster_resources())} (requested from its autoscaler, if any)"
            )
        time.sleep(1)
    if said > -math.inf:
        request_resources(bundles=[])  # from here on, the trials' own demand keeps the node


def _in_words(amounts: dict[str, float]) -> str:
    """Return amounts of CPUs and GPUs in words, such as "2 CPU and 0.25 GPU"."""
    known = [f"{amounts[name]:g} {name}" for name in ("CPU", "GPU") if amounts.get(name)]
    return " and ".join(known) or "no CPU and no GPU"


def _find(address: str) -> str:
    """Return the address of a cluster's head, host:port.

    Raises:
        InputError: The address is that of a Ray client server.
        OSError: Nothing listens there (Ray itself would retry for minutes), or no cluster runs here.

    """
    if address.startswith("ray://"):
        raise InputError(
            f"--address {address}: Ray's client protocol is not supported, since the stage store must be "
            "beside this command; run it on the head: ray exec cluster.yaml 'lightsweep run SWEEP --address "
            "auto'"
        )
    place = head_address(address)
    parts = urlsplit(f"//{place}")
    if parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), timeout=10).close()
    return place
