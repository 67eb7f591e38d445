"""Image files below a folder of an object store, or of whatever else fsspec lists."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from cnncodes.errors import DecodeError
from cnncodes.images.files import some_names
from cnncodes.images.network import CONNECTIONS, ask, askers, file_system, listing_errors
from cnncodes.images.remote import RemoteFile, stamp_in
from cnncodes.images.walk import Walk

__all__ = ["RemoteWalk", "kind_of"]

LISTERS = CONNECTIONS // 4  # folders that are listed at a time

Entries = list[tuple[str, bool, int, int]]  # name, whether it is a folder, size, change


def kind_of(url: str) -> str:
    """Return ``"file"``, ``"directory"``, or what else fsspec calls it.

    Raises
    ------
    ImagesError
        It is not there, or nobody answers for it.
    """
    files = file_system(url)

    def info() -> Mapping[str, Any]:
        files.invalidate_cache()
        return files.info(files._strip_protocol(url))

    with listing_errors(url):
        return str(ask(url, info)["type"])


class RemoteWalk(Walk):
    """A walk through folders that a service lists, several at a time.

    Parameters
    ----------
    root : str
        URL of a folder.

    Raises
    ------
    ImagesError
        The folder cannot be listed.
    """

    def __init__(self, root: str) -> None:
        super().__init__()
        self._above_nameless: list[str] = []
        folder = root.rstrip("/")
        self._base = f"{folder}/" if "://" in folder else f"{folder}//"
        with askers(LISTERS) as pool:
            under_way: dict[Future[Entries], str] = {pool.submit(self._list, ""): ""}
            while under_way:
                done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for listing in done:
                    name = under_way.pop(listing)
                    for folder in self._take(name, listing):
                        under_way[pool.submit(self._list, folder)] = folder
        file_system(root).invalidate_cache()  # or fsspec would keep the listing for as long as the process lives

    def notes(self) -> list[str]:
        """Return what was left out, a line for each kind."""
        nameless = sorted(self._above_nameless)
        what = f"folders without a name (two slashes in a row), whose images are not read: in {some_names(nameless)}"
        return [*([what] if nameless else []), *super().notes()]

    def _list(self, name: str) -> Entries:
        """Ask for the files and folders in a folder."""
        files = file_system(self._base)
        path = files._strip_protocol(self._base + name).rstrip("/")
        entries = []
        for info in ask(self._base + name, lambda: files.ls(path, detail=True)):
            full = info["name"].rstrip("/")
            is_folder = info["type"] == "directory" or info["name"].endswith("/")
            if full.strip("/") != path.strip("/"):  # an object store may have an empty file of the name of the folder
                last = full.rpartition("/")[2]
                entries.append((f"{name}/{last}" if name else last, is_folder, *stamp_in(info)))
            elif info["type"] == "directory" and info["name"].endswith("/"):  # S3 has keys like a//1.png
                self._above_nameless.append(name or "the folder itself")
        return entries

    def _take(self, name: str, listing: Future[Entries]) -> list[str]:
        """Record the files in a folder; return the folders in it that are to be entered."""
        try:
            if name:
                entries = listing.result()
            else:
                with listing_errors(self._base):
                    entries = listing.result()
        except DecodeError as error:
            self.lock(name, RemoteFile(self._base, name), str(error))
            return []
        self.folders.add(name)
        inner = []
        for entry, is_folder, size, changed in entries:
            if self.passes_over(entry, is_folder=is_folder):
                continue
            if is_folder:
                inner.append(entry)
            elif self.is_image(entry):
                self.sources[entry] = RemoteFile(self._base, entry, size, changed)
            else:
                self.skip(entry)
        return inner
