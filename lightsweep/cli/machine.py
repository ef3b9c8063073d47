"""The commands that concern this machine: store, datasets, bench."""

import itertools
from functools import partial
from pathlib import Path

import click

from lightsweep.cli.shared import DATA_DIR, OUT, open_console, say
from lightsweep.errors import InputError


@click.command()
@OUT
@click.option("--prune", is_flag=True, help="Remove entries to which no run refers.")
@click.option(
    "--limit",
    metavar="SIZE",
    help="Limit the store to this size, now and around every run, e.g. 500MB or 1.5GiB; none: no limit.",
)
def store(out: Path, prune: bool, limit: str | None) -> None:
    """Show the content of the stage store and which runs refer to it; optionally shrink it."""
    from lightsweep.cli.views.store import amount_text, print_store
    from lightsweep.runfolder.references import references, refuse
    from lightsweep.store import keeping as storekeeping
    from lightsweep.store.folder import STORE, FolderStore

    limit_bytes = None if limit is None else storekeeping.parse_limit(limit)
    if not (out / STORE).is_dir():
        raise InputError(f"{out / STORE}: no such folder, so nothing is stored; --out says where runs are")
    opened, console = FolderStore(out / STORE), open_console()
    certain = partial(references, out, refuse)
    if prune:
        removed = storekeeping.prune(opened, certain)
        say(console, f"removed entries to which no run refers: {amount_text(removed)}")
    if limit is not None:
        if limit_bytes is not None:
            removed = storekeeping.cut_to_limit(opened, certain, (), limit_bytes)
            say(console, f"removed entries above the limit: {amount_text(removed)}")
        opened.set_limit(limit_bytes)  # last, so that a refusal changes nothing
    print_store(storekeeping.summarise(opened, partial(references, out)), console)


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@DATA_DIR
@click.option("--download", metavar="NAME", help="Download a data set into the folder first.")
@click.option(
    "--image-size", type=click.IntRange(4, 512), help="Side to which images of PATH are resized, in pixels."
)
def datasets(path: Path | None, data_dir: Path, download: str | None, image_size: int | None) -> None:
    """Show which data sets are available or missing, and where they are searched for.

    With PATH, a folder of pictures or an npz file: show what would be read from it, with warnings.
    """
    if path is not None:
        from lightsweep.cli.views.datasets import print_path

        print_path(path, image_size, open_console())
        return
    from pydantic import ValidationError

    from lightsweep.cli.views.datasets import print_datasets
    from lightsweep.data.datasets import available, load
    from lightsweep.sweepfile.dataset import DatasetSpec
    from lightsweep.sweepfile.messages import describe_validation

    if download is not None:
        try:
            load(DatasetSpec.model_validate({"name": download}), data_dir, download=True)
        except ValidationError as error:
            raise InputError(f"--download: {describe_validation(error, {'name': download})}") from None
    print_datasets(available(data_dir), open_console())


@click.command()
@click.option("--rounds", type=click.IntRange(2, 100), default=7, show_default=True, help="Number of rounds.")
def bench(rounds: int) -> None:
    """Measure the speed of the training loop on this machine, as ratios to common alternatives."""
    from lightsweep.deliver.bench import bench_frozen, bench_loop

    for line in itertools.chain(bench_loop(rounds), bench_frozen(rounds)):
        click.echo(line)
