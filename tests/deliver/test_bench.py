"""The benchmark runs, and what it prints are ratios measured in this run; how large they are is no test."""

import re

from click.testing import CliRunner

from lightsweep.cli.main import cli
from lightsweep.kernels.library import library


def test_the_benchmark_prints_ratios_with_their_range_for_each_comparison() -> None:
    said = CliRunner().invoke(cli, ["bench", "--rounds", "2"])
    assert said.exit_code == 0, said.output
    lines = [line for line in said.output.splitlines() if "× faster" in line]
    kernels = ["lightsweep", "lightsweep, images last"] if library() else ["lightsweep"]
    assert [line.partition(":")[0].partition("(")[0].strip() for line in lines] == [
        *(f"{ours} against DataLoader, {net} net" for ours in kernels for net in ("same", "usual")),
        "frozen blocks' maps cached, augmentation affine", "frozen blocks' maps cached, augmentation none",
    ]  # fmt: skip
    for line in lines:
        found = re.search(r"([\d.]+)× faster .*\(median; ([\d.]+)–([\d.]+) over 2 rounds\)", line)
        assert found, line
        median, low, high = map(float, found.groups())
        assert 0 < low <= median <= high
