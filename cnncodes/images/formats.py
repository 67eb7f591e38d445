"""Image formats that are read, told apart by the bytes of a file and never by its name."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

from cnncodes.errors import DecodeError

if TYPE_CHECKING:
    from PIL import ImageFile

__all__ = ["FORMATS", "HEIC_ADVICE", "format_of", "reads_heic"]

# Formats that are read: name for messages, Pillow's module, offset, and the bytes that a file must have there.
# A format that is not here is never opened: EPS would start Ghostscript, ICO and PSD hide images from the pixel limit.
FORMATS = (
    ("JPEG", "Jpeg", 0, (b"\xff\xd8\xff",)),
    ("PNG", "Png", 0, (b"\x89PNG\r\n\x1a\n",)),
    ("WebP", "WebP", 8, (b"WEBPVP8",)),
    ("GIF", "Gif", 0, (b"GIF87a", b"GIF89a")),
    ("TIFF", "Tiff", 0, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ("BMP", "Bmp", 0, (b"BM",)),
    ("PPM", "Ppm", 0, tuple(b"P%d%c" % (kind, space) for kind in range(1, 7) for space in b" \t\r\n")),
    ("JPEG 2000", "Jpeg2K", 0, (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
    ("SGI", "Sgi", 0, (b"\x01\xda",)),
    ("PCX", "Pcx", 0, (b"\x0a\x00", b"\x0a\x02", b"\x0a\x03", b"\x0a\x05")),
)
AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
MAX_BRANDS_BYTES = 1024  # of the box that lists the brands; common ones have less than 50
HEIC_LIBRARY = "pillow_heif"
HEIC_ADVICE = "pip install 'cnncodes[heic]' to have them read, or convert them to JPEG"
NOT_READ = (
    (0, b"%!PS", "PostScript (EPS), which is never opened"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript (EPS), which is never opened"),
    (0, b"%PDF", "a PDF document"),
    (0, b"8BPS", "a Photoshop document; save it as PNG"),
    (0, b"PK\x03\x04", "a ZIP archive or office document"),
    (0, b"<!", "a web page (a download that failed?)"),
    (0, b"<html", "a web page (a download that failed?)"),
    (0, b"<", "SVG or another kind of XML"),
)
TGA_HEADER_BYTES = 18
TGA_FOOTER = b"TRUEVISION-XFILE.\0"
TGA_DEPTHS = {1: (8,), 2: (16, 24, 32), 3: (8, 16)}  # bits per pixel by kind: palette, colour, grey; + 8 if packed


def format_of(data: bytes) -> tuple[str, type[ImageFile.ImageFile]]:
    """Return the name of an image file's format, and the class that opens it.

    Raises
    ------
    DecodeError
        It is no image, or in a format that is not read; the message says what it seems to be.
    """
    if not data:
        raise DecodeError("the file is empty")
    for name, module, offset, marks in FORMATS:
        if data[offset : offset + 16].startswith(marks):
            return name, _plugin(name, module)
    if brands := _brands(data):
        if brands & AVIF_BRANDS:
            return "AVIF", _plugin("AVIF", "Avif")
        if brands & HEIC_BRANDS:
            return "HEIC", _heic_plugin()
    if data.endswith(TGA_FOOTER):
        return "TGA", _plugin("TGA", "Tga")
    if not any(data[:4096]):
        raise DecodeError("the file holds only zeros, as after a crash or a failed copy")
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    for offset, mark, what in NOT_READ:
        if (start if offset == 0 else data)[offset:].lower().startswith(mark.lower()):
            raise DecodeError(f"not an image that is read here: {what}")
    if start.isascii() and all(byte >= 32 or byte in b"\t\r\n" for byte in start):
        raise DecodeError("not an image: the file holds text")
    if _has_tga_header(data):
        return "TGA", _plugin("TGA", "Tga")
    names = [row[0] for row in FORMATS] + ["AVIF", "HEIC", "TGA"]
    raise DecodeError(f"not an image in a format that is read here ({', '.join(names)})")


def reads_heic() -> bool:
    """Whether the library that decodes HEIC is installed, as the extra [heic] does."""
    return importlib.util.find_spec(HEIC_LIBRARY) is not None


def _plugin(name: str, module: str) -> type[ImageFile.ImageFile]:
    try:
        plugin = importlib.import_module(f"PIL.{module}ImagePlugin")
    except ImportError as error:
        raise DecodeError(f"{name} is not supported by the installed Pillow; upgrade Pillow") from error
    return getattr(plugin, f"{module}ImageFile")


def _heic_plugin() -> type[ImageFile.ImageFile]:
    try:
        return importlib.import_module(HEIC_LIBRARY).HeifImageFile
    except ImportError as error:
        raise DecodeError(f"HEIC photographs are not read here: {HEIC_ADVICE}") from error


def _brands(data: bytes) -> set[bytes]:
    """Return the brands of a file of the MPEG-4 family: the major one and those that it is compatible with."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), MAX_BRANDS_BYTES)
    return {data[8:12]} | {data[at : at + 4] for at in range(16, end - 3, 4)}


def _has_tga_header(data: bytes) -> bool:
    """Whether a file without a mark begins as a TGA file does, each field with a value that it may have."""
    if len(data) <= TGA_HEADER_BYTES:
        return False
    palette, kind, depth, flags = data[1], data[2], data[16], data[17]
    if kind & ~8 not in TGA_DEPTHS or palette != (kind & ~8 == 1) or flags & 0xC0:
        return False
    palette_fits = data[7] in (16, 24, 32) if palette else not any(data[3:8])
    has_pixels = any(data[12:14]) and any(data[14:16])
    return palette_fits and has_pixels and depth in TGA_DEPTHS[kind & ~8]
