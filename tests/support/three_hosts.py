"""A Ray cluster of three hosts on this machine, launched with the project's own cluster-local.yaml."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from waiting import HANGS_SECONDS, wait_until

ROOT = Path(__file__).parents[2]
HOSTS = range(1, 4)
CPUS = os.cpu_count() or 1  # which each host believes to have for itself
ASKS_SECONDS = 4.0
"""Between questions to Ray, each of which takes seconds of a processor."""
NOT_RAYS = ("unshare", "sshd", "/usr/sbin/sshd")

METADATA_ADDRESS = "169.254.169.254"
METADATA = f"""
import http.server, pathlib, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def answer(self, found):
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(found)
    def do_PUT(self):
        self.answer(b"token" if self.path == "/latest/api/token" else b"")
    def do_GET(self):
        notice, token = pathlib.Path(sys.argv[1]), self.headers["X-aws-ec2-metadata-token"]
        is_asked = self.path == "/latest/meta-data/spot/instance-action" and token == "token"
        self.answer(notice.read_bytes() if is_asked and notice.exists() else b"")
http.server.HTTPServer(("{METADATA_ADDRESS}", 80), Answers).serve_forever()
"""


def fill_in(folder: Path) -> dict[str, Any]:
    """Return the project's launcher file as its user would fill it in for these hosts.

    Nothing is installed: the hosts have no network, and see this machine's environment.
    """
    config = YAML(typ="safe").load((ROOT / "cluster-local.yaml").read_text(encoding="utf-8"))
    config["cluster_name"] = folder.name
    config["provider"] |= {"head_ip": address(1), "worker_ips": [address(2), address(3)]}
    config["auth"] |= {"ssh_user": "root", "ssh_private_key": str(folder / "id")}
    rest = [command for command in config["setup_commands"] if "pip install" not in command]
    assert len(rest) == len(config["setup_commands"]) - 1
    # Ray's own minute, after which a worker gives up a head that is gone:
    hurry = "export RAY_gcs_rpc_server_reconnect_timeout_s=15"
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert any(line.startswith("export ") for line in config[commands])
        config[commands] = [line.replace("export", hurry, 1) for line in config[commands]]
    config["setup_commands"] = [f"ln -sfn {sys.prefix} ~/lightsweep-env", *rest]
    return config


def address(host: int) -> str:
    return f"10.77.0.{host}"


@dataclass
class ThreeHosts:
    folder: Path
    """Short and absolute; holds the hosts' keys and homes, and this machine's own home for the launcher."""

    def up(self) -> None:
        self.hosts("up", len(HOSTS), self.folder)
        for name in ("home", "tmp"):
            (self.folder / name).mkdir()
        subprocess.run(
            "(umask 077 && ray get-auth-token --generate >/dev/null) && chmod 600 ~/.ray/auth_token",
            shell=True, check=True, env=self.environment, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        YAML(typ="safe").dump(fill_in(self.folder), self.file)
        self.launch()

    def launch(self) -> None:
        up = ("up", "-y", "--no-config-cache", self.file)
        try:
            self.ray(*up)
        except AssertionError as error:  # Ray gives a head 30 s, which on a busy machine are too few
            if "timed out during startup" not in str(error):
                raise
            self.ray(*up)
        self.await_hosts(3)

    def down(self) -> None:
        self.hosts("down", self.folder)

    def hosts(self, *arguments: object) -> None:
        script = Path(__file__).with_name("hosts.sh")
        subprocess.run(["bash", script, *map(str, arguments)], check=True, timeout=HANGS_SECONDS)

    @property
    def file(self) -> Path:
        return self.folder / "cluster.yaml"

    @property
    def token(self) -> str:
        return (self.folder / "home/.ray/auth_token").read_text()

    @property
    def environment(self) -> dict[str, str]:
        """Of the launching machine, with a home and a folder for temporary files of its own."""
        mine = {"HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        rest = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return rest | mine | {"PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}

    def ray(self, *arguments: object, timeout: float = HANGS_SECONDS, **environment: str) -> str:
        """Run a command of Ray's to its end, as it is typed on the launching machine."""
        done = subprocess.run(
            ["ray", *map(str, arguments)], cwd=ROOT, env=self.environment | environment, timeout=timeout,
            text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    @contextmanager
    def tunnel(self) -> Iterator[str]:
        """Forward the head's dashboard to this machine, as `ray dashboard` does; yields its address here."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        process = subprocess.Popen(
            [*self.login(1), "-N", "-L", f"{port}:127.0.0.1:8265"],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

        def is_open() -> bool:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
            except OSError:
                return False
            return True

        try:
            wait_until(is_open)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()

    def start(self, command: str) -> "Command":
        """Start a command on the head through `ray exec`."""
        log = self.folder / f"{time.monotonic_ns()}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                ["ray", "exec", self.file, f"set -o pipefail; {command} 2>&1 | cat"],
                cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
        return Command(process, log)

    def login(self, host: int) -> list[str]:
        """Return the command that logs in on a host."""
        plain = ("-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR")
        return ["ssh", "-i", str(self.folder / "id"), *plain, f"root@{address(host)}"]

    def ssh(self, host: int, command: str, status: int | None = 0) -> str:
        done = subprocess.run(
            [*self.login(host), command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANGS_SECONDS,
        )  # fmt: skip
        assert status is None or done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def home(self, host: int) -> Path:
        """What a host wrote to its home; the rest of it is this machine's."""
        return self.folder / f"upper{host}"

    def processes(self, host: int) -> dict[int, str]:
        """All processes of a host but its sshd, by their number on this machine: their command lines."""
        listed = subprocess.run(
            ["ip", "netns", "pids", f"lsh{host}"], stdout=subprocess.PIPE, text=True, check=True
        )
        found = {}
        for number in map(int, listed.stdout.split()):
            try:
                command = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
            if command and not command.startswith(NOT_RAYS):
                found[number] = command
        return found

    def kill_launcher(self) -> None:
        """Kill the process that was called; the run, its child, dies with it."""
        called = min(n for n, command in self.processes(1).items() if "bin/lightsweep run" in command
                     and "python" in command.split()[0])  # fmt: skip
        os.kill(called, signal.SIGKILL)

    def give_notices(self, host: int, notice: Path) -> None:
        """Serve AWS's notice of an interruption on a host, once this file is there, and have the host listen.

        It listens with cluster.yaml's own command, but dies after seconds in place of two minutes.
        """
        program = self.folder / "metadata.py"
        program.write_text(METADATA)
        self.ssh(host, f"ip addr add {METADATA_ADDRESS}/32 dev lo; "
                 f"setsid -f {sys.executable} {program} {notice} >/dev/null 2>&1 </dev/null")  # fmt: skip
        commands = YAML(typ="safe").load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
        (listen,) = (c for c in commands["worker_start_ray_commands"] if METADATA_ADDRESS in c)
        assert listen.count("seconds=60") == 1
        hasty = listen.replace("seconds=60", "seconds=5")  # more than a question takes
        self.ssh(host, f"export RAY_HEAD_IP={address(1)}; {hasty}")

    def await_draining(self, host: int) -> None:
        """Wait until the cluster knows that a host is about to go, and the time that it was given is over."""
        script = (
            "import ray; from ray._private.state import state; ray.init('auto', logging_level=50);"
            "ends = state.get_draining_nodes();"
            "print({n['NodeManagerAddress']: ends[n['NodeID']] for n in ray.nodes() if n['NodeID'] in ends})"
        )
        ask = f'export RAY_AUTH_MODE=token; ~/lightsweep-env/bin/python -c "{script}"'
        said, ends = [""], list[float]()

        def is_draining() -> bool:
            said[0] = self.ssh(1, ask, status=None)
            ends.extend(
                int(end) / 1000 for end in re.findall(rf"'{re.escape(address(host))}': (\d+)", said[0])
            )
            return bool(ends)

        wait_until(is_draining, lambda: said[0])  # asked without pause: it lasts seconds
        wait_until(lambda: time.time() > ends[0])

    def await_hosts(self, count: int) -> None:
        """Wait until so many hosts take part."""
        status = "export RAY_AUTH_MODE=token; ~/lightsweep-env/bin/ray status"

        def take_part() -> bool:
            found = re.search(r"Active:\s+(\d+) local", self.ssh(1, status, status=None))
            return found is not None and int(found[1]) == count

        logs = "cat /tmp/ray/session_latest/logs/monitor*"
        wait_until(take_part, lambda: self.ssh(1, logs)[-5000:], every=ASKS_SECONDS)


@dataclass
class Command:
    process: subprocess.Popen[bytes]
    log: Path

    def end(self, status: int | None = 0) -> str:
        self.process.wait(timeout=HANGS_SECONDS)
        output = self.log.read_text()
        assert status is None or self.process.returncode == status, output[-5000:]
        return output
