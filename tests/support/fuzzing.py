"""Run folders, stores, studies and data as an attacker, a bad disk or another program may have left them.

Every damage is drawn from a seeded stream, which a failing case names, so that it can be made again.
"""

import contextlib
import json
import os
import random
import shutil
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HOSTILE_TEXTS = [
    "", " ", "\x1b[2J\x07", "\u202egnp.exe", "<script>alert(1)</script>", "=HYPERLINK(1)", "a\nb\r\nc",
    "../../../../tmp/x", "/etc/passwd", "${HOME} {{7*7}} %s", "\ud800", "x" * 100_000, "nan", "1e400", "\x00",
    "'; DROP TABLE trials; --", "🙂 猫",
]  # fmt: skip
HOSTILE_VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2**31, 2**53 + 1, 2**63, 10**400, -0.5, 1.5, 1e308, float("nan"),
    float("inf"),
    [], {}, [None], [[]], {"a": {}}, *HOSTILE_TEXTS,
]  # fmt: skip


def damage_file(path: Path, draws: random.Random) -> str:
    """Damage a file, whatever is in it; say how."""
    how = draws.choice(sorted(_ANY | (_BY_SUFFIX.get(path.suffix) or {})))
    return f"{path.name}: {how}: {(_ANY | _BY_SUFFIX.get(path.suffix, {}))[how](path, draws) or ''}"


def _bytes(change: Callable[[bytes, random.Random], bytes]) -> Callable[[Path, random.Random], None]:
    def apply(path: Path, draws: random.Random) -> None:
        data = path.read_bytes() if path.is_file() else b""
        path.write_bytes(change(data, draws))

    return apply


def _flip(data: bytes, draws: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draws.choice([1, 1, 3, 20])):
        if changed:
            changed[draws.randrange(len(changed))] ^= 1 << draws.randrange(8)
    return bytes(changed)


def _instead(make: Callable[[Path], object]) -> Callable[[Path, random.Random], None]:
    def apply(path: Path, draws: random.Random) -> None:
        path.unlink(missing_ok=True)
        make(path)

    return apply


def _socket(path: Path) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as listener:  # a path may be too long
        listener.bind(str(path))


def _json(path: Path, draws: random.Random) -> str:
    """Change one value somewhere in a JSON file, or in a line of one."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    number = draws.randrange(len(lines)) if lines else 0
    try:
        tree = json.loads(lines[number])
    except (ValueError, IndexError):
        return "no JSON any more"
    said = change_value(tree, draws)
    if isinstance(tree, list | dict):
        lines[number] = json.dumps(tree)
    path.write_text("\n".join(lines) + "\n", errors="surrogatepass")
    return said


def change_value(tree: Any, draws: random.Random) -> str:
    """Change, remove or add one value somewhere in a tree; say which."""
    node, place = tree, ""
    while isinstance(node, list | dict) and node:
        key = draws.choice(list(node) if isinstance(node, dict) else range(len(node)))
        inner = node[key]
        place += f".{key}"
        if isinstance(inner, list | dict) and inner and draws.random() < 0.8:
            node = inner
            continue
        what = draws.choice(["change", "change", "change", "remove", "double"])
        if what == "remove":
            del node[key]
        elif what == "double" and isinstance(node, list):
            node.append(inner)
        else:
            node[key] = draws.choice(HOSTILE_VALUES)
        return f"{what} {place}"[:200]
    return "nothing"


def _parquet(path: Path, draws: random.Random) -> str:
    try:
        table = pd.read_parquet(path)
    except Exception:
        return "no table any more"
    if table.empty:
        return "no rows"
    column = draws.choice(list(table.columns))
    what = draws.choice(["drop", "null", "text", "number", "double", "rename", "hostile"])
    if what == "drop":
        table = table.drop(columns=column)
    elif what == "null":
        table[column] = None
    elif what == "text":
        table[column] = table[column].astype("str")
    elif what == "number":
        table[column] = draws.choice([-1, 0, 1.5, 2**62, 1e308])
    elif what == "double":
        table = pd.concat([table, table.head(1)])
    elif what == "rename":
        table = table.rename(columns={column: draws.choice(["", "config.", "run", "x" * 999])})
    else:
        table[column] = table[column].astype("object")
        table.loc[table.index[0], column] = draws.choice(["\x1b[2J", "<b>", -5, "nan", "x" * 10_000])
        with contextlib.suppress(Exception):
            table.to_parquet(path)
            return f"{what} {column}"
        table[column] = table[column].astype("str")
    with contextlib.suppress(Exception):
        table.to_parquet(path)
    return f"{what} {column}"


def _sqlite(path: Path, draws: random.Random) -> str:
    """Change a value, remove rows or a table of a database."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        try:
            names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
            table = draws.choice(names)
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            column = draws.choice(columns)
            what = draws.choice(["change", "change", "change", "rows", "drop"])
            if what == "change":
                value = draws.choice([v for v in HOSTILE_VALUES if not isinstance(v, list | dict)])
                if isinstance(value, int) and abs(value) >= 2**63:
                    value = "9" * 30
                value = json.dumps(value) if "json" in column and draws.random() < 0.8 else value
                if isinstance(value, str):
                    value = value.encode("utf-8", "replace").decode()
                where = "" if draws.random() < 0.3 else f" WHERE rowid = {draws.randrange(1, 9)}"
                database.execute(f"UPDATE OR IGNORE {table} SET {column} = ?{where}", (value,))
            elif what == "rows":
                database.execute(f"DELETE FROM {table} WHERE rowid % 2 = 0")
            else:
                database.execute(f"DROP TABLE {table}")
            database.commit()
        except sqlite3.Error as error:
            return f"not damaged ({error})"
    return f"{what} {table}.{column}"


_ANY: dict[str, Callable[[Path, random.Random], Any]] = {
    "emptied": _bytes(lambda data, _: b""),
    "cut": _bytes(lambda data, draws: data[: draws.randrange(len(data) + 1)]),
    "zeros": _bytes(lambda data, _: bytes(len(data))),
    "flipped": _bytes(_flip),
    "longer": _bytes(lambda data, draws: data + draws.randbytes(draws.choice([1, 100]))),
    "noise": _bytes(lambda data, draws: draws.randbytes(len(data))),
    "removed": lambda path, _: path.unlink(missing_ok=True),
    "a pipe": _instead(os.mkfifo),
    "a folder": _instead(Path.mkdir),
    "a link to nothing": _instead(lambda path: path.symlink_to("nothing")),
    "a link to itself": _instead(lambda path: path.symlink_to(path.name)),
    "a link to zeros": _instead(lambda path: path.symlink_to("/dev/zero")),
    "a link to a file of mine": _instead(lambda path: path.symlink_to("/etc/hostname")),
    "a socket": _instead(_socket),
}
_DEEP = _bytes(lambda data, draws: b"[" * 100_000 + b"]" * 100_000)
_BY_SUFFIX: dict[str, dict[str, Callable[[Path, random.Random], Any]]] = {
    ".json": {"a value": _json, "another value": _json, "one more value": _json, "deep": _DEEP},
    ".jsonl": {"a value": _json, "another value": _json, "one more value": _json, "deep": _DEEP},
    ".parquet": {"a column": _parquet, "another column": _parquet},
    ".db": {"a row": _sqlite, "another row": _sqlite, "one more row": _sqlite},
}


def damage_store(store: Path, draws: random.Random) -> str:
    """Damage a store's entry, or exchange two; say how."""
    entries = sorted(store.glob("*/*.stage")) + sorted(store.glob("*/*.checkpoint"))
    one, other = draws.choice(entries), draws.choice(entries)
    how = draws.choice(["file", "file", "exchange", "copy", "folder", "claims", "settings"])
    if how == "file":
        return damage_file(one, draws)
    if how == "folder":
        moved = store.parent / "elsewhere"
        shutil.rmtree(moved, ignore_errors=True)
        shutil.move(one.parent, moved)
        one.parent.symlink_to(moved)
        return f"{one.parent.name} is a link"
    if how in ("claims", "settings"):
        path = store / {"claims": "claims", "settings": "settings.json"}[how]
        path.touch()
        return damage_file(path, draws)
    data, others = one.read_bytes(), other.read_bytes()
    other.write_bytes(data)
    if how == "exchange":
        one.write_bytes(others)
    return f"{how} {one.name[:8]} {other.name[:8]}"


def damage_pictures(folder: Path, draws: random.Random) -> str:
    """Damage a folder of pictures."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    one = draws.choice(files)
    how = draws.choice(["file", "file", "file", "name", "suffix", "hidden", "move", "empty", "deep", "class"])
    if how == "file":
        return damage_file(one, draws)
    if how == "name":
        name = draws.choice(
            [b"\xff\xfe.png", "é\u202e.png".encode(), b"a\nb.png", b"x" * 200 + b".png", b".png"]
        )
        os.rename(os.fsencode(one), os.path.join(os.fsencode(one.parent), name))
    elif how == "suffix":
        one.rename(one.with_suffix(draws.choice([".gif", ".tif", ".webp", ".txt", ".PPM", ""])))
    elif how == "hidden":
        (one.parent / ".cache").mkdir(exist_ok=True)
        shutil.copy(one, one.parent / ".cache" / one.name)
    elif how == "move":
        shutil.move(one, folder / one.name)
    elif how == "empty":
        (folder / draws.choice(["train", "Test", "val", "z", "x.png"])).mkdir(exist_ok=True)
    elif how == "deep":
        (one.parent / "down").mkdir(exist_ok=True)
        shutil.move(one, one.parent / "down" / one.name)
    else:
        os.rename(
            os.fsencode(one.parent),
            os.path.join(os.fsencode(folder), draws.choice([b"\xff", b"a b", b"\x1b[2J"])),
        )
    return f"{how} {one.name!r}"


def damage_arrays(path: Path, draws: random.Random) -> str:
    """Damage an npz file, or write one of other arrays."""
    if draws.random() < 0.4:
        return damage_file(path, draws)
    with np.load(path) as file:
        arrays = dict(file)
    name = draws.choice(sorted(arrays))
    shape = arrays[name].shape
    other: dict[str, Callable[[], Any]] = {
        "removed": lambda: None,
        "floats": lambda: arrays[name].astype(float),
        "objects": lambda: np.array([None] * len(arrays[name]), dtype=object),
        "texts": lambda: np.array(["\x1b[2J"] * len(arrays[name])),
        "empty": lambda: arrays[name][:0],
        "one": lambda: arrays[name][:1],
        "flat": lambda: arrays[name].reshape(shape[0], -1),
        "first axis last": lambda: np.moveaxis(arrays[name], 0, -1),
        "an axis more": lambda: arrays[name][..., None, None],
        "negative": lambda: -arrays[name].astype(np.int64),
        "huge": lambda: arrays[name].astype(np.uint64) + np.uint64(2**63),
        "one class": lambda: np.zeros_like(arrays[name]),
        "no axis": lambda: np.uint8(3),
    }
    how = draws.choice(sorted(other))
    changed = other[how]()
    del arrays[name]
    if changed is not None:
        arrays[name] = changed
    arrays |= (
        {}
        if draws.random() < 0.7
        else {
            f"val_{kind}": arrays[f"train_{kind}"]
            for kind in ("images", "labels")
            if f"train_{kind}" in arrays
        }
    )
    np.savez(path, **arrays)
    return f"{name} {how}"
