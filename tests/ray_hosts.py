"""A Ray cluster whose nodes are machines to each other: each has its own network, host name, processes and /tmp.

They are Linux namespaces of this machine, joined by a bridge. What is under ``/tmp`` here, as the files of a test are,
only the first machine sees. A machine can lose its network, or its power: then nobody tells the others.
"""

from __future__ import annotations

import contextlib
import os
import secrets
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
    tools = all(map(shutil.which, ("ip", "unshare", "nsenter", "setpriv", "mount")))
    return tools and subprocess.run(["unshare", "-nmup", "--fork", "true"], capture_output=True).returncode == 0


class RayHosts:
    """Machines of a Ray cluster; use as a context manager.

    Parameters
    ----------
    folder : Path
        For the logs.
    names : sequence of str
        Host names; the first is the head, where drivers run.
    joins : bool, default=True
        Start Ray on all machines; otherwise `turn_on` and `run` are left to the caller.
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
        joins: bool = True,
        environment: Mapping[str, str] | None = None,
        python_path: tuple[Path, ...] = (),
    ) -> None:
        self.joins = joins
        self.folder, self.names, self.python_path = folder, names, python_path
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
            for name in self.names if self.joins else ():
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
        """Turn a machine on, and let it join the cluster."""
        words = ["--block", f"--node-ip-address={self._ip(name)}", "--num-cpus=1", f"--node-name={name}"]
        words.append(f"--object-store-memory={OBJECT_STORE_BYTES}")
        if name == self.names[0]:
            words += ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={self.written}"]
        else:
            words.append(f"--address={self.address}")
        self.turn_on(name)
        self.run(name, RAY, "start", *words)
        self._wait_for(name)

    def turn_on(self, name: str) -> None:
        """Plug a machine in, without Ray."""
        space, cable = self._space(name), self._cable(name)
        _run("ip", "netns", "add", space)
        _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
        _run("ip", "link", "set", cable, "master", self._bridge, "up")
        _run("ip", "-n", space, "addr", "add", f"{self._ip(name)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _run("ip", "-n", space, "link", "set", device, "up")

    def run(self, name: str, *words: object, **environment: str) -> subprocess.Popen[bytes]:
        """Start what a machine is there for; it ends with that."""
        own = f"hostname {name}; mount -t tmpfs tmpfs /dev/shm; "
        kinds = ["--mount", "--uts"]
        if name != self.names[0]:
            own += "mount -t tmpfs tmpfs /tmp; "
            kinds += ["--pid", "--fork", "--kill-child", "--mount-proc"]
        inside = ["ip", "netns", "exec", self._space(name), "unshare", *kinds, "sh", "-c", own + 'exec "$@"', "sh"]
        more = {"RAY_AUTH_MODE": "token", **self.host_environment, **environment}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *inside, *map(str, words)],
                cwd="/",
                env={**self._environment(None), **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.processes[name]

    def _wait_for(self, name: str) -> None:
        deadline, log = time.monotonic() + START_SECONDS, self.folder / f"{name}.log"
        while b"--block" not in log.read_bytes():
            if self.processes[name].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start; see {log}: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    def unplug(self, name: str) -> None:
        """Cut the network of a machine."""
        _run("ip", "link", "set", self._cable(name), "down")

    def plug(self, name: str) -> None:
        """Mend the network of a machine."""
        _run("ip", "link", "set", self._cable(name), "up")

    def cut_power(self, name: str) -> None:
        """End a machine with all its processes, so that no process of another machine hears of it."""
        self.unplug(name)
        self._kill(name)
        (self.folder / f"{name}.log").unlink()
        _run("ip", "netns", "del", self._space(name))

    def command(self, *words: object) -> list[str]:
        """Return a command line that runs on the first machine."""
        inside = ["ip", "netns", "exec", self._space(self.names[0])]
        return [*inside, sys.executable, "-m", "cnncodes", *map(str, words), "--ray", self.address]

    def driver(self, *words: object, cwd: Path, token: str | None = None) -> subprocess.Popen[str]:
        """Start a command on the first machine."""
        return subprocess.Popen(
            self.command(*words),
            cwd=cwd,
            env=self._environment(token),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _environment(self, token: str | None) -> dict[str, str]:
        path = os.pathsep.join(map(str, [*self.python_path, REPOSITORY]))
        more = {"RAY_AUTH_TOKEN": token or self.token, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": path}
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
