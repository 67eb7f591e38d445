"""The recommendation: the default, unless another probe is better by more than the noise."""

from __future__ import annotations

import numpy as np
from comparison_rows import made_up_row

from cnncodes.insight.compare import _with_differences
from cnncodes.insight.recommendation import recommended


def test_the_noise_of_a_recommendation_counts_groups_not_images() -> None:
    rows = [made_up_row(["penultimate"], clf=clf, depth=1) for clf in ("svm", "logreg")]
    groups = np.repeat([f"g{i}" for i in range(10)], 40)
    excess = np.repeat(np.where(np.arange(10) < 6, 0.5, -0.5), 40)  # 0.1 ± 0.16 by groups, ± 0.025 by images
    losses = [1 + excess, np.ones(400)]
    assert recommended(rows, losses) == 1
    assert recommended(rows, losses, np.full(400, "")) == 1
    assert recommended(rows, losses, groups) == 0
    found = _with_differences(rows, [np.ones(400), np.ones(400)], losses, groups)
    assert [row.recommended for row in found] == [True, False]
