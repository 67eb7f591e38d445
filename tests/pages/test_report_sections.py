"""What the sections say: only what the figures bear out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from report_parts import answers_of

from cnncodes.pages.report_sections import sentence


def test_what_is_not_significant_is_not_called_worse() -> None:
    y = np.array(["a", "b"] * 10)
    answers = answers_of(y, np.where(np.arange(20) < 8, y, "a"), np.arange(20), np.ones(20))
    model: Any = SimpleNamespace(clf="svm", layers=["layer3"], tuned=None)
    assert "that is not significantly better than always answering the most frequent class" in sentence(answers, model)
