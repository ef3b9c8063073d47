"""Import torchvision, also where its C++ operators do not load.

The registry's torchvision wheel cannot load its C++ operators on a CPU-only torch; its import then
fails with "operator torchvision::nms does not exist", because it registers shape functions for two
operators that are not declared. Declaring their schemas first fixes the import. The operators
themselves (non-maximum suppression) stay missing, which matters for object detection only.
"""

import importlib
import sys
from types import ModuleType

import torch

_MISSING_OPERATOR = "operator torchvision::nms does not exist"
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_torchvision() -> ModuleType:
    """Import and return torchvision, even if its C++ operators do not load.

    Raises:
        RuntimeError, ImportError: The import fails for another reason than missing operators.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING_OPERATOR not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # partially imported
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", _SCHEMA)
    return importlib.import_module("torchvision")
