"""The commands on a run's nets: export, costs."""

from pathlib import Path
from typing import Any

import click

from lightsweep.cli.shared import DATA_DIR, TRACEBACK, TRUST, open_console, plan_of, say
from lightsweep.errors import InputError


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("trial", required=False)
@click.option(
    "--best-under",
    type=click.IntRange(min=1),
    metavar="N",
    help="Instead of TRIAL: the best trial of the arm with at most N parameters that has the highest mean "
    "validation accuracy; for a search, among the confirmed nets only.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Output file: .onnx (ONNX) or .pt2 (torch.export).",
)
@DATA_DIR
@TRUST
@TRACEBACK
def export(folder: Path, trial: str | None, best_under: int | None, output: Path, data_dir: Path) -> None:
    """Write a trial's net to a file that runs without lightsweep. TRIAL is its id or a prefix of it.

    The file includes normalisation, accepts batches of any size, and has class names and provenance in its
    metadata. It is written only if its predictions equal PyTorch's on up to 1,000 test images.
    """
    from lightsweep.cli.views import costs as costview
    from lightsweep.deliver.export import check_output, choose, find_completed
    from lightsweep.deliver.export import export as make
    from lightsweep.runfolder.folder import RunFolder
    from lightsweep.store.folder import STORE

    if (trial is None) == (best_under is None):
        raise InputError("give either a TRIAL or --best-under N, the maximum number of parameters")
    check_output(output)
    run, console = RunFolder.open(folder), open_console()
    if best_under is not None:
        choice = choose(run, best_under)
        trial_id = choice.trial_id
        say(console, costview.choice_line(choice, best_under))
    else:
        trial_id = find_completed(run, trial or "")
    made = make(run, plan_of(run, data_dir), trial_id, folder.parent / STORE, output, data_dir)
    for line in costview.exported_lines(made):
        say(console, line)


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--all", "everything", is_flag=True, help="Measure every net, not only the 24 best by validation."
)
@DATA_DIR
@TRUST
@TRACEBACK
def costs(folder: Path, everything: bool, data_dir: Path) -> None:
    """Measure latency, memory and file size of a run's nets on this machine, which should be idle.

    Uses one thread and measures each distinct net once. The costs go to costs.json and into the report. The
    size "with Nadam's two moments", 3 × 4 bytes per parameter, is what arXiv 2501.15547 reports as 0.17 MB
    for its net; its weights alone are 0.057 MiB.
    """
    from analysis.page.report import write_report
    from lightsweep.cli.views import costs as costview
    from lightsweep.deliver import measure
    from lightsweep.runfolder.folder import RunFolder

    run, console = RunFolder.open(folder), open_console()

    def on_net(number: int, count: int, net: dict[str, Any]) -> None:
        say(console, f"net {number} of {count}: {costview.net_name(net)}")

    warning = measure.busy()
    if warning:
        say(console, warning)
    tree = measure.measure_run(run, plan_of(run, data_dir), everything, on_net)
    costview.print_costs(tree, console)
    run.compact()
    say(console, f"report: {write_report([folder], folder / 'report.html')}")
