"""Build hook: compile the kernels for this kind of processor, where there is a compiler."""

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KERNELS = Path("lightsweep", "kernels")


class KernelsHook(BuildHookInterface[Any]):
    """Compiles beside the source, for an editable install, and into a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and make the wheel one for this platform if there is something in it that is."""
        folder = Path(self.root) / KERNELS
        spec = importlib.util.spec_from_file_location("compiling", folder / "compiling.py")
        assert spec is not None
        assert spec.loader is not None
        compiling = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(compiling)
        made = compiling.compile_all(folder)
        if not made:
            self.app.display_warning("no C compiler: lightsweep will train on torch's operators alone")
            return
        build_data["artifacts"] += [f"/{KERNELS.as_posix()}/{file.name}" for file in made]
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
