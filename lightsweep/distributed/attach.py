"""Attaching to a Ray cluster, or starting one on this machine, and waiting until it has room for a trial."""

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
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._raylet import Config  # type: ignore[attr-defined]
from ray.autoscaler.sdk import request_resources
from ray.job_config import JobConfig

from lightsweep.distributed.access import MODE, check_access, use_own_token
from lightsweep.distributed.settings import apply_settings
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
    """Attach to a Ray cluster, or start one on this machine that nobody else can use; yield its watch.

    Args:
        address: Of a cluster; None starts one.
        scratch: Folder for temporary files, made if it is not there; a cluster of our own has its there.
        insecure: Attach also to a cluster that lets in everybody who can reach it.

    Raises:
        InputError: There is no cluster at the address, or none that may be used.
        LostError: The cluster was gone before the body had ended.

    """
    apply_settings()
    scratch.mkdir(exist_ok=True)
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # what goes wrong reaches the user as records
    try:
        with warnings.catch_warnings(action="ignore"):
            if address is None:
                use_own_token(os.environ)
                Config.initialize("")  # Ray read its mode when it was imported
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
                Config.initialize("")
                ray.init(
                    address=place, log_to_driver=False, logging_level=logging.CRITICAL, job_config=_Job()
                )
    except InputError:
        raise
    except Exception as error:  # Ray raises bare ones, too
        ray.shutdown()
        name = f"--address {address}: no Ray cluster answers there" if address else "Ray does not start here"
        raise InputError(f"{name} ({type(error).__name__}: {one_line(error, 200)})") from None
    watch = Watch(_listeners())
    try:
        with _ended_like_ctrl_c(), watch.watching(), _silent_core(scratch / "stderr"):
            yield watch
    except BaseException:
        if watch.gone is None:
            raise
        end_descendants()
        raise watch.error() from None
    finally:
        with _unstoppable():  # half shut down, Ray's own threads would end this process without a word
            if watch.gone is None:  # else Ray would wait for it
                ray.shutdown()


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C; Ray's own handler ends the process with a stack trace."""
    with _handled({signal.SIGTERM: signal.default_int_handler}):
        yield


@contextmanager
def _handled(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    """Set handlers of signals for a while; only in the main thread, to which alone Python gives signals."""
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
    """Have what Ray's core in this process writes to standard error go to a file; Python's own stays."""
    before, real = sys.stderr, os.dup(2)
    sys.stderr.flush()
    with log.open("wb") as file, os.fdopen(real, "w", closefd=False) as terminal:
        os.dup2(file.fileno(), 2)
        if _is_standard_error(before):  # in a notebook it is something else
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
    """Has workers import what this process has imported, and nothing of the folder that it was called in."""

    def __init__(self) -> None:
        paths = [] if PACKAGE_FOLDER.name in ("site-packages", "dist-packages") else [str(PACKAGE_FOLDER)]
        super().__init__(_py_driver_sys_path=paths)

    def _runtime_env_has_working_dir(self) -> bool:
        """Say so, for then Ray adds neither the current folder nor the script's to the workers' path."""
        return True


def _listeners() -> dict[str, tuple[str, int]]:
    """Return what must answer as long as a run is attached: the cluster's head, and this node's raylet."""
    context = ray.get_runtime_context()
    head = urlsplit(f"//{context.gcs_address}")
    here = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    return {
        "its head (GCS)": (head.hostname or "", head.port or 0),
        "this node's raylet": (here["NodeManagerAddress"], here["NodeManagerPort"]),
    }


def rooms() -> list[Room]:
    """Return what each living node of the attached cluster has."""
    found = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return [Room(has.get("CPU", 0), has.get("GPU", 0)) for has in found]


def wait_for_room(resources: Resources, say: Callable[[str], None]) -> None:
    """Wait until a node of the attached cluster has what a trial takes.

    An autoscaler is asked for such a node. Ctrl-C ends the waiting.

    Args:
        resources: What one trial takes; of a GPU only where they say that it must be one.
        say: Hears now and then what is waited for.

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
                f"{_in_words(ray.cluster_resources())} (its autoscaler, if any, has been asked)"
            )
        time.sleep(1)
    if said > -math.inf:
        request_resources(bundles=[])  # what is asked for by trials' own demand need not be held


def _in_words(amounts: dict[str, float]) -> str:
    """Write amounts of processors and GPUs, ``"2 CPU and 0.25 GPU"``, or that there are none."""
    known = [f"{amounts[name]:g} {name}" for name in ("CPU", "GPU") if amounts.get(name)]
    return " and ".join(known) or "no CPU and no GPU"


def _find(address: str) -> str:
    """Return where the head of a cluster listens, host:port.

    Raises:
        InputError: It is the address of a Ray client server.
        OSError: Nobody answers there, which Ray itself would try for minutes; or none is running here.

    """
    if address.startswith("ray://"):
        raise InputError(
            f"--address {address}: over Ray's client protocol the stage store would not be beside this "
            "command; run it on the head: ray exec cluster.yaml 'lightsweep run SWEEP --address auto'"
        )
    place = str(canonicalize_bootstrap_address_or_die(address))
    parts = urlsplit(f"//{place}")
    if parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), timeout=10).close()
    return place


@contextmanager
def _unstoppable() -> Iterator[None]:
    """Pass over Ctrl-C and SIGTERM."""
    with _handled({signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_IGN}):
        yield
