"""The parts of a provenance: what a codes file records about its layers, preprocessing, run and shard.

`Provenance` and its parts are records: they are checked when they are read, and written back as they were, in the same
order and with the fields that this version does not know. The text must not change, because its SHA-256 seeds the
checksum of every row.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Self

from cnncodes.codes import checks
from cnncodes.vocabulary import NO_VIEWS, VIEWS, middle_axis

__all__ = [
    "LayerProvenance",
    "PreprocessingProvenance",
    "Record",
    "RuntimeProvenance",
    "ShardProvenance",
    "differences",
]

STORAGE_TYPES = ("float16", "float32")
DEFAULT_RESIZER = "torch"  # the library that resizes, unless a file names another
UNWRITTEN = {  # defaults that files omit
    "preprocessing.views": NO_VIEWS,
    "preprocessing.resized_by": DEFAULT_RESIZER,
    "preprocessing.ignore_profiles": True,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """A table of fields, as JSON holds it: the base of `Provenance` and of its parts."""

    source: Mapping[str, Any] = field(default_factory=dict, repr=False)  # what it was read from

    CHECKS: ClassVar[Mapping[str, checks.Check]] = {}

    @classmethod
    def from_dict(cls, values: Any, name: str = "") -> Self:
        """Read what `to_dict` returned.

        Raises
        ------
        MismatchError
            A field is missing or wrong; the message names it, below `name`.
        """
        if not isinstance(values, Mapping):
            raise checks.refusal(f"{name or 'the provenance'} is {reprlib.repr(values)}, expected a table")
        if not name:  # the parts of a record are looked at with it
            checks.refuse_odd_text(values)
        prefix = f"{name}." if name else ""
        for item in fields(cls):
            if item.name not in values and item.default is MISSING and item.default_factory is MISSING:
                raise checks.refusal(f"{prefix}{item.name} is missing")
        read = {key: check(f"{prefix}{key}", values[key]) for key, check in cls.CHECKS.items() if key in values}
        return cls(**read, source=dict(values))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON, in the order in which they were read."""
        values = {}
        for item in fields(self):
            value = getattr(self, item.name)
            default = item.default_factory() if item.default_factory is not MISSING else item.default
            dropped = value is None and self.source.get(item.name) is not None
            if item.name in self.CHECKS and not dropped and (item.name in self.source or value != default):
                values[item.name] = _plain(value)
        kept = {
            key: values.get(key, value) for key, value in self.source.items() if key in values or key not in self.CHECKS
        }
        return kept | values

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Record) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]


def _plain(value: Any) -> Any:
    """Return a value of a field as JSON has it."""
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerProvenance(Record):
    """One layer of a codes file.

    Parameters
    ----------
    n_features : int
        Code length of one view.
    pooling : str
        What makes a vector of the map, or of tokens; it changes nothing where the layer gives a vector.
    map_shape : tuple of int, default=()
        Shape before pooling: (C, H, W), or (D,) for a vector.
    dtype : {"float16", "float32", ""}, default=""
        Storage type; an empty string means float32.
    """

    n_features: int
    pooling: str
    map_shape: tuple[int, ...] = ()
    dtype: str = ""

    CHECKS: ClassVar[Mapping[str, checks.Check]] = {
        "n_features": checks.positive,
        "pooling": checks.text,
        "map_shape": checks.list_of(checks.integer),
        "dtype": checks.exactly(str, " or ".join(STORAGE_TYPES), STORAGE_TYPES.__contains__),
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class PreprocessingProvenance(Record):
    """How images were brought to the size and the range of values that the network takes.

    Parameters
    ----------
    resize, image_size : int, default=0
        Short side before the crop, and side of the square that enters the network, in pixels.
    interpolation : str, default=""
    mean, std : tuple of float, default=()
        For each channel, for pixels in [0, 1].
    mode : str, default=""
        ``crop``, ``pad`` or ``squash``.
    exact : bool, default=False
        Whether images were decoded at full size and resized with Pillow.
    views : {"none", "flip", "10crop"}, default="none"
    resized_by : str, default="torch"
        The library that resized.
    ignore_profiles : bool, default=True
        Whether embedded colour profiles were ignored, as older versions did, or colours were converted to sRGB.
    """

    resize: int = 0
    image_size: int = 0
    interpolation: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    mode: str = ""
    exact: bool = False
    views: str = NO_VIEWS
    resized_by: str = DEFAULT_RESIZER
    ignore_profiles: bool = True

    CHECKS: ClassVar[Mapping[str, checks.Check]] = {
        "resize": checks.positive,
        "image_size": checks.positive,
        "interpolation": checks.text,
        "mean": checks.list_of(checks.number, 3),
        "std": checks.list_of(checks.number, 3),
        "mode": checks.text,
        "exact": checks.flag,
        "views": checks.exactly(str, f"one of {', '.join(VIEWS)}", VIEWS.__contains__),
        "resized_by": checks.text,
        "ignore_profiles": checks.flag,
    }

    @property
    def middle_axis(self) -> tuple[int, ...]:
        """The number of views as a shape, ``()`` without views."""
        return middle_axis({"views": self.views})

    def differences(self, other: PreprocessingProvenance) -> list[str]:
        """Name each field in which another preprocessing differs."""
        return list(differences(self.to_dict(), other.to_dict(), "preprocessing."))


@dataclass(frozen=True, kw_only=True, eq=False)
class RuntimeProvenance(Record):
    """How the network was run, so far as that can change the last bits of the codes.

    Parameters
    ----------
    device : str, default=""
        ``cpu``, ``cuda`` or ``mps``.
    batch_size : int, default=0
    memory_format : str, default=""
    folded, fused, compiled : bool, default=False
        Whether batch normalisation was folded into convolutions, whether layers were fused, whether the network was
        compiled.
    leading_float32 : int, default=0
        How many of the first layers ran in float32 in spite of a lower precision.
    """

    device: str = ""
    batch_size: int = 0
    memory_format: str = ""
    folded: bool = False
    leading_float32: int = 0
    fused: bool = False
    compiled: bool = False

    CHECKS: ClassVar[Mapping[str, checks.Check]] = {
        "device": checks.text,
        "batch_size": checks.positive,
        "memory_format": checks.text,
        "folded": checks.flag,
        "leading_float32": checks.integer,
        "fused": checks.flag,
        "compiled": checks.flag,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardProvenance(Record):
    """Which part of an extraction a codes file holds.

    Parameters
    ----------
    part, of : int
        Part `part` of `of`, counted from 1.
    images : str
        SHA-256 of all images of the extraction, ``ImageTable.digest``.
    """

    part: int
    of: int
    images: str

    CHECKS: ClassVar[Mapping[str, checks.Check]] = {
        "part": checks.positive,
        "of": checks.positive,
        "images": checks.digest,
    }


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "", skipped: tuple[str, ...] = ()
) -> Iterator[str]:
    """Name each field in which two records differ, but for those that are skipped."""
    for key in sorted({*old, *new}):
        name = f"{prefix}{key}"
        if name in skipped:
            continue
        was, now = (values.get(key, UNWRITTEN.get(name)) for values in (old, new))
        if isinstance(was, dict) and isinstance(now, dict):
            yield from differences(was, now, f"{name}.", skipped)
        elif was != now:
            yield f"{name:.100} is {was!r:.100}, asked {now!r:.100}"
