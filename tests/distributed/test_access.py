"""Who may reach a Ray cluster, with real clusters: one that wants a token, one that lets everybody in."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forked import Setting, start
from waiting import HANGS_SECONDS

from lightsweep.distributed import access
from lightsweep.distributed.access import Answer, ask, check_access, use_own_token, warn_of_readable_token
from lightsweep.errors import InputError

SECRET = "0123456789abcdef" * 4
HEAD = """
import sys
from ray.cluster_utils import Cluster
arguments = {"num_cpus": 1, "include_dashboard": False}
if len(sys.argv) > 1:
    arguments["node_ip_address"] = sys.argv[1]
cluster = Cluster(initialize_head=True, head_node_args=arguments)
print("address", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


def environment_of(home: Path, **variables: str) -> dict[str, str]:
    """Return this process's environment without Ray's tokens, and with another home."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    return {**plain, "HOME": str(home), **variables}


@contextmanager
def head(environment: dict[str, str], *arguments: str) -> Iterator[str]:
    """Start the head of a cluster; yields where it listens."""
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield next(line for line in process.stdout if line.startswith("address ")).split()[1]
    finally:
        process.communicate("", timeout=HANGS_SECONDS)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("closed")
    with head(environment_of(home, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=SECRET)) as place:
        yield place


@pytest.fixture(scope="module")
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with head(environment_of(tmp_path_factory.mktemp("open"), RAY_AUTH_MODE="disabled")) as place:
        yield place


def put_token(home: Path, token: str) -> Path:
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text(token)
    path.chmod(0o600)
    return path


class TestAClusterThatWantsAToken:
    def test_lets_in_who_has_it(self, closed: str, tmp_path: Path) -> None:
        put_token(tmp_path, SECRET)
        assert check_access(closed, environment_of(tmp_path), insecure=False) == "token"

    def test_refuses_who_has_none_and_says_what_to_do(self, closed: str, tmp_path: Path) -> None:
        assert ask(closed, environment_of(tmp_path, RAY_AUTH_MODE="disabled")) == Answer("needs a token")
        with pytest.raises(InputError, match="requires its authentication token, and none is set here; copy"):
            check_access(closed, environment_of(tmp_path), insecure=True)

    def test_refuses_a_wrong_one_without_showing_it(self, closed: str, tmp_path: Path) -> None:
        wrong = put_token(tmp_path, "f" * 64)
        with pytest.raises(InputError, match="the one set here is wrong") as error:
            check_access(closed, environment_of(tmp_path, RAY_AUTH_MODE="token"), insecure=False)
        assert wrong.read_text() not in str(error.value)
        assert "RAY_AUTH_TOKEN_PATH" in str(error.value)

    def test_a_run_ends_at_once_in_one_line(self, closed: str, tmp_path: Path) -> None:
        (tmp_path / "small.yaml").write_text(
            "name: small\ndataset: {name: digits, validation: 100, train_limit: 200}\nseeds: 1\n"
        )
        setting = Setting({"HOME": str(tmp_path)}, ray=True)
        done = start("run", "small.yaml", "--address", closed, cwd=tmp_path, setting=setting).end()
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.count("\n") == 1
        assert "this cluster requires its authentication token" in done.stderr

    def test_refuses_a_machine_that_is_none_of_its_nodes(
        self, closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Which has the right token; another machine's view of it is in tests/cluster."""
        put_token(tmp_path, SECRET)
        monkeypatch.setattr(access, "_is_of_this_machine", lambda address: False)
        with pytest.raises(
            InputError, match=r"this machine is not one of the cluster's nodes .* on its head: ray exec"
        ):
            check_access(closed, environment_of(tmp_path), insecure=False)


@pytest.mark.slow
class TestAClusterThatLetsEverybodyIn:
    def test_is_refused_unless_told_so(self, open_to_all: str, tmp_path: Path) -> None:
        environment = environment_of(tmp_path)
        with pytest.raises(InputError, match=r"requires no token.* or pass --insecure"):
            check_access(open_to_all, environment, insecure=False)
        put_token(tmp_path, SECRET)  # a token of another cluster is no reason to attach with it
        for mode in ({}, {"RAY_AUTH_MODE": "token"}):
            environment = environment_of(tmp_path, **mode)
            assert check_access(open_to_all, environment, insecure=True) == "disabled"

    @pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
    def test_is_refused_by_whatever_name_it_is_reached(
        self, open_to_all: str, tmp_path: Path, name: str
    ) -> None:
        place = f"{name}:{open_to_all.rpartition(':')[2]}"
        with pytest.raises(InputError, match="this cluster requires no token"):
            check_access(place, environment_of(tmp_path), insecure=False)

    def test_is_no_matter_where_only_this_machine_reaches_it(self, tmp_path: Path) -> None:
        with head(environment_of(tmp_path, RAY_AUTH_MODE="disabled"), "127.0.0.1") as place:
            assert place.startswith("127.0.0.1:")
            assert check_access(place, environment_of(tmp_path), insecure=False) == "disabled"


@pytest.mark.parametrize(
    ("listens", "nodes", "is_open"),
    [
        ("127.0.0.1", ("127.0.0.1",), False),
        ("127.0.0.1", ("127.0.0.1", "10.9.9.9"), True),
        ("127.0.0.1", ("::1", "::ffff:127.0.0.1"), False),
        ("0.0.0.0", ("127.0.0.1",), True),
        (None, ("127.0.0.1",), True),  # its head is not on this machine, or nobody can tell
    ],
)
def test_who_can_reach_a_cluster_is_judged_by_its_nodes_and_by_what_listens(
    listens: str | None, nodes: tuple[str, ...], is_open: bool
) -> None:
    with socket.create_server((listens or "127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if listens is None:
            server.close()
        assert access._is_open_to_others(f"localhost:{port}", nodes) == is_open


def test_where_nobody_answers_there_is_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "ASKING_SECONDS", 1)
    assert ask("127.0.0.1:1", environment_of(tmp_path)) == Answer("silence")


def test_a_cluster_of_our_own_has_a_token_of_its_own() -> None:
    one, other = dict[str, str](), dict[str, str]()
    use_own_token(one)
    use_own_token(other)
    assert one["RAY_AUTH_MODE"] == "token"
    assert len(one["RAY_AUTH_TOKEN"]) == 64
    assert one["RAY_AUTH_TOKEN"] != other["RAY_AUTH_TOKEN"]
    users = {"RAY_AUTH_MODE": "disabled"}
    use_own_token(users)
    assert users == {"RAY_AUTH_MODE": "disabled"}


@pytest.mark.parametrize(("mode", "is_warned"), [(0o600, False), (0o644, True), (0o640, True)])
def test_a_token_that_others_can_read_is_warned_of(tmp_path: Path, mode: int, is_warned: bool) -> None:
    path = put_token(tmp_path, SECRET)
    path.chmod(mode)
    warning = warn_of_readable_token(environment_of(tmp_path))
    assert (warning == f"{path}: others can read this token; chmod 600 {path}") == is_warned
    assert (warning is None) != is_warned
    assert warn_of_readable_token(environment_of(tmp_path / "nobody")) is None
