"""ICC profiles made by hand from the definition of their colour spaces, and the same conversion to sRGB in numpy."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])  # white of the space that profiles lead to
D65 = (0.3127, 0.3290)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB_PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
ADOBE_PRIMARIES = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
P3_PRIMARIES = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
ADOBE_GAMMA = 563 / 256
CURVE_POINTS = 1024


def srgb_curve(x: np.ndarray) -> np.ndarray:
    """Light, from 0 to 1, of a number from 0 to 1."""
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def adobe_curve(x: np.ndarray) -> np.ndarray:
    return x**ADOBE_GAMMA


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Matrix from light of the primaries, with white D65, to XYZ with white D50."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([D65[0] / D65[1], 1, (1 - sum(D65)) / D65[1]])
    adapted = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ white)) @ BRADFORD
    return adapted @ (xyz * np.linalg.solve(xyz, white))


def by_hand(
    pixels: np.ndarray, primaries: tuple[tuple[float, float], ...], curve: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Pixels uint8 (..., 3) of a colour space as sRGB, float, with what sRGB does not hold cut off."""
    light = np.linalg.inv(_to_xyz(SRGB_PRIMARIES)) @ _to_xyz(primaries) @ curve(pixels[..., None] / 255)
    light = light[..., 0].clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _s15(values: np.ndarray) -> bytes:
    return np.rint(np.asarray(values) * 65536).astype(">i4").tobytes()


def _curve(curve: Callable[[np.ndarray], np.ndarray]) -> bytes:
    points = np.rint(curve(np.linspace(0, 1, CURVE_POINTS)) * 65535).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", CURVE_POINTS) + points.tobytes()


def _profile(space: bytes, pcs: bytes, tags: dict[bytes, bytes], name: str) -> bytes:
    text = name.encode() + b"\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + _s15(D50),
        **tags,
    }
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for key, value in tags.items():
        table += key + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">I4xI4s4s4s", start + len(body), 0x02400000, b"mntr", space, pcs)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _s15(D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def rgb_profile(
    primaries: tuple[tuple[float, float], ...], curve: Callable[[np.ndarray], np.ndarray], name: str
) -> bytes:
    matrix = _to_xyz(primaries)
    tags = {key + b"XYZ": b"XYZ " + bytes(4) + _s15(matrix[:, i]) for i, key in enumerate((b"r", b"g", b"b"))}
    return _profile(b"RGB ", b"XYZ ", tags | {key + b"TRC": _curve(curve) for key in (b"r", b"g", b"b")}, name)


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", b"XYZ ", {b"kTRC": _curve(lambda x: x**gamma)}, f"Grey gamma {gamma}")


def ink_profile() -> bytes:
    """A profile of four inks by a table with two points for each: Lab of paper, of each ink and of what they mix to."""
    lightness = {0: 255, 1: 0}  # no black ink, black ink
    corners = []
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        shade = lightness[k] * (1 - 0.3 * c) * (1 - 0.4 * m) * (1 - 0.1 * y)
        corners.append([round(shade), 128 + (not k) * (60 * m - 40 * c), 128 + (not k) * (70 * y - 40 * c)])
    identity = np.tile(np.arange(256, dtype=np.uint8), 4).tobytes()
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + _s15(np.eye(3)) + identity
    table += np.array(corners, np.uint8).tobytes() + identity[: 3 * 256]
    return _profile(b"CMYK", b"Lab ", {b"A2B0": table, b"A2B1": table}, "four inks")


ADOBE_RGB = rgb_profile(ADOBE_PRIMARIES, adobe_curve, "Adobe RGB (1998)")
DISPLAY_P3 = rgb_profile(P3_PRIMARIES, srgb_curve, "Display P3")
SRGB = rgb_profile(SRGB_PRIMARIES, srgb_curve, "made by hand")
