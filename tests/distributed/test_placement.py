"""Where trials are placed while nodes come and go, checked by hand and against a plain rule."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightsweep.data import datasets
from lightsweep.planning.plan import plan
from lightsweep.runs.placement import CUDA_BYTES, FIRST_SHARE, MARGIN, Placement, Room, slots
from lightsweep.sweepfile.sweep import Resources, Sweep
from lightsweep.trials.trial import Trial

GIB = 2**30
CPU_NODE, GPU_NODE = Room(cpus=4, gpus=0), Room(cpus=8, gpus=1)


def trials(count: int, dataset: str = "digits") -> list[Trial]:
    sweep = Sweep.model_validate({"name": "placed", "dataset": {"name": dataset}, "seeds": count})
    return list(plan(sweep, lambda spec: datasets.describe(spec, Path("nowhere"))).trials)


def placement(rooms: list[Room], **resources: object) -> Placement:
    return Placement(Resources.model_validate(resources), lambda: rooms, lambda trial: 1.0 + trial.seed)


class TestSlots:
    @pytest.mark.parametrize(
        ("resources", "rooms", "on_gpus", "on_processors"),
        [
            ({}, [CPU_NODE, CPU_NODE], 0, 8),
            ({"cpus": 3}, [CPU_NODE, CPU_NODE], 0, 2),  # not 8 // 3: a trial is on one node
            ({}, [CPU_NODE, GPU_NODE], 4, 0),
            ({"gpus": 0.1}, [GPU_NODE], 8, 0),  # ten on the GPU, eight processors
            ({"gpus": 0.1, "cpus": 1}, [Room(cpus=20, gpus=1)], 10, 0),
            ({"gpus": 0}, [CPU_NODE, GPU_NODE], 0, 12),
            ({"device": "any"}, [CPU_NODE, GPU_NODE], 4, 4),
            ({"device": "any"}, [CPU_NODE], 0, 4),
            ({"gpus": 1}, [Room(cpus=8, gpus=0.5)], 0, 0),
            ({"cpus": 5}, [CPU_NODE], 0, 0),
            ({}, [], 0, 0),
        ],
    )
    def test_count_what_fits_on_each_node(
        self, resources: dict[str, object], rooms: list[Room], on_gpus: int, on_processors: int
    ) -> None:
        found = slots(Resources.model_validate(resources), rooms)
        assert (found.on_gpus, found.on_processors) == (on_gpus, on_processors)

    def test_in_words(self) -> None:
        assert str(slots(Resources(), [CPU_NODE])) == "4 trials at a time on the processor"
        assert str(slots(Resources(), [GPU_NODE])) == "4 trials at a time on the GPU"
        both = slots(Resources(device="any"), [CPU_NODE, GPU_NODE])
        assert str(both) == "4 trials at a time on GPUs and 4 on nodes without one"


class TestPlacement:
    def test_without_a_gpu_all_is_on_processors_and_handed_out_at_once(self) -> None:
        placed = placement([CPU_NODE])
        for trial in trials(50):
            assert not placed.is_full()
            assert placed.take(trial) == 0

    def test_a_share_set_by_hand_is_taken_by_all(self) -> None:
        placed = placement([GPU_NODE, CPU_NODE], gpus=0.5)
        for trial in trials(50):
            assert not placed.is_full()
            assert placed.take(trial) == 0.5
            assert placed.measure(trial, 2 * GIB, 80 * GIB) is None

    def test_later_trials_wait_for_the_first_to_be_measured(self) -> None:
        placed, waiting = placement([GPU_NODE]), trials(9)
        for trial in waiting[:5]:  # four quarters, and one for an autoscaler to see
            assert not placed.is_full()
            assert placed.take(trial) == FIRST_SHARE
        assert placed.is_full()
        placed.end(waiting[0])
        said = placed.measure(waiting[0], 2 * GIB, 80 * GIB)
        assert said == "a trial takes 2.8 of a GPU's 80.0 GiB: 16 trials share one from now on"
        assert not placed.is_full()
        assert placed.take(waiting[0]) == 1 / 16
        # Sizes are 1 + seed; nine times the measured one needs (2 × 9 + 0.75) × 1.1 = 20.6 GiB.
        assert placed.take(waiting[8]) == 1 / 2

    def test_a_trial_that_needs_more_than_there_is_gets_a_whole_gpu(self) -> None:
        placed, (first, second) = placement([GPU_NODE]), trials(2)
        placed.measure(first, 79 * GIB, 80 * GIB)
        assert placed.take(second) == 1.0

    def test_each_data_set_is_measured(self) -> None:
        placed, (first,), (other,) = placement([GPU_NODE]), trials(1), trials(1, "mnist")
        placed.measure(first, GIB, 80 * GIB)
        assert placed.take(first) == 1 / 32
        assert placed.take(other) == FIRST_SHARE

    @given(st.integers(1, 90), st.integers(8, 90), st.integers(0, 8))
    def test_as_many_as_share_a_gpu_fit_into_its_memory(self, used: int, has: int, seed: int) -> None:
        placed, known = placement([GPU_NODE]), trials(9)
        placed.measure(known[0], used * GIB, has * GIB)
        share = placed.take(known[seed])
        need = MARGIN * (used * GIB * (1 + seed) + CUDA_BYTES)
        assert share == 1 or need / share <= has * GIB
        assert 1 / share in {1, 2, 4, 8, 16, 32}
        assert share == 1 or share == 1 / 32 or need / (share / 2) > has * GIB  # and not twice as many would

    def test_any_fills_gpus_first_and_uses_nodes_without_one(self) -> None:
        placed, known = placement([CPU_NODE, GPU_NODE], device="any", gpus=0.5), trials(12)
        shares = []
        for trial in known:
            if placed.is_full():
                break
            shares.append(placed.take(trial))
        assert shares == [0.5] * 2 + [0] * 4 + [0.5]  # the last one waits for the GPU
        placed.end(known[2])  # of a processor
        assert not placed.is_full()
        assert placed.take(known[7]) == 0

    def test_any_never_leaves_all_waiting_when_the_nodes_are_gone(self) -> None:
        rooms = [CPU_NODE, GPU_NODE]
        placed = Placement(Resources(device="any"), lambda: rooms, lambda trial: 1.0)
        rooms.clear()
        assert not placed.is_full()
        placed.take(trials(1)[0])


class TestMemoryThatIsTooSmall:
    def test_doubles_the_share_of_all_trials_like_it_until_the_gpu_is_its_own(self) -> None:
        placed = placement([GPU_NODE])
        trial = trials(1)[0]
        shares = [placed.take(trial)]
        while (share := placed.grow(trial)) is not None:
            placed.end(trial)
            shares.append(placed.take(trial))
            assert shares[-1] == share
        assert shares == [0.25, 0.5, 1.0]

    def test_of_trials_side_by_side_doubles_it_once(self) -> None:
        placed = placement([GPU_NODE])
        first, second = trials(2)
        assert (placed.take(first), placed.take(second)) == (0.25, 0.25)
        assert (placed.grow(first), placed.grow(second)) == (0.5, 0.5)

    def test_of_a_share_that_the_user_has_set_cannot_grow(self) -> None:
        placed = placement([GPU_NODE], gpus=0.25)
        (trial,) = trials(1)
        assert placed.take(trial) == 0.25
        assert placed.grow(trial) is None
        assert not placed.may_come_back()

    def test_is_remembered_beside_what_is_measured(self) -> None:
        placed = placement([GPU_NODE])
        first, second = trials(2)
        placed.take(first)
        placed.grow(first)
        placed.end(first)
        placed.measure(first, GIB // 100, 64 * GIB)
        assert placed.take(second) == 0.5

    def test_may_bring_a_trial_back_while_one_is_on_a_gpu(self) -> None:
        placed = placement([GPU_NODE])
        (trial,) = trials(1)
        placed.take(trial)
        assert placed.may_come_back()
        placed.end(trial)
        assert not placed.may_come_back()


def test_slots_follow_nodes_and_what_is_measured() -> None:
    """A search asks for as many trials as there is room for now, not when it began."""
    rooms, now = [Room(cpus=64, gpus=1)], [0.0]
    placed = Placement(Resources(), lambda: rooms, lambda trial: 1.0, lambda: now[0])
    assert placed.slots().total == 4
    (trial,) = trials(1)
    placed.take(trial)
    placed.measure(trial, GIB // 100, 64 * GIB)
    rooms.append(Room(cpus=64, gpus=1))
    assert placed.slots().total == 4  # it has looked just now
    now[0] = 3.0
    assert placed.slots().total == 64
