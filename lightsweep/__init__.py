"""Lightsweep: distributed hyperparameter and ablation sweeps for tiny CNNs.

It sweeps the method of arXiv 2501.15547, "Building Efficient Lightweight CNN Models".

    sweep = lightsweep.load_sweep("sweeps/quickstart.yaml", ["seeds=3"])
    lightsweep.plan(sweep).trials
    summary = lightsweep.run(sweep)
    lightsweep.open_run(summary.folder).journal.records()

The user's own code may use `Range`, in annotations of keywords, and `Data`, which a data set's function
returns. The names below are loaded on first use, so importing the package is fast. Every error in the user's
input is an `InputError`; its subclasses cover failed writes, unsuitable machines and lost resources.
"""

TYPE_CHECKING = False  # as type checkers know it; typing itself takes longer to import than all of this
if TYPE_CHECKING:
    from lightsweep.data.own import Data
    from lightsweep.errors import InputError, LostError, MachineError, WriteError
    from lightsweep.front import load_sweep, open_run, plan, run
    from lightsweep.owncode.ranges import Range

__version__ = "0.1.0"

__all__ = [
    "Data",
    "InputError",
    "LostError",
    "MachineError",
    "Range",
    "WriteError",
    "__version__",
    "load_sweep",
    "open_run",
    "plan",
    "run",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module 'lightsweep' has no attribute {name!r}")
    homes = {"Data": "data.own", "Range": "owncode.ranges"}
    home = homes.get(name, "errors" if name.endswith("Error") else "front")
    return getattr(import_module(f"lightsweep.{home}"), name)
