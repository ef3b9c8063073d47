"""The commands on a sweep file: run, plan, schema."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click

from lightsweep.cli.shared import (
    DATA_DIR,
    INTERRUPTED,
    OUT,
    SET,
    TRACEBACK,
    TRIALS_FAILED,
    TRUST,
    foreseen,
    open_console,
    plan_file,
    say,
)


@click.command()
@click.argument("sweep_file", metavar="SWEEP", type=click.Path(path_type=Path))
@SET
@OUT
@DATA_DIR
@click.option(
    "--address", metavar="ADDR", help="A Ray cluster's address, or auto; default: this machine alone."
)
@click.option(
    "--insecure", is_flag=True, help="Connect even if the cluster requires no authentication token."
)
@click.option("--fresh", is_flag=True, help="Train everything again and ignore stored results.")
@click.option("--offline", is_flag=True, help="Download no data sets.")
@TRUST
@TRACEBACK
def run(
    sweep_file: Path,
    overrides: Sequence[str],
    out: Path,
    data_dir: Path,
    address: str | None,
    insecure: bool,
    fresh: bool,
    offline: bool,
) -> int:
    """Plan, train in parallel on Ray, record, report. Run again to continue."""
    from lightsweep.distributed.session import remove_left_behind
    from lightsweep.system.supervise import supervised

    def work() -> int:
        from analysis.ablation.result import state_verdicts
        from analysis.page.report import write_report
        from analysis.tables import load_run
        from lightsweep.distributed.on_ray import OnRay
        from lightsweep.runs.run import run_sweep

        console, planned = open_console(), plan_file(sweep_file, overrides, data_dir)
        for line in foreseen(planned):
            if line.startswith("warning"):  # before hours of training
                with suppress(OSError):  # the output may be closed
                    say(console, line)
        cluster = OnRay(address, insecure)
        done = run_sweep(planned, out, data_dir, cluster, fresh, not offline, console)
        ended = done.completed + done.stopped + len(done.failed)
        stopped = f"{done.stopped} stopped early, " if done.stopped else ""
        lines = [
            f"{done.completed} completed, {stopped}{len(done.failed)} failed, {done.planned - ended} left; "
            f"records in {done.folder}"
        ]
        if ended:
            report_file = write_report([done.folder], done.folder / "report.html")
            lines += [*state_verdicts(load_run(done.folder)), f"report: {report_file}"]
        for line in lines:
            say(console, line)
        for failure in done.failed:
            row = failure.trial
            say(console, f"failed: {row['trial_id']} {row['arm']} (seed {row['seed']}): {row['error']}")
        if done.interrupted:
            say(console, "interrupted; run the same command again to continue")
            return INTERRUPTED
        return TRIALS_FAILED if done.failed else 0

    return supervised(work, remove_left_behind)


@click.command()
@click.argument("sweep_file", metavar="SWEEP", type=click.Path(path_type=Path))
@SET
@OUT
@DATA_DIR
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@TRUST
@TRACEBACK
def plan(sweep_file: Path, overrides: Sequence[str], out: Path, data_dir: Path, as_json: bool) -> None:
    """Show all trials with their costs, and which stages are shared or stored, without training."""
    planned, console = plan_file(sweep_file, overrides, data_dir), open_console()
    if planned.sweep.search:
        from lightsweep.cli.views.search import print_survey, survey_tree

        tree = survey_tree(planned)
        if not as_json:
            print_survey(tree, planned.sweep.search, console)
    else:
        from lightsweep.cli.views.plan import plan_tree, print_plan

        tree = {**plan_tree(planned, out, data_dir), "foreseen": foreseen(planned, out)}
        if not as_json:
            print_plan(tree, console)
    if as_json:
        click.echo(json.dumps(tree, indent=1))
    else:
        for line in tree.get("foreseen", ()):
            say(console, line)


@click.command()
def schema() -> None:
    """Print the sweep file's JSON Schema, for editors."""
    from lightsweep.sweepfile.sweep import Sweep

    click.echo(json.dumps(Sweep.model_json_schema(), indent=1))
