"""Codes of new images are computed by the very network that a provenance names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnncodes.codes.file import CodesFile
from cnncodes.codes.provenance import Provenance
from cnncodes.errors import MismatchError
from cnncodes.extraction.in_memory import compute_codes, images_named
from cnncodes.images.loading import ImageSet, load_images


@pytest.fixture(scope="module")
def provenance(sample_codes: Path) -> Provenance:
    with CodesFile.open(sample_codes) as file:
        return file.provenance


def test_compute_codes_by_a_provenance_equals_the_file(small_sample: Path, sample_codes: Path) -> None:
    with CodesFile.open(sample_codes) as file:
        computed = compute_codes(load_images(small_sample), file.provenance)
        for name in file.layers:
            np.testing.assert_array_equal(computed.codes[name], file.codes(name))
        np.testing.assert_array_equal(computed.sha256, file.sha256)


def test_another_preprocessing_than_that_of_the_weights_is_refused(small_sample: Path, sample_codes: Path) -> None:
    with CodesFile.open(sample_codes) as file:
        preprocessing = replace(file.provenance.preprocessing, mean=(0.5, 0.5, 0.5))
        provenance = replace(file.provenance, preprocessing=preprocessing)
    with pytest.raises(MismatchError, match="preprocessing"):
        compute_codes(load_images(small_sample), provenance)


def test_other_weights_of_the_same_name_are_refused(small_sample: Path, provenance: Provenance) -> None:
    other = replace(provenance, weights_sha256="ab" * 32)
    with pytest.raises(MismatchError, match=r"mobilenet_v2 found here have SHA-256 b0353104\w+…, wanted abababababab…"):
        compute_codes(load_images(small_sample), other)
    nameless = replace(provenance, weights_sha256="", source={})
    with pytest.raises(MismatchError, match="lacks 'weights_sha256'"):
        compute_codes(load_images(small_sample), nameless)


def test_rows_are_those_of_the_images_that_could_be_read(
    small_sample: Path, sample_codes: Path, provenance: Provenance
) -> None:
    images = load_images(small_sample)
    images.sources[7] = small_sample / "gone.png"
    computed = compute_codes(images, provenance.only(["layer3"]), workers=2)
    assert list(computed.codes) == ["layer3"]
    assert computed.rows.tolist() == [row for row in range(len(images)) if row != 7]
    assert list(computed.failures) == [7]
    with CodesFile.open(sample_codes) as file:
        np.testing.assert_array_equal(computed.codes["layer3"], file.codes("layer3", computed.rows))
        np.testing.assert_array_equal(computed.sha256, file.sha256[computed.rows])


def test_images_are_found_by_their_names_in_any_form_of_unicode() -> None:
    images = ImageSet(["a", "cafe\u0301", "b"], [np.full((2, 2, 3), i, np.uint8) for i in range(3)])
    chosen = images_named(images, ["b", "caf\u00e9"], "codes.h5")
    assert [source[0, 0, 0] for source in chosen.sources] == [2, 1]
    with pytest.raises(MismatchError, match=r"'c' and 1 more images of codes\.h5 are not among the images"):
        images_named(images, ["c", "a", "d"], "codes.h5")
