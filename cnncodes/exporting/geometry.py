"""From pixels of any size to what enters the network, as operators: the arithmetic of `Preprocessing`.

An axis is resized by a product with a matrix of weights, which the graph makes from the size of the image. Two things
decide whether pixels come out as `predict` has them: weights are rounded first, as torch and Pillow do it, and pixels
are rounded to whole grey levels between the two axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from cnncodes.exporting.graph import Graph, Value
from cnncodes.networks.preprocessing import MAX_ASPECT, RESIZED_PIXELS, Preprocessing

__all__ = ["add_geometry"]

RADIUS = {"bilinear": 1, "bicubic": 2}  # of a filter, in pixels of the smaller image
BICUBIC_A = -0.5  # the parameter of Keys 1981, as Pillow has it
PILLOW_BITS = 22  # to which Pillow rounds weights
TORCH_LIMIT = 2**15  # torch rounds to as many bits, at most 22, as keep the largest weight below this
EDGES = ("start", "end")
CORNERS = [(row, column) for row in EDGES for column in EDGES]
# Where the square of each view is cut out, by rows and columns, and what is mirrored: nothing, the square or the image
CUTS = {
    "none": [("centre", "centre", "")],
    "flip": [("centre", "centre", mirrored) for mirrored in ("", "square")],
    "10crop": [(*cut, mirrored) for mirrored in ("", "image") for cut in (*CORNERS, ("centre", "centre"))],
}


def add_geometry(graph: Graph, images: Value, preprocessing: Preprocessing) -> Value:
    """Add what `Preprocessing.squares` and `Preprocessing.normalise` do.

    Parameters
    ----------
    graph : Graph
    images : Value of uint8, shape (n, height, width, 3)
    preprocessing : Preprocessing

    Returns
    -------
    Value of float32, shape (n * n_views, 3, image_size, image_size)
        The views of an image one after the other.
    """
    pixels = graph.op("Transpose", images, perm=[0, 3, 1, 2])
    if preprocessing.mode == "crop":
        pixels = _without_ends(pixels, preprocessing)
    rows, columns = _axes(pixels, preprocessing)
    squares = _Squares(graph, preprocessing, pixels, rows, columns).views()
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    return (squares / 255.0 - mean) / std


def _sizes(pixels: Value) -> tuple[Value, Value]:
    """Return height and width of pixels (n, 3, H, W), as scalars of int64."""
    shape = pixels.graph.op("Shape", pixels, dtype=np.int64)
    height, width = (pixels.graph.op("Gather", shape, axis) for axis in (2, 3))
    return height, width


def _without_ends(pixels: Value, preprocessing: Preprocessing) -> Value:
    """Cut the centre out of an image whose sides differ very much, before it is resized."""
    graph = pixels.graph
    ratio = MAX_ASPECT
    if preprocessing.exact:
        ratio = max(ratio, RESIZED_PIXELS // preprocessing.resize**2)
    sides = _sizes(pixels)
    short, long = graph.op("Min", *sides), graph.op("Max", *sides)
    longest = short * ratio + graph.op("Mod", long - short * ratio, 2)
    kept = [graph.op("Min", side, longest) for side in sides]
    starts = [(side - one) / 2 for side, one in zip(sides, kept, strict=True)]
    ends = [start + one for start, one in zip(starts, kept, strict=True)]
    return graph.op("Slice", pixels, *(_vector(values) for values in (starts, ends)), np.array([2, 3]))


def _vector(values: list[Value]) -> Value:
    return values[0].graph.op("Concat", *(one.shaped(1) for one in values), axis=0)


@dataclass
class _Axis:
    """One axis of an image, in pixels: scalars of int64.

    Attributes
    ----------
    size, new : Value
        Size of the image before and after resizing.
    start : Value
        Where the resized image begins in the canvas that squares are cut out of.
    canvas : Value
        Size of that canvas.
    """

    size: Value
    new: Value
    start: Value
    canvas: Value


def _axes(pixels: Value, preprocessing: Preprocessing) -> tuple[_Axis, _Axis]:
    """Return the two axes of an image that is resized by the rules of `Preprocessing`."""
    graph = pixels.graph
    height, width = _sizes(pixels)
    side = preprocessing.resize if preprocessing.views == "10crop" else preprocessing.image_size
    none, full = graph.constant(0, np.int64), graph.constant(side, np.int64)
    if preprocessing.mode == "squash":
        return _Axis(height, full, none, full), _Axis(width, full, none, full)
    if preprocessing.mode == "pad":
        scale = graph.constant(float(side)) / graph.op("Max", height, width).to(np.float64)
        new = [
            graph.op("Max", graph.op("Round", size.to(np.float64) * scale).to(np.int64), 1) for size in (height, width)
        ]
    else:
        resize = graph.constant(preprocessing.resize, np.int64)
        scaled = resize * graph.op("Max", height, width) / graph.op("Min", height, width)
        upright = height > width
        new = [upright.where(scaled, resize, np.int64), upright.where(resize, scaled, np.int64)]
    canvases = [full if preprocessing.mode == "pad" else graph.op("Max", one, side) for one in new]
    rows, columns = (
        _Axis(size, one, (canvas - one) / 2, canvas)
        for size, one, canvas in zip((height, width), new, canvases, strict=True)
    )
    return rows, columns


class _Weights:
    """What pixels of an image count in the pixels that it is resized to, along one axis, before rounding."""

    def __init__(self, axis: _Axis, interpolation: str) -> None:
        self.axis, self.interpolation, self.graph = axis, interpolation, axis.size.graph
        self.scale = axis.size.to(np.float64) / axis.new.to(np.float64)
        width = self.graph.op("Max", self.scale, 1.0)
        self.inverse_width = self.graph.constant(1.0) / width
        radius = width * RADIUS[interpolation]
        centres = self.centres(self.range(axis.new))
        first = self.graph.op("Max", (centres - radius + 0.5).to(np.int64), 0)
        pixels = first + self.range(self.graph.op("Ceil", radius).to(np.int64) * 2 + 1)
        inside = (pixels < axis.size).where(self.filtered(pixels, centres), 0.0, np.float64)
        self.totals = self.graph.op("ReduceSum", inside, np.array([1]), keepdims=1)  # (new, 1)
        self.largest = self.graph.op("ReduceMax", inside / self.totals, keepdims=0)

    def range(self, n: Value) -> Value:
        """Return 0 to n - 1."""
        return self.graph.op("Range", self.graph.constant(0, np.int64), n, 1)

    def centres(self, indices: Value) -> Value:
        """Return where in the image the pixels with these indices are centred, as a column."""
        return (indices.shaped(-1, 1).to(np.float64) + 0.5) * self.scale

    def filtered(self, pixels: Value, centres: Value) -> Value:
        """Return the filter around each centre at pixels of the image."""
        x = self.graph.op("Abs", (pixels.to(np.float64) - centres + 0.5) * self.inverse_width)
        if self.interpolation == "bilinear":
            return self.graph.op("Max", 1.0 - x, 0.0)
        a = BICUBIC_A
        inner = (x * (a + 2) - (a + 3)) * x * x + 1.0
        outer = (((x - 5.0) * x + 8.0) * x - 4.0) * a
        return (x < 1.0).where(inner, (x < 2.0).where(outer, 0.0, np.float64), np.float64)

    def torch_unit(self) -> Value:
        """Return by what torch multiplies weights before it rounds them."""
        powers = self.graph.constant(2.0 ** np.arange(1, PILLOW_BITS + 1))
        fits = self.graph.op("Floor", powers * self.largest + 0.5) < float(TORCH_LIMIT)
        return self.graph.op("ReduceMax", fits.where(powers, 1.0, np.float64), keepdims=0)

    def matrix(self, indices: Value, unit: Value) -> Value:
        """Return weights for the pixels with these indices, rounded to multiples of 1 / `unit`: a row for each."""
        weights = self.filtered(self.range(self.axis.size), self.centres(indices))
        parts = weights / self.graph.op("Gather", self.totals, indices, axis=0) * unit
        sign = self.graph.op("Sign", parts)
        return sign * self.graph.op("Floor", self.graph.op("Abs", parts) + 0.5) / unit


class _Squares:
    """The squares that are cut out of an image resized."""

    def __init__(self, graph: Graph, preprocessing: Preprocessing, pixels: Value, rows: _Axis, columns: _Axis) -> None:
        self.graph, self.preprocessing = graph, preprocessing
        self.rows, self.columns = (_Weights(axis, preprocessing.interpolation) for axis in (rows, columns))
        self.by_pillow = preprocessing.resized_by == "pillow"
        # Torch's weights have 15 bits: in float32 their sums are exact unless an image is made 4 times smaller, and
        # then as good as exact. Pillow's weights have 22.
        self.dtype = np.float64 if self.by_pillow else np.float32
        self.pixels = pixels.to(self.dtype)
        self.units = self._units()
        short = preprocessing.mode == "crop" and preprocessing.resize < preprocessing.image_size
        self.has_border = short or preprocessing.mode == "pad"

    def _units(self) -> list[Value]:
        """Return by what weights of rows and of columns are multiplied before they are rounded."""
        fine = self.graph.constant(2.0**PILLOW_BITS)
        if self.by_pillow:
            return [fine, fine]
        axes = self.rows.axis, self.columns.axis
        narrowest = self.graph.op("Min", *(side for axis in axes for side in (axis.size, axis.new)))
        both = (self.rows.torch_unit(), self.columns.torch_unit())
        return [(narrowest > 1).where(unit, fine, np.float64) for unit in both]  # torch cannot resize a side of 1

    def views(self) -> Value:
        """Return all that enters the network of each image, shape (n * n_views, 3, S, S)."""
        size = self.preprocessing.image_size
        squares = [self._square(*cut) for cut in CUTS[self.preprocessing.views]]
        if len(squares) == 1:
            return squares[0]
        views = self.graph.op("Concat", *(one.shaped(-1, 1, 3, size, size) for one in squares), axis=1)
        return views.shaped(-1, 3, size, size)

    def _square(self, row_cut: str, column_cut: str, mirrored: str) -> Value:
        """Return the square of a view, shape (n, 3, S, S)."""
        rows, columns = self._cut(self.rows.axis, row_cut, ""), self._cut(self.columns.axis, column_cut, mirrored)
        inside = self._inside(rows, columns) if self.has_border else None
        down = self._matrix(self.rows, rows, self.units[0])
        across = self.graph.op("Transpose", self._matrix(self.columns, columns, self.units[1]), perm=[1, 0])

        def widths_first() -> Value:
            return self._rounded(down @ self._rounded(self.pixels @ across))

        def heights_first() -> Value:
            return self._rounded(self._rounded(down @ self.pixels) @ across)

        if self.by_pillow and heights_may_be_first():
            square = self.graph.either(self._saves_more_in_height(), heights_first, widths_first)
        else:
            square = widths_first()
        square = square.to(np.float32)
        return square if inside is None else inside.where(square, self._background(), np.float32)

    def _cut(self, axis: _Axis, cut: str, mirrored: str) -> Value:
        """Return which pixels of the resized image make a side of a square; there may be none of that index."""
        steps = np.arange(self.preprocessing.image_size)
        rest = axis.canvas - self.preprocessing.image_size
        middle = self.graph.op("Round", rest.to(np.float64) * 0.5).to(np.int64)  # half to even, as Python rounds
        first = {"start": rest * 0, "centre": middle, "end": rest}[cut]
        indices = first + self.graph.constant(steps[::-1] if mirrored == "square" else steps)
        if mirrored == "image":
            indices = axis.canvas - 1 - indices
        return indices - axis.start

    def _inside(self, rows: Value, columns: Value) -> Value:
        """Return which pixels of a square are of the image, shape (S, S)."""
        inside = [
            (indices >= 0) & (indices < weights.axis.new)
            for indices, weights in ((rows, self.rows), (columns, self.columns))
        ]
        return inside[0].shaped(-1, 1) & inside[1]

    def _matrix(self, weights: _Weights, indices: Value, unit: Value) -> Value:
        if self.has_border:
            indices = self.graph.op("Min", self.graph.op("Max", indices, 0), weights.axis.new - 1)
        return weights.matrix(indices, unit).to(self.dtype)

    def _rounded(self, pixels: Value) -> Value:
        floor = self.graph.op("Floor", pixels + 0.5)
        return self.graph.op("Clip", floor, *(self.graph.constant(level, self.dtype) for level in (0, 255)))

    def _background(self) -> np.ndarray:
        levels = np.rint(np.array(self.preprocessing.mean, np.float32) * np.float32(255)).clip(0, 255)
        return (levels if self.preprocessing.mode == "pad" else levels * 0).reshape(3, 1, 1)

    def _saves_more_in_height(self) -> Value:
        """Return whether Pillow resizes heights first: where that takes away more than twice as many pixels."""
        rows, columns = self.rows.axis, self.columns.axis
        return (rows.new < rows.size) & (rows.size - rows.new > (columns.size - columns.new) * 2)


def heights_may_be_first() -> bool:
    """Whether the Pillow that is installed resizes heights first if that takes away more pixels; older ones do not."""
    image = Image.fromarray((np.arange(64 * 16) * 37 % 256).astype(np.uint8).reshape(64, 16))
    both = image.resize((17, 8), Image.Resampling.BICUBIC)
    after_each_other = image.resize((16, 8), Image.Resampling.BICUBIC).resize((17, 8), Image.Resampling.BICUBIC)
    return np.array_equal(np.asarray(both), np.asarray(after_each_other))
