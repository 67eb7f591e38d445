"""What a user is told who cannot join a cluster, and what is learned of a worker's death."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest

from cnncodes.cluster import transport
from cnncodes.cluster.transport import RayTransport, connected
from cnncodes.errors import ClusterError


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A library that is not initialised, and refuses to be."""

    def init(**options: Any) -> None:
        raise errors.pop()

    errors: list[Exception] = []
    ray = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: None, errors=errors, remote=type)
    ray._private = SimpleNamespace(worker=SimpleNamespace(print_to_stdstream=print))
    ray.logger, ray.tokens = SimpleNamespace(disabled=False), []
    ray.maybe_enable_token_auth_if_token_available = lambda **options: ray.tokens.append((ray.logger.disabled, options))
    monkeypatch.setattr(transport, "require", lambda module, what: ray)
    return ray


@contextmanager
def server(answer: bytes = transport.HTTP2_SETTINGS, words: list[bytes] | None = None) -> Iterator[str]:
    """Give the address of a server that answers each connection with these bytes; `words` gets what it was sent."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                with listener.accept()[0] as connection:
                    received = connection.recv(100)
                    if words is not None:
                        words.append(received)
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def join(address: str) -> None:
    with connected(address):
        pass


@pytest.mark.usefixtures("no_ray")
def test_an_address_at_which_nobody_answers_is_refused_at_once_with_what_to_type() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(ClusterError, match=rf"no Ray cluster answers at 127\.0\.0\.1:{port} .*`ray start --head`"):
        join(f"127.0.0.1:{port}")
    with pytest.raises(ClusterError, match=r"no Ray cluster answers at a{70}:6379 .*too long.*`ray start --head`"):
        join(f"{'a' * 70}:6379")


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "local", "box", "http://box:8265", ":6379"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ClusterError, match="is no address of a Ray cluster") as info:
        join(address)
    assert ("ray:// addresses are for Ray's client" in str(info.value)) == address.startswith("ray://")


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("answer", [b"HTTP/1.0 400 Bad Request\r\n", b""])
def test_what_answers_and_is_no_cluster_is_refused_at_once(answer: bytes) -> None:
    with server(answer) as address, pytest.raises(ClusterError, match=rf"^what answers at {address} is no Ray cluster"):
        join(address)


def test_a_cluster_that_speaks_tls_is_not_asked_in_plain_text(
    no_ray: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(no_ray, "init", lambda **options: None)
    monkeypatch.setenv("RAY_USE_TLS", "1")
    words: list[bytes] = []
    with server(b"", words) as address:
        join(address)
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), 5) as last:  # all before it are served then
            last.shutdown(socket.SHUT_WR)
            last.recv(1)
    assert not any(words)


def test_a_cluster_that_refuses_says_how_to_get_in(no_ray: SimpleNamespace) -> None:
    with server() as address:
        no_ray.errors.append(RuntimeError("Authentication failed: invalid token"))
        with pytest.raises(ClusterError, match=r"token of this machine: type `ray get-auth-token --generate`"):
            join(address)
        no_ray.errors.append(RuntimeError("no raylet here"))
        with pytest.raises(ClusterError, match=rf"\(no raylet here\): .*`ray start --address={address}`"):
            join(address)
    assert no_ray._private.worker.print_to_stdstream is print
    assert no_ray.tokens == [(True, {"warn_if_disabled": False})] * 2  # sent in silence, whatever the address
    assert not no_ray.logger.disabled


@pytest.mark.parametrize("is_own", [True, False])
def test_what_the_library_of_ray_prints_while_it_joins_stays_off_the_terminal_of_a_command(
    no_ray: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], is_own: bool
) -> None:
    monkeypatch.setattr(transport, "is_own_process", lambda: is_own)
    monkeypatch.setattr(no_ray, "init", lambda **options: os.write(2, b"E rpc.cc: Unauthenticated\n"))
    with server() as address:
        join(address)
    os.write(2, b"error: one line\n")
    assert capfd.readouterr().err == "E rpc.cc: Unauthenticated\n" * (not is_own) + "error: one line\n"


def test_nodes_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    import ray._private.state as state

    monkeypatch.setattr(state, "available_resources_per_node", lambda: {"abcdef12": {"CPU": 3.0}})
    entries = [
        {"NodeID": key, "Alive": alive, "NodeManagerHostname": "box", "Resources": {"CPU": 4.0}}
        for key, alive in (("abcdef12", True), ("12345678", True), ("dead", False))
    ]
    ray = SimpleNamespace(nodes=lambda: entries, remote=lambda cls: cls)
    nodes = RayTransport(ray).nodes()
    assert [(one.name, one.cpus, one.all_cpus, one.gpus) for one in nodes] == [
        ("box (abcdef)", 3.0, 4.0, 0),
        ("box (123456)", 0, 4.0, 0),
    ]
