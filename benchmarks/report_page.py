"""What a page costs: bytes, time to write it, time until its first figure is drawn in a real browser.

    python benchmarks/report_page.py [TRIALS …]        # default 100 1000 10000

Made-up runs of that many trials, five seeds an arm and 15 epochs a trial, and one of as many arms as trials.
Needs the test extra (playwright) and a chromium on the PATH; the browser is warm, each page opened five
times. Ratios are to the first run's page: absolute times are this machine's, at this moment.
"""

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from analysis import write_report

sys.path.append(str(Path(__file__).parents[1] / "tests" / "analysis"))
from imitation_large import write_large

SEEDS = 5
OPENED = 5
FIRST_FIGURE = ".plot.front .scatterlayer .point"


def main(sizes: list[int]) -> None:
    """Print a row per run."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("report_page: there is no chromium on the PATH")
    runs = [(size // SEEDS, SEEDS) for size in sizes] + [(sizes[-1], 1)]
    print("| arms × seeds | trials | MB | write, s | first figure, s (median, range) | times the first's |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        base = None
        for arms, seeds in runs:
            folder = write_large(Path(place) / f"{arms}x{seeds}", arms, seeds)
            started = time.perf_counter()
            page = write_report([folder], folder / "report.html")
            written = time.perf_counter() - started
            seconds = sorted(until_first_figure(browser, page) for _ in range(OPENED))
            median = statistics.median(seconds)
            base = base or median
            print(
                f"| {arms:,} × {seeds} | {arms * seeds:,} | {page.stat().st_size / 1e6:.2f} | {written:.1f} "
                f"| {median:.2f} ({seconds[0]:.2f}–{seconds[-1]:.2f}) | {median / base:.2f} |"
            )
        browser.close()


def until_first_figure(browser: Browser, page: Path) -> float:
    """Return the seconds from asking for the page to the first figure's first point."""
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    started = time.perf_counter()
    tab.goto(page.as_uri(), wait_until="commit")
    tab.locator(FIRST_FIGURE).first.wait_for(timeout=60_000)
    seconds = time.perf_counter() - started
    tab.close()
    return seconds


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [100, 1_000, 10_000])
