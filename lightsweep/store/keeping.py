"""The contents of the stage store, and which entries may be removed.

The caller supplies which runs refer to which keys. A removed entry costs at most the time to train it again:
the records stay in the run folders.
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
    """Number and total size of some entries of the store, results and checkpoints alike."""

    entries: int
    size_bytes: int


@dataclass(frozen=True)
class Share:
    """Entries of the store that one run refers to."""

    run: str
    held: Amount
    alone_bytes: int
    """Size of the entries that no other run refers to."""


@dataclass(frozen=True)
class Summary:
    """Contents of a store."""

    folder: Path
    limit_bytes: int | None
    """Size to which the store is cut; None for no limit."""
    results: Amount
    checkpoints: Amount
    runs: tuple[Share, ...]
    """Entries of each run, sorted by its name."""
    unreferenced: Amount
    """Entries that no run refers to."""


References = Callable[[], Mapping[str, Sequence[str]]]
"""Returns, for each stage key, the names of the runs that refer to it."""


def summarise(store: FolderStore, references: References) -> Summary:
    """Return the contents of a store, in total and by run."""
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
    """Remove entries that no run refers to, except those being computed; return what was removed.

    Raises:
        InputError: A run's references cannot be read, or the store cannot be written.

    """
    entries = list(store.entries())  # before reading the plans: a run writes its plan before any entry
    referring = references()
    return _amount(store.remove([entry for entry in entries if entry.key not in referring]))


def cut_to_limit(
    store: FolderStore, references: References, protected_keys: Collection[str], limit_bytes: int
) -> Amount:
    """Cut a store to a size: remove unreferenced entries first, then others, each oldest first.

    Args:
        store: The store to cut.
        references: Called only if something must be removed; may raise an InputError.
        protected_keys: Keys that are never removed: those of the current run's plan.
        limit_bytes: Limit of results and checkpoints together.

    Returns:
        The number and size of the removed entries.

    Raises:
        InputError: The store is too large and a run's references cannot be read, or the store cannot be
            written.

    """
    entries = list(store.entries())  # before reading the plans, as in `prune`
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
    """Return the bytes of a size such as 500MB; None for `none`, no limit.

    >>> parse_limit("1.5KiB")
    1536

    Raises:
        InputError: The string is neither a size nor `none`.

    """
    if text.lower() == "none":
        return None
    match = _SIZE.fullmatch(text.lower())
    units = {unit.lower(): size_bytes for unit, size_bytes in _UNITS_BYTES.items()}
    if match is None or match[2] not in units:
        raise InputError(
            f"--limit {text!r}: a size is a number with a unit ({', '.join(_UNITS_BYTES)}), such as 500MB or "
            "1.5GiB; none means no limit"
        )
    return round(float(match[1]) * units[match[2]])


def _amount(entries: Iterable[Entry]) -> Amount:
    sizes = [entry.size_bytes for entry in entries]
    return Amount(len(sizes), sum(sizes))
