"""Code shared by the commands: options, planning, and the console."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lightsweep.cli.completion import complete_override
from lightsweep.errors import InputError, LostError, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from lightsweep.planning.plan import Plan
    from lightsweep.runfolder.folder import RunFolder
    from lightsweep.runfolder.records import Record
    from lightsweep.sweepfile.sweep import Sweep


TRIALS_FAILED, INPUT_IS_WRONG, LOST, INTERRUPTED = 1, InputError.status, LostError.status, 130
"""Exit statuses other than 0, success."""

NAMED = 6
"""Trials that an error names at most."""

LEAST_MEMORY_BYTES = 2**30
"""Address space below which torch cannot be imported."""

DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="LIGHTSWEEP_DATA",
    default=Path("data"),
    show_default=True,
    help="Folder of the data sets; also $LIGHTSWEEP_DATA.",
)


OUT = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder of run folders and of the stage store that they share.",
)


SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=complete_override,
    help="Change a key of the sweep file, e.g. base.stages.dual.epochs=8; * means every element of a list.",
)


def _trust(context: click.Context, parameter: click.Parameter, is_set: bool) -> None:
    if is_set:
        from lightsweep.owncode.trust import allow

        allow()


def _keep_traceback(context: click.Context, parameter: click.Parameter, is_set: bool) -> None:
    context.find_root().meta[TRACEBACK_KEY] = is_set or context.find_root().meta.get(TRACEBACK_KEY, False)


TRACEBACK_KEY = "lightsweep.traceback"
TRACEBACK = click.option(
    "--traceback",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_keep_traceback,
    help="After an error in code of your own, print its traceback.",
)
TRUST = click.option(
    "--trust-code",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_trust,
    help="Run code of the run's folder even if it was never run on this machine before.",
)


def open_console() -> "Console":
    """Return a console for standard output."""
    from lightsweep.system import terminal

    return terminal.open_console()


def say(console: "Console", text: str) -> None:
    """Print a line unchanged, without wrapping."""
    from lightsweep.system import terminal

    terminal.say(console, text)


def memory_limit_bytes() -> float:
    """Return the limit of this process's address space, in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        return math.inf
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if limit == resource.RLIM_INFINITY else limit


def too_little_memory() -> str:
    """Return the message for a command that needs more memory than it may have."""
    limit = memory_limit_bytes()
    if limit == math.inf:
        return "this machine has too little memory for this command"
    return f"the memory limit here (ulimit -v) of {limit / 2**20:,.0f} MiB is too low for this command"


def plan_file(sweep_file: Path, overrides: Sequence[str], data_dir: Path) -> "Plan":
    """Read a sweep file and plan its trials; errors name the file."""
    from lightsweep.sweepfile.reading import load_sweep

    return plan_sweep(load_sweep(sweep_file, overrides), sweep_file, data_dir)


def plan_of(run: "RunFolder", data_dir: Path) -> "Plan":
    """Plan a run's trials from its sweep.yaml; a search's trials come from its plan."""
    from lightsweep.planning.plan import with_trials

    planned = plan_sweep(run.sweep(), run.folder / "sweep.yaml", data_dir)
    return with_trials(planned, run.plan.trials()) if planned.sweep.search else planned


def plan_sweep(sweep: "Sweep", sweep_file: Path, data_dir: Path) -> "Plan":
    """Plan a sweep's trials; errors name the file.

    Raises:
        LostError: This process may have less memory than torch needs to be imported; without enough, its
            libraries fail in many ways, or hang.
        InputError: As for `front.plan`.

    """
    if memory_limit_bytes() < LEAST_MEMORY_BYTES:
        raise LostError(too_little_memory())
    from lightsweep.front import plan

    try:
        return plan(sweep, data_dir)
    except InputError as error:
        raise InputError(f"{sweep_file}: {error}") from error


def foreseen(planned: "Plan", out: Path | None = None) -> Sequence[str]:
    """Return lines on what an ablation's seeds can show; in points, too, if `out` has an earlier run."""
    from analysis.design import parse_design
    from lightsweep.planning.design import design_tree

    design = parse_design(design_tree(planned))
    if design is None:
        return ()
    from analysis.ablation.foresight import foresee
    from analysis.reading import RunError
    from analysis.tables import load_run

    recorded = None
    if out is not None:
        with suppress(RunError):
            recorded = load_run(out / planned.sweep.name).trials
    return foresee(design, recorded)


def find_trial(folder: Path, trial: str, records: "Mapping[str, Record]") -> str:
    """Return the id of the one recorded trial whose id starts with a prefix, or whose arm has this name.

    Raises:
        InputError: No recorded trial or several match.

    """
    matches = [trial_id for trial_id in records if trial_id.startswith(trial)]
    matches = matches or [trial_id for trial_id, found in records.items() if found.trial["arm"] == trial]
    if len(matches) == 1:
        return matches[0]
    if matches:
        fault = f"matches {len(matches)} trials: {_named(matches, records)}"
    elif records:
        arms = {str(found.trial["arm"]) for found in records.values()}
        near = nearest(trial, {*records, *arms})
        hint = near if near.startswith("did") else f"there are {_named(list(records), records)}"
        fault = f"has no record; {hint}"
    else:
        fault = "has no record; no trial has yet"
    raise InputError(f"{folder}: trial {trial} {fault}")


def _named(trial_ids: Sequence[str], records: "Mapping[str, Record]") -> str:
    """Return the first few trials with their arms and seeds."""
    rows = [records[trial_id].trial for trial_id in trial_ids[:NAMED]]
    more = f" and {len(trial_ids) - NAMED} more" if len(trial_ids) > NAMED else ""
    return ", ".join(f"{row['trial_id']} ({row['arm']}, seed {row['seed']})" for row in rows) + more
