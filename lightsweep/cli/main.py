"""The command line. Commands import heavy packages when called, so that --help is fast."""

import errno
import os
import sys
import warnings
from contextlib import suppress
from typing import Any, NoReturn

import click

from lightsweep import __version__
from lightsweep.cli import machine, nets, runs, start, sweeps
from lightsweep.cli.shared import (
    INPUT_IS_WRONG,
    INTERRUPTED,
    LOST,
    TRACEBACK_KEY,
    memory_limit_bytes,
    too_little_memory,
)
from lightsweep.echo import masked, one_line
from lightsweep.errors import InputError

ENOUGH_MEMORY_BYTES = 8 * 2**30  # address space for torch, Ray and their threads


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lightsweep")
def cli() -> None:
    """Sweep and ablate tiny CNNs, and read the Pareto report: accuracy against parameters.

    Exit status: 0 success; 1 trials failed; 2 invalid input; 3 something a run needs is gone (Ray, a disk, a
    database), run the same command again to continue; 130 interrupted.
    """


for _command in (
    start.init,
    sweeps.run,
    sweeps.plan,
    runs.report,
    runs.status,
    runs.show,
    runs.verify,
    nets.export,
    nets.costs,
    runs.dashboard,
    machine.store,
    machine.datasets,
    sweeps.schema,
    machine.bench,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line; invalid input gives a one-line error and exit status 2."""
    warnings.showwarning = _show_warning
    root = click.Context(cli)
    try:
        try:
            with root:
                result: Any = cli.main(standalone_mode=False, parent=root)
        except SystemExit:  # click exits this way when the pipe is closed
            sys.exit(LOST)
        sys.stdout.flush()
        sys.exit(result if isinstance(result, int) else 0)
    except InputError as error:
        if root.meta.get(TRACEBACK_KEY):
            _show_traceback(error)
        _fail(str(error), error.status)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        sys.exit(INPUT_IS_WRONG)
    except click.ClickException as error:
        _fail(one_line(masked(error.format_message())))
    except (KeyboardInterrupt, click.Abort):
        if memory_limit_bytes() < ENOUGH_MEMORY_BYTES:  # OpenBLAS out of memory raises SIGINT
            _fail(too_little_memory(), LOST)
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except MemoryError:
        _fail(too_little_memory(), LOST)
    except ImportError:  # a library that cannot be mapped
        if memory_limit_bytes() >= ENOUGH_MEMORY_BYTES:
            raise
        _fail(too_little_memory(), LOST)
    except OSError as error:
        is_lost = error.errno in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)
        if error.errno != errno.EPIPE:  # nobody is left to read the message
            what = "standard output" if error.filename is None else os.fsdecode(error.filename)
            _fail(one_line(masked(f"{what}: {error.strerror}")), LOST if is_lost else INPUT_IS_WRONG)
        sys.exit(LOST)


def _show_traceback(error: BaseException) -> None:
    """Print the traceback of the exception that an error was made from, if there is one."""
    import traceback

    while isinstance(error, InputError) and error.__cause__ is not None:
        error = error.__cause__
    if not isinstance(error, InputError):
        click.echo(masked("".join(traceback.format_exception(error))), err=True)


def _fail(message: str, status: int = INPUT_IS_WRONG) -> NoReturn:
    with suppress(OSError):
        click.echo(f"error: {message}", err=True)
    sys.exit(status)


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    click.echo(f"warning: {one_line(masked(str(message)))}", err=True)
