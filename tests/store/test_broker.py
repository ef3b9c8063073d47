"""The broker: one makes a key's result and the others wait; a claim ends with its owner."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_results import some_result
from waiting import HANGS_SECONDS

from lightsweep.store import broker as module
from lightsweep.store.broker import Broker, Reply
from lightsweep.store.folder import FolderStore, stage_file
from lightsweep.store.stagefile import Checkpoint

KEY, OTHER_KEY = "ab" * 32, "cd" * 32
DATA = some_result().to_bytes(KEY)
CHECKPOINT_DATA = Checkpoint({}, [{"epoch": 1}], 1.0).to_bytes(KEY)


@pytest.fixture(autouse=True)
def _polls_at_every_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that waits looks again at every turn of the event loop, so that turns measure time."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0)


def broker(folder: Path, fresh: bool = False) -> Broker:
    """Return a broker on a store; one after another has the first one's memory."""
    return Broker(str(folder), fresh, folder / "memory")


async def waiting(some: Broker, owner: str, key: str = KEY) -> asyncio.Task[Reply]:
    """Begin a claim and let it come to where it waits."""
    task = asyncio.create_task(some.claim(key, owner))
    await turns()
    return task


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_the_first_makes_it_and_the_others_get_it(tmp_path: Path) -> None:
    async def play() -> None:
        some = broker(tmp_path)
        before_all = time.monotonic()
        first = await some.claim(KEY, "one")
        assert (first.result, first.checkpoint) == (None, None)
        assert first.waited_seconds <= time.monotonic() - before_all
        others = [await waiting(some, owner) for owner in ("two", "three")]
        all_wait = time.monotonic()
        assert not any(task.done() for task in others)
        assert (await some.claim(OTHER_KEY, "four")).result is None  # another key waits for nobody
        at_least = time.monotonic() - all_wait
        assert some.put(KEY, "one", DATA) is None
        for reply in await asyncio.gather(*others):
            assert reply.result == DATA
            assert at_least < reply.waited_seconds <= time.monotonic() - before_all
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
        await turns()
        assert sorted(task.done() for task in tasks) == [False, True]  # one makes it, the other waits for it
        winner, other = (0, 1) if tasks[0].done() else (1, 0)
        reply = tasks[winner].result()
        assert (reply.result, reply.checkpoint) == (None, CHECKPOINT_DATA)
        some.put(KEY, ("two", "three")[winner], DATA)
        assert (await tasks[other]).result == DATA

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


def test_a_broker_that_began_anew_lets_nobody_else_make_what_is_being_made(tmp_path: Path) -> None:
    """The owner trains on and asks nothing for a while; who waited asks the new broker first."""

    async def play() -> None:
        await broker(tmp_path).claim(KEY, "one")
        again = broker(tmp_path)
        waits = await waiting(again, "two")
        assert not waits.done()
        assert (await again.claim(KEY, "one")).result is None  # it is the owner's, who may ask again
        assert again.put(KEY, "one", DATA) is None
        assert (await waits).result == DATA

    asyncio.run(play())


def test_a_broker_that_began_anew_knows_which_claims_had_ended(tmp_path: Path) -> None:
    async def play() -> None:
        first = broker(tmp_path)
        for key, end in ((KEY, first.release), (OTHER_KEY, lambda _, owner: first.drop(owner))):
            await first.claim(key, "one")
            end(key, "one")
        with (tmp_path / "memory").open("a") as file:
            file.write(f"owned {'ef' * 32} o")  # the broker was killed here
        again = broker(tmp_path)
        for key in (KEY, OTHER_KEY, "ef" * 32):
            assert (await again.claim(key, "two")).result is None

    asyncio.run(play())


def test_a_fresh_runs_broker_that_began_anew_knows_what_it_had_made(tmp_path: Path) -> None:
    async def play() -> None:
        FolderStore(tmp_path).write(OTHER_KEY, some_result().to_bytes(OTHER_KEY))
        first = broker(tmp_path, fresh=True)
        await first.claim(KEY, "one")
        first.put(KEY, "one", DATA)
        again = broker(tmp_path, fresh=True)
        assert (await again.claim(KEY, "two")).result == DATA
        assert (await again.claim(OTHER_KEY, "two")).result is None

    asyncio.run(play())


def test_fresh_passes_over_what_was_stored_but_shares_what_it_makes(tmp_path: Path) -> None:
    async def play() -> None:
        store = FolderStore(tmp_path)
        store.write(KEY, some_result(9).to_bytes(KEY))
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
        reply = await some.claim(KEY, "three")
        assert (reply.result, reply.checkpoint, reply.warning) == (DATA, None, None)

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
                    await turns(2)
                    if step in doomed:
                        doomed.remove(step)
                        some.drop(owner)
                        step = 0
                        continue
                    made.append(name)
                    some.put(key, owner, some_result().to_bytes(key))
                step += 1

        everyone = asyncio.gather(*(work(number) for number in range(len(chains))))
        await asyncio.wait_for(everyone, HANGS_SECONDS)

    asyncio.run(play())
    assert sorted(made) == sorted({name for chain in chains for name in chain})
