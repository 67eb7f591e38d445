"""From the bytes of an image file to RGB pixels, on numpy, Pillow and simplejpeg alone."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, ImageFile

from cnncodes.errors import DecodeError

__all__ = ["MAX_PIXELS", "MAX_SIDE", "decode", "to_pixels"]

MAX_PIXELS = 120_000_000  # a 100-megapixel camera passes, a 13,000 × 13,000 bomb does not; 360 MB of RGB
MAX_SIDE = 65_535  # the most that a JPEG can have; a 1 × 100,000,000 image would take 80 GB on its way to a square
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
    ("AVIF", "Avif", 4, (b"ftypavif", b"ftypavis")),
    ("JPEG 2000", "Jpeg2K", 0, (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
    ("SGI", "Sgi", 0, (b"\x01\xda",)),
    ("PCX", "Pcx", 0, (b"\x0a\x00", b"\x0a\x02", b"\x0a\x03", b"\x0a\x05")),
    ("TGA", "Tga", -18, (b"TRUEVISION-XFILE.\0",)),  # the older kind has no mark: anything could be one
)
NOT_READ = (
    (0, b"%!PS", "PostScript (EPS), which is never opened"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript (EPS), which is never opened"),
    (0, b"%PDF", "a PDF document"),
    (0, b"8BPS", "a Photoshop document; save it as PNG"),
    (4, b"ftyphei", "a HEIC photograph; convert it to JPEG"),
    (4, b"ftypmif1", "a HEIC photograph; convert it to JPEG"),
    (0, b"PK\x03\x04", "a ZIP archive or office document"),
    (0, b"<!", "a web page (a download that failed?)"),
    (0, b"<html", "a web page (a download that failed?)"),
    (0, b"<", "SVG or another kind of XML"),
)
JPEG_PARTS = 8  # a JPEG file can be decoded to 1/8, 2/8, ... of its size
ORIENTATION = 0x0112
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}
RANGES = (1, 255, 65535)


def decode(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    enough: Callable[[int, int], tuple[int, int]] | None = None,
    remarks: list[str] | None = None,
) -> np.ndarray:
    """Decode the bytes of an image file. Safe to call from several threads.

    JPEG, PNG, WebP, GIF, TIFF, BMP, PPM/PGM/PBM, AVIF, JPEG 2000, SGI, PCX and TGA, whatever the file is called. EXIF
    orientation is applied; palettes, grey, CMYK and 1-bit images become RGB; transparency is laid over white. Of
    several frames or pages, the first is taken. Colour profiles are ignored: the numbers count as sRGB.

    16-bit grey is divided by 257. Of floating-point grey, the smallest of the ranges 0–1, 0–255 and 0–65535 that holds
    all values becomes 0–255; values beyond are stretched from their minimum to their maximum, as are 32-bit integers
    outside of 0–65535.

    Parameters
    ----------
    data : bytes
        The whole file.
    max_pixels : int, default=120,000,000
        A larger image is refused before its pixels are decoded. (Above 178,956,970, the limit of Pillow itself holds
        for WebP, GIF and TIFF.)
    enough : callable, optional
        Given width and height, returns those that will do: a JPEG file is then decoded at 1/2, 1/4 or 1/8 of its size
        where that is no smaller, which is faster and differs by fractions of a grey level once it is resized.
    remarks : list of str, optional
        List to which notes on this image are appended: further frames, or values that were stretched.

    Returns
    -------
    ndarray of uint8, shape (3, H, W)

    Raises
    ------
    DecodeError
        The message says why, in words for the person who has the file.

    Examples
    --------
    >>> decode(b"P3 1 1 255 200 100 50").flatten().tolist()
    [200, 100, 50]
    """
    name, image_file = _format_of(data)
    # Image.open would warn or raise at limits that are not ours
    with _decoding(f"{name} file"), image_file(io.BytesIO(data), "") as image:
        _check_size(*image.size, max_pixels)
        drafted = image.draft(None, enough(*image.size)) if enough is not None else None  # None but for JPEG
        plain = _plain_jpeg(data, image.size) if name == "JPEG" and image.mode in ("RGB", "L") else None
        pixels = _planes(_rgb_array(image, remarks, drafted and drafted[1], plain))
        if remarks is not None and _has_more(image):
            remarks.append("the first of several frames was taken")
        return pixels


def _plain_jpeg(data: bytes, size: tuple[int, int]) -> np.ndarray | None:
    """Decode a JPEG file straight into an array: the pixels that Pillow gives, in two thirds of its time.

    Pillow also holds the interpreter's lock while it copies pixels, which this does not. None if anything about the
    file is unusual: Pillow then says what is wrong with it.
    """
    width, height = size  # the full size, or a half, a quarter or an eighth of it
    if min(size) < JPEG_PARTS:  # several parts round to the same size: it could take another than Pillow
        return None
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_width=width, min_height=height, strict=True)
    except Exception:
        return None
    return pixels if pixels.shape == (height, width, 3) else None


@contextlib.contextmanager
def _decoding(what: str) -> Iterator[None]:
    """Turn whatever a decoder raises on bad bytes into one error."""
    try:
        yield
    except DecodeError:
        raise
    except Exception as error:
        raise DecodeError(_damage(error, what)) from error


def _damage(error: Exception, what: str) -> str:
    if isinstance(error, MemoryError):
        return f"there is not enough memory to decode the {what}"
    text = " ".join(str(error).split()) or type(error).__name__
    if text == "AssertionError":  # Pillow's, of a palette for example
        text = "a part that it needs is missing"
    if any(word in text.lower() for word in ("truncated", "requires a buffer", "unexpected end", "eof")):
        return f"the {what} is truncated: its end is missing ({text})"
    return f"the {what} is damaged or of an uncommon kind ({text})"


def _format_of(data: bytes) -> tuple[str, type[ImageFile.ImageFile]]:
    if not data:
        raise DecodeError("the file is empty")
    for name, module, offset, marks in FORMATS:
        mark = data[offset : offset + len(marks[0]) or None] if offset < 0 else data[offset : offset + 16]
        if mark.startswith(marks):
            try:
                plugin = importlib.import_module(f"PIL.{module}ImagePlugin")
            except ImportError as error:
                raise DecodeError(f"{name} is not supported by the installed Pillow; upgrade Pillow") from error
            return name, getattr(plugin, f"{module}ImageFile")
    if not any(data[:4096]):
        raise DecodeError("the file holds only zeros, as after a crash or a failed copy")
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    for offset, mark, what in NOT_READ:
        if (start if offset == 0 else data)[offset:].lower().startswith(mark.lower()):
            raise DecodeError(f"not an image that is read here: {what}")
    if start.isascii() and all(byte >= 32 or byte in b"\t\r\n" for byte in start):
        raise DecodeError("not an image: the file holds text")
    raise DecodeError(f"not an image in a format that is read here ({', '.join(row[0] for row in FORMATS)})")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if (n := width * height) > max_pixels:
        raise DecodeError(
            f"{width} × {height} are {n:,} pixels, more than the limit of {max_pixels:,}; make it smaller, "
            "or raise --max-pixels"
        )
    if max(width, height) > MAX_SIDE:
        raise DecodeError(f"{width} × {height} pixels: a side is longer than the limit of {MAX_SIDE:,}; cut it")


def _has_more(image: ImageFile.ImageFile) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second frame does not matter
        return False


def to_pixels(image: Any, *, remarks: list[str] | None = None) -> np.ndarray:
    """Return a PIL image or an array as pixels, with the conversions of `decode`.

    Parameters
    ----------
    image : PIL.Image.Image, or ndarray of uint8 with shape (H, W, 3) or (H, W)
        The image, which is not changed.
    remarks : list of str, optional
        As for `decode`.

    Returns
    -------
    ndarray of uint8, shape (3, H, W)

    Raises
    ------
    DecodeError
        The image has another type or shape, or the file of a PIL image is damaged.
    """
    if isinstance(image, Image.Image):
        with _decoding("image"):
            image = _rgb_array(image, remarks)
    if not isinstance(image, np.ndarray):
        raise DecodeError(f"a {type(image).__name__}; expected a PIL image or an array")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)) or not image.size:
        raise DecodeError(f"an array of {image.dtype} {image.shape}; expected uint8 (H, W, 3) or (H, W)")
    return _planes(image.copy())


def _planes(array: np.ndarray) -> np.ndarray:
    """Return (H, W), (H, W, 1) or (H, W, 3) as (3, H, W); in memory the colours of a pixel stay together."""
    pixels = array.reshape(*array.shape[:2], -1)
    colours = pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2)
    return np.require(colours, requirements=["C", "W"]).transpose(2, 0, 1)


def _rgb_array(
    image: Image.Image,
    remarks: list[str] | None,
    box: tuple[float, float, float, float] | None = None,
    plain: np.ndarray | None = None,
) -> np.ndarray:
    """Return the pixels of an image, or those that `_plain_jpeg` has decoded, cut to a box and turned."""
    if plain is None:
        image.load()
        plain = np.asarray(_to_rgb(image, remarks))
    if box:  # a quarter of 2,669 rows are 668, of which the last is not a whole one
        plain = plain[: round(box[3]), : round(box[2])]
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))  # TIFF is turned when it is loaded
    except Exception:  # damaged EXIF data do not make the picture unreadable
        turn = None
    return plain if turn is None else turn(plain)


def _to_rgb(image: Image.Image, remarks: list[str] | None) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float32)
        grey = Image.fromarray(_to_8_bits(values, image.mode, remarks))
        if isinstance(clear := image.info.get("transparency"), int):  # in 16-bit PNG, one grey value is clear
            grey.paste(255, mask=Image.fromarray(np.uint8(255) * (values == clear)))
        return grey.convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # convert would copy it


def _to_8_bits(values: np.ndarray, mode: str, remarks: list[str] | None) -> np.ndarray:
    """Scale grey values, which Pillow's ``convert`` would cut off at 255; the rule is in the docstring of `decode`."""
    finite = np.isfinite(values)
    if not finite.any():
        raise DecodeError("not one of its values is a number")
    low, high = float(values[finite].min()), float(values[finite].max())
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    ranges = RANGES if mode == "F" else RANGES[-1:]
    top: float = next((top for top in ranges if low >= 0 and high <= top), 0)
    if not top:
        if remarks is not None:
            remarks.append(f"values from {low:g} to {high:g} were stretched to 0–255")
        values, top = values.astype(np.float64) - low, (high - low) or 1.0
    return np.clip(np.rint(values * (255 / top)), 0, 255).astype(np.uint8)
