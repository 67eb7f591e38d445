"""A server of S3 on this machine, which fails and dawdles as it is told, and counts what it is asked for."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Fault = Callable[[str, int], str | float]  # (path, how often it was asked for) -> "", a status, a fault, or seconds

FAULTS = ("truncated", "reset")


class FaultyS3:
    """A server that keeps buckets in memory.

    Attributes
    ----------
    gets, heads : Counter of str
        How often each object was asked for, by its path ``/bucket/key``.
    lists : int
        How often a bucket was listed.
    fault : callable
        Says what goes wrong with the n-th GET of a path: a status like ``"503"``, ``"truncated"``, ``"reset"``, or the
        seconds that the answer takes; an empty text if nothing does.
    """

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *message: object) -> None:
                pass

        self.app = DomainDispatcherApplication(create_backend_app)
        self.forget()
        self.server = make_server("127.0.0.1", 0, self.serve, threaded=True, request_handler=Quiet)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def forget(self) -> None:
        """Count from 0, without faults."""
        self.gets, self.heads, self.lists = Counter[str](), Counter[str](), 0
        self.fault: Fault = lambda path, n: ""

    def close(self) -> None:
        self.server.shutdown()

    def serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"].encode("latin-1").decode()
        fault: str | float = ""
        if environ["REQUEST_METHOD"] == "HEAD":
            self.heads[path] += 1
        elif environ["REQUEST_METHOD"] == "GET" and "list-type" in environ["QUERY_STRING"]:
            self.lists += 1
            fault = self.fault("list", self.lists)
        elif environ["REQUEST_METHOD"] == "GET":
            self.gets[path] += 1
            fault = self.fault(path, self.gets[path])
        if isinstance(fault, float):
            time.sleep(fault)
        elif fault == "reset":
            connection = environ["werkzeug.socket"]
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            return []
        elif fault and fault not in FAULTS:
            start_response(f"{fault} Fault", [("Content-Type", "application/xml"), ("Content-Length", "0")])
            return []
        body = self.app(environ, start_response)
        return [data[: len(data) // 2] for data in body] if fault == "truncated" else body

    def environment(self) -> dict[str, str]:
        """Return the variables by which every program finds this server, and is let in."""
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        return {**keys, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": self.url}

    def client(self) -> Any:
        import boto3

        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **keys)

    def upload(self, folder: Path, bucket: str, prefix: str = "") -> None:
        """Make a bucket of the files below a folder, or add them to it."""
        client = self.client()
        client.create_bucket(Bucket=bucket)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                client.put_object(
                    Bucket=bucket, Key=prefix + path.relative_to(folder).as_posix(), Body=path.read_bytes()
                )


@contextmanager
def running_s3() -> Iterator[FaultyS3]:
    server = FaultyS3()
    try:
        yield server
    finally:
        server.close()
