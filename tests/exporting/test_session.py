"""A session runs on as many threads as torch does."""

from __future__ import annotations

import numpy as np
import onnx
import torch

from cnncodes.exporting.session import open_session


def test_a_session_runs_a_model_of_bytes_or_of_a_file(tmp_path):
    node = onnx.helper.make_node("Neg", ["x"], ["y"])
    described = [onnx.helper.make_tensor_value_info(name, 1, ["n"]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", described[:1], described[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "neg.onnx")
    for source in (model.SerializeToString(), str(tmp_path / "neg.onnx")):
        session = open_session(source)
        assert session.run(None, {"x": np.float32([1, -2])})[0].tolist() == [-1, 2]
        assert session.get_session_options().intra_op_num_threads == torch.get_num_threads()
