"""Names in the two forms that Unicode has for accents, as Macs and other systems write them."""

from __future__ import annotations

import numpy as np

from cnncodes.names import RowsByName, composed, composed_names

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
