"""Images are dealt out to parts in turn, and dealt back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from plain_codes import PROVENANCE

from cnncodes.codes.layout import ImageTable
from cnncodes.codes.provenance_parts import ShardProvenance
from cnncodes.errors import CodesFileError, MismatchError, SettingError
from cnncodes.extraction.shards import joined_table, refuse_other_part, shard_of
from cnncodes.images.image_set import ImageSet

N = 8
IDS = [f"{i}.png" for i in range(N)]
LABELS = list("aabbaabb")
IMAGES = ImageSet(IDS, list(range(N)), labels=LABELS, splits=["train"] * 7 + ["test"])
TABLE = ImageTable(IDS, LABELS, splits=["train"] * 7 + ["test"])
SHARD = ShardProvenance(part=1, of=3, images=TABLE.digest())


def test_images_are_dealt_out_in_turn() -> None:
    parts = [shard_of(IMAGES, (part, 3)) for part in (1, 2, 3)]
    assert [images.sources for images, _ in parts] == [[0, 3, 6], [1, 4, 7], [2, 5]]
    assert [images.labels for images, _ in parts] == [["a", "b", "b"], ["a", "a", "b"], ["b", "a"]]
    assert [shard.part for _, shard in parts] == [1, 2, 3]
    assert {(shard.of, shard.images) for _, shard in parts} == {(3, TABLE.digest())}


@pytest.mark.parametrize("of", [1, 2, 3, 8])
def test_what_is_dealt_out_is_dealt_back(of: int) -> None:
    parts = [shard_of(IMAGES, (part, of))[0] for part in range(1, of + 1)]
    tables = [
        ImageTable(
            images.ids,
            images.labels,
            images.groups,
            images.splits,
            sizes=list(images.sources),
            changed=[-source for source in images.sources],
        )
        for images in parts
    ]
    whole = ImageTable(IDS, LABELS, splits=TABLE.splits, sizes=list(range(N)), changed=[-i for i in range(N)])
    assert joined_table(tables) == whole


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ((0, 3), "there is no part 0 of 3; parts are counted from 1"),
        ((4, 3), "there is no part 4 of 3; parts are counted from 1"),
        ((1, 9), "8 images do not make 9 parts; ask for fewer"),
    ],
)
def test_parts_that_cannot_be_are_refused(shard: tuple[int, int], message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        shard_of(IMAGES, shard)


def test_a_part_stays_that_part() -> None:
    path, part = Path("part.h5"), PROVENANCE.with_shard(SHARD)
    refuse_other_part(path, part, SHARD, add=False)
    refuse_other_part(path, PROVENANCE, None, add=True)
    second = ShardProvenance(part=2, of=3, images=SHARD.images)
    with pytest.raises(MismatchError, match=r"part\.h5 was made otherwise: shard\.part is 1, asked 2\."):
        refuse_other_part(path, part, second, add=False)
    with pytest.raises(MismatchError, match=r"shard is \{'part': 1, .*\}, asked None"):
        refuse_other_part(path, part, None, add=False)
    with pytest.raises(MismatchError, match="shard is None, asked"):
        refuse_other_part(path, PROVENANCE, SHARD, add=False)
    with pytest.raises(CodesFileError, match="holds that part alone; merge the parts, then extract with add=True"):
        refuse_other_part(path, part, SHARD, add=True)
