"""Weights: named, published sets of parameters; where their files are, fetched once and verified."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import torch

from cnncodes.errors import WeightsError, first_line, parameter
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.system.optional import require
from cnncodes.system.shipped import EMBEDDED_WEIGHTS, shipped_path

__all__ = ["WeightsEntry", "file_digest", "locate"]

logger = logging.getLogger(__name__)

# Files that ship with the package, with the full SHA-256 of their bytes.
EMBEDDED = {
    "mobilenet_v2-b0353104.pth": (EMBEDDED_WEIGHTS, "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"),
}
HUB_TIMEOUT = 10  # seconds
HUB_FILE = "model.safetensors"


@dataclass(frozen=True)
class WeightsEntry:
    """One set of weights that a library publishes, with what belongs to it.

    Attributes
    ----------
    name : str
        The library's name, e.g. ``IMAGENET1K_V1``.
    preprocessing : Preprocessing
    url : str or None
        Where the file is; its name ends in the first digits of its SHA-256 where the library does that.
    hub : str or None
        Instead of a URL: a repository of the Hugging Face hub that holds ``model.safetensors``.
    file : Path or None
        Instead of both: a local file.
    licence : str or None
    categories : tuple of str or None
        Names of the classes of the head.
    top1 : float or None
        Accuracy on ImageNet-1K in percent, as the library reports it.
    n_params : int or None
    """

    name: str
    preprocessing: Preprocessing
    url: str | None = None
    hub: str | None = None
    file: Path | None = None
    licence: str | None = None
    categories: tuple[str, ...] | None = None
    top1: float | None = None
    n_params: int | None = None

    @property
    def filename(self) -> str | None:
        return self.url.rsplit("/", 1)[-1] if self.url else None

    @property
    def digest_prefix(self) -> str:
        """The first digits of the file's SHA-256, as its name gives them; may be empty."""
        match = re.search(r"-([0-9a-f]{8,64})\.", self.filename or "")
        return match.group(1) if match else ""


def file_digest(path: Path) -> str:
    """Return the SHA-256 of the file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def locate(entry: WeightsEntry) -> tuple[Path, str]:
    """Find the file of published weights, shipped or in the cache, fetching it once where it is in neither.

    Returns
    -------
    path : Path
    sha256 : str
        Digest of the file, checked against the one in its name.

    Raises
    ------
    WeightsError
        The file is damaged, or it cannot be fetched: the message says which file to put where.
    """
    if entry.hub or entry.file:
        path = entry.file or _from_hub(entry.hub or "")
        if not path.is_file():
            raise WeightsError(f"{path}: no such file of weights")
        return path, file_digest(path)
    if entry.url is None or entry.filename is None:
        raise WeightsError(
            f"no file is published for the weights {entry.name}; give one with {parameter('weights', 'FILE')}"
        )
    shipped, expected = EMBEDDED.get(entry.filename, (None, entry.digest_prefix))
    path = shipped_path(shipped) if shipped else _hub_folder() / entry.filename
    if not path.exists():
        _fetch(entry.url, path, expected)
    sha256 = file_digest(path)
    if not sha256.startswith(expected):
        raise WeightsError(
            f"{path}: damaged, or not the file it is named after: its SHA-256 is {sha256[:16]}…, "
            f"expected {expected[:16]}…; " + ("reinstall cnncodes" if shipped else "delete it, and it is fetched again")
        )
    return path, sha256


def _hub_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _fetch(url: str, path: Path, expected: str) -> None:
    logger.info("fetching %s", url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=expected or None, progress=True)
    except (OSError, RuntimeError) as error:  # a RuntimeError: the hash of what came is wrong
        raise WeightsError(
            f"cannot fetch {url} ({error}); get {path.name} by other means and put it into {path.parent}, "
            f"or give the file with {parameter('weights', 'FILE')}"
        ) from error


def _from_hub(repository: str) -> Path:
    """Return the file in the Hugging Face cache; ask the network only when it is not there, and only briefly."""
    huggingface_hub = require("huggingface_hub", "fetching weights of timm")
    from huggingface_hub import constants

    cached = huggingface_hub.try_to_load_from_cache(repository, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        # The hub's client retries for most of a minute where there is no network, so one short request comes first.
        request = urllib.request.Request(huggingface_hub.hf_hub_url(repository, HUB_FILE), method="HEAD")
        with contextlib.suppress(urllib.error.HTTPError):  # any answer will do: the client interprets it
            urllib.request.urlopen(request, timeout=HUB_TIMEOUT).close()
        return Path(huggingface_hub.hf_hub_download(repository, HUB_FILE))
    except Exception as error:  # which exceptions the client raises depends on its version
        page = f"https://huggingface.co/{repository}"
        raise WeightsError(
            f"cannot fetch {HUB_FILE} of {page}: {_hub_reason(error)}; or get its folder by other means "
            f"(`hf download {repository}` where there is a network) and give it with "
            f"{parameter('weights', 'FOLDER')}"
        ) from error


def _hub_reason(error: BaseException) -> str:
    """Say why the hub gives no file, and what to do about it."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    names = {kind.__name__ for one in causes for kind in type(one).__mro__}
    codes = {getattr(getattr(one, "response", None), "status_code", None) for one in causes}
    login = "log in with `hf auth login`, or set HF_TOKEN"
    if "GatedRepoError" in names or 403 in codes:
        return f"access is restricted; accept the terms on that page, and {login}"
    if "RepositoryNotFoundError" in names or 401 in codes:
        return f"the hub knows no such page, or does not show it to strangers; if you may see it, {login}"
    return f"{first_line(error)}; try again when the hub can be reached"
