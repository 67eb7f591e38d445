"""The files that ship with cnncodes: the embedded weights, the sample set, and a runtime for browsers."""

from __future__ import annotations

import errno
from pathlib import Path

__all__ = ["EMBEDDED_WEIGHTS", "RUNTIME", "RUNTIME_SCRIPT", "SAMPLE", "shipped_path"]

EMBEDDED_WEIGHTS = "weights/mobilenet_v2-b0353104.pth"
RUNTIME, RUNTIME_SCRIPT = (  # that a page computes by
    "onnxruntime-web/ort-wasm-simd-threaded.wasm.gz",
    "onnxruntime-web/ort.wasm.bundle.min.mjs",
)
SAMPLE = "fashion-mnist-sample"


def shipped_path(name: str) -> Path:
    """Return the path of a shipped file or folder, in an installed wheel or in a checkout.

    Parameters
    ----------
    name : str
        Path below ``data/``, e.g. ``SAMPLE``.

    Raises
    ------
    FileNotFoundError
        Neither place has it: the installation is incomplete.
    """
    package = Path(__file__).resolve().parents[1]
    for data in (package / "data", package.parent / "data"):
        if (data / name).exists():
            return data / name
    raise FileNotFoundError(errno.ENOENT, "a shipped file is missing: reinstall cnncodes", f"data/{name}")
