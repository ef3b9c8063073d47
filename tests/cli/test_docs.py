"""The documentation says what the code does."""

import functools
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from lightsweep.cli.main import cli
from lightsweep.data.datasets import describe
from lightsweep.owncode.reference import parse_reference
from lightsweep.planning.plan import plan
from lightsweep.sweepfile.reading import load_sweep

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_and_option_has_help_and_stands_in_the_readme(name):
    command = cli.commands[name]
    assert command.help
    row = next((line for line in README.splitlines() if line.startswith(f"| `lightsweep {name}")), None)
    assert row, f"the README's table of commands lacks {name}"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert f"`{parameter.opts[-1]}" in README, f"{name} {parameter.opts[-1]}"


def test_the_readme_names_no_command_that_is_not_there():
    named = set(re.findall(r"^\| `lightsweep (\w+)", README, flags=re.MULTILINE))
    assert named == set(cli.commands)


def test_every_shipped_sweep_loads_and_stands_in_the_readme():
    files = sorted((ROOT / "sweeps").glob("*.yaml"))
    assert len(files) >= 5
    for file in files:
        assert load_sweep(file).name == file.stem
        assert f"sweeps/{file.name}" in README


def test_every_shipped_ablation_has_a_full_form_that_can_be_planned(request):
    files = sorted((ROOT / "sweeps").glob("*.yaml"))
    ablations = [file for file in files if load_sweep(file).ablation]
    assert {file.stem for file in ablations} >= {
        "ablate-method",
        "ablate-unfreezing",
        "ablate-augmentation",
        "path",
    }
    for file in ablations:
        lines = re.findall(r"^# +(--set .*)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        forms = [shlex.split(line)[1::2] for line in lines]
        assert any("dataset.train_limit=null" in form for form in forms)
        for form in forms:
            sweep = load_sweep(file, form)
            is_own = parse_reference(sweep.dataset.name) is not None  # only its images say how many there are
            data_dir = request.getfixturevalue("real_data") if is_own else Path("nowhere")
            assert plan(sweep, functools.partial(describe, data_dir=data_dir)).trials


@pytest.mark.parametrize("package", ["lightsweep", "analysis"])
def test_the_map_names_every_room_and_each_says_its_job(package):
    text = (
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Rooms", 1)[1].split("## House", 1)[0]
    )
    named = {name for line in text.splitlines() for name in re.findall(r"`(\w+)`", line.split(" | ")[0])}
    rooms = [path.parent for path in sorted((ROOT / package).glob("*/__init__.py"))]
    assert len(rooms) >= 10
    for room in rooms:
        assert room.name in named, f"CONTRIBUTING's map lacks {package}/{room.name}"
        assert re.match('"""[A-Z].{20,}', (room / "__init__.py").read_text(encoding="utf-8")), room


def test_every_dependency_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    for dependency in [item for group in groups for item in group if not item.startswith("lightsweep")]:
        line = next(line for line in text.splitlines() if f'"{dependency}"' in line)
        assert re.search(r"#\s+\S+", line), dependency


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster-local.yaml"])
def test_the_cluster_file_fits_rays_schema(name):
    """And closes the cluster: a token on every node and in every start command, the dashboard on loopback."""
    from ray.autoscaler._private.util import prepare_config, validate_config
    from ruamel.yaml import YAML

    text = (ROOT / name).read_text(encoding="utf-8")
    config = YAML(typ="safe").load(text)
    validate_config(prepare_config(config))
    with pytest.raises(Exception, match="max_wrkers"):
        validate_config(prepare_config({**config, "max_wrkers": 2}))
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 700 ~/.ray && chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    (head,) = [line for line in config["head_start_ray_commands"] if "ray start" in line]
    (worker,) = [line for line in config["worker_start_ray_commands"] if "ray start" in line]
    assert all("export RAY_AUTH_MODE=token" in command for command in (head, worker))
    assert "--dashboard-host=127.0.0.1" in head
    assert "0.0.0.0" not in text
    assert "security_group" not in config["provider"]  # to which Ray adds ssh from the whole world
