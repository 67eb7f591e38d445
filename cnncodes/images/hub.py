"""Reads files of the Hugging Face Hub by one request each."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import quote

from cnncodes.system.optional import require

__all__ = ["HUB_SCHEME", "read_from_hub"]

HUB_SCHEME = "hf"
TURN_SECONDS = 5.0  # after which a thread asks by itself: if the Hub is silent, threads must not queue

_lock = threading.Lock()


def read_from_hub(files: Any, path: str, timeout: float, start: int | None = None, end: int | None = None) -> bytes:
    """Return the bytes of a file, or those between two positions in it.

    The library's file system would list the whole folder of the first file that each thread reads, 1,000 names a
    request, and the Hub limits how many requests it answers.

    Parameters
    ----------
    files : file system of huggingface_hub
    path : str
        Name of the file as `files` takes it: ``datasets/owner/name@revision/a/1.png``.
    timeout : float
        Seconds of silence after which the request is given up.
    start, end : int, optional
    """
    hub = require("huggingface_hub", "reading hf:// URLs")
    is_first = _lock.acquire(timeout=TURN_SECONDS)  # or each of many threads would ask whether there is such a dataset
    try:
        place = files.resolve_path(path)
    finally:
        if is_first:
            _lock.release()
    if hasattr(place, "bucket_id"):
        url = f"{files.endpoint}/buckets/{place.bucket_id}/resolve/{quote(place.path)}"
    else:
        options = {"repo_type": place.repo_type, "revision": place.revision, "endpoint": files.endpoint}
        url = hub.hf_hub_url(place.repo_id, place.path_in_repo, **options)
    headers = {**hub.utils.build_hf_headers(token=files.token), "Accept-Encoding": "identity"}
    if start is not None and end is not None:
        headers["Range"] = f"bytes={start}-{end - 1}"
    response = hub.utils.get_session().get(url, headers=headers, timeout=timeout)
    hub.utils.hf_raise_for_status(response)
    data: bytes = response.content
    return data
