"""What all tests share; their helpers are in `support`."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import spec_strategies
import torch
from giving_up import give_up
from hypothesis import settings

os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # at Ray's 15, workers wait for all other tests
settings.register_profile("any machine", deadline=None, max_examples=40)  # a busy one is not a failure
settings.load_profile("any machine")
spec_strategies.register()


LONGEST = ["distributed", "page", "hostile", "runs", "deliver", "search"]
"""Folders whose files take longest: they come first, so that all processes end at the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests' folders, and keep the order within each."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.parent.name, len(places)))


def pytest_collection_finish() -> None:
    """What is imported by now is no garbage: it need not be looked through again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Two test processes on two cores, and sums in one order."""
    torch.set_num_threads(1)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a short path: Ray's sockets stand in it."""
    folder = Path(tempfile.mkdtemp(prefix="ls"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def real_data() -> Path:
    """The folder of the real data sets."""
    folder = os.environ.get("LIGHTSWEEP_DATA")
    if folder is None:
        give_up("LIGHTSWEEP_DATA must name the data's folder")
    return Path(folder)
