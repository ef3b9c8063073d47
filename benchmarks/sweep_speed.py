"""A whole sweep, 8 unfreezing schedules × 2 seeds, by lightsweep and the way Ray Tune's tutorial teaches.

    LIGHTSWEEP_DATA=… python benchmarks/sweep_speed.py

Both are timed as whole processes, in turn. Then the same 16 trials are trained by lightsweep's loop alone,
two at a time, each from its start, with and without keeping the maps of frozen blocks: what the loop,
frozen features and sharing give follows from worker-seconds, what start-up gives from the rest.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch

from lightsweep.data import datasets
from lightsweep.planning.plan import plan
from lightsweep.store.claims import NoStore
from lightsweep.sweepfile.reading import load_sweep
from lightsweep.training import batches as images
from lightsweep.training.chain import run_trial

HERE = Path(__file__).parent
SWEEP = HERE / "unfreezing.yaml"
DATA = Path(os.environ.get("LIGHTSWEEP_DATA", "data")).resolve()
WORKERS = 2


def timed(*command: object) -> tuple[float, str]:
    """Run a command of this Python; return its wall time in seconds and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *map(str, command)], check=True, stdout=subprocess.PIPE, text=True, cwd=HERE.parent
    )
    return time.perf_counter() - started, done.stdout


def train_alone(index: int, keeps_maps: bool) -> float:
    """Train a trial of the sweep from its start, without a store; return its seconds."""
    torch.set_num_threads(1)
    if not keeps_maps:
        images.MAPS_BYTES = 0
    trial = plan(load_sweep(SWEEP), lambda spec: datasets.describe(spec, DATA)).trials[index]
    dataset = datasets.load(trial.dataset, DATA, download=False)
    started = time.perf_counter()
    run_trial(trial, dataset, NoStore(), torch.device("cpu"))
    return time.perf_counter() - started


def worker_seconds(keeps_maps: bool, trials: int) -> float:
    """Return the sum of the trials' seconds, two at a time."""
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        return sum(pool.map(train_alone, range(trials), [keeps_maps] * trials))


def main() -> None:
    """Time everything once, in turn, and print ratios."""
    print(f"{platform.node()}, {os.cpu_count()} cores, torch {torch.__version__}; {SWEEP.name}", flush=True)
    with tempfile.TemporaryDirectory() as out:
        run = ("-m", "lightsweep", "run", SWEEP, "--data-dir", DATA, "--out", out)
        ours, _ = timed(*run)
        print(f"lightsweep run               {ours:7.1f} s", flush=True)
        again, output = timed(*run)
        assert "16 already done" in output, output
        print(f"lightsweep run, again        {again:7.1f} s", flush=True)
        trials = pd.read_parquet(Path(out) / "unfreezing-benchmark/trials.parquet")
        stages = pd.read_parquet(Path(out) / "unfreezing-benchmark/stages.parquet")
    theirs, output = timed(HERE / "ray_tutorial.py", SWEEP)
    print(f"plain Ray Tune script        {theirs:7.1f} s", flush=True)
    peer = pd.DataFrame(json.loads(output.splitlines()[-1])["trials"])
    print(f"plain script against lightsweep run: {theirs / ours:.1f}×, its second run: {theirs / again:.0f}×")
    for name, accuracies in (("lightsweep", trials.test_accuracy), ("plain script", peer.test_accuracy)):
        spread = statistics.stdev(accuracies)
        print(f"test accuracy, {name:12} {accuracies.mean():.2%} ± {spread:.2%} (n = {len(accuracies)})")

    peers = peer.seconds.sum()
    computed, kept = (worker_seconds(keeps, len(trials)) for keeps in (False, True))
    shared = stages[stages.origin != "stored"].seconds.sum()
    print("worker-seconds, and what each part gives:")
    print(f"  plain script's loop                  {peers:7.1f}")
    print(f"  lightsweep's loop                    {computed:7.1f}  {peers / computed:.2f}×")
    print(f"  with the maps of frozen blocks kept  {kept:7.1f}  {computed / kept:.2f}×")
    print(f"  with stages shared (the run itself)  {shared:7.1f}  {kept / shared:.2f}×")
    rests = theirs - peers / WORKERS, ours - shared / WORKERS
    print(f"start-up, scheduling and idle cores: {rests[0]:.1f} s against {rests[1]:.1f} s")


if __name__ == "__main__":
    main()
