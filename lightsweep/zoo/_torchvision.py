"""torchvision's modules of nets, also where its C++ operators do not load."""

import importlib
from typing import Any

from lightsweep.system.torchvision_import import import_torchvision


def models(name: str) -> Any:
    """Return torchvision's module of a net."""
    return importlib.import_module(f"{import_torchvision().__name__}.models.{name}")
