"""Names in the two forms that Unicode has for accents, as Macs and other systems write them."""

from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

import numpy as np
from image_files import fill

from cnncodes.images.names import RowsByName, as_on_disk, composed, composed_names

NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_both_forms_are_composed_to_one():
    assert NFC != NFD
    assert composed(NFC) == composed(NFD) == NFC
    assert composed_names(np.array([NFD, "tea"])).tolist() == [NFC, "tea"]
    assert composed("\udce9.png") == "\udce9.png"  # bytes that are no UTF-8 stay


def test_a_name_is_found_in_its_other_form_unless_both_are_there():
    rows = RowsByName(["tea", NFD])
    assert [rows.get(name) for name in (NFC, NFD, "tea", "milk")] == [1, 1, 0, None]
    assert (list(rows), len(rows)) == (["tea", NFD], 2)
    both = RowsByName([NFC, NFD], [7, 8])
    assert [both[name] for name in (NFC, NFD)] == [7, 8]


def test_a_path_is_spelled_as_on_the_disk(tmp_path: Path) -> None:
    fill(tmp_path, f"{NFD}/1{NFD}.png", f"twice/{NFC}.png", f"twice/{NFD}.png")
    for name in (f"{NFC}/1{NFC}.png", f"{NFC}/1{NFD}.png", f"{NFD}/1{NFC}.png", f"{NFC}/1{NFC}.png/"):
        assert as_on_disk(f"{tmp_path}/{name}").rstrip("/") == f"{tmp_path}/{NFD}/1{NFD}.png"
    for name in (f"twice/{NFC}.png", f"twice/{NFD}.png", f"{NFC}/2.png", "gone.png", f"{NFC}/gone\u00e9.png"):
        path = as_on_disk(f"{tmp_path}/{name}")
        assert normalize("NFC", path) == f"{tmp_path}/{normalize('NFC', name)}"
    assert as_on_disk(f"{tmp_path}/twice/{NFD}.png") == f"{tmp_path}/twice/{NFD}.png"
