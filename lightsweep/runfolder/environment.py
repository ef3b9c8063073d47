"""The environment of a run: commit, versions, hardware."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lightsweep.echo import masked
from lightsweep.system.processor import cpu_name


def describe_environment() -> dict[str, Any]:
    """Return the environment of a run: time, command, commit, versions, hardware."""
    import platform

    import torch

    from lightsweep.kernels.library import best_level

    def version_of(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    packages = ("lightsweep", "torch", "torchvision", "ray", "numpy", "pandas", "plotly", "scikit-learn")
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": masked(" ".join(["lightsweep", *sys.argv[1:]])),
        "commit": commit(),
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in packages}},
        "hardware": {
            "host": platform.node(),
            "system": platform.platform(),
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "gpus": gpus,
            "kernels": best_level(),
        },
    }


def commit() -> str:
    """Return the commit of this lightsweep, plus "+dirty" if modified; "" outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if not git("ls-files", "records.py"):
            return ""  # installed inside another project's checkout
        return git("rev-parse", "--short=12", "HEAD") + (
            "+dirty" if git("status", "--porcelain", ".") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
