import dataclasses
import math
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imitation_ablation import design_tree
from imitation_alternatives import ARMS, PRUNED_BYTES, SEEDS, jitter, write_alternatives
from imitation_run import NASTY
from page_reading import drawn_in, text_of

from analysis import load_run, render_report
from analysis.compression.result import (
    AMOUNT,
    PRUNE,
    QUANTISE,
    BuiltOrCompressed,
    CompressedArm,
    are_compressed,
    compare_compressed,
    equal_bytes,
)
from analysis.compression.words import lay_out_compression, verdict_of
from analysis.design import parse_design
from analysis.statistics.paired import holm, interval, sign_flip_p


@pytest.fixture
def folder(tmp_path):
    return write_alternatives(tmp_path / "alternatives")


def compared(folder: Path) -> tuple[BuiltOrCompressed, dict[str, CompressedArm]]:
    (evidence,) = compare_compressed(load_run(folder))
    return evidence, {arm.arm: arm for arm in evidence.arms}


def edit(folder: Path, change) -> Path:
    path = folder / "trials.parquet"
    change(pd.read_parquet(path)).to_parquet(path)
    return folder


def test_a_compressed_net_against_the_line_between_its_neighbours_by_hand(folder):
    """Seed by seed: its accuracy minus the line from small (10,000 bytes) to middle (20,000)."""
    evidence, arms = compared(folder)
    assert [arm.arm for arm in evidence.arms] == ["tiny, both", "big, int8", "middle, pruned"]
    p_values = []
    for name, size in (("big, int8", 12_000), ("middle, pruned", PRUNED_BYTES)):
        weight = math.log(size / 10_000) / math.log(2)
        built = [
            (1 - weight) * (0.930 + jitter("small", seed)) + weight * (0.970 + jitter("middle", seed))
            for seed in range(SEEDS)
        ]
        own = [ARMS[name][3] + jitter(name, seed) for seed in range(SEEDS)]
        differences = np.subtract(own, built)
        arm = arms[name]
        assert arm.neighbours == ("small", "middle")
        assert arm.comparison.values == pytest.approx(differences)
        assert arm.comparison.seeds == tuple(range(SEEDS))
        assert arm.accuracy == pytest.approx(np.mean(own))
        assert arm.built == pytest.approx(np.mean(built))
        judged, bounds = arm.comparison.judgement, interval(differences)
        assert judged.mean == pytest.approx(np.mean(differences))
        assert (judged.interval.low, judged.interval.high) == pytest.approx((bounds.low, bounds.high))
        p_values.append(sign_flip_p(differences))
    corrected = [row.judgement.p_corrected for row in evidence.family.comparisons]
    assert corrected == pytest.approx(list(holm(p_values)))
    assert arms["middle, pruned"].comparison.sentence == "compressing is better by 2.00 points"
    assert arms["big, int8"].comparison.verdict == "building small is better"


def test_what_was_done_is_said(folder):
    _, arms = compared(folder)
    assert {name: arm.done for name, arm in arms.items()} == {
        "tiny, both": "25% of the filters pruned, then rounded to int8",
        "big, int8": "rounded to int8",
        "middle, pruned": "50% of the weights pruned",
    }


def test_beyond_the_ends_nothing_is_said(folder):
    _, arms = compared(folder)
    tiny = arms["tiny, both"]
    assert (tiny.comparison, tiny.neighbours, tiny.built) == (None, (), None)
    assert tiny.reason == (
        "its 1,200 bytes are below every net on the front of the nets built small (small: 10,000 bytes)"
    )
    large = edit(folder, lambda t: t.assign(weight_bytes=t["weight_bytes"].replace(PRUNED_BYTES, 300_000)))
    _, arms = compared(large)
    assert arms["middle, pruned"].reason == (
        "its 300,000 bytes are above every net on the front of the nets built small (big: 80,000 bytes)"
    )


def test_neighbours_are_chosen_by_validation_never_by_test(folder):
    """The net "off" has the best test accuracy and a bad validation accuracy: no neighbour."""
    _, arms = compared(folder)
    assert "off" not in arms["middle, pruned"].neighbours
    better = edit(folder, lambda t: t.assign(val_accuracy=t["val_accuracy"].where(t["arm"] != "off", 0.96)))
    _, arms = compared(better)
    assert arms["middle, pruned"].neighbours == ("small", "off")


def test_a_compressed_net_is_no_net_built_small(folder):
    """Else a pruned net would be compared with another pruned net, or with itself."""
    evidence, _ = compared(folder)
    names = {name for arm in evidence.arms for name in arm.neighbours}
    assert names == {"small", "middle"}


SIZES = st.lists(st.integers(1, 10**8), min_size=1, max_size=8, unique=True).map(sorted)


@given(SIZES, st.integers(1, 10**8), st.floats(-1, 1), st.floats(-1, 1))
def test_the_mixture_is_the_line_in_the_logarithm_of_bytes(sizes, size, slope, level):
    """Whatever is linear in log bytes is reproduced, by the tightest neighbours there are."""
    front = pd.Series(sizes, index=[f"arm {i}" for i in range(len(sizes))])
    mixture = equal_bytes(front, size)
    if not sizes[0] <= size <= sizes[-1]:
        assert isinstance(mixture, str)
        return
    gaps = [high / low for low, high in pairwise(sizes) if low < size < high]
    if gaps and gaps[0] > 2:
        assert f"are a factor of {gaps[0]:.3g} apart" in mixture
        return
    assert isinstance(mixture, dict)
    assert sum(mixture.values()) == pytest.approx(1)
    assert all(0 < weight <= 1 for weight in mixture.values())
    line = [level + slope * math.log(each) for each in sizes]
    found = sum(weight * line[int(name.split()[1])] for name, weight in mixture.items())
    assert found == pytest.approx(level + slope * math.log(size), abs=1e-9)
    if size in sizes:
        assert mixture == {f"arm {sizes.index(size)}": 1.0}
    else:
        (place,) = [i for i, (low, high) in enumerate(pairwise(sizes)) if low < size < high]
        assert list(mixture) == [f"arm {place}", f"arm {place + 1}"]


def test_nets_of_just_its_bytes_are_compared_directly(folder):
    same = edit(folder, lambda t: t.assign(weight_bytes=t["weight_bytes"].replace(PRUNED_BYTES, 20_000)))
    _, arms = compared(same)
    arm = arms["middle, pruned"]
    assert arm.neighbours == ("middle",)
    assert arm.comparison.contrast.meaning == "middle, pruned minus middle"
    assert arm.built == pytest.approx(0.97)


@pytest.mark.parametrize(
    ("seeds", "n", "bounds"), [(1, 1, "–"), (2, 2, "to")]
)  # an interval needs two, a verdict more
def test_few_seeds_decide_nothing_and_it_is_said(tmp_path, seeds, n, bounds):
    evidence, arms = compared(write_alternatives(tmp_path / "few", seeds))
    judged = arms["middle, pruned"].comparison.judgement
    assert (judged.n, judged.verdict, judged.interval is None) == (n, "not decided", n < 2)
    part = lay_out_compression(evidence, "")
    said = "A single seed gives no interval and decides nothing." in part.note
    assert said == (n < 2)
    assert part.finding == (
        "None of 3 compressed nets on digits are shown to beat the nets built small at equal bytes; "
        "2 not decided, 1 not compared."
    )


def test_seeds_without_a_result_are_left_out_of_both_sides(folder):
    def lose(trials):
        is_lost = (trials["arm"] == "small") & (trials["seed"] < 3)
        trials.loc[is_lost, "status"] = "failed"
        trials.loc[is_lost, ["val_accuracy", "test_accuracy"]] = None
        return trials

    _, arms = compared(edit(folder, lose))
    arm = arms["middle, pruned"]
    assert arm.comparison.seeds == (3, 4, 5, 6, 7)
    assert arm.accuracy == pytest.approx(0.97 + np.mean([jitter(arm.arm, seed) for seed in range(3, 8)]))
    assert arm.accuracy - arm.built == pytest.approx(arm.comparison.judgement.mean)


def test_arms_without_a_result_or_bytes_say_so(folder):
    def spoil(trials):
        trials.loc[trials["arm"] == "big, int8", ["status", "val_accuracy", "test_accuracy"]] = [
            "failed",
            None,
            None,
        ]
        trials.loc[trials["arm"] == "middle, pruned", "weight_bytes"] = None
        return trials

    evidence, arms = compared(edit(folder, spoil))
    assert arms["big, int8"].reason == "none of its seeds has a result"
    assert arms["middle, pruned"].reason == "its bytes are unknown"
    assert verdict_of(arms["big, int8"]) == "not compared: none of its seeds has a result"
    assert evidence.family.comparisons == ()
    assert lay_out_compression(evidence, "").forest is None


def test_a_run_of_compressed_nets_alone_has_nothing_to_compare_with(folder):
    compressed = edit(folder, lambda t: t[t["config.compression.amount"].notna()])
    _, arms = compared(compressed)
    assert {arm.reason for arm in arms.values()} == {"no net built small has a result"}


def test_each_setting_makes_an_arm_compressed_and_old_folders_have_none():
    rows = pd.DataFrame({PRUNE: ["weights", None, None, None], AMOUNT: [None, 0.5, None, None],
                         QUANTISE: [None, None, "int8", None]})  # fmt: skip
    assert are_compressed(rows).tolist() == [True, True, True, False]
    assert are_compressed(rows[[QUANTISE]]).tolist() == [False, False, True, False]
    assert are_compressed(rows[[]]).tolist() == [False] * 4


def test_folders_older_than_compression_have_no_such_section(run_folder):
    run = load_run(run_folder)
    assert compare_compressed(run) == ()
    page = render_report([run])
    for title in ("Built small or compressed", "Accuracy against bytes", "Against the alternatives"):
        assert title not in page


def test_only_arms_of_the_same_run_and_data_set_are_compared(folder):
    """Arms of another data set would have other images; what is left is too far apart for a line."""
    moved = edit(folder, lambda t: t.assign(dataset=t["dataset"].where(t["arm"] != "middle", "mnist")))
    evidence, arms = compared(moved)
    assert evidence.dataset == "digits"
    assert arms["middle, pruned"].neighbours == ()
    assert f"(small and mobilenet {NASTY}) are a factor of" in arms["middle, pruned"].reason


def test_folds_are_averaged_within_their_seed(folder):
    def fold(trials):
        low = trials.assign(fold=0, test_accuracy=trials["test_accuracy"] - 0.005)
        high = trials.assign(fold=1, test_accuracy=trials["test_accuracy"] + 0.005)
        high["trial_id"] += "b"
        return pd.concat([low, high])

    plain = compared(folder)[1]["middle, pruned"].comparison.values
    folded = compared(edit(folder, fold))[1]["middle, pruned"].comparison.values
    assert folded == pytest.approx(plain)


def test_an_ablations_own_margins_rule(folder):
    run = load_run(folder)
    (evidence,) = compare_compressed(run)
    assert (evidence.rule.significance, evidence.rule.equivalence) == (0.05, 0.005)
    tree = design_tree("leave-one-out", ["a"], significance=0.01, equivalence=0.03)
    (evidence,) = compare_compressed(dataclasses.replace(run, design=parse_design(tree)))
    assert (evidence.rule.significance, evidence.rule.equivalence) == (0.01, 0.03)
    # p = 2/256, times 2 by Holm, is above 0.01; but both are equivalent within 3 points
    assert [row.verdict for row in evidence.family.comparisons] == ["equivalent", "equivalent"]
    part = lay_out_compression(evidence, "")
    assert "2 equivalent, 1 not compared" in part.finding
    assert "decided at 0.01" in part.note


def test_runs_are_judged_apart(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    edit(other, lambda t: t[t["config.compression.quantise"].isna()])
    page = render_report([load_run(folder), load_run(other)])
    titles = re.findall("<h2>(Built small.*?)</h2>", page)
    assert titles == ["Built small or compressed (alternatives)", "Built small or compressed (other)"]


def test_the_page_says_how_many_compressed_nets_win(folder):
    page = render_report([load_run(folder)])
    text = text_of(page)
    assert (
        "1 of 3 compressed nets on digits is shown to beat the nets built small at equal bytes (middle, "
        "pruned); 1 beaten by them, 1 not compared."
    ) in text
    assert "Holm over the 2 comparisons here, decided at 0.05. Intervals: Student's t." in text
    rows = re.findall('<tr class="verdict-(.*?)">(.*?)</tr>', page.split("Compressed net</th>")[1], re.DOTALL)
    assert [verdict for verdict, _ in rows[:3]] == ["not-decided", "hurts", "helps"]
    cells = re.findall("<td[^>]*>(.*?)</td>", rows[2][1])
    assert cells[1:6] == [
        "compressing is better by 2.00 points<br>"
        '<span class="quiet">unchanged if any one seed is left out</span>',
        "14,142",
        "97.00%",
        "95.00%",
        "small and middle",
    ]
    assert "compression-1" in drawn_in(page)
