"""The commands on a run's folder: report, status, show, verify, dashboard."""

from collections.abc import Sequence
from pathlib import Path

import click

from lightsweep.cli.shared import (
    DATA_DIR,
    TRACEBACK,
    TRIALS_FAILED,
    TRUST,
    find_trial,
    open_console,
    plan_of,
    say,
)

VERIFY_SAYS_SECONDS = 10.0


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Page; default: RUN/report.html."
)
def report(runs: Sequence[Path], output: Path | None) -> None:
    """Write one self-contained HTML page from one or several runs."""
    from analysis.page.report import write_report
    from lightsweep.runfolder.folder import RunFolder

    for folder in runs:
        RunFolder.open(folder).compact()
    page = write_report(runs, output or runs[0] / "report.html")
    console = open_console()
    say(console, str(page))
    click.echo(f"one file of {page.stat().st_size / 1e6:.1f} MB, with the data inside", err=True)


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
def status(folder: Path) -> None:
    """Show a run's trials: how many are done, which failed and why, and which are left."""
    from lightsweep.runfolder.folder import RunFolder

    console, opened = open_console(), RunFolder.open(folder)
    sweep, records, planned = opened.sweep(), opened.journal.records(), opened.plan.trials()
    found = [records[trial["trial_id"]] for trial in planned if trial["trial_id"] in records]
    rows, stages = [each.trial for each in found], [stage for each in found for stage in each.stages]
    failed = [row for row in rows if row["status"] == "failed"]
    stopped = sum(row["status"] == "early_stopped" for row in rows)
    made = sum(stage["origin"] != "stored" for stage in stages)
    waited = sum(row["waited_seconds"] for row in rows)
    say(
        console,
        f"{folder.name}: {len(rows) - len(failed) - stopped} of {len(planned)} trials done, "
        f"{f'{stopped} stopped early, ' if stopped else ''}{len(failed)} failed, "
        f"{len(planned) - len(rows)} left",
    )
    if sweep.search:
        from lightsweep.cli.views.search import progress_of

        say(console, progress_of(sweep, records))
    say(
        console,
        f"stages and assessments: {made} made, {len(stages) - made} reused; "
        f"{waited:.1f} worker-seconds spent waiting for one another",
    )
    for row in failed:
        say(console, f"failed: {row['trial_id']} {row['arm']} (seed {row['seed']}): {row['error']}")
    for trial in planned:
        if trial["trial_id"] not in records:
            say(console, f"left: {trial['trial_id']} {trial['arm']} (seed {trial['seed']})")


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("trial")
def show(folder: Path, trial: str) -> None:
    """Show the whole record of one trial. TRIAL is its id, a prefix of it, or an arm with one trial."""
    from lightsweep.cli.views.trial import print_trial
    from lightsweep.runfolder.folder import RunFolder

    records = RunFolder.open(folder).journal.records()
    print_trial(records[find_trial(folder, trial, records)], open_console())


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("trial")
@DATA_DIR
@TRUST
@TRACEBACK
def verify(folder: Path, trial: str, data_dir: Path) -> int:
    """Train one trial again without the store and compare. TRIAL is its id, a prefix, or an arm with one."""
    import time

    from lightsweep.cli.views.trial import print_verification
    from lightsweep.deliver.verify import verify as train_again
    from lightsweep.runfolder.folder import RunFolder
    from lightsweep.store.folder import STORE

    run, console = RunFolder.open(folder), open_console()
    trial_id = find_trial(folder, trial, run.journal.records())
    said = time.monotonic()

    def on_epoch(epochs: int) -> None:
        nonlocal said
        if time.monotonic() - said >= VERIFY_SAYS_SECONDS:
            say(console, f"{epochs} {'epoch' if epochs == 1 else 'epochs'} trained")
            said = time.monotonic()

    store = folder.parent / STORE if (folder.parent / STORE).is_dir() else None
    found = train_again(run, store, plan_of(run, data_dir), trial_id, data_dir, on_epoch)
    print_verification(found, console)
    return 0 if found.is_confirmed else TRIALS_FAILED


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--port", type=click.IntRange(1, 65_535), default=8080, show_default=True, help="Port on this machine."
)
def dashboard(folder: Path, port: int) -> None:
    """Serve optuna-dashboard for a copy of a search's study on this machine, until Ctrl-C."""
    from lightsweep.cli.views.search import serve_dashboard
    from lightsweep.runfolder.folder import RunFolder

    run, console = RunFolder.open(folder), open_console()
    serve_dashboard(folder, run.sweep(), port, lambda text: say(console, text))
