"""A real Ray cluster of several nodes on this machine, whose nodes and actors can be killed.

The nodes belong to a process of its own (this file, run as a program), which ends all of them when it is told to, or
when the process that started it dies, however that died.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

REPOSITORY = Path(__file__).parents[1]
OBJECT_STORE_BYTES = 80_000_000  # Ray accepts no less than 75 MB
START_SECONDS = 120
START_TRIES = 3  # a raylet gives up when its agent is late, as it is on a busy machine
OWN_PROCESSES = ("ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::IDLE")


class RayNodes:
    """Nodes of a Ray cluster; use as a context manager.

    Parameters
    ----------
    folder : Path
        For the log. What Ray writes is in a temporary folder, because its sockets allow no long path.
    head_cpus : int, default=1
        Processors of the node that drivers connect to, which is never killed.
    environment : mapping of str to str, optional
        What is different on every node, unless `add` says otherwise.
    python_path : sequence of Path, optional
        Where nodes look for modules first, before the package of this checkout.
    """

    def __init__(
        self,
        folder: Path,
        *,
        head_cpus: int = 1,
        environment: Mapping[str, str] | None = None,
        python_path: tuple[Path, ...] = (),
    ) -> None:
        self.folder, self.head_cpus, self.python_path = folder, head_cpus, python_path
        self.node_environment = dict(environment or {})
        self.raylets: dict[str, int] = {}  # process by name of the node
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.environment = {**plain_environment(), **token, "RAY_USAGE_STATS_ENABLED": "0"}
        self.address = ""

    def __enter__(self) -> RayNodes:
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(START_TRIES):
            try:
                self._start()
                return self
            except NodeError:
                self._stop()
                if attempt == START_TRIES - 1:
                    raise
            except BaseException:
                self._stop()
                raise
        raise AssertionError

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self) -> None:
        self._written = tempfile.mkdtemp(prefix="cr-")
        path = [*self.python_path, REPOSITORY]
        with (self.folder / "nodes.log").open("ab") as log:
            self._host = subprocess.Popen(
                [sys.executable, __file__, self._written],
                cwd=self.folder,
                env={**self.environment, "PYTHONPATH": os.pathsep.join(map(str, path))},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.raylets = {}
        self.address = self.add("head", cpus=self.head_cpus)["address"]

    def _stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._host.pid, signal.SIGKILL)
        self._host.wait()
        shutil.rmtree(self._written, ignore_errors=True)
        for stream in (self._host.stdin, self._host.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._host.stdin is not None
        assert self._host.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):
            self._host.stdin.write(json.dumps(request) + "\n")
            self._host.stdin.flush()
            line = self._host.stdout.readline()
        answer = json.loads(line or '{"error": "the process that holds the nodes has died"}')
        if "error" in answer:
            raise NodeError(f"{request}: {answer['error']}; see {self.folder / 'nodes.log'}")
        self.raylets = answer["raylets"]
        return answer

    def add(self, name: str, *, cpus: int = 1, core: int | None = None, **environment: str) -> dict[str, Any]:
        """Start a node; `core` is the processor that it may use, and `environment` what is different on it."""
        different = {**self.node_environment, **environment}
        return self._ask(do="add", name=name, cpus=cpus, core=core, environment=different)

    def kill_node(self, name: str) -> None:
        """End a node with all its processes at once, as a power cut does."""
        raylet = self.raylets[name]
        os.kill(raylet, signal.SIGSTOP)  # so that nothing is started meanwhile
        for process in [raylet, *descendants(raylet)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._ask(do="forget", name=name)

    def actors(self, name: str) -> list[int]:
        """Return the processes on a node that hold actors or run tasks."""
        return [process for process in descendants(self.raylets[name]) if _is_at_work(process)]

    def kill_actors(self, name: str) -> int:
        """End the actors of a node, and return how many there were."""
        processes = self.actors(name)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return len(processes)

    def command(self, *words: object) -> list[str]:
        """Return the command line of a driver that uses the cluster."""
        return [sys.executable, "-m", "cnncodes", *map(str, words), "--ray", self.address]

    def driver(self, *words: object, cwd: Path, **more: str) -> subprocess.Popen[str]:
        """Start a command on the cluster; it has the token, and must send it by itself."""
        environment = {name: value for name, value in self.environment.items() if name != "RAY_AUTH_MODE"}
        return subprocess.Popen(
            self.command(*words),
            cwd=cwd,
            env={**environment, "PYTHONPATH": str(REPOSITORY), **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


class NodeError(Exception):
    """A node could not be started."""


def local(*words: object, cwd: Path, python_path: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a command without a cluster."""
    return subprocess.run(
        [sys.executable, "-m", "cnncodes", *map(str, words)],
        cwd=cwd,
        env={**plain_environment(), "PYTHONPATH": os.pathsep.join(map(str, [*python_path, REPOSITORY]))},
        capture_output=True,
        text=True,
        check=False,
    )


def descendants(process: int) -> list[int]:
    """Return the children of a process, their children, and so on."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    below = list(children.get(process, []))
    for one in below:
        below += children.get(one, [])
    return below


def _is_at_work(process: int) -> bool:
    try:
        name = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").strip("\0")
    except OSError:
        return False
    return name.startswith("ray::") and not name.startswith(OWN_PROCESSES)


def plain_environment() -> dict[str, str]:
    """Return the environment without what belongs to another Ray, and with one thread a library."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


# ------------------------------------------------------------------------------------- the process that holds the nodes


class _Host:
    def __init__(self) -> None:
        import ray._private.utils
        from ray.cluster_utils import Cluster

        # It tells this machine's other programs where the newest cluster is; ours is nobody else's
        ray._private.utils.write_ray_address = lambda *_: None
        self.cluster = Cluster(shutdown_at_exit=False)
        self.nodes: dict[str, Any] = {}

    def add(
        self, name: str, cpus: int, core: int | None = None, environment: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        cores = os.sched_getaffinity(0)
        if core is not None:
            os.sched_setaffinity(0, {core})
        options: dict[str, Any] = {
            "num_cpus": cpus,
            "object_store_memory": OBJECT_STORE_BYTES,
            "node_name": name,
            "env_vars": dict(environment or {}),
            "include_log_monitor": False,
        }
        if self.cluster.head_node is None:
            options |= {"include_dashboard": False, "no_monitor": True, "temp_dir": sys.argv[1]}
        try:
            for attempt in range(START_TRIES):
                before = set(descendants(os.getpid()))
                try:
                    self.nodes[name] = self.cluster.add_node(**options)
                    break
                except Exception:
                    if self.cluster.head_node is None or attempt == START_TRIES - 1:
                        raise
                    for process in set(descendants(os.getpid())) - before:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(process, signal.SIGKILL)
        finally:
            os.sched_setaffinity(0, cores)
        return {"address": self.cluster.address}

    def forget(self, name: str) -> dict[str, Any]:
        node = self.nodes.pop(name)
        node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        self.cluster.worker_nodes.discard(node)
        return {}

    def raylets(self) -> dict[str, int]:
        kind = "raylet"
        return {name: node.all_processes[kind][0].process.pid for name, node in self.nodes.items()}


def _requests() -> Iterator[dict[str, Any]]:
    """Yield what is asked, line by line; end the whole group of processes when nobody can ask any more."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        shutil.rmtree(sys.argv[1], ignore_errors=True)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield json.loads(lines.get())


def _hold_nodes() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Ray prints goes to the log
    host = _Host()
    for request in _requests():
        action = getattr(host, request.pop("do"))
        try:
            answer = action(**request)
            answer["raylets"] = host.raylets()
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _hold_nodes()
