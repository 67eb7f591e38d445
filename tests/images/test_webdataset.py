"""Which files of a WebDataset are one sample, and what its label is."""

from __future__ import annotations

import pytest

from cnncodes.images.webdataset import SampleLabels, key_of


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("0001.jpg", ("0001", "jpg")),
        ("a.b/0001.left.JPG", ("a.b/0001", "left.jpg")),
        ("a/.hidden", ("a/", "hidden")),
        ("0001", ("0001", "")),
    ],
)
def test_a_key_ends_at_the_first_dot_of_the_base_name(name, key):
    assert key_of(name) == key


def test_labels_are_numbers_or_texts():
    labels = SampleLabels()
    labels.add("a/1.cls", b"7\n")
    labels.add("a/2.cls", "Schäferhund ".encode())
    labels.add("a/3.cls", b"")
    assert [labels.of(f"a/{i}") for i in range(1, 5)] == ["7", "Schäferhund", "", ""]
    assert labels.suffix == ".cls"


@pytest.mark.parametrize(
    ("content", "label"),
    [
        (b'{"label": 3, "class": "x"}', "3"),
        (b'{"class": "cat"}', "cat"),
        (b'{"caption": "a cat"}', ""),
        (b'{"label": true}', ""),
        (b'{"label": [1]}', ""),
        (b"[1, 2]", ""),
        (b"[" * 50_000, ""),
        (b"\xff", ""),
    ],
)
def test_json_counts_where_there_are_no_cls_files(content, label):
    labels = SampleLabels()
    labels.add("1.json", content)
    assert (labels.of("1"), labels.suffix) == (label, ".json" if label else "")
    labels.add("1.cls", b"9")
    assert (labels.of("1"), labels.suffix) == ("9", ".cls")
