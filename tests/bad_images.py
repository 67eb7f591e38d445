"""Makes a folder of bad and odd images, and says what must become of each of them."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Colour = tuple[int, int, int]
Quadrants = tuple[Colour, Colour, Colour, Colour]  # top left, top right, bottom left, bottom right

WIDTH, HEIGHT = 48, 32
COLOURS: Quadrants = ((200, 30, 40), (20, 170, 60), (30, 50, 190), (230, 210, 60))
GREYS: Quadrants = ((20,) * 3, (90,) * 3, (160,) * 3, (240,) * 3)
BLACK_WHITE: Quadrants = ((0,) * 3, (255,) * 3, (255,) * 3, (0,) * 3)
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Expectation:
    """What must become of one file: "ok" with these quadrants, "failed" with a word in the reason, or "skipped"."""

    outcome: str
    quadrants: Quadrants | None = None
    word: str = ""
    tolerance: int = 0
    size: tuple[int, int] = (WIDTH, HEIGHT)  # width, height; JPEG 2000 and the like keep it

    def picture(self) -> np.ndarray:
        """What an "ok" image looks like, uint8 (H, W, 3)."""
        assert self.quadrants is not None
        return picture(self.quadrants, *self.size)

    def describes(self, pixels: np.ndarray) -> bool:
        """Whether uint8 pixels (3, H, W) are that picture; at the edges of the quadrants a lossy file may blur."""
        expected = self.picture().transpose(2, 0, 1)
        if pixels.shape != expected.shape:
            return False
        difference = np.abs(pixels.astype(int) - expected)
        if self.tolerance:
            rows, columns = _inner(pixels.shape[1]), _inner(pixels.shape[2])
            difference = difference[:, rows][:, :, columns]
        return int(difference.max()) <= self.tolerance


def _inner(length: int) -> np.ndarray:
    """Positions that are at least 6 pixels away from the middle, where two quadrants meet."""
    positions = np.arange(length)
    return positions[np.abs(positions - (length - 1) / 2) > 6] if length > 16 else positions


def picture(quadrants: Quadrants = COLOURS, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Four colours, uint8 (H, W, 3)."""
    pixels = np.empty((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    pixels[:top, :left], pixels[:top, left:], pixels[top:, :left], pixels[top:, left:] = quadrants
    return pixels


def encode(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, kind, **options)
    return stream.getvalue()


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by hand, for what Pillow does not write; each row begins with its filter byte, 0."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


def png_of(values: np.ndarray, depth: int, colour_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of integers (H, W) or (H, W, channels)."""
    rows = values.astype(">u2" if depth == 16 else np.uint8)
    return png(
        values.shape[1], values.shape[0], depth, colour_type, b"".join(b"\0" + row.tobytes() for row in rows), *chunks
    )


def cmyk_values() -> tuple[np.ndarray, Quadrants]:
    """Four inks (H, W, 4) with 255 for the most ink, and their colours by (255 - ink)(255 - black) / 255."""
    inks = ((0, 200, 150, 20), (180, 0, 220, 40), (220, 190, 0, 10), (10, 30, 160, 0))
    values = np.empty((HEIGHT, WIDTH, 4), np.uint8)
    top, left = HEIGHT // 2, WIDTH // 2
    values[:top, :left], values[:top, left:], values[top:, :left], values[top:, left:] = inks
    red, green, blue, yellow = (tuple(round((255 - c) * (255 - k) / 255) for c in cmy) for *cmy, k in inks)
    return values, (red, green, blue, yellow)  # type: ignore[return-value]


def ycck_jpeg() -> bytes:
    """A YCCK JPEG as Photoshop writes it: the inks as YCbCr, black inverted, marked with Adobe's transform 2."""
    inks = cmyk_values()[0].astype(np.float64)
    c, m, y, k = np.moveaxis(inks, 2, 0)
    planes = [
        0.299 * c + 0.587 * m + 0.114 * y,
        128 - 0.168736 * c - 0.331264 * m + 0.5 * y,
        128 + 0.5 * c - 0.418688 * m - 0.081312 * y,
        255 - k,
    ]
    stored = np.clip(np.rint(np.stack(planes, 2)), 0, 255).astype(np.uint8)
    data = encode(Image.frombytes("CMYK", (WIDTH, HEIGHT), (255 - stored).tobytes()), "JPEG", quality=95)  # inverted
    marker = data.index(b"Adobe") + 11
    assert data[marker] == 0
    return data[:marker] + b"\x02" + data[marker + 1 :]


def stored_for(orientation: int, shown: np.ndarray) -> np.ndarray:
    """What a file holds to be shown upright; the tag says at which sides row 0 and column 0 are shown."""
    return {
        1: shown,  # top, left
        2: shown[:, ::-1],  # top, right
        3: shown[::-1, ::-1],  # bottom, right
        4: shown[::-1],  # bottom, left
        5: shown.transpose(1, 0, 2),  # left, top
        6: shown[:, ::-1].transpose(1, 0, 2),  # right, top
        7: shown[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
        8: shown[::-1].transpose(1, 0, 2),  # left, bottom
    }[orientation].copy()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def same_picture() -> dict[str, tuple[bytes, int]]:
    """One picture in many file formats: name -> (bytes, tolerance in grey levels)."""
    rgb = picture()
    four = Image.fromarray(rgb)
    palette = four.quantize(4)
    files = {
        "best.jpg": (encode(rgb, "JPEG", quality=98, subsampling=0), 3),
        "progressive.jpeg": (encode(rgb, "JPEG", quality=98, subsampling=0, progressive=True), 3),
        "two.mpo.jpg": (encode(rgb, "MPO", quality=98, subsampling=0, save_all=True, append_images=[four]), 3),
        "plain.png": (encode(rgb, "PNG"), 0),
        "palette.png": (encode(palette, "PNG"), 0),
        "deep.png": (png_of(rgb.astype(np.uint16) * 257, 16, 2), 0),
        "opaque.png": (encode(four.convert("RGBA"), "PNG"), 0),
        "lossless.webp": (encode(rgb, "WEBP", lossless=True), 0),
        "lossy.webp": (encode(rgb, "WEBP", quality=98), 6),
        "still.gif": (encode(palette, "GIF"), 0),
        "plain.bmp": (encode(rgb, "BMP"), 0),
        "palette.bmp": (encode(palette, "BMP"), 0),
        "raw.tif": (encode(rgb, "TIFF"), 0),
        "lzw.tiff": (encode(rgb, "TIFF", compression="tiff_lzw"), 0),
        "deflate.tif": (encode(rgb, "TIFF", compression="tiff_adobe_deflate"), 0),
        "big.tif": (encode(rgb, "TIFF", big_tiff=True), 0),
        "binary.ppm": (encode(rgb, "PPM"), 0),
        "text.ppm": (f"P3\n# four colours\n{WIDTH} {HEIGHT}\n255\n{' '.join(map(str, rgb.ravel()))}\n".encode(), 0),
        "plain.sgi": (encode(rgb, "SGI"), 0),
        "plain.pcx": (encode(rgb, "PCX"), 0),
        "plain.tga": (encode(rgb, "TGA"), 0),
        "packed.tga": (encode(rgb, "TGA", compression="tga_rle"), 0),
    }
    if "JPEG2000" in Image.SAVE:
        files["lossless.jp2"] = (encode(rgb, "JPEG2000", irreversible=False), 0)
        files["lossless.j2k"] = (encode(rgb, "JPEG2000", irreversible=False, no_jp2=True), 0)
    if "AVIF" in Image.SAVE:
        files["best.avif"] = (encode(rgb, "AVIF", quality=100, subsampling="4:4:4"), 4)
    return files


def _colours() -> dict[str, tuple[bytes, Quadrants, int]]:
    """Colour models: name -> (bytes, what must be seen, tolerance)."""
    grey = picture(GREYS)[..., 0]
    bits = picture(BLACK_WHITE)[..., 0]
    half = tuple(tuple(round(c * 128 / 255 + 255 * 127 / 255) for c in colour) for colour in COLOURS)
    on_white = (COLOURS[0], COLOURS[1], COLOURS[2], WHITE)
    rgba = np.dstack([picture(), np.full((HEIGHT, WIDTH), 128, np.uint8)])
    cut = np.dstack([picture(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    cut[HEIGHT // 2 :, WIDTH // 2 :, 3] = 0
    inks, ink_colours = cmyk_values()
    cmyk = Image.frombytes("CMYK", (WIDTH, HEIGHT), inks.tobytes())
    palette = Image.fromarray(picture()).quantize(4)
    clear = palette.getpixel((WIDTH - 1, HEIGHT - 1))
    alphas = bytes(0 if index == clear else 255 for index in range(4))
    deep = grey.astype(np.uint16) * 257
    return {
        "grey.jpg": (encode(grey, "JPEG", quality=95), GREYS, 3),
        "cmyk.jpg": (encode(cmyk, "JPEG", quality=95), ink_colours, 4),
        "ycck.jpg": (ycck_jpeg(), ink_colours, 6),
        "cmyk.tif": (encode(cmyk, "TIFF"), ink_colours, 1),
        "grey.png": (encode(grey, "PNG"), GREYS, 0),
        "grey16.png": (png_of(deep, 16, 0), GREYS, 0),
        "grey16_clear.png": (
            png_of(deep, 16, 0, (b"tRNS", struct.pack(">H", GREYS[3][0] * 257))),
            (GREYS[0], GREYS[1], GREYS[2], WHITE),
            0,
        ),
        "grey16.tif": (encode(deep, "TIFF"), GREYS, 0),
        "grey16.pgm": (f"P5 {WIDTH} {HEIGHT} 65535\n".encode() + deep.astype(">u2").tobytes(), GREYS, 0),
        "grey_alpha.png": (encode(Image.fromarray(np.dstack([grey, cut[..., 3]])), "PNG"), (*GREYS[:3], WHITE), 0),
        "bit.png": (encode(Image.fromarray(bits).convert("1"), "PNG"), BLACK_WHITE, 0),
        "bit.tif": (encode(Image.fromarray(bits).convert("1"), "TIFF", compression="group4"), BLACK_WHITE, 0),
        "bit.pbm": (encode(Image.fromarray(bits).convert("1"), "PPM"), BLACK_WHITE, 0),
        "half_clear.png": (encode(rgba, "PNG"), half, 1),
        "cut_out.png": (encode(cut, "PNG"), on_white, 0),
        "cut_out.webp": (encode(cut, "WEBP", lossless=True), on_white, 0),
        "palette_clear.png": (encode(palette, "PNG", transparency=clear), on_white, 0),
        "palette_alpha.png": (encode(palette, "PNG", transparency=alphas), on_white, 0),
        "rgb_clear.png": (encode(picture(), "PNG", transparency=COLOURS[3]), on_white, 0),
        "clear.gif": (encode(palette, "GIF", transparency=clear), on_white, 0),
        "float_1.tif": (encode(grey.astype(np.float32) / 255, "TIFF"), GREYS, 0),
        "float_255.tif": (encode(grey.astype(np.float32), "TIFF"), GREYS, 0),
        "float_65535.tif": (encode(deep.astype(np.float32), "TIFF"), GREYS, 0),
        "int_65535.tif": (encode(Image.fromarray(deep.astype(np.int32)), "TIFF"), GREYS, 0),
        "animated.gif": (_animation("GIF"), COLOURS, 0),
        "animated.png": (_animation("PNG"), COLOURS, 0),
        "animated.webp": (_animation("WEBP", lossless=True), COLOURS, 0),
        "pages.tif": (_animation("TIFF"), COLOURS, 0),
    }


def _animation(kind: str, **options: Any) -> bytes:
    """The picture, and after it a grey one."""
    palette = kind == "GIF"
    frames = [Image.fromarray(pixels) for pixels in (picture(), picture(GREYS))]
    first, second = (frame.quantize(4) if palette else frame for frame in frames)
    return encode(first, kind, save_all=True, append_images=[second], **options)


def _broken() -> dict[str, tuple[bytes, str]]:
    """Files that cannot be decoded: name -> (bytes, word of the reason)."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    jpeg, plain = encode(noise, "JPEG"), encode(noise, "PNG")
    tiff = encode(noise, "TIFF", compression="tiff_lzw")
    bad_crc = bytearray(plain)
    bad_crc[20] ^= 1
    return {
        "zero_bytes.jpg": (b"", "empty"),
        "only_zeros.jpg": (bytes(5000), "zeros"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "cut.png": (plain[: len(plain) // 2], "truncated"),
        "cut.webp": (encode(noise, "WEBP")[:900], "WebP"),
        "cut.gif": (encode(Image.fromarray(noise), "GIF")[:1500], "truncated"),
        "cut.bmp": (encode(noise, "BMP")[:3000], "truncated"),
        "cut.tif": (tiff[: len(tiff) // 2], "TIFF"),
        "start_only.jpg": (b"\xff\xd8\xff\xe0", "JPEG"),
        "start_only.png": (plain[:8], "PNG"),
        "header_only.png": (plain[:33], "PNG"),
        "header_damaged.png": (bytes(bad_crc), "PNG"),
        "text.jpg": (b"this is not an image\n" * 30, "text"),
        "page.jpg": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "web page"),
        "drawing.png": (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "XML"),
        "document.png": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF"),
        "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        "photo.heic.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        "archive.png": (b"PK\x03\x04" + bytes(60), "ZIP"),
        "noise.png": (bytes(rng.integers(128, 256, 4000, dtype=np.uint8)), "not an image"),
        "bomb.png": (png(13_000, 13_000, 1, 0, bytes(13_000 * 1626)), "limit"),
        "bomb.gif": (b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\0\0\0" + _gif_frame(), "limit"),
        "long.png": (png(100_000, 1, 1, 0, bytes(12_501)), "limit"),
        "no_number.tif": (encode(np.full((8, 8), np.nan, np.float32), "TIFF"), "number"),
    }


def _gif_frame() -> bytes:
    return encode(Image.new("P", (1, 1)), "GIF")[13:]


def make_bad_images(root: Path) -> dict[str, Expectation]:
    """Fill an empty folder with class folders of bad and odd images; return what must become of each, by id."""
    expected: dict[str, Expectation] = {}

    def put(name: str, data: bytes, expectation: Expectation, raw_name: bytes | None = None) -> None:
        path = os.path.join(os.fsencode(root), raw_name or os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(data)
        expected[name] = expectation

    for name, (data, tolerance) in same_picture().items():
        put(f"formats/{name}", data, Expectation("ok", COLOURS, tolerance=tolerance))
    for name, (data, quadrants, tolerance) in _colours().items():
        put(f"colours/{name}", data, Expectation("ok", quadrants, tolerance=tolerance))
    for name, (data, word) in _broken().items():
        put(f"broken/{name}", data, Expectation("failed", word=word))

    upright = Expectation("ok", COLOURS, tolerance=4)
    exact = Expectation("ok", COLOURS)
    for tag in range(1, 9):
        stored = stored_for(tag, picture())
        put(f"turned/{tag}.jpg", encode(stored, "JPEG", quality=95, subsampling=0, exif=exif(tag)), upright)
    put("turned/6.png", encode(stored_for(6, picture()), "PNG", exif=exif(6)), exact)
    put("turned/6.webp", encode(stored_for(6, picture()), "WEBP", lossless=True, exif=exif(6)), exact)
    put("turned/6.tif", encode(stored_for(6, picture()), "TIFF", tiffinfo={274: 6}), exact)
    put("turned/no_such_way.jpg", encode(picture(), "JPEG", quality=95, subsampling=0, exif=exif(77)), upright)

    plain = encode(picture(), "PNG")
    for width, height in ((20_000, 1), (1, 20_000), (1, 1), (3, 2)):
        solid = Expectation("ok", (COLOURS[0],) * 4, size=(width, height))
        put(f"sizes/{width}x{height}.png", encode(solid.picture(), "PNG"), solid)

    put("names/png_inside.jpg", plain, exact)
    put("names/jpeg_inside.png", encode(picture(), "JPEG", quality=95, subsampling=0), upright)
    put("names/UPPER.PNG", plain, exact)
    put("names/-leading-dash.png", plain, exact)
    put("names/two words 'quoted' \"twice\".png", plain, exact)
    put("names/comma,semicolon;tab\t.png", plain, exact)
    put("names/new\nline.png", plain, exact)
    put("names/\N{TULIP} \N{LATIN SMALL LETTER E WITH ACUTE}.png", plain, exact)
    put("names/" + "l" * 240 + ".png", plain, exact)
    put("names/back\\slash.png", plain, exact)
    put("names/latin-\\xe9.png", plain, exact, raw_name=b"names/latin-\xe9.png")
    put(
        "names/latin-\\\\xe9.png", plain, exact, raw_name=b"names/latin-\\xe9.png"
    )  # a name that looks like the id above
    put("names/deep/er/nested.png", plain, exact)
    put("names/folder.png/inside.png", plain, exact)
    put("twins/same.png", plain, exact)
    put("names/same.png", encode(picture(GREYS), "PNG"), Expectation("ok", GREYS))
    skipped = Expectation("skipped")
    for name in (".hidden.png", "._same.png", "Thumbs.db", "desktop.ini", ".DS_Store", "notes.txt", "no_suffix"):
        put(f"names/{name}", plain, skipped)
    put("names/.git/picture.png", plain, skipped)
    (root / "empty class").mkdir()

    _put_links(root, put, expected)
    return expected


def _put_links(root: Path, put: Callable[..., None], expected: dict[str, Expectation]) -> None:
    """Add what is no regular file, or may not be read."""
    plain = encode(picture(), "PNG")
    exact = Expectation("ok", COLOURS)
    put("links/target.png", plain, exact)
    links = {
        "links/good.png": ("target.png", exact),
        "links/dangling.jpg": ("nowhere.jpg", Expectation("failed", word="does not exist")),
        "links/self.jpg": ("self.jpg", Expectation("failed", word="back to itself")),
        "links/device.jpg": ("/dev/zero", Expectation("failed", word="device")),
        "links/round": (".", Expectation("skipped")),
        "links/up": ("..", Expectation("skipped")),
        "links/lost": ("nowhere", Expectation("skipped")),
        "another name": ("twins", Expectation("skipped")),
    }
    for name, (target, expectation) in links.items():
        (root / name).symlink_to(target)
        expected[name] = expectation
    os.mkfifo(root / "links" / "pipe.jpg")
    expected["links/pipe.jpg"] = Expectation("failed", word="pipe")
    # For root, everything can be read.
    put("links/forbidden.png", plain, exact)
    (root / "links" / "forbidden.png").chmod(0)
    put("links/locked/picture.png", plain, exact)
    (root / "links" / "locked").chmod(0)
    if not os.access(root / "links" / "forbidden.png", os.R_OK):
        expected["links/forbidden.png"] = Expectation("failed", word="permission")
        del expected["links/locked/picture.png"]
        expected["links/locked"] = Expectation("failed", word="permission")
