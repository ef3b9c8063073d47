"""Which code of a run's folder may run: code whose exact text this user has run on this machine before."""

import os
import re
from pathlib import Path

_ANY = "any"
_TRUSTED: set[str] = set()
"""Hashes that this process trusts, also where nothing can be written."""


def _file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "lightsweep" / "trusted-code"


def allow() -> None:
    """Trust any code of a run's folder that this process meets (`--trust-code`)."""
    _TRUSTED.add(_ANY)


def trust(text_hash: str) -> None:
    """Trust sources from now on, by the hash of their exact texts (`Sources.text_hash`)."""
    if text_hash in _TRUSTED or text_hash in _recorded():
        return
    _TRUSTED.add(text_hash)
    file = _file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as end:
            end.write(f"{text_hash}\n")
    except OSError:
        return  # trusted in this process alone


def is_trusted(text_hash: str) -> bool:
    """Return whether sources were run here before, or `--trust-code` was given."""
    return _ANY in _TRUSTED or text_hash in _TRUSTED or text_hash in _recorded()


def _recorded() -> set[str]:
    try:
        return set(re.findall(r"^[0-9a-f]{64}$", _file().read_text(errors="replace"), re.MULTILINE))
    except OSError:
        return set()
