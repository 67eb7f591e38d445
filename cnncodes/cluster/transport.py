"""Speaks with Ray: nodes, workers on them, calls, and what is lost; nothing else in the package does."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

from cnncodes.cluster.worker import ProcessWorker
from cnncodes.errors import ClusterError, first_line
from cnncodes.system.optional import require
from cnncodes.system.process import is_own_process

__all__ = ["Call", "Node", "RayTransport", "Transport", "WorkerLostError", "connected"]

CLUSTER = "extraction on a cluster"  # what needs Ray
CALLS_AT_ONCE = 4  # units under way, and one call beside them
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 20.0  # a first machine that has much to do may take so long
# A client of HTTP/2, as Ray is one, begins with these words and its settings; a server answers with its own (RFC 9113)
HTTP2_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HTTP2_SETTINGS
START = (
    "type `ray start --head` on one machine, `ray start --address=HOST:6379` on each of the others, then the same "
    "command again"
)

Call = Any  # an answer that is not there yet; it can be a key


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, with what nobody uses of it.

    Attributes
    ----------
    key : str
        Its name for Ray.
    name : str
        Its name for people.
    cpus, gpus : float
        Processors and GPUs that are free.
    all_cpus, all_gpus : float
        How many it has.
    """

    key: str
    name: str
    cpus: float
    gpus: float
    all_cpus: float
    all_gpus: float


class WorkerLostError(Exception):
    """A worker died, its node did, or its answer is gone."""


class Transport(Protocol):
    """How workers are reached."""

    def nodes(self) -> list[Node]:
        """Return the nodes that live."""

    def start(self, node: str, cpus: float, gpus: float) -> Any:
        """Start a worker on a node; its first call waits until it is there."""

    def call(self, worker: Any, method: str, *arguments: Any, **options: Any) -> Call:
        """Begin a call."""

    def wait(self, calls: Sequence[Call], seconds: float) -> list[Call]:
        """Return the calls that have ended; wait for the first one, but no longer than so many seconds."""

    def result(self, call: Call) -> Any:
        """Return what a call gave, or raise what it raised, or `WorkerLostError`."""

    def end(self, worker: Any) -> None:
        """End a worker at once."""


class RayTransport:
    """Workers that are actors of Ray."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self.actor = ray.remote(ProcessWorker)

    def nodes(self) -> list[Node]:
        """Return the nodes that live."""
        free = require("ray._private.state", CLUSTER).available_resources_per_node()
        nodes = []
        for entry in self.ray.nodes():
            if entry["Alive"]:
                key, has = entry["NodeID"], entry["Resources"]
                given, address = entry.get("NodeName"), entry.get("NodeManagerAddress")  # Ray calls nodes by address
                name = (given if given != address else "") or entry.get("NodeManagerHostname") or address or key[:8]
                left = free.get(key, {})
                amounts = [left.get("CPU", 0), left.get("GPU", 0), has.get("CPU", 0), has.get("GPU", 0)]
                nodes.append(Node(key, name, *amounts))
        names = [node.name for node in nodes]
        return [
            Node(**{**vars(node), "name": f"{node.name} ({node.key[:6]})"}) if names.count(node.name) > 1 else node
            for node in nodes
        ]

    def start(self, node: str, cpus: float, gpus: float) -> Any:
        """Start an actor that stays on its node, and is not started again by Ray."""
        strategies = require("ray.util.scheduling_strategies", CLUSTER)
        return self.actor.options(
            num_cpus=cpus,
            num_gpus=gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=CALLS_AT_ONCE,
            scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote()

    def call(self, worker: Any, method: str, *arguments: Any, **options: Any) -> Call:
        """Begin a call."""
        return getattr(worker, method).remote(*arguments, **options)

    def wait(self, calls: Sequence[Call], seconds: float) -> list[Call]:
        """Return the calls that have ended."""
        ready, rest = self.ray.wait(list(calls), num_returns=1, timeout=seconds)
        if ready and rest:
            ready += self.ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return ready

    def result(self, call: Call) -> Any:
        """Return what a call gave; an error that it raised is raised as it was."""
        exceptions = require("ray.exceptions", CLUSTER)
        try:
            return self.ray.get(call)
        except exceptions.RayTaskError as error:
            raise error.cause from None
        except exceptions.RayError as error:
            raise WorkerLostError(_reason(error)) from error

    def end(self, worker: Any) -> None:
        """End an actor at once."""
        with contextlib.suppress(Exception):
            self.ray.kill(worker, no_restart=True)


def _reason(error: BaseException) -> str:
    """Return why a worker is gone, in one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if "Error:" in line or "No module named" in line]
    return telling[-1] if telling else first_line(error)


@contextlib.contextmanager
def connected(address: str) -> Iterator[RayTransport]:
    """Join a cluster that runs, for as long as the context lasts; where Ray is initialised already, it stays so.

    Raises
    ------
    ClusterError
        There is no such cluster, or it does not let us in; the message says what to type.
    """
    ray = require("ray", CLUSTER)
    if ray.is_initialized():
        yield RayTransport(ray)
        return
    with _silent(ray):
        _join(ray, address)
        try:
            yield RayTransport(ray)
        finally:
            with _own_signals():
                ray.shutdown()


def _join(ray: Any, address: str) -> None:
    """Connect this process; what Ray logs stays off the terminal."""
    place = _reachable(address)
    _send_token()
    with tempfile.TemporaryFile() as log:
        try:
            with _own_signals(), _stderr_to(log):
                ray.init(address=place, log_to_driver=False, logging_level=logging.CRITICAL, namespace="cnncodes")
        except Exception as error:
            log.seek(0)
            raise ClusterError(_refused(place, error, log.read().decode(errors="replace"))) from error


def _send_token() -> None:
    """Let Ray send the token of this machine, if it has one, to a cluster that is named by its address, too."""
    tokens = require("ray._private.authentication.authentication_token_setup", CLUSTER)
    before, tokens.logger.disabled = tokens.logger.disabled, True
    try:
        tokens.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    finally:
        tokens.logger.disabled = before


def _reachable(address: str) -> str:
    """Return the host and port of a cluster that answers: Ray would try for minutes where none does."""
    place = address
    if address == "auto":
        services = require("ray._private.services", CLUSTER)
        place = os.environ.get("RAY_ADDRESS") or services.find_bootstrap_address(None) or ""
        if not place:
            raise ClusterError(f"no Ray cluster runs here: {START}")
    host, _, port = place.rpartition(":")
    if "/" in place or not host or not port.isdecimal():
        client = "; ray:// addresses are for Ray's client, which reaches no single machine" * place.startswith("ray://")
        raise ClusterError(
            f"{place!r} is no address of a Ray cluster{client}: it is HOST:PORT of its first machine, as `ray start "
            "--head` prints it, with port 6379"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return place  # to be asked by TLS, which is up to Ray
            connection.settimeout(ANSWER_SECONDS)
            connection.sendall(HTTP2_PREFACE)
            answer = connection.recv(len(HTTP2_SETTINGS))
    except (OSError, UnicodeError) as error:  # the latter of a name that none can have
        reason = getattr(error, "strerror", None) or error
        raise ClusterError(f"no Ray cluster answers at {place} ({reason}): {START}") from error
    if answer[3:4] != HTTP2_SETTINGS[3:4]:
        raise ClusterError(
            f"what answers at {place} is no Ray cluster: `ray start --head` prints the address to use, with port 6379"
        )
    return place


def _refused(place: str, error: Exception, log: str) -> str:
    """Say why a cluster cannot be joined, and what to type; `log` is what Ray printed meanwhile."""
    if type(error).__name__ == "AuthenticationError" or "token" in f"{error}{log}".lower():
        return (
            f"the Ray cluster at {place} does not accept the token of this machine: type `ray get-auth-token "
            "--generate` on its first machine, and put what it prints into ~/.ray/auth_token of this one"
        )
    return (
        f"the Ray cluster at {place} cannot be joined ({first_line(error)}): this machine must be one of it, by `ray "
        f"start --address={place}`, with the same version of Ray, and with the first machine's ~/.ray/auth_token"
    )


@contextlib.contextmanager
def _silent(ray: Any) -> Iterator[None]:
    """Keep what Ray tells of deaths off the standard output, where it prints it whatever `log_to_driver` is."""
    module: Any = ray._private.worker
    before = module.print_to_stdstream
    module.print_to_stdstream = lambda *arguments, **options: None
    try:
        yield
    finally:
        module.print_to_stdstream = before


@contextlib.contextmanager
def _stderr_to(log: IO[bytes]) -> Iterator[None]:
    """Keep what Ray's own library prints off the terminal, in a process that is ours: a wrong token is 20 lines."""
    if not is_own_process():
        yield
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep our answer to SIGTERM, which Ray takes over in a program that joins it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
