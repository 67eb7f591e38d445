"""Writes a model as one ONNX file: what `cnncodes export` does."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cnncodes
from cnncodes.errors import ExportError, SettingError, nearest, parameter
from cnncodes.exporting.answers import add_answers, add_stored
from cnncodes.exporting.evidence import add_evidence, evidence_sources
from cnncodes.exporting.geometry import add_geometry
from cnncodes.exporting.graph import Graph, Value
from cnncodes.exporting.network import add_network, translated
from cnncodes.exporting.parity import Parity, measure_parity
from cnncodes.exporting.quantization import Cost, QuantizedNetwork, quantized, refit
from cnncodes.extraction.in_memory import matching_network
from cnncodes.images.archive_names import archives_named
from cnncodes.images.image_set import Images
from cnncodes.images.loading import load_images
from cnncodes.models.model import ProbeModel
from cnncodes.networks.pooling import NO_PREFIX
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.runtime.workload import Workload
from cnncodes.system.files import refuse_foreign, replacing
from cnncodes.system.optional import require
from cnncodes.vocabulary import EXPORTED_TYPES

__all__ = ["Exported", "export", "is_exported"]

ONNX_FILE = "an ONNX file"
FORMAT = "cnncodes-onnx"  # the value of the key `format` in the metadata
MAX_BYTES = 2**31 - 1  # of a protobuf message


@dataclass(frozen=True)
class Exported:
    """What was exported, and how closely it agrees with the model.

    Attributes
    ----------
    path : str
    dtype : {"float32", "float16", "int8"}
        Type that large weights are kept in.
    n_bytes : int
        Size of the file.
    n_operators : int
    parity : Parity
        How closely the file agrees with `predict`; of int8, with `predict` by the quantised network.
    notes : list of str
    cost : Cost or None
        What the accuracy loses by int8.
    """

    path: str
    dtype: str
    n_bytes: int
    n_operators: int
    parity: Parity
    notes: list[str]
    cost: Cost | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def export(
    model: str | os.PathLike[str] | ProbeModel = "model.safetensors",
    out: str | os.PathLike[str] = "model.onnx",
    *,
    dtype: str = "float32",
    images: Images | None = None,
    allow_outside: bool = False,
    weights: str | os.PathLike[str] | None = None,
    evidence: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write a model as one ONNX file, from the pixels of images of any size to what `predict` says of them.

    The file takes ``images``, uint8 of shape (n, height, width, 3): decoded RGB pixels. It gives ``label`` (n,), the
    index of the class in the metadata ``classes``; ``probabilities`` (n, n_classes); ``decision`` (n, k), the decision
    values; and ``novelty`` (n,) if the model has it. Everything between is in the file: resizing, cropping,
    normalising, the network with its pooling, scaling, probe, calibration.

    Before it gets its name, the file is run by onnxruntime and compared with `predict` on images of many sizes.

    Parameters
    ----------
    model : path or ProbeModel, default="model.safetensors"
        A model file, or a model that is loaded already.
    out : path, default="model.onnx"
        An ONNX file that `export` wrote is replaced.
    dtype : {"float32", "float16", "int8"}, default="float32"
        Type that large weights are kept in. With ``"float16"`` the file is half as large; computing stays in float32.
        With ``"int8"`` the network computes in 8 bits, and the probe is fitted again to the codes that it then gives.
    images : path, sequence, ndarray or ImageSet, optional
        Labelled images that the model was fitted to, or others like them, as `load_images` takes them; for int8 only.
    allow_outside : bool, default=False
        Let a manifest name files outside its folder.
    weights : path, optional
        Path of the weights file, if it has moved since the model was fitted; it must be the same file.
    evidence : bool, default=False
        Let the file also give ``evidence0`` (n, k, rows, columns), and so on for each layer: what each place of the
        feature map adds to the decision values, where the layers are means of maps. See `ProbeModel.explain`.
    overwrite : bool, default=False
        Replace any other file, too.

    Returns
    -------
    Exported
        Size of the file, and the largest differences from `predict`.

    Raises
    ------
    ExportError
        The network has an operator that cannot be exported, or the file answers otherwise than the model.
    MissingLibraryError
        The libraries of the extra ``onnx`` are not installed.
    SettingError
        No such type; or int8 without images, or images without int8.
    ImagesError, ProbeError
        There are no images, or too few with labels.
    ModelFileError, MismatchError
        As for `predict`.

    Examples
    --------
    >>> exported = export("model.safetensors", "model.onnx")  # doctest: +SKIP
    >>> exported.parity.native_difference < 1e-5  # doctest: +SKIP
    True
    """
    if dtype not in EXPORTED_TYPES:
        raise SettingError(f"no dtype {dtype!r}.{nearest(dtype, EXPORTED_TYPES)} There are {', '.join(EXPORTED_TYPES)}")
    for library in ("onnx", "onnxscript", "onnxruntime"):
        require(library, "export")
    fitted = model if isinstance(model, ProbeModel) else ProbeModel.load(model)
    archives = archives_named(images)
    inputs = [model, weights, fitted.provenance.weights, images, *(archives.paths if archives else ())]
    refuse_foreign(out, ONNX_FILE, is_exported, overwrite=overwrite, inputs=inputs)
    if (dtype == "int8") != (images is not None):
        raise SettingError(
            f"{parameter('images', 'IMAGES')} goes with int8, and with int8 alone: the probe is fitted again"
        )
    labelled = None if images is None else load_images(images, allow_outside=allow_outside)
    network = matching_network(
        fitted.provenance.only(fitted.layers),
        Workload(),
        weights=weights,
        device="cpu",
        tensors=fitted.tensors,
        changes={"precision": "fp32"},
    )
    sources = tuple(evidence_sources(network.backbone, fitted).values()) if evidence and labelled is None else ()
    prefixes = network.backbone.prefixes(fitted.layers, network.plan.pooling)
    computed = tuple(dict.fromkeys([*fitted.layers, *(source.layer for source in sources)]))
    cut = translated(
        network.restricted(computed).extractor,
        fitted.layers,
        network.plan.pooling,
        network.backbone.preprocessing.image_size,
        network.backbone.name,
        sources,
        tuple(prefixes.get(name, NO_PREFIX) for name in fitted.layers),
    )
    cost = None
    if labelled is not None:
        cut = quantized(cut, network, labelled)
        quantised = QuantizedNetwork(network.backbone, network.plan, cut, fitted.layers)
        fitted, cost = refit(fitted, labelled, network, quantised)
        network = quantised
    proto = _build(fitted, network, cut, dtype)
    if proto.ByteSize() > MAX_BYTES:
        raise ExportError(f"{out}: would have {proto.ByteSize() / 1e9:.1f} GB, and an ONNX file has at most 2.1 GB")
    content = proto.SerializeToString()
    with replacing(Path(out), error_type=ExportError) as partial:
        partial.write_bytes(content)
        parity = measure_parity(partial, fitted, network)
        parity.require(dtype, 1 if fitted.familiarity is None else 1 / (len(fitted.familiarity) + 1))
    return Exported(os.fspath(out), dtype, len(content), len(proto.graph.node), parity, _notes(fitted), cost)


def is_exported(path: Path) -> bool:
    """Whether a file is an ONNX file that `export` wrote."""
    onnx = require("onnx", "export")
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception:  # the parser refuses other files in many ways
        return False
    return any(entry.key == "format" and entry.value == FORMAT for entry in proto.metadata_props)


def _build(model: ProbeModel, network: FrozenNetwork, cut: Any, dtype: str) -> Any:
    """Return the whole graph, from pixels to answers, as an ONNX model; `cut` is the translated network."""
    graph = Graph()
    helper, uint8 = graph.onnx.helper, graph.onnx.TensorProto.UINT8
    preprocessing = network.backbone.preprocessing
    images = helper.make_tensor_value_info("images", uint8, ["n", "height", "width", 3])
    squares = add_geometry(graph, Value(graph, "images", np.dtype(np.uint8)), preprocessing)
    codes = add_network(graph, squares, cut, half=dtype == "float16")
    codes, maps = codes[: len(model.layers)], codes[len(model.layers) :]
    codes = [
        add_stored(one) if network.layers[name]["dtype"] == "float16" else one
        for name, one in zip(model.layers, codes, strict=True)
    ]
    (n_views,) = preprocessing.middle_axis or (1,)
    small = dtype != "float32"
    answers = add_answers(graph, codes, model, n_views, small=small)
    answers |= add_evidence(maps, codes, model, small=small) if maps else {}
    widths = {"probabilities": len(model.classes), "decision": len(model.coef)}
    outputs = [
        (name, value, None if name.startswith("evidence") else ["n", *([widths[name]] if name in widths else [])])
        for name, value in answers.items()
    ]
    proto = graph.model([images], outputs)
    helper.set_model_props(proto, _metadata(model, dtype))
    return proto


def _metadata(model: ProbeModel, dtype: str) -> dict[str, str]:
    """Return what the file says of itself; of a path of weights only the name of the file."""
    provenance = model.provenance.facts() | {"layers": model.layers}
    provenance["weights"] = Path(model.provenance.weights).name
    if model.tuned is not None:
        provenance["tuned"] = model.tuned.to_dict()
    return {
        "format": FORMAT,
        "cnncodes": cnncodes.__version__,
        "classes": json.dumps(model.classes, ensure_ascii=False),
        "licence": model.provenance.licence or "unknown",
        "provenance": json.dumps(provenance, ensure_ascii=False),
        "scores": json.dumps(model.scores.to_dict(), ensure_ascii=False),
        "dtype": dtype,
    }


def _notes(model: ProbeModel) -> list[str]:
    notes = list(model.provenance.notes)
    if model.provenance.precision != "fp32":
        notes.append(
            f"the model was fitted to codes computed in {model.provenance.precision}; the file computes in float32, "
            "and was compared with that"
        )
    return notes
