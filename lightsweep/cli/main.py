"""The commands. Heavy imports stand inside them, so that --help answers at once."""

import errno
import itertools
import json
import math
import os
import resource
import sys
import warnings
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from lightsweep import __version__
from lightsweep.echo import masked, one_line
from lightsweep.errors import InputError, LostError
from lightsweep.sweepfile.base import nearest

if TYPE_CHECKING:
    from rich.console import Console

    from lightsweep.plan.plan import Plan
    from lightsweep.runfolder.folder import RunFolder
    from lightsweep.sweepfile.sweep import Sweep

TRIALS_FAILED, INPUT_IS_WRONG, LOST, INTERRUPTED = 1, InputError.status, LostError.status, 130
VERIFY_SAYS_SECONDS = 10.0
ENOUGH_MEMORY_BYTES = 8 * 2**30  # of addresses: torch, Ray and their threads

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
    help="Change a key of the sweep file, e.g. base.stages.dual.epochs=8; * is every element of a list.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lightsweep")
def cli() -> None:
    """Sweep and ablate tiny CNNs, and read the Pareto report: accuracy against parameters.

    Exit status: 0 done; 1 done, but trials failed; 2 the input is wrong; 3 what a run needs is gone (Ray, a
    disk, a database), and the same command goes on; 130 interrupted.
    """


@cli.command()
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
@click.option("--fresh", is_flag=True, help="Train everything anew, whatever is stored.")
@click.option("--offline", is_flag=True, help="Download no data sets.")
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

        console, planned = _console(), _plan(sweep_file, overrides, data_dir)
        for line in _foresee(planned):
            if line.startswith("warning"):  # now, not after hours of training
                with suppress(OSError):  # nobody reads it
                    _say(console, line)
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
            _say(console, line)
        for failure in done.failed:
            row = failure.trial
            _say(console, f"failed: {row['trial_id']} {row['arm']} (seed {row['seed']}): {row['error']}")
        if done.interrupted:
            _say(console, "interrupted; run the same command again to go on")
            return INTERRUPTED
        return TRIALS_FAILED if done.failed else 0

    return supervised(work, remove_left_behind)


@cli.command()
@click.argument("sweep_file", metavar="SWEEP", type=click.Path(path_type=Path))
@SET
@OUT
@DATA_DIR
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def plan(sweep_file: Path, overrides: Sequence[str], out: Path, data_dir: Path, as_json: bool) -> None:
    """Show every trial with its costs, and which stages are shared and stored, without training."""
    planned, console = _plan(sweep_file, overrides, data_dir), _console()
    if planned.sweep.search:
        from lightsweep.cli.searchview import print_survey, survey_tree

        tree = survey_tree(planned)
        if not as_json:
            print_survey(tree, planned.sweep.search, console)
    else:
        from lightsweep.cli.planview import plan_tree, print_plan

        tree = {**plan_tree(planned, out, data_dir), "foreseen": _foresee(planned, out)}
        if not as_json:
            print_plan(tree, console)
    if as_json:
        click.echo(json.dumps(tree, indent=1))
    else:
        for line in tree.get("foreseen", ()):
            _say(console, line)


@cli.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Default: RUN/report.html."
)
def report(runs: Sequence[Path], output: Path | None) -> None:
    """Write one self-contained HTML page from one or several runs."""
    from analysis.page.report import write_report
    from lightsweep.runfolder.folder import RunFolder

    for folder in runs:
        RunFolder.open(folder).compact()
    page = write_report(runs, output or runs[0] / "report.html")
    console = _console()
    _say(console, str(page))
    click.echo(f"one file of {page.stat().st_size / 1e6:.1f} MB, with the data inside", err=True)


@cli.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
def status(folder: Path) -> None:
    """Show what of a run is done, what failed and why, and what is left."""
    from lightsweep.runfolder.folder import RunFolder

    console, opened = _console(), RunFolder.open(folder)
    sweep, records, planned = opened.sweep(), opened.journal.records(), opened.plan.trials()
    found = [records[trial["trial_id"]] for trial in planned if trial["trial_id"] in records]
    rows, stages = [each.trial for each in found], [stage for each in found for stage in each.stages]
    failed = [row for row in rows if row["status"] == "failed"]
    stopped = sum(row["status"] == "early_stopped" for row in rows)
    made = sum(stage["origin"] != "stored" for stage in stages)
    waited = sum(row["waited_seconds"] for row in rows)
    _say(
        console,
        f"{folder.name}: {len(rows) - len(failed) - stopped} of {len(planned)} trials done, "
        f"{f'{stopped} stopped early, ' if stopped else ''}{len(failed)} failed, "
        f"{len(planned) - len(rows)} left",
    )
    if sweep.search:
        from lightsweep.cli.searchview import progress_of

        _say(console, progress_of(sweep, records))
    _say(
        console,
        f"stages and assessments: {made} made, {len(stages) - made} reused; "
        f"{waited:.1f} worker-seconds spent waiting for one another",
    )
    for row in failed:
        _say(console, f"failed: {row['trial_id']} {row['arm']} (seed {row['seed']}): {row['error']}")
    for trial in planned:
        if trial["trial_id"] not in records:
            _say(console, f"left: {trial['trial_id']} {trial['arm']} (seed {trial['seed']})")


@cli.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("trial")
def show(folder: Path, trial: str) -> None:
    """Show one trial, whole: TRIAL is its id or the beginning of it."""
    from lightsweep.cli.planview import print_trial
    from lightsweep.runfolder.folder import RunFolder

    records = RunFolder.open(folder).journal.records()
    print_trial(records[_find_trial(folder, trial, records)], _console())


@cli.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("trial")
@DATA_DIR
def verify(folder: Path, trial: str, data_dir: Path) -> int:
    """Train one trial again without the store, and compare: TRIAL is its id or the beginning of it."""
    import time

    from lightsweep.cli.planview import print_verification
    from lightsweep.deliver.verify import verify as train_again
    from lightsweep.runfolder.folder import RunFolder
    from lightsweep.runs.run import STORE

    run, console = RunFolder.open(folder), _console()
    trial_id = _find_trial(folder, trial, run.journal.records())
    said = time.monotonic()

    def on_epoch(epochs: int) -> None:
        nonlocal said
        if time.monotonic() - said >= VERIFY_SAYS_SECONDS:
            _say(console, f"{epochs} epochs trained")
            said = time.monotonic()

    store = folder.parent / STORE if (folder.parent / STORE).is_dir() else None
    found = train_again(run, store, _plan_of(run, data_dir), trial_id, data_dir, on_epoch)
    print_verification(found, console)
    return 0 if found.is_confirmed else TRIALS_FAILED


@cli.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("trial", required=False)
@click.option(
    "--best-under",
    type=click.IntRange(min=1),
    metavar="N",
    help="In place of TRIAL: of the arms of at most N parameters the best by mean validation accuracy, of a "
    "search only of what it confirmed; of it the best trial.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file: .onnx (ONNX) or .pt2 (torch.export).",
)
@DATA_DIR
def export(folder: Path, trial: str | None, best_under: int | None, output: Path, data_dir: Path) -> None:
    """Write a trial's net to a file that runs without lightsweep: TRIAL is its id or the beginning of it.

    Normalisation is inside, class names and provenance are in the file's metadata, a batch may have any size.
    The file gets its name once it predicted what PyTorch predicts for up to 1,000 test images.
    """
    from lightsweep.cli import costview
    from lightsweep.deliver.export import check_output, choose, find_completed
    from lightsweep.deliver.export import export as make
    from lightsweep.runfolder.folder import RunFolder
    from lightsweep.runs.run import STORE

    if (trial is None) == (best_under is None):
        raise InputError("name either a TRIAL or --best-under N, the parameters that it may have at most")
    check_output(output)
    run, console = RunFolder.open(folder), _console()
    if best_under is not None:
        choice = choose(run, best_under)
        trial_id = choice.trial_id
        _say(console, costview.choice_line(choice, best_under))
    else:
        trial_id = find_completed(run, trial or "")
    made = make(run, _plan_of(run, data_dir), trial_id, folder.parent / STORE, output, data_dir)
    for line in costview.exported_lines(made):
        _say(console, line)


@cli.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--all", "everything", is_flag=True, help="Measure every net, not only the 24 best by validation."
)
@DATA_DIR
def costs(folder: Path, everything: bool, data_dir: Path) -> None:
    """Measure a run's nets on this machine, best when it is quiet: latency, memory, bytes of the file.

    On one thread; a net is measured once, however many trials have it. The costs go to costs.json and into
    the report. The size "with Nadam's two moments", 3 × 4 bytes a parameter, is what arXiv 2501.15547 gives
    as its net's 0.17 MB; its weights alone are 0.057 MiB.
    """
    from analysis.page.report import write_report
    from lightsweep.cli import costview
    from lightsweep.deliver import measure
    from lightsweep.runfolder.folder import RunFolder

    run, console = RunFolder.open(folder), _console()

    def on_net(number: int, count: int, net: dict[str, Any]) -> None:
        _say(console, f"net {number} of {count}: {costview.net_name(net)}")

    warning = measure.busy()
    if warning:
        _say(console, warning)
    tree = measure.measure_run(run, _plan_of(run, data_dir), everything, on_net)
    costview.print_costs(tree, console)
    run.compact()
    _say(console, f"report: {write_report([folder], folder / 'report.html')}")


@cli.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--port", type=click.IntRange(1, 65_535), default=8080, show_default=True, help="On this machine."
)
def dashboard(folder: Path, port: int) -> None:
    """Open optuna-dashboard on a copy of a search's study, here, until Ctrl-C."""
    from lightsweep.cli.searchview import serve_dashboard
    from lightsweep.runfolder.folder import RunFolder

    run, console = RunFolder.open(folder), _console()
    serve_dashboard(folder, run.sweep(), port, lambda text: _say(console, text))


@cli.command()
@OUT
@click.option("--prune", is_flag=True, help="Remove what no run refers to.")
@click.option(
    "--limit",
    metavar="SIZE",
    help="Cut the store down to this size, now and around every run, e.g. 500MB or 1.5GiB; none: any size.",
)
def store(out: Path, prune: bool, limit: str | None) -> None:
    """Show what the stage store holds and which runs refer to it; cut it down."""
    from lightsweep.cli.planview import amount_text, print_store
    from lightsweep.runfolder.references import references, refuse
    from lightsweep.runs.run import STORE
    from lightsweep.store import keeping as storekeeping
    from lightsweep.store.folder import FolderStore

    limit_bytes = None if limit is None else storekeeping.parse_limit(limit)
    if not (out / STORE).is_dir():
        raise InputError(f"{out / STORE}: no such folder, so nothing is stored; --out says where runs are")
    opened, console = FolderStore(out / STORE), _console()
    certain = partial(references, out, refuse)
    if prune:
        removed = storekeeping.prune(opened, certain)
        _say(console, f"removed what no run refers to: {amount_text(removed)}")
    if limit is not None:
        if limit_bytes is not None:
            removed = storekeeping.cut_to_limit(opened, certain, (), limit_bytes)
            _say(console, f"removed what was above the limit: {amount_text(removed)}")
        opened.set_limit(limit_bytes)  # last, so that a refusal leaves all as it was
    print_store(storekeeping.summarise(opened, partial(references, out)), console)


@cli.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@DATA_DIR
@click.option("--download", metavar="NAME", help="Fetch a data set into the folder first.")
@click.option("--image-size", type=click.IntRange(4, 512), help="Of PATH: side that images are resized to.")
def datasets(path: Path | None, data_dir: Path, download: str | None, image_size: int | None) -> None:
    """Show which data sets are here or missing, and where they are looked for.

    With PATH, a folder of pictures or an npz file: what would be read of it, and what is odd about it.
    """
    if path is not None:
        from lightsweep.cli.datasetview import print_path

        print_path(path, image_size, _console())
        return
    from pydantic import ValidationError

    from lightsweep.cli.planview import print_datasets
    from lightsweep.data.datasets import available, load
    from lightsweep.sweepfile.dataset import DatasetSpec
    from lightsweep.sweepfile.reading import describe_validation

    if download is not None:
        try:
            load(DatasetSpec.model_validate({"name": download}), data_dir, download=True)
        except ValidationError as error:
            raise InputError(f"--download: {describe_validation(error, {'name': download})}") from None
    print_datasets(available(data_dir), _console())


@cli.command()
def schema() -> None:
    """Print the sweep file's JSON Schema, for editors."""
    from lightsweep.sweepfile.sweep import Sweep

    click.echo(json.dumps(Sweep.model_json_schema(), indent=1))


@cli.command()
@click.option(
    "--rounds", type=click.IntRange(2, 100), default=7, show_default=True, help="Of each way, in turn."
)
def bench(rounds: int) -> None:
    """Measure the training loop on this machine, as ratios against the usual ways."""
    from lightsweep.deliver.bench import bench_frozen, bench_loop

    for line in itertools.chain(bench_loop(rounds), bench_frozen(rounds)):
        click.echo(line)


def main() -> None:
    """Run the command line; every wrong input is one line and exit status 2."""
    warnings.showwarning = _show_warning
    try:
        try:
            result: Any = cli(standalone_mode=False)
        except SystemExit:  # click's own way out where nobody reads any more
            sys.exit(LOST)
        sys.stdout.flush()
        sys.exit(result if isinstance(result, int) else 0)
    except InputError as error:
        _fail(str(error), error.status)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        sys.exit(INPUT_IS_WRONG)
    except click.ClickException as error:
        _fail(one_line(masked(error.format_message())))
    except (KeyboardInterrupt, click.Abort):
        if _memory_limit_bytes() < ENOUGH_MEMORY_BYTES:  # OpenBLAS interrupts the process that it is in
            _fail(_too_little_memory(), LOST)
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except MemoryError:
        _fail(_too_little_memory(), LOST)
    except OSError as error:
        is_lost = error.errno in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)
        if error.errno != errno.EPIPE:  # who closed the pipe knows
            what = "standard output" if error.filename is None else os.fsdecode(error.filename)
            _fail(one_line(masked(f"{what}: {error.strerror}")), LOST if is_lost else INPUT_IS_WRONG)
        sys.exit(LOST)


def _plan(sweep_file: Path, overrides: Sequence[str], data_dir: Path) -> "Plan":
    """Read a sweep file and plan its trials; what does not fit is said with the file's name."""
    from lightsweep.sweepfile.reading import load_sweep

    return _plan_sweep(load_sweep(sweep_file, overrides), sweep_file, data_dir)


def _plan_of(run: "RunFolder", data_dir: Path) -> "Plan":
    """Plan a run's trials by its sweep.yaml; a search's are those that it had."""
    from lightsweep.plan.plan import with_trials

    planned = _plan_sweep(run.sweep(), run.folder / "sweep.yaml", data_dir)
    return with_trials(planned, run.plan.trials()) if planned.sweep.search else planned


def _plan_sweep(sweep: "Sweep", sweep_file: Path, data_dir: Path) -> "Plan":
    from lightsweep.data.datasets import describe
    from lightsweep.plan.plan import plan

    try:
        planned = plan(sweep, lambda spec: describe(spec, data_dir))
        if sweep.search:
            from lightsweep.search.space import survey

            survey(planned)
        return planned
    except InputError as error:
        raise InputError(f"{sweep_file}: {error}") from None


def _foresee(planned: "Plan", out: Path | None = None) -> Sequence[str]:
    """Say what an ablation's seeds can show; with an earlier run's records under `out` also in points."""
    from analysis.design import parse_design
    from lightsweep.plan.design import design_tree

    design = parse_design(design_tree(planned))
    if design is None:
        return ()
    from analysis.ablation.foresight import foresee
    from analysis.tables import RunError, load_run

    recorded = None
    if out is not None:
        with suppress(RunError):
            recorded = load_run(out / planned.sweep.name).trials
    return foresee(design, recorded)


def _find_trial(folder: Path, trial: str, records: Collection[str]) -> str:
    """Return the id of the one recorded trial whose id begins like this."""
    matches = [trial_id for trial_id in records if trial_id.startswith(trial)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        fault = f"stands for {len(matches)} trials: {', '.join(matches[:5])}"
    else:
        fault = f"has no record; {nearest(trial, records)}" if records else "has no record; none has yet"
    raise InputError(f"{folder}: trial {trial} {fault}")


def _memory_limit_bytes() -> float:
    """Return how much address space this process may have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _too_little_memory() -> str:
    limit = _memory_limit_bytes()
    if limit == math.inf:
        return "this machine has too little memory for that"
    return f"{limit / 2**20:,.0f} MiB of memory, the limit here (ulimit -v), are too little for that"


def _fail(message: str, status: int = INPUT_IS_WRONG) -> NoReturn:
    with suppress(OSError):
        click.echo(f"error: {message}", err=True)
    sys.exit(status)


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    click.echo(f"warning: {one_line(masked(str(message)))}", err=True)


def _console() -> "Console":
    from lightsweep.system.terminal import open_console

    return open_console()


def _say(console: "Console", text: str) -> None:
    from lightsweep.system.terminal import say

    say(console, text)
