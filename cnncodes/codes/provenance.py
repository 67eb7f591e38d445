"""How codes were made, as a file records it: network, weights, preprocessing, layers and machine."""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from cnncodes.codes import checks
from cnncodes.codes.provenance_parts import (
    LayerProvenance,
    PreprocessingProvenance,
    Record,
    RuntimeProvenance,
    ShardProvenance,
    differences,
)
from cnncodes.errors import MismatchError
from cnncodes.vocabulary import map_key

__all__ = ["Provenance", "refuse_mismatch", "to_json"]

# recorded, but decided by versions and hardware
MACHINE_FIELDS = ("versions.", "runtime.folded", "runtime.fused", "head_input")
MAP_AXES = (2, 3)  # of a sequence of tokens, and of a feature map
MAP_ITEM_BYTES = 2  # of a number of a map, in float16
MAX_BATCH_BYTES = 2 << 30  # what a file of others may make the network take at once
# What may differ where a file is continued. Licence and notes follow from the weights, whose digest is compared.
UNCOMPARED = ("layers", "links", "maps", "versions.cnncodes", "licence", "notes")


def to_json(value: Any, *, sort_keys: bool = False) -> str:
    """Return compact JSON; keys keep their order unless they are to be sorted."""
    return json.dumps(value, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Provenance(Record):
    """How the codes of a codes file or a model file were made.

    Only `layers` must be there for codes to be read. What is needed to make codes again is demanded by `require`.

    Parameters
    ----------
    backbone, library, weights : str, default=""
        The network, the package that it is from (with version), and the name or the path of its weights.
    weights_sha256 : str, default=""
    licence : str or None, default=None
        Licence of the weights.
    preprocessing : PreprocessingProvenance
    allow_partial : bool, default=False
        Whether the weights were allowed to lack parameters.
    notes : tuple of str, default=()
        What a user should know about the weights.
    head_input : str, default=""
        ``pre_logits`` where `penultimate` is what the network itself calls the input of its head, not that of a module.
    layers : dict of str to LayerProvenance
    links : dict of str to str, default={}
        For each layer that is not stored itself, the stored layer with the same values.
    maps : dict of str to tuple of int, default={}
        Layers whose feature maps are kept, and the shape of one map: (C, H, W), or (tokens, D).
    pooling : str, default=""
    precision : str, default=""
    dtype : str, default=""
        Storage type that was asked for.
    runtime : RuntimeProvenance
    versions : dict of str to str, default={}
        Versions of the libraries that decide the codes.
    shard : ShardProvenance or None, default=None
        Which part of an extraction it is, if it is one.

    Raises
    ------
    MismatchError
        A link leads from or to what is no stored layer, or a batch would not fit into memory.

    Examples
    --------
    >>> layers = {"penultimate": {"n_features": 1280, "pooling": "avg"}}
    >>> provenance = Provenance.from_dict({"layers": layers, "lens": "50 mm"})
    >>> provenance.layers["penultimate"].n_features
    1280
    >>> provenance.to_json()
    '{"layers":{"penultimate":{"n_features":1280,"pooling":"avg"}},"lens":"50 mm"}'
    """

    backbone: str = ""
    library: str = ""
    weights: str = ""
    weights_sha256: str = ""
    licence: str | None = None
    preprocessing: PreprocessingProvenance = field(default_factory=PreprocessingProvenance)
    allow_partial: bool = False
    notes: tuple[str, ...] = ()
    head_input: str = ""
    layers: Mapping[str, LayerProvenance]
    links: Mapping[str, str] = field(default_factory=dict)
    maps: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    pooling: str = ""
    precision: str = ""
    dtype: str = ""
    runtime: RuntimeProvenance = field(default_factory=RuntimeProvenance)
    versions: Mapping[str, str] = field(default_factory=dict)
    shard: ShardProvenance | None = None

    CHECKS: ClassVar[Mapping[str, checks.Check]] = {
        "backbone": checks.text,
        "library": checks.text,
        "weights": checks.text,
        "weights_sha256": checks.digest,
        "licence": checks.optional(checks.text),
        "preprocessing": lambda name, value: PreprocessingProvenance.from_dict(value, name),
        "allow_partial": checks.flag,
        "notes": checks.list_of(checks.text),
        "head_input": checks.text,
        "layers": checks.table_of(lambda name, value: LayerProvenance.from_dict(value, name)),
        "links": checks.table_of(checks.text),
        "maps": checks.table_of(checks.list_of(checks.positive)),
        "pooling": checks.text,
        "precision": checks.text,
        "dtype": checks.text,
        "runtime": lambda name, value: RuntimeProvenance.from_dict(value, name),
        "versions": checks.table_of(checks.text),
        "shard": lambda name, value: ShardProvenance.from_dict(value, name),
    }

    def __post_init__(self) -> None:
        pixels = max(self.preprocessing.resize, self.preprocessing.image_size) ** 2
        batch_bytes = 3 * pixels * self.runtime.batch_size * math.prod(self.preprocessing.middle_axis)
        if batch_bytes > MAX_BATCH_BYTES:
            raise checks.refusal(
                f"runtime.batch_size is {self.runtime.batch_size}, expected a batch of at most "
                f"{MAX_BATCH_BYTES >> 30} GiB of pixels"
            )
        for name, target in self.links.items():
            if name not in self.layers or target not in self.layers or target in self.links:
                raise checks.refusal(
                    f"links.{name} is {reprlib.repr(target)}, expected a stored layer for a layer of the file"
                )
        for name, shape in self.maps.items():
            if len(shape) not in MAP_AXES:
                raise checks.refusal(f"maps.{name} is {reprlib.repr(shape)}, expected (C, H, W) or (tokens, D)")

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """Read what `to_json` returned.

        Raises
        ------
        MismatchError
            It is no JSON, or a field is missing or wrong.
        """
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, TypeError, RecursionError) as error:
            if isinstance(error, MismatchError):
                raise
            raise checks.refusal(f"the provenance is no JSON ({error})") from error

    def to_json(self) -> str:
        """Return compact JSON, as a codes file holds it."""
        return to_json(self.to_dict())

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 (32 bytes) of the JSON with sorted keys: what seeds the checksum of every row."""
        return hashlib.sha256(to_json(self.to_dict(), sort_keys=True).encode()).digest()

    @property
    def stored_layers(self) -> list[str]:
        """The layers that are no links, in order."""
        return [name for name in self.layers if name not in self.links]

    @property
    def stored_keys(self) -> list[str]:
        """What a row has a checksum of: the stored layers, and the keys of the maps."""
        return [*self.stored_layers, *map(map_key, self.maps)]

    def map_shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape of what is kept of a map for one image: (C, H, W) or (n_views, C, H, W)."""
        return *self.preprocessing.middle_axis, *self.maps[layer]

    def map_bytes(self, layer: str) -> int:
        """Return the size of what is kept of a map for one image."""
        return math.prod(self.map_shape(layer)) * MAP_ITEM_BYTES

    def code_shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape of the codes of one image: (n_features,) or (n_views, n_features)."""
        return *self.preprocessing.middle_axis, self.layers[layer].n_features

    def require(self, *names: str) -> None:
        """Raise `MismatchError` if a field is missing; ``"runtime.device"`` is a field of `runtime`."""
        values = self.to_dict()
        for name in names:
            first, _, second = name.partition(".")
            if first not in values or (second and second not in values[first]):
                raise checks.refusal(f"the provenance lacks {name!r}: another version wrote it; extract again")

    def differences(self, other: Provenance, *, every: bool = False) -> list[str]:
        """Name each field in which `other` differs.

        Parameters
        ----------
        other : Provenance
            What is asked for now.
        every : bool, default=False
            Compare layers and our own version as well, which may differ where a file is continued.
        """
        return list(differences(self.to_dict(), other.to_dict(), skipped=() if every else UNCOMPARED))

    def facts(self) -> dict[str, Any]:
        """Return the fields but layers and maps, for people: they say of colour profiles what files may leave out."""
        fields = {name: value for name, value in self.to_dict().items() if name not in ("layers", "links", "maps")}
        if preprocessing := fields.get("preprocessing"):
            fields["preprocessing"] = preprocessing | {"ignore_profiles": self.preprocessing.ignore_profiles}
        return fields

    def only(self, layers: Sequence[str]) -> Provenance:
        """Return the provenance of the codes of some layers, each stored for itself.

        Raises
        ------
        MismatchError
            There is no such layer.
        """
        for name in layers:
            if name not in self.layers:
                raise checks.refusal(f"layers.{name} is missing")
        return replace(self, layers={name: self.layers[name] for name in layers}, links={}, maps={})

    def in_float32(self) -> Provenance:
        """Return the provenance of the same codes, kept in float32."""
        layers = {name: replace(layer, dtype="float32") for name, layer in self.layers.items()}
        return replace(self, dtype="float32", layers=layers)

    def with_shard(self, shard: ShardProvenance | None) -> Provenance:
        """Return the provenance of a part of an extraction; of the whole if `shard` is None."""
        return replace(self, shard=shard)


def refuse_mismatch(path: Path, old: Provenance, new: Provenance) -> None:
    """Raise `MismatchError` if a codes file was made with other settings than those asked for."""
    if differences := old.differences(new):
        elsewhere = any(one.startswith(MACHINE_FIELDS) for one in differences)
        elsewhere |= all(one.startswith("preprocessing.resized_by") for one in differences)  # follows from two options
        advice = "It was made by another version, or on another kind of machine:" if elsewhere else "Ask for the same,"
        raise MismatchError(
            f"{path} was made otherwise: {'; '.join(differences)}. {advice} choose another file with -o, or delete it"
        )
