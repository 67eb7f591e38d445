"""From the bytes of an image file to RGB pixels, on numpy, Pillow and simplejpeg alone; HEIC by pillow-heif."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from cnncodes.errors import DecodeError
from cnncodes.images.colours import to_rgb
from cnncodes.images.formats import format_of
from cnncodes.images.jpeg import judge_damage, plain_jpeg
from cnncodes.images.libtiff import quiet_libtiff
from cnncodes.images.memory_needs import bytes_to_decode
from cnncodes.images.number_format import NumberFormat, deep_colours, mend_tiff, number_format
from cnncodes.images.png_chunks import without_large_chunks
from cnncodes.images.profiles import changes_colours
from cnncodes.system.claims import Claim

__all__ = ["MAX_PIXELS", "MAX_SIDE", "colour_profile", "decode", "to_pixels"]

MAX_PIXELS = 120_000_000  # a 100-megapixel camera passes, a 13,000 × 13,000 bomb does not; 360 MB of RGB
MAX_SIDE = 65_535  # the most that a JPEG can have; a 1 × 100,000,000 image would take 80 GB on its way to a square
STRIP_PIXELS = 1 << 18  # that are copied from Pillow at a time, which makes two copies of them
ONE_COLOUR_STD = 2.0  # grey levels; a picture whose channels vary less shows nothing
SAMPLE_SIDES = (32, 1024)  # pixels of the short side that are looked at, first and if the first all look alike
FRAMES_REMARK = "the first of several frames was taken"
ONE_COLOUR_REMARK = "all of it is one colour, or nearly"
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


def decode(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    enough: Callable[[int, int], tuple[int, int]] | None = None,
    ignore_profiles: bool = False,
    remarks: list[str] | None = None,
    claim: Claim | None = None,
) -> np.ndarray:
    """Decode the bytes of an image file. Safe to call from several threads.

    JPEG, PNG, WebP, GIF, TIFF, BMP, PPM/PGM/PBM, AVIF, JPEG 2000, SGI, PCX and TGA, whatever the file is called; HEIC
    if pillow-heif is installed. EXIF orientation is applied; palettes, grey, CMYK and 1-bit images become RGB;
    transparency is laid over white, or over black if all of the picture would be white. Of several frames or pages,
    the first is taken. If a colour profile is embedded, the colours are converted to sRGB.

    Grey of more than 8 bits is divided by the largest value of its bits (of 12, if a 16-bit file says that it has 12),
    and 32-bit integers by 65,535. Of floating-point grey, the smallest of the ranges 0–1, 0–255 and 0–65535 that holds
    all values becomes 0–255. Values beyond are stretched from their minimum to their maximum.

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
    ignore_profiles : bool, default=False
        Let the numbers count as sRGB, whatever profile is embedded.
    remarks : list of str, optional
        List to which notes on this image are appended: further frames, values that were stretched, damage that the
        decoder passed over, transparency or a profile that cannot be as it says, a picture of one colour.
    claim : Claim, optional
        Claim to which the memory that is needed is added before the pixels are decoded; large images of several threads
        wait for each other. The caller closes it when the pixels are not needed any more; without one, the memory is
        claimed until they are returned.

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
    if claim is None:
        with Claim() as claim:
            return decode(
                data,
                max_pixels=max_pixels,
                enough=enough,
                ignore_profiles=ignore_profiles,
                remarks=remarks,
                claim=claim,
            )
    remarks = [] if remarks is None else remarks
    name, image_file = format_of(data)
    # Image.open would warn or raise at limits that are not ours
    large_profile = None
    if name == "PNG":
        data, large_profile = without_large_chunks(data)
    with _decoding(f"{name} file"), image_file(io.BytesIO(data), "") as image:
        if large_profile:
            image.info["icc_profile"] = large_profile
        _check_size(*image.size, max_pixels)
        full_size = image.size
        drafted = image.draft(None, enough(*image.size)) if enough is not None and name == "JPEG" else None
        numbers = number_format(image, data)
        profile = b"" if ignore_profiles else colour_profile(image)
        _claim_memory(claim, full_size, bytes_to_decode(image, name, full_size, numbers, profile))
        plain, damage = plain_jpeg(data, image) if name == "JPEG" else (None, "")
        if numbers.deep and 0 < numbers.declared < numbers.top:
            plain = deep_colours(image, image_file(io.BytesIO(data), ""), numbers)
        if damage:
            image.load()
            judge_damage(image, damage, remarks)
        array = _rgb_array(image, numbers, profile, remarks, drafted and drafted[1], plain)
        if _has_more(image):
            remarks.append(FRAMES_REMARK)
        return _remarked(_planes(array), remarks)


def _remarked(pixels: np.ndarray, remarks: list[str]) -> np.ndarray:
    """Return pixels (3, H, W) as they are; note if they show nothing."""
    some, more = SAMPLE_SIDES
    if not _varies(pixels, some) and (_is_narrow(pixels) or not _varies(pixels, more)):
        remarks.append(ONE_COLOUR_REMARK)
    return pixels


def _varies(pixels: np.ndarray, side: int) -> bool:
    step = max(1, min(pixels.shape[1:]) // side)
    return any(channel[::step, ::step].std() >= ONE_COLOUR_STD for channel in pixels)


def _is_narrow(pixels: np.ndarray) -> bool:
    """Whether the levels of each channel span so little that they cannot vary more: a fast check of all pixels."""
    rows = pixels.transpose(1, 2, 0)  # as they are in memory
    spans = rows.max(axis=0).max(axis=0) - rows.min(axis=0).min(axis=0)
    return bool((spans < 2 * ONE_COLOUR_STD).all())  # a deviation is at most half of the span


@contextlib.contextmanager
def _decoding(what: str) -> Iterator[None]:
    """Turn whatever a decoder raises on bad bytes into one error, and what it prints into nothing."""
    try:
        with quiet_libtiff():
            yield
    except DecodeError:
        raise
    except Exception as error:
        raise DecodeError(_damage(error, what)) from error


def _damage(error: Exception, what: str) -> str:
    if isinstance(error, MemoryError):
        detail = f" ({error})" if str(error) else ""
        return f"there is not enough memory to decode the {what}{detail}; give more memory, and retry_failed of extract"
    text = " ".join(str(error).split()) or type(error).__name__
    if text == "AssertionError":  # Pillow's, of a palette for example
        text = "a part that it needs is missing"
    if any(word in text.lower() for word in ("truncated", "requires a buffer", "unexpected end", "eof")):
        return f"the {what} is truncated: its end is missing ({text})"
    return f"the {what} is damaged or of an uncommon kind ({text})"


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if (n := width * height) > max_pixels:
        raise DecodeError(
            f"{width} × {height} are {n:,} pixels, more than the limit of {max_pixels:,}; make it smaller, "
            "or raise max_pixels of extract"
        )
    if max(width, height) > MAX_SIDE:
        raise DecodeError(f"{width} × {height} pixels: a side is longer than the limit of {MAX_SIDE:,}; cut it")


def _claim_memory(claim: Claim, size: tuple[int, int], n_bytes: int) -> None:
    try:
        claim.add(n_bytes)
    except MemoryError as error:
        raise MemoryError(f"{size[0]} × {size[1]} pixels: {error}") from error
    claim.settle()


def _has_more(image: ImageFile.ImageFile) -> bool:
    try:
        return bool(getattr(image, "is_animated", False)) or "mp" in image.info  # what a JPEG says of further pictures
    except Exception:  # a damaged second frame does not matter
        return False


def to_pixels(image: Any, *, ignore_profiles: bool = False, remarks: list[str] | None = None) -> np.ndarray:
    """Return a PIL image or an array as pixels, with the conversions of `decode`.

    Parameters
    ----------
    image : PIL.Image.Image, or ndarray of uint8 with shape (H, W, 3) or (H, W)
        The image, which is not changed.
    ignore_profiles : bool, default=False
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
    remarks = [] if remarks is None else remarks
    if isinstance(image, Image.Image):
        with _decoding("image"):
            profile = b"" if ignore_profiles else colour_profile(image)
            image = _rgb_array(image, number_format(image), profile, remarks)
    if not isinstance(image, np.ndarray):
        raise DecodeError(f"a {type(image).__name__}; expected a PIL image or an array")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)) or not image.size:
        raise DecodeError(f"an array of {image.dtype} {image.shape}; expected uint8 (H, W, 3) or (H, W)")
    return _remarked(_planes(image.copy()), remarks)


def colour_profile(image: Any) -> bytes:
    """Return the profile that is embedded in a PIL image; nothing if there is none, or it is that of sRGB."""
    profile = image.info.get("icc_profile") if isinstance(image, Image.Image) else None
    return profile if profile and changes_colours(profile) else b""


def _planes(array: np.ndarray) -> np.ndarray:
    """Return (H, W), (H, W, 1) or (H, W, 3) as (3, H, W); in memory the colours of a pixel stay together."""
    pixels = array.reshape(*array.shape[:2], -1)
    colours = pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2)
    return np.require(colours, requirements=["C", "W"]).transpose(2, 0, 1)


def _array_of(image: Image.Image) -> np.ndarray:
    """Return the pixels of an image in the mode RGB; of a large one by strips, for Pillow makes two copies."""
    width, height = image.size
    step = max(1, STRIP_PIXELS // width)
    if step >= height:
        return np.asarray(image)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, step):
        pixels[top : top + step] = np.asarray(image.crop((0, top, width, min(top + step, height))))
    return pixels


def _rgb_array(
    image: Image.Image,
    numbers: NumberFormat,
    profile: bytes,
    remarks: list[str],
    box: tuple[float, float, float, float] | None = None,
    plain: np.ndarray | None = None,
) -> np.ndarray:
    """Return the pixels of an image, or those that `plain_jpeg` has decoded, cut to a box and turned."""
    if plain is None:
        if hasattr(image, "tag_v2"):
            mend_tiff(image)
        image.load()
        plain = _array_of(to_rgb(image, numbers, profile, remarks))
    elif profile:
        decoded = Image.fromarray(plain if image.mode == "RGB" else plain[..., 0])
        plain = _array_of(to_rgb(decoded, numbers, profile, remarks))
    if box:  # a quarter of 2,669 rows are 668, of which the last is not a whole one
        plain = plain[: round(box[3]), : round(box[2])]
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))  # TIFF is turned when it is loaded
    except Exception:  # damaged EXIF data do not make the picture unreadable
        turn = None
    return plain if turn is None else turn(plain)
