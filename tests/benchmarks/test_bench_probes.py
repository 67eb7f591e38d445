"""The benchmark of the solvers compares with the better of scikit-learn's algorithms, among those that converged."""

from __future__ import annotations

import pytest
from bench_probes import STOPPED, best_of

UNFINISHED = "ConvergenceWarning: Liblinear failed to converge, increase the number of iterations."


@pytest.mark.parametrize(
    ("true", "false", "best"),
    [
        ((4.0, []), (9.0, []), "dual=True"),
        ((9.0, []), (4.0, []), "dual=False"),
        ((4.0, [UNFINISHED]), (9.0, []), "dual=False"),
        ((660.0, [STOPPED]), (9.0, ["FutureWarning: soon"]), "dual=False"),
        ((4.0, [UNFINISHED]), (660.0, [STOPPED]), "dual=True"),  # a lower bound of what either takes
    ],
)
def test_the_better_one_converged(true: tuple, false: tuple, best: str) -> None:
    sides = {
        f"dual={dual}": {"seconds": seconds, "notes": notes}
        for dual, (seconds, notes) in ((True, true), (False, false))
    }
    assert best_of(sides, "seconds") == best
