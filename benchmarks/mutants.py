"""How many small changes of the code do its own tests notice? Mutation testing, with a fixed sample.

    python -m venv /tmp/mutants && /tmp/mutants/bin/pip install cosmic-ray
    git clone . /tmp/checkout
    /tmp/mutants/bin/python benchmarks/mutants.py /tmp/checkout /tmp/out "$(which python)" [MODULE ...]

The clone is changed in place, one mutant at a time, and tested with the given interpreter, which has
lightsweep's own dependencies. Of each module's mutants, sorted by place, every n-th is taken, 16 in all.
OUT/MODULE.json has each with its diff and its outcome ("survived" or "killed").
"""

import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

MODULES = {
    "lightsweep/store.py": ("test_store", "test_storekeeping", "test_broker"),
    "lightsweep/stagefile.py": ("test_stagefile", "test_store"),
    "lightsweep/broker.py": ("test_broker",),
    "lightsweep/runfolder.py": ("test_runfolder",),
    "lightsweep/records.py": ("test_records", "test_runfolder"),
    "lightsweep/trial.py": ("test_trial",),
    "lightsweep/halving.py": ("test_halving",),
    "analysis/pairing.py": ("test_contrasts", "test_compression", "test_alternatives"),
    "analysis/pareto.py": ("test_pareto",),
    "analysis/statistics.py": ("test_statistics",),
    "analysis/judgement.py": ("test_judgement", "test_evidence"),
}
EACH = 16


def sample(session: Path) -> None:
    """Delete all mutants of a session but every n-th, so that `EACH` are left."""
    with sqlite3.connect(session) as database:
        order = "start_pos_row, start_pos_col, operator_name, occurrence"
        jobs = [row[0] for row in database.execute(f"SELECT job_id FROM mutation_specs ORDER BY {order}")]
        step = max(1, len(jobs) // EACH)
        kept = set(jobs[step // 2 :: step][:EACH])
        for job in set(jobs) - kept:
            database.execute("DELETE FROM mutation_specs WHERE job_id = ?", (job,))
            database.execute("DELETE FROM work_items WHERE job_id = ?", (job,))
    print(f"{len(kept)} of {len(jobs)} mutants", flush=True)


def main() -> None:
    """Try the mutants of the chosen modules, or of all."""
    root, folder, python, *chosen = sys.argv[1:]
    checkout, out = Path(root).absolute(), Path(folder).absolute()
    out.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}

    def cosmic_ray(*words: object) -> str:
        command = [Path(sys.executable).with_name("cosmic-ray"), *words]
        done = subprocess.run(
            list(map(str, command)),
            cwd=checkout,
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout

    for module, names in MODULES.items():
        name = Path(module).stem
        if chosen and name not in chosen:
            continue
        tests = [path.relative_to(checkout) for test in names for path in checkout.glob(f"tests/*/{test}.py")]
        config, session = out / f"{name}.toml", out / f"{name}.sqlite"
        command = f"{python} -m pytest -q -x -n 0 -p no:cacheprovider {' '.join(map(str, tests))}"
        config.write_text(
            f'[cosmic-ray]\nmodule-path = "{module}"\ntimeout = 300.0\nexcluded-modules = []\n'
            f"test-command = '{command}'\n[cosmic-ray.distributor]\nname = \"local\"\n"
        )
        session.unlink(missing_ok=True)
        cosmic_ray("init", config, session)
        sample(session)
        cosmic_ray("baseline", config)
        cosmic_ray("exec", config, session)
        found = [json.loads(line) for line in cosmic_ray("dump", session).splitlines()]
        (out / f"{name}.json").write_text(json.dumps(found, indent=1))
        print(name, dict(Counter(result["test_outcome"] for _, result in found)), flush=True)


if __name__ == "__main__":
    main()
