"""The front door: what `import lightsweep` gives, beside the exceptions.

A sweep is loaded, planned, run, and its folder opened; figures and evidence of it are `analysis`'s.
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
        path: The YAML file.
        overrides: Changes such as `base.batch_size=32`, as `--set` takes them.

    Returns:
        The sweep: a frozen pydantic model with all of its settings.

    Raises:
        InputError: A file, key or value is wrong; one line says which, and the rule.

    """
    from lightsweep.sweepfile import reading

    return reading.load_sweep(Path(path), overrides)


def plan(sweep: "Sweep", data_dir: Path | str = "data") -> "Plan":
    """Plan a sweep's trials and their costs, without training; a search's space is drawn from, as a check.

    Args:
        sweep: The sweep.
        data_dir: Folder of the data sets.

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

    The folder is `out / sweep.name`. Works from any thread, and so from a notebook. Ray ends the process that
    uses it when its own processes are killed: the same call then goes on, as after any crash.

    Args:
        sweep: The sweep, or its file.
        out: Folder of run folders and of the stage store that they share.
        data_dir: Folder of the data sets.
        address: Of a Ray cluster, or auto; None starts one on this machine.
        insecure: Connect even if the cluster requires no authentication token.
        fresh: Train everything anew, whatever is stored.
        download: Whether missing data sets may be downloaded.

    Returns:
        Where the records are, and how many trials completed and failed. After Ctrl-C, `interrupted` is true.

    Raises:
        InputError: The sweep, the data or a folder is wrong.
        LostError: Ray, the disk or the database is gone; what was recorded stays.

    """
    from lightsweep.distributed.on_ray import OnRay
    from lightsweep.runs.run import run_sweep
    from lightsweep.system.terminal import open_console

    loaded = load_sweep(sweep) if isinstance(sweep, Path | str) else sweep
    planned, cluster = plan(loaded, data_dir), OnRay(address, insecure)
    return run_sweep(planned, Path(out), Path(data_dir), cluster, fresh, download, open_console())


def open_run(folder: Path | str) -> "RunFolder":
    """Open the folder of a run: its `sweep()`, the records of its `journal`, the trials of its `plan`.

    Raises:
        InputError: It is not a run's folder.

    """
    from lightsweep.runfolder.folder import RunFolder

    return RunFolder.open(Path(folder))
