"""The broker: one makes a key's result and the others wait; a claim ends with its owner."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_results import some_result

from lightsweep import broker as module
from lightsweep.broker import Broker, Reply
from lightsweep.stagefile import Checkpoint
from lightsweep.store import FolderStore, stage_file

KEY, OTHER_KEY = "ab" * 32, "cd" * 32
DATA = some_result().to_bytes()
CHECKPOINT_DATA = Checkpoint({}, [{"epoch": 1}], 1.0).to_bytes()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.001)


def broker(folder: Path, fresh: bool = False) -> Broker:
    return Broker(str(folder), fresh)


async def waiting(some: Broker, owner: str, key: str = KEY) -> asyncio.Task[Reply]:
    """Begin a claim and let it come to where it waits."""
    task = asyncio.create_task(some.claim(key, owner))
    await asyncio.sleep(0.02)
    return task


def test_the_first_makes_it_and_the_others_get_it(tmp_path: Path) -> None:
    async def play() -> None:
        some = broker(tmp_path)
        first = await some.claim(KEY, "one")
        assert (first.result, first.checkpoint) == (None, None)
        assert first.waited_seconds < 0.01
        others = [await waiting(some, owner) for owner in ("two", "three")]
        assert not any(task.done() for task in others)
        assert (await some.claim(OTHER_KEY, "four")).result is None  # another key waits for nobody
        assert some.put(KEY, "one", DATA) is None
        for reply in await asyncio.gather(*others):
            assert reply.result == DATA
            assert reply.waited_seconds > 0.01
        assert (await some.claim(KEY, "five")).result == DATA

    asyncio.run(play())


@pytest.mark.parametrize(
    "end", [lambda some: some.release(KEY, "one"), lambda some: some.drop("one")], ids=["released", "lost"]
)
def test_a_claim_without_a_result_passes_on_with_its_checkpoint(
    tmp_path: Path, end: Callable[[Broker], None]
) -> None:
    async def play() -> None:
        some = broker(tmp_path)
        await some.claim(KEY, "one")
        assert some.put_checkpoint(KEY, "one", CHECKPOINT_DATA) is None
        tasks = [await waiting(some, owner) for owner in ("two", "three")]
        end(some)
        done, pending = await asyncio.wait(tasks, timeout=0.1)
        assert len(done) == len(pending) == 1  # one of them makes it, the other waits for that one
        (reply,) = (task.result() for task in done)
        assert (reply.result, reply.checkpoint) == (None, CHECKPOINT_DATA)
        winner = "two" if tasks[0] in done else "three"
        some.put(KEY, winner, DATA)
        assert (await pending.pop()).result == DATA

    asyncio.run(play())


def test_nobody_ends_anothers_claim_nor_writes_into_it(tmp_path: Path) -> None:
    async def play() -> None:
        some = broker(tmp_path)
        await some.claim(KEY, "one")
        some.release(KEY, "two")
        some.drop("two")
        assert some.put_checkpoint(KEY, "two", CHECKPOINT_DATA) is None
        assert some.put(KEY, "two", DATA) is None
        task = await waiting(some, "three")
        assert not task.done()
        some.put(KEY, "one", DATA)
        assert (await task).result == DATA

    asyncio.run(play())


def test_a_broker_that_began_anew_takes_what_its_workers_bring(tmp_path: Path) -> None:
    async def play() -> None:
        await broker(tmp_path).claim(KEY, "one")
        again = broker(tmp_path)
        again.put_checkpoint(KEY, "one", CHECKPOINT_DATA)
        task = await waiting(again, "two")  # the checkpoint was a claim, too
        assert not task.done()
        again.put(KEY, "one", DATA)
        assert (await task).result == DATA

    asyncio.run(play())


def test_fresh_passes_over_what_was_stored_but_shares_what_it_makes(tmp_path: Path) -> None:
    async def play() -> None:
        store = FolderStore(tmp_path)
        store.write(KEY, some_result(9).to_bytes())
        some = broker(tmp_path, fresh=True)
        assert (await some.claim(KEY, "one")).result is None
        some.put(KEY, "one", DATA)
        assert (await some.claim(KEY, "two")).result == DATA

    asyncio.run(play())


def test_a_store_that_cannot_be_written_is_said_and_the_claim_ends(tmp_path: Path) -> None:
    async def play() -> None:
        some = broker(tmp_path)
        await some.claim(KEY, "one")
        (tmp_path / "ab").write_text("in the way")
        fault = some.put(KEY, "one", DATA)
        assert fault is not None
        assert "cannot be written" in fault
        assert (await some.claim(KEY, "two")).result is None

    asyncio.run(play())


def test_a_damaged_entry_is_claimed_anew_with_one_warning(tmp_path: Path) -> None:
    async def play() -> None:
        some = broker(tmp_path)
        await some.claim(KEY, "one")
        some.put(KEY, "one", DATA)
        path = stage_file(tmp_path, KEY)
        path.write_bytes(DATA[:-9])
        reply = await some.claim(KEY, "two")
        assert reply.result is None
        assert reply.warning is not None
        assert reply.warning.startswith(f"stage result {path} is discarded")
        some.put(KEY, "two", DATA)
        assert (await some.claim(KEY, "three")) == Reply(DATA, None, pytest.approx(0, abs=0.1), None)

    asyncio.run(play())


@given(
    chains=st.lists(st.lists(st.sampled_from(range(4)), min_size=1, max_size=4, unique=True), max_size=6),
    lost=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 3))),
)
@settings(max_examples=30)
def test_every_owner_comes_to_its_end_and_nothing_is_made_twice(
    tmp_path_factory: pytest.TempPathFactory, chains: list[list[int]], lost: set[tuple[int, int]]
) -> None:
    """Owners need keys in any order, some are lost while they make one, and begin again."""
    folder = tmp_path_factory.mktemp("store")
    made: list[int] = []

    async def play() -> None:
        some = broker(folder)

        async def work(number: int) -> None:
            owner, doomed = str(number), {step for who, step in lost if who == number}
            step = 0
            while step < len(chains[number]):
                name = chains[number][step]
                key = f"{name}" * 64
                if (await some.claim(key, owner)).result is None:
                    await asyncio.sleep(0.001)
                    if step in doomed:
                        doomed.remove(step)
                        some.drop(owner)
                        step = 0
                        continue
                    made.append(name)
                    some.put(key, owner, DATA)
                step += 1

        await asyncio.wait_for(asyncio.gather(*(work(number) for number in range(len(chains)))), 30)

    asyncio.run(play())
    assert sorted(made) == sorted({name for chain in chains for name in chain})
