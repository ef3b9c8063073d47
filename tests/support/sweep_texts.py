"""Reading a sweep from text, as the file t.yaml of the folder that a test works in."""

from pathlib import Path

from lightsweep.sweepfile.reading import load_sweep
from lightsweep.sweepfile.sweep import Sweep


def load(text: str, *overrides: str) -> Sweep:
    Path("t.yaml").write_text(text, encoding="utf-8")
    return load_sweep(Path("t.yaml"), overrides)
