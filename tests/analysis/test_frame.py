import json
import re
import subprocess
import sys

import pandas as pd
import pytest
from imitation_run import ARMS, NASTY

from analysis import RunError, load_run, summarise_arms
from analysis.costs.result import COUNTS, LATENCIES
from analysis.reading import COST_COLUMNS, EPOCH_COLUMNS, SEARCH_COLUMNS, TRIAL_COLUMNS


def rewrite(folder, name, change):
    table = pd.read_parquet(folder / name)
    change(table).to_parquet(folder / name)


def test_a_run_has_checked_tables(run_folder):
    run = load_run(run_folder)
    assert (run.name, len(run.trials), len(run.epochs)) == ("imitation", 24, 23 * 15)
    assert {name: str(run.trials[name].dtype) for name in TRIAL_COLUMNS} == dict(TRIAL_COLUMNS)
    assert {name: str(run.epochs[name].dtype) for name in EPOCH_COLUMNS} == dict(EPOCH_COLUMNS)
    assert run.trials["run"].eq("imitation").all()
    assert run.sweep_text.startswith("name: imitation")
    assert run.environment["hardware"]["cores"] == 2


def test_a_folder_older_than_searches_lacks_their_columns(run_folder):
    rewrite(run_folder, "trials.parquet", lambda table: table.drop(columns="latency_ms"))
    run = load_run(run_folder)
    assert not set(SEARCH_COLUMNS) & set(pd.read_parquet(run_folder / "trials.parquet"))
    assert {name: str(run.trials[name].dtype) for name in SEARCH_COLUMNS} == dict(SEARCH_COLUMNS)
    assert run.trials[list(SEARCH_COLUMNS)].isna().all(axis=None)
    assert run.search is None


def test_a_search_has_its_columns_and_says_what_was_searched(search_folder):
    run = load_run(search_folder)
    assert {name: str(run.trials[name].dtype) for name in SEARCH_COLUMNS} == dict(SEARCH_COLUMNS)
    assert run.trials["phase"].value_counts().to_dict() == {"search": 8, "confirmation": 8}
    assert (run.design, run.search.sampler, run.search.limits) == (None, "tpe", {"parameters": 10_000.0})


def test_empty_tables_of_any_dtype_are_a_run(run_folder):
    for name in ("trials.parquet", "epochs.parquet"):
        rewrite(run_folder, name, lambda table: table.iloc[:0].astype(object))
    run = load_run(run_folder)
    assert (len(run.trials), len(run.epochs), len(summarise_arms(run.trials))) == (0, 0, 0)


def test_a_folder_that_looks_like_a_partition_adds_no_column(run_folder):
    assert "lr" not in load_run(run_folder.rename(run_folder.parent / "lr=0.1")).trials


@pytest.mark.parametrize("name", ["trials.parquet", "epochs.parquet", "sweep.yaml", "environment.json"])
def test_each_missing_file_is_named(run_folder, name):
    (run_folder / name).unlink()
    with pytest.raises(RunError, match=re.escape(f"{run_folder / name}: missing; repeat the run")):
        load_run(run_folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(
        RunError, match=r"nowhere: no such run folder; name a folder that `lightsweep run` wrote"
    ):
        load_run(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("trials.parquet", b"PAR1 cut off", "trials.parquet: not a readable Parquet file"),
        ("epochs.parquet", b"", "epochs.parquet: not a readable Parquet file"),
        ("environment.json", b"{", "environment.json: not JSON"),
        ("environment.json", b"[]", "environment.json: not a JSON object"),
        ("sweep.yaml", b"\xff\xfe\xfa", "sweep.yaml: not a text file in UTF-8"),
    ],
)
def test_unreadable_files_are_named(run_folder, name, content, message):
    (run_folder / name).write_bytes(content)
    with pytest.raises(RunError, match=message):
        load_run(run_folder)


@pytest.mark.parametrize("name", ["trials.parquet", "epochs.parquet"])
@pytest.mark.parametrize("column", ["seed", "val_accuracy"])
def test_a_missing_column_is_named(run_folder, name, column):
    rewrite(run_folder, name, lambda table: table.drop(columns=column))
    with pytest.raises(RunError, match=f"{name}: no column {column};"):
        load_run(run_folder)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("status", "done", "'00-0': status is none of completed, early_stopped, failed"),
        ("val_accuracy", 98.2, "an accuracy lies outside"),
        ("test_accuracy", -0.1, "an accuracy lies outside"),
        ("val_accuracy", None, "status is completed, but val_accuracy is missing"),
        ("parameters", None, "status is completed, but parameters is missing"),
        ("trial_id", "00-1", "'00-1': trial_id is in more than one row"),
        ("arm", None, "column arm has missing values"),
        ("phase", "hunt", "'00-0': phase is none of search, confirmation"),
    ],
)
def test_rows_that_no_run_writes_are_refused(run_folder, column, value, message):
    def spoil(table):
        table.loc[0, column] = value
        return table

    rewrite(run_folder, "trials.parquet", spoil)
    with pytest.raises(RunError, match=message):
        load_run(run_folder)


@pytest.mark.parametrize(
    ("column", "value"),
    [("seed", "zero"), ("seed", 0.5), ("arm", 3), ("val_accuracy", "0.9"), ("seconds", True)],
)
def test_columns_of_the_wrong_kind_are_refused(run_folder, column, value):
    rewrite(run_folder, "trials.parquet", lambda table: table.assign(**{column: value}))
    with pytest.raises(RunError, match=rf"column {column} holds \w+ where \w+ is expected"):
        load_run(run_folder)


def test_arms_by_hand(run_folder):
    arms = summarise_arms(load_run(run_folder).trials).set_index("arm")
    assert arms.index.tolist() == list(ARMS)
    paper = arms.loc["paper"]
    assert (paper["n_completed"], paper["n_early_stopped"], paper["n_failed"]) == (3, 0, 0)
    assert (paper["parameters"], paper["macs"]) == (14_862, 594_480)
    assert paper["val_mean"] == pytest.approx(0.982)
    assert paper["val_std"] == pytest.approx(0.002)  # of 0.980, 0.982, 0.984, with n - 1
    assert paper["test_mean"] == pytest.approx(0.972)
    assert paper["seconds"] == pytest.approx(9.25)
    assert paper["config"] == "augmentation = affine"
    assert arms.loc["tiny", "config"] == "augmentation = –"
    dead = arms.loc["dead"]
    assert (dead["n_completed"], dead["n_failed"], dead["macs"]) == (2, 1, 360_000)
    assert (dead["n_seeds"], dead["n_seeds_tried"], dead["is_corrected"]) == (2, 3, True)
    assert dead["val_mean"] == pytest.approx(0.932)  # with its seed 2, which is 0.002 easier for all than 1


def test_only_completed_trials_enter_means(trials_table):
    trials = trials_table.assign(run="r")
    trials.loc[trials["arm"] == "tiny", "status"] = ["completed", "early_stopped", "failed"]
    trials.loc[trials["arm"] == "small", "status"] = "failed"
    arms = summarise_arms(trials).set_index("arm")
    assert arms.loc["tiny", "val_mean"] == pytest.approx(0.902)  # 0.900 at the hardest of three seeds
    assert pd.isna(arms.loc["tiny", "val_std"])
    assert arms.loc["small", "n_failed"] == 3
    assert arms.loc["small", ["val_mean", "val_std", "test_mean", "seconds"]].isna().all()


def test_a_gap_makes_the_mean_missing_instead_of_a_mean_of_the_rest(trials_table):
    trials = trials_table.assign(run="r")
    trials.loc[0, "test_accuracy"] = None
    assert pd.isna(summarise_arms(trials).loc[0, "test_mean"])


@pytest.mark.parametrize("cost", ["parameters", "macs"])
def test_an_arm_of_two_models_is_refused(trials_table, cost):
    trials = trials_table.assign(run="r")
    trials.loc[(trials["arm"] == NASTY) & (trials["seed"] == 1), cost] = 7
    with pytest.raises(
        RunError, match=f"trials of arm '{re.escape(NASTY)}' have different {cost} .*; an arm is"
    ):
        summarise_arms(trials)


def test_folders_older_than_reference_nets_lack_two_costs(run_folder):
    run = load_run(run_folder)
    assert run.trials[list(COST_COLUMNS)].isna().all(axis=None)
    assert {name: str(run.trials[name].dtype) for name in COST_COLUMNS} == dict(COST_COLUMNS)


def test_settings_of_a_group_that_an_arm_lacks_are_left_out(trials_table):
    """Else a net that is not compressed would be described by all that compression has not done to it."""
    is_small = trials_table["arm"] == "small"
    amount = pd.Series([0.5 if small else None for small in is_small])
    arms = summarise_arms(trials_table.assign(**{"run": "r", "config.compression.amount": amount}))
    configs = arms.set_index("arm")["config"]
    assert configs["small"] == "augmentation = affine\ncompression.amount = 0.5"
    assert (configs["paper"], configs["tiny"]) == ("augmentation = affine", "augmentation = –")


@pytest.mark.parametrize(("other", "shown"), [("plain.py:build", ""), ("net.py:build", "@" + 16 * "0")])
def test_the_digest_of_own_code_is_left_out_where_its_name_says_enough(trials_table, other, shown):
    names = {
        "small": f"net.py:build@{16 * '0'}",
        "paper": f"{other}@{16 * '1'}",
        "tiny": f"{other}@{16 * '1'}",
    }
    nets = trials_table["arm"].map(names)
    arms = summarise_arms(trials_table.assign(**{"run": "r", "config.model.net": nets})).set_index("arm")
    assert f"model.net = net.py:build{shown}" in arms["config"]["small"].splitlines()


def test_of_bytes_that_differ_from_seed_to_seed_the_most_count(trials_table):
    trials = trials_table.assign(run="r")
    trials.loc[trials["arm"] == "tiny", "weight_bytes"] = [9_000, 9_002, 9_001]
    assert summarise_arms(trials).set_index("arm").loc["tiny", "weight_bytes"] == 9_002


def test_runs_stay_apart(trials_table):
    arms = summarise_arms(pd.concat([trials_table.assign(run="a"), trials_table.assign(run="b")]))
    assert len(arms) == 2 * len(ARMS)
    assert {"a · tiny", "b · tiny"} <= set(arms["label"])


def test_the_package_needs_neither_torch_nor_ray_and_is_cheap_to_import():
    script = (
        "import sys, json, analysis; light = set(sys.modules);"
        "[getattr(analysis, name) for name in analysis.__all__];"
        "print(json.dumps([sorted(light), sorted(sys.modules)]))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    light, full = json.loads(run.stdout)
    assert not {"pandas", "plotly"} & set(light)
    assert not {"torch", "ray"} & set(full)
    ours = {name for name in full if name.partition(".")[0] == "lightsweep"}
    assert ours == {
        "lightsweep",
        *(f"lightsweep.{name}" for name in ("echo", "errors", "system", "system.files")),
    }


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import analysis

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = analysis.nothing


def test_latencies_are_those_measured_beside_each_other(run_folder):
    rewrite(run_folder, "trials.parquet", lambda table: table.assign(latency_ms=9.0))
    latency = {"median": 0.5, "low": 0.4, "high": 0.7, "n": 200}
    nothing = dict.fromkeys((*COUNTS, *LATENCIES))
    net = {**nothing, "dataset": "digits", "arms": ["tiny", "small"], "latency_1_ms": latency}
    costs = {"machine": "box", "torch": "2", "threads": 1, "measured_at": "", "nets": [net]}
    assert load_run(run_folder).trials["latency_ms"].eq(9.0).all()
    (run_folder / "costs.json").write_text(json.dumps(costs))
    found = summarise_arms(load_run(run_folder).trials).set_index("arm")["latency_ms"]
    assert found.dropna().to_dict() == {"tiny": 0.5, "small": 0.5}


def test_stages_and_class_names_come_along_where_the_folder_has_them(run_folder):
    run = load_run(run_folder)
    assert (run.stages.empty, run.classes) == (True, {})
    stage = {
        "trial_id": "00-0", "arm": "tiny", "seed": 0, "fold": None, "stage": "dual", "stage_index": 0,
        "origin": "stored", "epochs": 6, "epochs_trained": 0, "seconds": 2.5, "waited_seconds": 0.5,
        "host": "laptop", "started_at": "2026-03-01T12:00:00+00:00",
    }  # fmt: skip
    pd.DataFrame([stage]).to_parquet(run_folder / "stages.parquet")
    (run_folder / "design.json").write_text(json.dumps({"base": None, "classes": {"digits": ["0", "1"]}}))
    run = load_run(run_folder)
    assert run.stages.loc[0, ["run", "origin", "seconds"]].tolist() == ["imitation", "stored", 2.5]
    assert run.classes == {"digits": ("0", "1")}
