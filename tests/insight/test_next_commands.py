"""What to type next: the recommended layer, and fine-tuning where it pays or was not tried."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from comparison_rows import made_up_row

from cnncodes.insight.comparison import Comparison
from cnncodes.insight.next_commands import finetuning_commands, fit_commands

PAYS, DOES_NOT = SimpleNamespace(first="layer4", pays=True), SimpleNamespace(first="layer4", pays=False)


def test_the_recommended_layer_is_fitted_and_compared_with_the_top_one() -> None:
    rows = [made_up_row(["penultimate"]), made_up_row(["layer3"], recommended=True)]
    fit, compare = fit_commands(Comparison(rows))
    assert fit.endswith(" --clf svm --layer layer3")
    assert compare.endswith(" --clf svm --layer layer3 --layer layer3+penultimate")
    assert len(fit_commands(Comparison([made_up_row(["penultimate"], recommended=True)]))) == 1


@pytest.mark.parametrize(
    ("size", "trial", "maps", "images", "expected"),
    [
        ("small", None, [], None, []),
        ("large", None, [], None, ["cnncodes advise 'my codes.h5' --finetune --images IMAGES"]),
        ("large", None, ["layer3"], None, ["cnncodes advise 'my codes.h5' --finetune"]),
        ("large", PAYS, ["layer3"], None, ["cnncodes finetune 'my codes.h5' --from layer4"]),
        ("small", PAYS, [], Path("my photos"), ["cnncodes finetune 'my codes.h5' --images 'my photos' --from layer4"]),
        ("large", PAYS, [], ["a.png"], ["cnncodes finetune 'my codes.h5' --images IMAGES --from layer4"]),
        ("large", DOES_NOT, [], "photos", []),
    ],
)
def test_fine_tuning_is_named_where_it_pays_or_was_not_tried(
    size: str, trial: Any, maps: list[str], images: Any, expected: list[str]
) -> None:
    file: Any = SimpleNamespace(path=Path("my codes.h5"), map_layers=maps)
    assert finetuning_commands(size, trial, file, images) == expected
