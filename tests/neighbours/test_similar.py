"""The nearest images: against a plain product of all codes, and by the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cnncodes import similar
from cnncodes.cli.main import main
from cnncodes.codes.file import CodesFile
from cnncodes.codes.load_codes import load_codes
from cnncodes.errors import CodesFileError, ImagesError
from cnncodes.neighbours import similar as similarity


@pytest.mark.parametrize("block_bytes", [1, 64 << 20])
def test_nearest_codes_are_those_of_a_plain_product(sample_codes: Path, monkeypatch, block_bytes: int) -> None:
    monkeypatch.setattr(similarity, "BLOCK_BYTES", block_bytes)
    X = load_codes(sample_codes, "layer3").astype(np.float64)
    query = X[7] + np.random.default_rng(0).normal(0, 0.02, X.shape[1])
    cosine = X @ query / np.linalg.norm(X, axis=1) / np.linalg.norm(query)
    with CodesFile.open(sample_codes) as file:
        rows, similarities = similarity.nearest_codes(file, query, 5, "layer3")
    assert rows.tolist() == np.argsort(-cosine)[:5].tolist()
    np.testing.assert_allclose(similarities, np.sort(cosine)[::-1][:5], rtol=1e-9)


def test_an_image_of_the_file_finds_itself_and_then_its_like(sample_codes: Path, small_sample: Path) -> None:
    query = sorted((small_sample / "test" / "Bag").iterdir())[0]
    found = similar(query, sample_codes, k=3)
    assert found[0].path == f"test/Bag/{query.name}"
    assert found[0].similarity == pytest.approx(1, abs=1e-4)
    assert [one.label for one in found] == ["Bag"] * 3
    assert len(similar(np.asarray(Image.open(query)), sample_codes, k=1000, layer="layer3")) == 45


def test_what_is_not_one_image_is_refused(sample_codes: Path, small_sample: Path, tmp_path: Path) -> None:
    with pytest.raises(ImagesError, match="holds 45 images; give one"):
        similar(small_sample, sample_codes)
    with pytest.raises(CodesFileError, match="no layer 'layer9'"):
        similar(next((small_sample / "test" / "Bag").iterdir()), sample_codes, layer="layer9")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(ImagesError, match=r"broken\.jpg: the JPEG file"):
        similar(tmp_path / "broken.jpg", sample_codes)


def test_the_command_prints_json_and_makes_a_montage(sample_codes: Path, small_sample: Path, tmp_path: Path) -> None:
    query = tmp_path / "<b>'new\".png"
    shutil.copy(sorted((small_sample / "test" / "Trouser").iterdir())[0], query)
    page = tmp_path / "similar.html"
    words = ["similar", query, "--codes", sample_codes, "-k", 4, "--html", page, "--images", small_sample, "--json"]
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert [one["label"] for one in answer["neighbours"]] == ["Trouser"] * 4
    text = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;&#x27;new&quot;.png" in text
    assert "<b>'new" not in text
    assert text.count("data:image/webp") == 2
    for one in answer["neighbours"]:
        assert one["path"] in text
