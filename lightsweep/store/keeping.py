"""What the stage store holds and what may go.

Which runs refer to which keys is an argument. What is removed costs training time at most: the records stay
in the run folders.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightsweep.errors import InputError
from lightsweep.store.folder import Entry, FolderStore

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([a-z]+)")
_UNITS_BYTES = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30
}  # fmt: skip


@dataclass(frozen=True)
class Amount:
    """Some of the store's entries, results and checkpoints alike."""

    entries: int
    size_bytes: int


@dataclass(frozen=True)
class Share:
    """What a run refers to."""

    run: str
    held: Amount
    alone_bytes: int
    """Of these, what no other run refers to."""


@dataclass(frozen=True)
class Summary:
    """What a store holds."""

    folder: Path
    limit_bytes: int | None
    """None is any size."""
    results: Amount
    checkpoints: Amount
    runs: tuple[Share, ...]
    """By name."""
    unreferenced: Amount


References = Callable[[], Mapping[str, Sequence[str]]]
"""Return, for each stage key, the names of the runs that refer to it."""


def summarise(store: FolderStore, references: References) -> Summary:
    """Return what a store holds, and which runs refer to it."""
    entries = list(store.entries())
    referring = references()
    held: dict[str, list[Entry]] = {run: [] for runs in referring.values() for run in runs}
    for entry in entries:
        for run in referring.get(entry.key, ()):
            held[run].append(entry)
    return Summary(
        store.folder,
        store.limit_bytes(),
        results=_amount(entry for entry in entries if not entry.is_checkpoint),
        checkpoints=_amount(entry for entry in entries if entry.is_checkpoint),
        runs=tuple(
            Share(
                run,
                _amount(held[run]),
                sum(entry.size_bytes for entry in held[run] if list(referring[entry.key]) == [run]),
            )
            for run in sorted(held)
        ),
        unreferenced=_amount(entry for entry in entries if entry.key not in referring),
    )


def prune(store: FolderStore, references: References) -> Amount:
    """Remove what no run refers to, except what is being made just now.

    Raises:
        InputError: It cannot be told what some run refers to, or the store cannot be written.

    """
    entries = list(store.entries())  # before the plans: a run writes its plan before it makes anything
    referring = references()
    return _amount(store.remove([entry for entry in entries if entry.key not in referring]))


def cut_to_limit(
    store: FolderStore, references: References, protected_keys: Collection[str], limit_bytes: int
) -> Amount:
    """Remove entries of a store that is too large, the oldest first, but first what no run refers to.

    Args:
        store: What is cut.
        references: Asked only if something must go; may refuse with an InputError.
        protected_keys: What stays, whatever the limit: the plan of the run at work.
        limit_bytes: Of results and checkpoints together.

    Raises:
        InputError: The store is too large and it cannot be told what some run refers to, or the store
            cannot be written.

    """
    entries = list(store.entries())  # before the plans, as in `prune`
    left_bytes = _amount(entries).size_bytes
    if left_bytes <= limit_bytes:
        return Amount(0, 0)
    referring = references()
    removed: list[Entry] = []
    for entry in sorted(entries, key=lambda entry: (entry.key in referring, entry.modified, entry.path)):
        if left_bytes <= limit_bytes:
            break
        if entry.key not in protected_keys and store.remove([entry]):
            removed.append(entry)
            left_bytes -= entry.size_bytes
    return _amount(removed)


def parse_limit(text: str) -> int | None:
    """Return the bytes of a number with a unit; None for `none`, any size.

    >>> parse_limit("1.5KiB")
    1536

    Raises:
        InputError: It is neither.

    """
    if text.lower() == "none":
        return None
    match = _SIZE.fullmatch(text.lower())
    units = {unit.lower(): size_bytes for unit, size_bytes in _UNITS_BYTES.items()}
    if match is None or match[2] not in units:
        raise InputError(
            f"--limit {text!r}: a size is a number with a unit ({', '.join(_UNITS_BYTES)}), such as 500MB or "
            "1.5GiB; none is any size"
        )
    return round(float(match[1]) * units[match[2]])


def _amount(entries: Iterable[Entry]) -> Amount:
    sizes = [entry.size_bytes for entry in entries]
    return Amount(len(sizes), sum(sizes))
