"""The machine that trains, as far as it affects rounding."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lightsweep.errors import MachineError
from lightsweep.system.processor import cpu_name


def make_repeatable() -> None:
    """Make training in this process bit-reproducible, which requires a fixed order of summation."""
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def allow_tf32(is_allowed: bool) -> None:
    """Set whether GPUs may round factors to TF32; torch's default allows it in convolutions only."""
    precision = "tf32" if is_allowed else "ieee"
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]


def require_gpu() -> None:
    """Check that this process can train on a GPU.

    Raises:
        MachineError: It cannot use a GPU.

    """
    if torch.cuda.is_available():
        return
    why = "sees none" if torch.version.cuda else "is a build for processors only"
    raise MachineError(
        f"{platform.node()}: Ray has a GPU for trials, but torch {torch.__version__} there {why}; install a "
        "torch for its driver on that node, or train on processors: resources.gpus = 0"
    )


def describe_machine(device: torch.device) -> dict[str, str]:
    """Return what determines rounding (device, hardware, torch version), and the host name."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return {"host": platform.node(), "device": device.type, "hardware": name, "torch": torch.__version__}
