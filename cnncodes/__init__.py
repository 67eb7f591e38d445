"""cnncodes: a handful of labelled images, a frozen CNN, and a linear classifier whose score can be believed."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Names are imported on first use: importing cnncodes loads neither torch nor scikit-learn.
_HOMES = {
    "CNNCodes": "estimators",
    "CNNCodesClassifier": "estimators",
    "CnnCodesError": "errors",
    "CodesFile": "codes.file",
    "ImageSet": "images.image_set",
    "ProbeModel": "models.model",
    "advise": "insight.advise",
    "audit": "insight.audit",
    "compare": "insight.compare",
    "evaluate": "models.evaluate",
    "extract": "extraction.extract",
    "fit": "models.fit",
    "load_backbone": "networks.backbone",
    "load_codes": "codes.load_codes",
    "make_report": "pages.report",
    "merge": "extraction.merge",
    "register_backbone": "networks.backbone",
    "similar": "neighbours.similar",
    "verify": "extraction.verify",
}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
