"""Keeping the store: whose entries are whose, and what goes first, so that a clean-up costs nobody much."""

import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from forked import lightsweep as lightsweep_process
from hypothesis import given
from hypothesis import strategies as st
from plain_records import plain_record
from stage_results import some_result

from lightsweep.cli import main as cli
from lightsweep.cli.views.store import size_text
from lightsweep.errors import InputError
from lightsweep.runfolder.folder import RunFolder
from lightsweep.runfolder.references import references, refuse
from lightsweep.store.folder import CHECKPOINT, RESULT, FolderStore
from lightsweep.store.keeping import Amount, References, Share, cut_to_limit, parse_limit, prune, summarise

A, B, C, D, E = KEYS = [digit * 64 for digit in "abcde"]
LONG_AGO, YEAR_2100 = 1_000_000_000, 4_102_444_800


def certain(out: Path) -> References:
    """Return what tells which runs under a folder refer to what, or refuses."""
    return partial(references, out, refuse)


def put(
    store: FolderStore, key: str, size_bytes: int, modified: float = LONG_AGO, kind: str = RESULT
) -> None:
    store.write(key, bytes(size_bytes), kind)
    os.utime(store.path(key, kind), (modified, modified))


def plan(out: Path, name: str, **trials: Sequence[str]) -> RunFolder:
    """A run's folder with a trial and its keys per keyword."""
    run = RunFolder(out / name)
    run.folder.mkdir(parents=True)
    planned = [
        {"trial_id": t, "arm": "a", "seed": 0, "fold": None, "changes": {}, "keys": keys}
        for t, keys in trials.items()
    ]
    (run.folder / "plan.json").write_text(json.dumps(planned))
    return run


def journal(run: RunFolder, trial_id: str, *keys: str) -> None:
    run.journal.append(plain_record(trial_id, *keys))


def left(store: FolderStore) -> list[str]:
    return sorted(f"{entry.key[0]}{entry.path.suffix}" for entry in store.entries())


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """One and two share A; B is one's, C nobody's result and checkpoint, D two's checkpoint, E not stored."""
    plan(tmp_path, "one", t1=[A, B])
    plan(tmp_path, "two", t1=[A, D], t2=[A, E])
    store = FolderStore(tmp_path / ".stages")
    put(store, A, 1000, LONG_AGO + 3)
    put(store, B, 200, LONG_AGO + 1)
    put(store, C, 30, LONG_AGO + 2)
    put(store, C, 4, LONG_AGO + 5, CHECKPOINT)
    put(store, D, 5000, LONG_AGO + 4, CHECKPOINT)
    return store


class TestReferences:
    def test_are_the_keys_of_all_plans(self, tmp_path: Path) -> None:
        plan(tmp_path, "two", t1=[B, C], t2=[B, D])
        plan(tmp_path, "one", t1=[A, B])
        assert references(tmp_path) == {A: ["one"], B: ["one", "two"], C: ["two"], D: ["two"]}

    def test_are_the_newest_records_keys_of_trials_that_are_planned(self, tmp_path: Path) -> None:
        """A trial that was trained on a GPU has other keys than a plan made where there is none."""
        run = plan(tmp_path, "one", t1=[A])
        journal(run, "t1", B)
        journal(run, "t1", C)
        journal(run, "gone", D)
        assert references(tmp_path) == {A: ["one"], C: ["one"]}

    def test_what_is_no_run_is_passed_over(self, tmp_path: Path) -> None:
        FolderStore(tmp_path / ".stages")
        (tmp_path / "notes.txt").write_text("mine")
        (tmp_path / "empty").mkdir()
        (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
        assert references(tmp_path) == {}

    def test_a_cut_record_loses_no_other_reference(self, tmp_path: Path) -> None:
        """A killed run's last line is cut: the rest of what it refers to stays referred to."""
        run = plan(tmp_path, "one", t1=[A], t2=[B])
        journal(run, "t1", C)
        with run.journal.path.open("a") as file:
            file.write('{"trial": {"trial_id": "t2"')
        with pytest.warns(UserWarning, match="line 2 is damaged and skipped"):
            assert set(references(tmp_path)) == {A, B, C}


class TestSummary:
    def test_sizes_by_hand(self, tmp_path: Path, store: FolderStore) -> None:
        found = summarise(store, partial(references, tmp_path))
        assert found.folder == tmp_path / ".stages"
        assert found.limit_bytes is None
        assert found.results == Amount(3, 1230)
        assert found.checkpoints == Amount(2, 5004)
        assert found.runs == (Share("one", Amount(2, 1200), 200), Share("two", Amount(2, 6000), 5000))
        assert found.unreferenced == Amount(2, 34)

    def test_a_run_of_which_nothing_is_stored_is_a_row(self, tmp_path: Path) -> None:
        plan(tmp_path, "one", t1=[A])
        store = FolderStore(tmp_path / ".stages")
        store.set_limit(7)
        found = summarise(store, partial(references, tmp_path))
        assert found.runs == (Share("one", Amount(0, 0), 0),)
        assert found.limit_bytes == 7

    def test_real_results_count_with_their_files_size(self, tmp_path: Path) -> None:
        plan(tmp_path, "one", t1=[A])
        store = FolderStore(tmp_path / ".stages")
        for key in (A, B):
            store.write(key, some_result().to_bytes(key))
        size_bytes = len(some_result().to_bytes(A))
        assert summarise(store, partial(references, tmp_path)).results == Amount(2, 2 * size_bytes)
        assert prune(store, certain(tmp_path)) == Amount(1, size_bytes)
        assert store.read(A) == some_result().to_bytes(A)


class TestPrune:
    def test_removes_what_no_run_refers_to_and_nothing_else(self, tmp_path: Path, store: FolderStore) -> None:
        assert prune(store, certain(tmp_path)) == Amount(2, 34)
        assert left(store) == ["a.stage", "b.stage", "d.checkpoint"]
        assert prune(store, certain(tmp_path)) == Amount(0, 0)

    def test_a_deleted_runs_results_go_but_for_the_shared(self, tmp_path: Path, store: FolderStore) -> None:
        (tmp_path / "one" / "plan.json").unlink()
        assert prune(store, certain(tmp_path)) == Amount(3, 234)
        assert left(store) == ["a.stage", "d.checkpoint"]

    def test_what_is_being_made_just_now_stays(self, tmp_path: Path, store: FolderStore) -> None:
        """Whoever makes it: its claim is looked at, not its plan."""
        code = (
            "import sys; from pathlib import Path; from lightsweep.store.folder import FolderStore\n"
            "store = FolderStore(Path(sys.argv[1])); print(store.try_claim(sys.argv[2]), flush=True); input()"
        )
        command = [sys.executable, "-c", code, str(store.folder), C]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "True\n"
            assert prune(store, certain(tmp_path)) == Amount(0, 0)
            assert cut_to_limit(store, certain(tmp_path), (), 0) == Amount(3, 6200)
            assert left(store) == ["c.checkpoint", "c.stage"]
            other.communicate("\n")
        assert prune(store, certain(tmp_path)) == Amount(2, 34)

    def test_a_run_that_begins_meanwhile_loses_nothing(
        self, tmp_path: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It writes its plan and its first result just before the plans are read."""
        listed = Path.iterdir

        def begin_and_list(folder: Path) -> Any:
            plan(tmp_path, "three", t1=[E])
            put(store, E, 1)
            return listed(folder)

        monkeypatch.setattr(Path, "iterdir", begin_and_list)
        assert prune(store, certain(tmp_path)) == Amount(2, 34)
        assert "e.stage" in left(store)


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda plan: plan.write_text(""),
    "cut": lambda plan: plan.write_text(plan.read_text()[:-5]),
    "no text": lambda plan: plan.write_bytes(b"\xff\xfe"),
    "no list": lambda plan: plan.write_text("{}"),
    "null": lambda plan: plan.write_text("null"),
    "keys that are no list": lambda plan: plan.write_text('[{"trial_id": "t", "keys": "abc"}]'),
    "keys that are no text": lambda plan: plan.write_text('[{"trial_id": "t", "keys": [1]}]'),
    "of the first version, without keys": lambda plan: plan.write_text('[{"trial_id": "t", "arm": "a"}]'),
    "a folder": lambda plan: (plan.unlink(), plan.mkdir()),
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_where_a_plan_cannot_be_read_nothing_is_removed(
    tmp_path: Path, store: FolderStore, damage: Callable[[Path], object]
) -> None:
    """What that run refers to would look like nobody's."""
    broken = tmp_path / "one" / "plan.json"
    damage(broken)
    before = left(store)
    for remove in (
        lambda: prune(store, certain(tmp_path)),
        lambda: cut_to_limit(store, certain(tmp_path), (), 100),
    ):
        with pytest.raises(InputError) as caught:
            remove()
        assert re.match(rf"{broken}: (not a run's plan|not a text file|is a folder)", str(caught.value))
        assert str(caught.value).endswith("that this run refers to are unknown (nothing was removed)")
    assert left(store) == before
    assert cut_to_limit(store, certain(tmp_path), (), 6234) == Amount(
        0, 0
    )  # nothing to remove, nothing to refuse
    with pytest.warns(UserWarning, match="the stages that this run refers to are unknown") as warned:
        found = references(tmp_path)
    assert found == {A: ["two"], D: ["two"], E: ["two"]}
    assert len(warned) == 1
    assert str(warned[0].message).startswith(f"{broken}: ")


class TestCut:
    def test_unreferenced_goes_first_then_the_oldest(self, tmp_path: Path, store: FolderStore) -> None:
        """In all 6,234 bytes: C's 30 and 4 first, though B is older; then B, A, D by their age."""
        for limit_bytes, amount, rest in [
            (6234, Amount(0, 0), "a.stage b.stage c.checkpoint c.stage d.checkpoint"),
            (6233, Amount(1, 30), "a.stage b.stage c.checkpoint d.checkpoint"),
            (6200, Amount(1, 4), "a.stage b.stage d.checkpoint"),
            (6199, Amount(1, 200), "a.stage d.checkpoint"),
            (5500, Amount(1, 1000), "d.checkpoint"),
            (4999, Amount(1, 5000), ""),
        ]:
            assert cut_to_limit(store, certain(tmp_path), (), limit_bytes) == amount
            assert left(store) == rest.split()

    def test_the_run_at_works_plan_stays(self, tmp_path: Path, store: FolderStore) -> None:
        assert cut_to_limit(store, certain(tmp_path), {A, B}, 0) == Amount(3, 5034)
        assert left(store) == ["a.stage", "b.stage"]

    def test_a_clock_that_was_set_back_harms_nothing(self, tmp_path: Path) -> None:
        """What is from the future goes last of its kind, but goes."""
        plan(tmp_path, "one", t1=[A, B])
        store = FolderStore(tmp_path / ".stages")
        put(store, A, 10, YEAR_2100)
        put(store, B, 10, 0)
        put(store, C, 10, YEAR_2100)
        for rest in (["a.stage", "b.stage"], ["a.stage"], []):
            assert cut_to_limit(store, certain(tmp_path), (), 10 * len(rest)) == Amount(1, 10)
            assert left(store) == rest


@st.composite
def stores(draw: st.DrawFn) -> dict[str, Any]:
    """Sizes and times of some entries, which keys a run refers to and which are protected, and a limit."""
    entries = draw(
        st.dictionaries(
            st.tuples(st.sampled_from(KEYS), st.sampled_from([RESULT, CHECKPOINT])),
            st.tuples(st.integers(0, 9), st.sampled_from([0, LONG_AGO, LONG_AGO + 1, YEAR_2100])),
        )
    )
    # a result takes its checkpoint's place when written: checkpoints are put last
    entries = dict(sorted(entries.items(), key=lambda item: item[0][1] == CHECKPOINT))
    keys = st.sets(st.sampled_from(KEYS))
    return {
        "entries": entries,
        "referred": draw(keys),
        "protected": draw(keys),
        "limit_bytes": draw(st.integers(0, sum(size for size, _ in entries.values()) + 1)),
    }


@given(stores())
def test_a_cut_keeps_every_promise(drawn: dict[str, Any]) -> None:
    """Protected stays; the limit holds unless only that is left; order; and nothing goes without need."""
    referred, protected, limit_bytes = drawn["referred"], drawn["protected"], drawn["limit_bytes"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        store = FolderStore(out / ".stages")
        for (key, kind), (size_bytes, modified) in drawn["entries"].items():
            put(store, key, size_bytes, modified, kind)
        plan(out, "one", t1=sorted(referred))
        before = set(store.entries())
        removed = cut_to_limit(store, certain(out), protected, limit_bytes)
        kept = set(store.entries())
    gone = before - kept
    assert kept <= before
    assert removed == Amount(len(gone), sum(entry.size_bytes for entry in gone))
    assert not {entry.key for entry in gone} & protected
    free = {entry for entry in kept if entry.key not in protected}
    kept_bytes = sum(entry.size_bytes for entry in kept)
    assert kept_bytes <= limit_bytes or not free

    def rank(entry: Any) -> tuple[bool, float]:
        return entry.key in referred, entry.modified

    if gone:
        last = max(map(rank, gone))
        assert all(rank(entry) >= last for entry in free)
        assert kept_bytes + max(entry.size_bytes for entry in gone if rank(entry) == last) > limit_bytes


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0B", 0),
        ("12B", 12),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("500MB", 500_000_000),
        ("2mib", 2_097_152),
        ("5GB", 5_000_000_000),
        ("5 gb", 5_000_000_000),
        ("1.1GB", 1_100_000_000),
        ("0.5GiB", 536_870_912),
        ("none", None),
        ("NONE", None),
    ],
)
def test_a_limit_is_a_number_with_a_unit(text: str, size_bytes: int | None) -> None:
    assert parse_limit(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "5", "GB", "-5GB", "5GBs", "5TB", "5,5GB", "1e3MB", "nan", "infGB", "5G B", "٥GB", "5\nGB"]
)
def test_any_other_limit_is_refused_with_examples(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_limit(text)
    assert str(caught.value) == (
        f"--limit {text!r}: a size is a number with a unit (B, KB, MB, GB, KiB, MiB, GiB), "
        "such as 500MB or 1.5GiB; none means no limit"
    )


def test_sizes_are_written_with_the_unit_that_suits_them() -> None:
    sizes_bytes = (0, 1023, 1024, 1536, 2**20, 3 * 2**29, 2**41)
    assert [size_text(size_bytes) for size_bytes in sizes_bytes] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.5 GiB", "2,048.0 GiB",
    ]  # fmt: skip


Said = tuple[int, list[str], str]


@pytest.fixture
def lightsweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """The command, in this process: exit status, lines, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["lightsweep", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out.splitlines(), said.err

    return run


def rows(lines: list[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]


class TestCommand:
    def test_shows_totals_and_a_row_per_run(
        self, lightsweep: Callable[..., Said], tmp_path: Path, store: FolderStore
    ) -> None:
        before = sorted(tmp_path.rglob("*"))
        status, lines, errors = lightsweep("store", "--out", ".")
        assert (status, errors) == (0, "")
        assert lines[0] == ".stages: results 3 (1.2 KiB), checkpoints 2 (4.9 KiB), limit none"
        assert rows(lines) == [
            ["one", "2", "1.2 KiB", "200 B"],
            ["two", "2", "5.9 KiB", "4.9 KiB"],
            ["no run", "2", "34 B", ""],
        ]
        assert sorted(tmp_path.rglob("*")) == before

    def test_prune_removes_and_says_what(self, lightsweep: Callable[..., Said], store: FolderStore) -> None:
        status, lines, _ = lightsweep("store", "--out", ".", "--prune")
        assert status == 0
        assert lines[0] == "removed entries to which no run refers: 2 (34 B)"
        assert lines[1] == ".stages: results 2 (1.2 KiB), checkpoints 1 (4.9 KiB), limit none"
        assert rows(lines)[-1] == ["no run", "0", "0 B", ""]
        assert left(store) == ["a.stage", "b.stage", "d.checkpoint"]

    def test_limit_cuts_at_once_and_is_kept_until_it_is_none(
        self, lightsweep: Callable[..., Said], store: FolderStore
    ) -> None:
        status, lines, _ = lightsweep("store", "--out", ".", "--limit", "6kb")
        assert status == 0
        assert lines[0] == "removed entries above the limit: 3 (234 B)"
        assert lines[1] == ".stages: results 1 (1000 B), checkpoints 1 (4.9 KiB), limit 5.9 KiB"
        assert store.limit_bytes() == 6000
        assert left(store) == ["a.stage", "d.checkpoint"]
        status, lines, _ = lightsweep("store", "--out", ".", "--limit", "none")
        assert lines[0].endswith("limit none")
        assert store.limit_bytes() is None

    def test_a_wrong_limit_changes_nothing(self, lightsweep: Callable[..., Said], store: FolderStore) -> None:
        before = left(store)
        status, lines, errors = lightsweep("store", "--out", ".", "--prune", "--limit", "lots")
        assert (status, lines) == (2, [])
        assert errors.startswith("error: --limit 'lots': a size is a number with a unit (B, KB")
        assert errors.count("\n") == 1
        assert left(store) == before

    def test_looking_where_no_store_is_makes_none(
        self, lightsweep: Callable[..., Said], tmp_path: Path
    ) -> None:
        for options in ([], ["--prune"], ["--limit", "1GB"]):
            status, lines, errors = lightsweep("store", *options)
            assert (status, lines) == (2, [])
            assert errors == (
                "error: runs/.stages: no such folder, so nothing is stored; --out says where runs are\n"
            )
        assert not list(tmp_path.iterdir())

    def test_a_plan_that_cannot_be_read_is_a_warning_and_stops_removal(
        self, tmp_path: Path, store: FolderStore
    ) -> None:
        """As a process: what is a warning to who looks is an error to who removes, and sets no limit."""
        (tmp_path / "one" / "plan.json").write_text("[")
        before = left(store)
        fault = "one/plan.json: not a run's plan (Invalid JSON: EOF while parsing a list at line 1 column 1);"
        for options, status, beginning in [
            ([], 0, "warning: "),
            (["--prune"], 2, "error: "),
            (["--limit", "1KB"], 2, "error: "),
        ]:
            done = lightsweep_process("store", "--out", ".", *options, cwd=tmp_path)
            assert done.returncode == status, done.stderr
            assert done.stderr.startswith(beginning + fault)
            assert done.stderr.count("\n") == 1
            assert bool(done.stdout) == (status == 0)
        assert left(store) == before
        assert store.limit_bytes() is None
