"""A Ray cluster whose nodes are machines to each other: each has its own network, host name and processes.

They are Linux namespaces of this machine, joined by a bridge, and some folders only the first machine sees. A machine
can lose its network: then nobody tells the others.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from ray_nodes import OBJECT_STORE_BYTES, REPOSITORY, descendants, plain_environment

PORT = 6379
START_SECONDS = 120
RAY = Path(sys.executable).with_name("ray")


def can_be_made() -> bool:
    """Whether this process may make networks and machines of its own."""
    if not all(map(shutil.which, ("ip", "unshare", "setpriv", "mount"))):
        return False
    links = "ip link add name one type bridge && ip link add name two type veth peer name three"
    made = [
        "unshare",
        "--net",
        "--mount",
        "--uts",
        "--pid",
        "--fork",
        "sh",
        "-c",
        f"{links} && mount -t tmpfs tmpfs /mnt",
    ]
    return subprocess.run(made, capture_output=True, check=False).returncode == 0


class RayHosts:
    """Machines of a Ray cluster; use as a context manager.

    Parameters
    ----------
    folder : Path
        For the logs.
    names : sequence of str
        Host names; the first is the head, where drivers run.
    hidden : sequence of Path, optional
        Folders that are empty on all machines but the first.
    environment : mapping of str to str, optional
        What is different on machines, but not for drivers.
    python_path : sequence of Path, optional
        Where Python looks for modules first.
    """

    def __init__(
        self,
        folder: Path,
        names: tuple[str, ...],
        *,
        hidden: tuple[Path, ...] = (),
        environment: Mapping[str, str] | None = None,
        python_path: tuple[Path, ...] = (),
    ) -> None:
        self.folder, self.names, self.hidden, self.python_path = folder, names, hidden, python_path
        self.host_environment = dict(environment or {})
        self.mark = secrets.token_hex(2)
        self.net = f"10.{secrets.randbelow(100) + 100}.{secrets.randbelow(250)}"
        self.token = secrets.token_hex(32)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.written = tempfile.mkdtemp(prefix="ch-")
        self.address = f"{self.net}.1:{PORT}"

    def __enter__(self) -> RayHosts:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            _run("ip", "link", "add", self._bridge, "type", "bridge")
            _run("ip", "link", "set", self._bridge, "up")
            for name in self.names:
                self.start(name)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def start(self, name: str) -> None:
        """Plug a machine in, and let it join the cluster."""
        space, cable = self._space(name), self._cable(name)
        _run("ip", "netns", "add", space)
        _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
        _run("ip", "link", "set", cable, "master", self._bridge, "up")
        _run("ip", "-n", space, "addr", "add", f"{self._ip(name)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _run("ip", "-n", space, "link", "set", device, "up")
        with self._log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*self._inside(name), *self._ray_start(name)],
                cwd="/",
                env={**self._environment(), "RAY_AUTH_MODE": "token", **self.host_environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_for(name)

    def _inside(self, name: str) -> list[str]:
        """Return what stands before a command that runs on a machine, and ends with this process."""
        own, kinds = f"set -e; hostname {name}; mount -t tmpfs tmpfs /dev/shm; ", ["--mount", "--uts"]
        if name != self.names[0]:  # drivers must see the processes of the machine that they are on
            own += "".join(f"mount -t tmpfs tmpfs {shlex.quote(str(path))}; " for path in (self.written, *self.hidden))
            kinds += ["--pid", "--fork", "--kill-child", "--mount-proc"]
        space = ["ip", "netns", "exec", self._space(name)]
        return ["setpriv", "--pdeathsig", "KILL", *space, "unshare", *kinds, "sh", "-c", own + 'exec "$@"', "sh"]

    def _ray_start(self, name: str) -> list[str]:
        words = [str(RAY), "start", "--block", f"--node-ip-address={self._ip(name)}", f"--node-name={name}"]
        words += ["--num-cpus=1", f"--object-store-memory={OBJECT_STORE_BYTES}"]
        if name == self.names[0]:
            return [*words, "--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={self.written}"]
        return [*words, f"--address={self.address}"]

    def _wait_for(self, name: str) -> None:
        deadline, log = time.monotonic() + START_SECONDS, self._log(name)
        while b"--block" not in log.read_bytes():  # Ray says that it will run until it is told to end
            if self.processes[name].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start; see {log}: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    def files_at(self, name: str, folder: Path) -> list[str]:
        """Return what a machine sees in a folder."""
        process = descendants(self.processes[name].pid)[-1]
        return os.listdir(f"/proc/{process}/root{folder}")

    def unplug(self, name: str) -> None:
        """Cut the network of a machine: the others hear nothing of it any more."""
        _run("ip", "link", "set", self._cable(name), "down")

    def remove(self, name: str) -> None:
        """End a machine with all its processes."""
        self._kill(name)
        self._log(name).unlink()
        _run("ip", "link", "del", self._cable(name))
        _run("ip", "netns", "del", self._space(name))

    def driver(self, *words: object, cwd: Path, **environment: str) -> subprocess.Popen[str]:
        """Start a command on the first machine; it has the token of the cluster, unless its environment differs."""
        command = [sys.executable, "-m", "cnncodes", *map(str, words), "--ray", self.address]
        return subprocess.Popen(
            ["ip", "netns", "exec", self._space(self.names[0]), *command],
            cwd=cwd,
            env={**self._environment(), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join(map(str, [*self.python_path, REPOSITORY]))
        more = {"RAY_AUTH_TOKEN": self.token, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": path}
        return {**plain_environment(), **more}

    def _kill(self, name: str) -> None:
        process = self.processes.pop(name)
        for one in [process.pid, *descendants(process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        process.wait()

    def _stop(self) -> None:
        for name in reversed(list(self.processes)):
            self._kill(name)
        for name in self.names:
            subprocess.run(["ip", "netns", "del", self._space(name)], capture_output=True, check=False)
            subprocess.run(["ip", "link", "del", self._cable(name)], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True, check=False)
        shutil.rmtree(self.written, ignore_errors=True)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _ip(self, name: str) -> str:
        return f"{self.net}.{self.names.index(name) + 1}"

    @property
    def _bridge(self) -> str:
        return f"cnc{self.mark}"

    def _space(self, name: str) -> str:
        return f"cnc{self.mark}-{name}"

    def _cable(self, name: str) -> str:
        return f"cnc{self.mark}v{self.names.index(name)}"


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
