"""A browser, and pages that are watched in it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from giving_up import give_up
from run_folders import (  # noqa: F401
    nothing_published,
    plain_trials,
    real_run,
    run_folder,
    search_folder,
    trials_table,
    write_run,
    written_search,
)
from waiting import HANGS_SECONDS

from analysis import write_report


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        give_up("needs a chromium on PATH")
    return str(found)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """One browser; its event loop runs until it is closed, and no other test may start one meanwhile."""
    try:
        from playwright.sync_api import expect, sync_playwright
    except ModuleNotFoundError:
        give_up("needs playwright: pip install lightsweep[test]")
    expect.set_options(timeout=1000 * HANGS_SECONDS)
    quiet = [
        "--no-sandbox",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--process-per-site",  # pages share a process; see `report`
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=quiet)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser: Any) -> Iterator[Any]:
    """What all pages share, and nothing is left in: they may not keep anything."""
    context = browser.new_context()
    context.new_page().goto(Path(__file__).as_uri())  # a process lives as long as one of its pages
    yield context
    assert context.storage_state() == {"cookies": [], "origins": []}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every page is written: a process compiles a script once for each address."""
    return tmp_path_factory.mktemp("page") / "report.html"


@pytest.fixture
def opened(context: Any, report: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page of run folders, once all figures are drawn; see ``watched``."""
    with watched(context, report) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def plain_page(context: Any, report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One page of a run as ``run_folder`` has it; tests take it through ``page``."""
    run = write_run(tmp_path_factory.mktemp("plain") / "imitation", plain_trials())
    with watched(context, report) as open_page:
        yield open_page(run)


@pytest.fixture
def page(plain_page: Any) -> Any:
    """The page of an unchanged run, as a link without filters shows it."""
    plain_page.emulate_media(media="screen")
    plain_page.evaluate(AS_AT_FIRST)
    return plain_page


AS_AT_FIRST = """() => new Promise((done) => {
  document.querySelector("dialog").close();
  document.querySelectorAll("details.numbers").forEach((each) => { each.open = false; });
  scrollTo(0, 0);
  if (!location.hash) return done();
  addEventListener("hashchange", () => setTimeout(done), { once: true });  // after the page's own listener
  location.hash = "";
})"""


@contextmanager
def watched(context: Any, path: Path) -> Iterator[Callable[..., Any]]:
    """Yield what writes the page of run folders there and opens it.

    At the end no page may have complained in its console, shown a dialog, or asked for anything.
    """
    complaints: list[str] = []
    requests: list[str] = []
    pages: list[Any] = []

    def watch(page: Any) -> Any:
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: requests.append(request.url))
        return page

    def open_page(*folders: Path, address: str = "", viewport: dict[str, int] | None = None) -> Any:
        page = watch(context.new_page())
        if viewport:
            page.set_viewport_size(viewport)
        pages.append(page)
        page.set_default_timeout(1000 * HANGS_SECONDS)
        page.goto(write_report(folders, path).as_uri() + address)
        page.locator("html[data-ready]").wait_for(state="attached")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests), requests
