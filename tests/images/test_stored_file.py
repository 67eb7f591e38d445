"""Files that are no paths: read and stamped like others, and known again by a codes file."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncodes.codes.file import CodesFile
from cnncodes.errors import DecodeError
from cnncodes.extraction.extract import extract
from cnncodes.images.image_set import ImageSet
from cnncodes.images.stored_file import StoredFile, is_file
from cnncodes.system.claims import Claim

READS: list[bytes] = []


class _InMemory(StoredFile):
    """A file that lies nowhere; counts how often it is read."""

    size, changed = -1, -1

    def __init__(self, data: bytes, changed: int) -> None:
        self.data, self.size, self.changed = data, len(data), changed

    def read_bytes(self) -> bytes:
        READS.append(self.data)
        if not self.data:
            raise DecodeError("it is gone")
        return self.data


def _png(seed: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_what_counts_as_a_file() -> None:
    assert is_file(Path("a.png"))
    assert is_file(pickle.loads(pickle.dumps(_InMemory(b"x", 1))))
    assert not is_file("a.png")
    assert not is_file(np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize(("changed", "reads_again"), [(7, 0), (-1, 3)])
def test_codes_are_those_of_paths_and_an_unchanged_file_is_not_read_again(
    tmp_path: Path, changed: int, reads_again: int
) -> None:
    data = {f"{i}.png": _png(i) for i in range(3)}
    for name, content in data.items():
        (tmp_path / name).write_bytes(content)
    paths = ImageSet(list(data), [tmp_path / name for name in data])
    stored = ImageSet(list(data), [_InMemory(content, changed) for content in data.values()])
    options = {"layers": "penultimate", "image_size": 64, "thumbnails": False}
    extract(paths, tmp_path / "paths.h5", **options)
    READS.clear()
    assert extract(stored, tmp_path / "stored.h5", **options).computed == 3
    assert sorted(READS) == sorted(data.values())
    READS.clear()
    assert extract(stored, tmp_path / "stored.h5", **options).computed == 0
    assert len(READS) == reads_again
    with CodesFile.open(tmp_path / "paths.h5") as one, CodesFile.open(tmp_path / "stored.h5") as other:
        np.testing.assert_array_equal(one.codes("penultimate"), other.codes("penultimate"))
        np.testing.assert_array_equal(one.sha256, other.sha256)


def test_a_file_that_cannot_be_read_is_recorded(tmp_path: Path) -> None:
    images = ImageSet(["a.png", "b.png"], [_InMemory(_png(0), 1), _InMemory(b"", 2)])
    result = extract(images, tmp_path / "codes.h5", layers="penultimate", image_size=64)
    assert (result.ok, result.failures) == (1, {"b.png": "it is gone"})


def test_the_way_to_a_file_is_time_that_does_not_count() -> None:
    waited = []

    class Distant(_InMemory):
        def reach(self) -> None:
            waited.append((claim.is_waiting, claim.n_bytes))

    data = _png(0)
    with Claim() as claim:
        assert ImageSet(["a.png"], [Distant(data, 1)]).read_bytes(0, claim) == data
        assert (waited, claim.is_waiting) == ([(True, len(data))], False)
        assert claim.admitted > 0
