"""Runs ONNX models by onnxruntime."""

from __future__ import annotations

from typing import Any

import torch

from cnncodes.system.optional import require

__all__ = ["open_session"]

ERRORS_ONLY = 3  # onnxruntime's level of messages


def open_session(model: bytes | str) -> Any:
    """Return an onnxruntime session on the processor, with as many threads as torch takes.

    Parameters
    ----------
    model : bytes or str
        The content of an ONNX file, or its path.
    """
    runtime = require("onnxruntime", "export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = ERRORS_ONLY
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
