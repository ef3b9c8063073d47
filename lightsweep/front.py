"""The public functions of `import lightsweep`.

They load, plan and run a sweep, and open its folder; figures and evidence are in package `analysis`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightsweep.planning.plan import Plan
    from lightsweep.runfolder.folder import RunFolder
    from lightsweep.runs.run import RunSummary
    from lightsweep.sweepfile.sweep import Sweep


def load_sweep(path: Path | str, overrides: Sequence[str] = ()) -> "Sweep":
    """Read a sweep file.

    Args:
        path: Path of the YAML file.
        overrides: Changes such as `base.batch_size=32`, as for `--set`.

    Returns:
        The sweep: a frozen pydantic model with all its settings.

    Raises:
        InputError: The file, a key or a value is invalid; the one-line message says which, and the rule.

    """
    from lightsweep.sweepfile import reading

    return reading.load_sweep(Path(path), overrides)


def plan(sweep: "Sweep", data_dir: Path | str = "data") -> "Plan":
    """Plan a sweep's trials and their costs, without training; check a search's space by random draws.

    Args:
        sweep: The sweep.
        data_dir: Folder of the data sets.

    Returns:
        The plan; for a search, it has no trials yet.

    Raises:
        InputError: Settings do not fit the images, or one another.

    """
    from lightsweep.data.datasets import describe
    from lightsweep.planning import plan as planning

    planned = planning.plan(sweep, lambda spec: describe(spec, Path(data_dir)))
    if sweep.search:
        from lightsweep.search.space import survey

        survey(planned)
    return planned


def run(
    sweep: "Sweep | Path | str",
    out: Path | str = "runs",
    data_dir: Path | str = "data",
    *,
    address: str | None = None,
    insecure: bool = False,
    fresh: bool = False,
    download: bool = True,
) -> "RunSummary":
    """Train a sweep's trials on Ray, record them, and write the tables; run again to continue.

    The folder is `out / sweep.name`. This works from any thread, also in a notebook. If Ray's processes are
    killed, Ray ends this process, too; as after any crash, the same call then continues.

    Args:
        sweep: The sweep, or its file.
        out: Folder of run folders and of the stage store that they share.
        data_dir: Folder of the data sets.
        address: Address of a Ray cluster, or auto; None starts one on this machine.
        insecure: Connect even if the cluster requires no authentication token.
        fresh: Whether to train everything again and ignore stored results.
        download: Whether missing data sets may be downloaded.

    Returns:
        Number of trials by status, and where their records are. After Ctrl-C, `interrupted` is true.

    Raises:
        InputError: The sweep, the data or a folder is invalid.
        LostError: Ray, the disk or the database is gone; records are kept.

    """
    from lightsweep.distributed.on_ray import OnRay
    from lightsweep.runs.run import run_sweep
    from lightsweep.system.terminal import open_console

    loaded = load_sweep(sweep) if isinstance(sweep, Path | str) else sweep
    planned, cluster = plan(loaded, data_dir), OnRay(address, insecure)
    return run_sweep(planned, Path(out), Path(data_dir), cluster, fresh, download, open_console())


def open_run(folder: Path | str) -> "RunFolder":
    """Open the folder of a run.

    Returns:
        The folder, with `sweep()`, `journal.records()` and `plan.trials()`.

    Raises:
        InputError: The folder is not a run's folder.

    """
    from lightsweep.runfolder.folder import RunFolder

    return RunFolder.open(Path(folder))
