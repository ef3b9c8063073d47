"""The stage store as text in a terminal."""

from rich.console import Console
from rich.table import Table

from lightsweep.store.keeping import Amount, Summary
from lightsweep.system.terminal import cell


def print_store(summary: Summary, console: Console) -> None:
    """Print the totals of the stage store, then a run per row; several runs may refer to the same entry."""
    limit = "none" if summary.limit_bytes is None else size_text(summary.limit_bytes)
    console.print(
        f"{summary.folder}: results {amount_text(summary.results)}, "
        f"checkpoints {amount_text(summary.checkpoints)}, limit {limit}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    table = Table("run")
    for name in ("entries", "size", "exclusive size"):
        table.add_column(name, justify="right")
    for share in summary.runs:
        held = share.held
        table.add_row(
            cell(share.run), f"{held.entries:,}", size_text(held.size_bytes), size_text(share.alone_bytes)
        )
    table.add_section()
    unreferenced = summary.unreferenced
    table.add_row("no run", f"{unreferenced.entries:,}", size_text(unreferenced.size_bytes), "")
    console.print(table)


def amount_text(amount: Amount) -> str:
    """Return a number of entries and their size in words."""
    return f"{amount.entries:,} ({size_text(amount.size_bytes)})"


def size_text(size_bytes: int) -> str:
    """Return a size with a suitable unit.

    >>> size_text(1536)
    '1.5 KiB'
    """
    for unit, unit_bytes in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes >= unit_bytes:
            return f"{size_bytes / unit_bytes:,.1f} {unit}"
    return f"{size_bytes} B"
