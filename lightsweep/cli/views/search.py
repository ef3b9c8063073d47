"""Output on a search: its space and progress in a terminal, its study in a browser."""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from rich.console import Console
from rich.table import Table

from lightsweep.errors import InputError
from lightsweep.hashing import canonical_json
from lightsweep.planning.design import design_tree
from lightsweep.planning.plan import Plan
from lightsweep.runfolder.records import Record
from lightsweep.search.database import STUDY_FILE, copy_study
from lightsweep.search.space import Survey, survey
from lightsweep.sweepfile.search import Axis, Search
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.system.terminal import cell

REASONS = 5  # maximum number of printed reasons why draws cannot be trained


def survey_tree(planned: Plan) -> dict[str, Any]:
    """Return a search as plain content: its space, and a survey of random draws from it.

    Raises:
        InputError: The space is invalid; see `search.space.survey`.

    """
    search = planned.sweep.search
    assert search is not None
    found = survey(planned)
    return {
        "name": planned.sweep.name,
        "design": design_tree(planned),
        "trials": [],
        "space": {key: axis.model_dump(mode="json", exclude_none=True) for key, axis in search.space.items()},
        "survey": {**asdict(found), "parameters": _quartiles(found)},
    }


def _quartiles(found: Survey) -> list[int]:
    sizes = found.parameters
    return [sizes[round(share * (len(sizes) - 1))] for share in (0, 0.25, 0.5, 0.75, 1)]


def print_survey(tree: Mapping[str, Any], search: Search, console: Console) -> None:
    """Print a search's space and the survey of its random draws."""
    table = Table(title=f"{tree['name']}: a search {_extent(search)}", title_justify="left")
    for name in ("key", "searched", "when"):
        table.add_column(name)
    for key, axis in search.space.items():
        when = ", ".join(f"{other} = {_words(values)}" for other, values in (axis.when or {}).items())
        table.add_row(cell(key), cell(_range(axis)), cell(when))
    console.print(table)
    found = tree["survey"]
    low, quarter, middle, three_quarters, high = found["parameters"]
    lines = [
        f"{found['feasible']} of {found['draws']} random draws can be trained: {low:,} to {high:,} "
        f"parameters, half of them {quarter:,} to {three_quarters:,}, median {middle:,}",
        *(
            f"{count} cannot: {reason}"
            for reason, count in sorted(found["reasons"].items(), key=lambda item: -item[1])[:REASONS]
        ),
        *(
            f"begins with {_words([changes]) if changes else 'base'}: {its_cost['parameters']:,} parameters"
            for changes, its_cost in found["start"]
        ),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _extent(search: Search) -> str:
    if search.trials is not None:
        return f"of {search.trials} trials"
    assert search.budget is not None
    if search.budget.epochs is not None:
        return f"of {search.budget.epochs:,} epochs"
    return f"of {search.budget.minutes:g} minutes"


def _range(axis: Axis) -> str:
    if axis.choices is not None:
        text = _words(axis.choices)
    else:
        text = f"{axis.low:g} to {axis.high:g}"
        text += " (log)" if axis.log else f" in steps of {axis.step:g}" if axis.step else ""
    return text if axis.length is None else f"{axis.length[0]} to {axis.length[1]} of: {text}"


def _words(values: Any) -> str:
    return ", ".join(value if isinstance(value, str) else canonical_json(value) for value in values)


def progress_of(sweep: Sweep, records: Mapping[str, Record]) -> str:
    """Return a search's progress in words, from the records of its run."""
    assert sweep.search is not None
    rows = [found.trial for found in records.values()]
    searched = [row for row in rows if row["phase"] == "search"]
    epochs = sum(row["epochs_trained"] or 0 for row in searched)
    confirmed = sum(row["phase"] == "confirmation" for row in rows)
    stopped = sum(row["status"] == "early_stopped" for row in searched)
    return (
        f"a search {_extent(sweep.search)}: {len(searched)} trials with {epochs:,} epochs so far, "
        f"{stopped} of them stopped early; {confirmed} confirmation trials"
    )


def serve_dashboard(folder: Path, sweep: Sweep, port: int, say: Callable[[str], None]) -> None:
    """Serve optuna-dashboard for a copy of a run's study, until Ctrl-C.

    Args:
        folder: The run's folder.
        sweep: The run's sweep.
        port: Port on this machine.
        say: Called with a line that tells the URL.

    Raises:
        InputError: The run is not a search, it has no study yet, or the port is in use.

    """
    if sweep.search is None:
        raise InputError(f"{folder}: its sweep is not a search, so it has no study")
    import optuna_dashboard  # type: ignore[import-untyped]

    with TemporaryDirectory(prefix="lightsweep-") as scratch:
        copy = Path(scratch) / STUDY_FILE
        if sweep.search.storage is not None:
            copy_study(sweep, folder, copy)
        elif not (folder / STUDY_FILE).is_file() or (folder / STUDY_FILE).is_symlink():
            raise InputError(f"{folder / STUDY_FILE}: there is no study yet; run the sweep first")
        else:
            with (
                closing(sqlite3.connect(f"file:{folder / STUDY_FILE}?mode=ro", uri=True)) as source,
                closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
        say(
            f"optuna-dashboard for a copy of {folder / STUDY_FILE}: http://127.0.0.1:{port}/ (Ctrl-C ends it)"
        )
        application = optuna_dashboard.wsgi(f"sqlite:///{copy}")
        try:
            server = make_server("127.0.0.1", port, application, handler_class=_QuietHandler)
        except OSError as error:
            raise InputError(f"--port {port}: cannot be used ({error.strerror})") from None
        with server:
            # in a thread, because wsgiref swallows all exceptions during a request, even KeyboardInterrupt
            answering = Thread(target=server.serve_forever)
            answering.start()
            with suppress(KeyboardInterrupt):
                answering.join()
            server.shutdown()
            answering.join()


class _QuietHandler(WSGIRequestHandler):
    """Handles requests without logging them."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass
