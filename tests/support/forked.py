"""The command line in child processes that are there at once, and that can be killed at any one write.

A child is forked from a process that has imported everything, so that it takes 20 ms in place of the four
seconds of a new interpreter. It trains in itself, by `plain_cluster.ThisProcess`, unless it is to use Ray.
Where the places of a run are, its own writes say: every file that is opened for writing, renamed or removed,
and every statement that changes a database or commits.
"""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from gates import attempt_through
from plain_cluster import ThisProcess
from waiting import HANGS_SECONDS, wait_until

INTERRUPTED = 130

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        *(
            "lightsweep.cli.main",
            "lightsweep.runs.run",
            "lightsweep.search.study",
            "lightsweep.search.halving",
        ),
        *(
            "lightsweep.cli.views.plan",
            "lightsweep.cli.views.search",
            "lightsweep.store.keeping",
            "lightsweep.deliver.verify",
        ),
        *("analysis.page.report", "analysis.ablation.result", "sqlalchemy.dialects.sqlite", "torch._dynamo"),
        *("sklearn.datasets", "sklearn.model_selection", "pyarrow.parquet", "plotly.graph_objects"),
        *("alembic.command", "alembic.context", "pygments.lexers.data", "rich.progress"),
    ]
)

_WRITING = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
_CHANGES = re.compile(r"\s*(INSERT|UPDATE|DELETE|CREATE)", re.IGNORECASE)


@dataclass
class Child:
    """A process that runs the command line."""

    process: BaseProcess
    output: Path

    def send(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end, and return what it said."""
        self.process.join(HANGS_SECONDS)
        status = self.process.exitcode
        if status is None:
            self.process.kill()
        said = [self.output.with_suffix(suffix).read_text() for suffix in (".out", ".err")]
        assert status is not None, ("it hangs", said)
        self.process.close()
        return subprocess.CompletedProcess((), status, *said)

    def await_line(self, text: str) -> None:
        """Wait until its output has this text."""
        said = self.output.with_suffix(".out")
        self.await_state(lambda: text in " ".join(said.read_text().split()))

    def await_state(self, happened: Callable[[], bool]) -> None:
        """Wait until something is so, as long as the child lives."""

        def happened_or_ended() -> bool:
            is_alive = self.process.is_alive()  # asked first, so that its last deed counts
            if happened():
                return True
            assert is_alive, self.end()
            return False

        wait_until(happened_or_ended)

    def writes(self) -> list[str]:
        """What it wrote, one place after the other."""
        return self.output.with_suffix(".places").read_text().splitlines()


@dataclass(frozen=True)
class Setting:
    """What happens in a child beside its task."""

    environment: Mapping[str, str] = field(default_factory=dict)
    before: int | None = None
    """Number of the write, from 0, before which the child gets the signal; None: it is left alone."""
    gets: signal.Signals = signal.SIGKILL
    gate: Path | None = None
    """Trials wait there; see `gates.attempt_through`."""
    ray: bool = False
    """Whether to train on Ray."""
    address: str | None = None
    """Of Ray's cluster; None starts one."""
    attempt: Callable[..., Any] | None = None
    """Runs trials; a function of a module, as below. None: lightsweep's own, or at the gate."""
    is_read: bool = True
    """Whether anybody reads its standard output; else it is a pipe whose reader has gone."""
    prepare: Callable[[], None] | None = None
    """Called at the start; a function of a module, since it is sent by its name."""


def lightsweep(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder to its end."""
    return start(*words, cwd=cwd, setting=Setting(environment)).end()


def start(*words: object, cwd: Path, setting: Setting | None = None) -> Child:
    """Start the command line in a folder."""
    return _start(partial(_command, tuple(map(str, words))), cwd, setting)


def start_training(cwd: Path, *overrides: str, setting: Setting | None = None) -> Child:
    """Start what `lightsweep run sweep.yaml` does up to the tables; no report is written."""
    return _start(partial(_train, overrides), cwd, setting)


def _start(task: Callable[[Setting], None], cwd: Path, setting: Setting | None) -> Child:
    number = len(list(cwd.glob(".said-*.out")))
    output = cwd / f".said-{number}"
    for suffix in (".out", ".err", ".places"):
        output.with_suffix(suffix).write_text("")
    arguments = (task, cwd, output, dict(os.environ), setting or Setting())
    process = _SERVER.Process(target=_main, args=arguments, daemon=True)  # it ends with a test that failed
    process.start()
    return Child(process, output)


def _main(
    task: Callable[[Setting], None], cwd: Path, output: Path, environment: dict[str, str], setting: Setting
) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment | dict(setting.environment))
    if setting.ray:  # workers know these modules, too
        os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    for descriptor, suffix in ((1, ".out"), (2, ".err")):
        if descriptor == 1 and not setting.is_read:
            read, write = os.pipe()
            os.close(read)
            os.dup2(write, 1)
            continue
        os.dup2(os.open(output.with_suffix(suffix), os.O_WRONLY | os.O_APPEND), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", closefd=False) for descriptor in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if setting.prepare:
        setting.prepare()
    _watch_writes(output.with_suffix(".places"), setting)
    task(setting)


def _command(words: tuple[str, ...], setting: Setting) -> None:
    from lightsweep import __main__
    from lightsweep.distributed import on_ray
    from lightsweep.runs import run
    from lightsweep.system import supervise

    if not setting.ray:
        on_ray.OnRay = lambda *_: ThisProcess()  # type: ignore[assignment, misc]
        supervise.supervised = lambda work, *_: work()  # this process is the one to be killed
    if setting.gate:
        run.run_sweep = partial(run.run_sweep, attempt=partial(attempt_through, setting.gate))
    sys.argv = ["lightsweep", *words]
    __main__.main()


def _train(overrides: tuple[str, ...], setting: Setting) -> None:
    from rich.console import Console

    from lightsweep.data.datasets import describe
    from lightsweep.distributed.on_ray import OnRay
    from lightsweep.planning.plan import plan
    from lightsweep.runs.run import run_sweep
    from lightsweep.sweepfile.reading import load_sweep
    from lightsweep.training.attempt import attempt

    data_dir = Path("data")
    planned = plan(load_sweep(Path("sweep.yaml"), overrides), lambda spec: describe(spec, data_dir))
    through = partial(attempt_through, setting.gate) if setting.gate else attempt
    through = setting.attempt or through
    cluster = OnRay(setting.address, insecure=True) if setting.ray else ThisProcess()
    try:
        done = run_sweep(planned, Path("runs"), data_dir, cluster, False, False, Console(), through)
        status = INTERRUPTED if done.interrupted else 1 if done.failed else 0
    except KeyboardInterrupt:  # the command line says so, too
        status = INTERRUPTED
    sys.stdout.flush()
    os._exit(status)


def _watch_writes(log: Path, setting: Setting) -> None:
    """Note every write below the folder `runs`, and end before the one that was chosen."""
    from sqlalchemy import Engine, event

    descriptor, count = os.open(log, os.O_WRONLY | os.O_APPEND), 0

    def note(what: str) -> None:
        nonlocal count
        place, count = count, count + 1
        os.write(descriptor, (" ".join(what.split()) + "\n").encode())
        if place == setting.before:
            signal.raise_signal(setting.gets)

    def on_event(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "open":
            path, _, flags = arguments
            if not isinstance(path, str | bytes | os.PathLike) or not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif name in _WRITING:
            path = arguments[0]
        else:
            return
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else str(path)
        inside = os.path.relpath(text)
        if inside.startswith(f"runs{os.sep}"):
            note(f"{name} {_without_digits(inside)}")

    def on_statement(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if _CHANGES.match(statement):
            note(f"sql {' '.join(statement.split()[:3])}")

    sys.addaudithook(on_event)
    event.listen(Engine, "before_cursor_execute", on_statement)
    event.listen(Engine, "commit", lambda _: note("sql COMMIT"))


def _without_digits(path: str) -> str:
    """Return a path's kind: the same for all keys and processes."""
    path = re.sub(r"\b[0-9a-f]{64}\b", "KEY", path)
    path = re.sub(r"(?<=/)[0-9a-f]{2}(?=/|$)", "KE", path)
    return re.sub(r"\d+", "N", path)
