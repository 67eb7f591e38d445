"""What the folders mean that images lie in: classes, splits, wrappers around both, and masks beside images."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from cnncodes.errors import ImagesError
from cnncodes.images.files import as_text, some_names
from cnncodes.vocabulary import split_of

__all__ = ["Layout", "masks_in", "read_layout"]

Parts = Sequence[str]  # the folders that an image lies in, from the root on, and its name

GROUND_TRUTH = frozenset({"ground_truth", "groundtruth"})  # of MVTec AD and its like
MASKS = GROUND_TRUTH | {"mask", "masks", "gt", "label", "labels", "annotation", "annotations"}
IMAGES = frozenset({"image", "images", "img", "imgs"})
MASK_ENDING = re.compile(r"[ _.-][a-z]+(_?\d+)?$", re.IGNORECASE)
MASK_FILE = re.compile(r"(.+)[_-](mask|seg|segmentation|gt|groundtruth)(_?\d+)?", re.IGNORECASE)


@dataclass
class Layout:
    """What the folders of images mean.

    Attributes
    ----------
    labels, splits : list of str or None
        One for each image.
    notes : list of str
        How the folders were understood where that is not plain.
    """

    labels: list[str] | None = None
    splits: list[str] | None = None
    notes: list[str] = field(default_factory=list)


def masks_in(names: Sequence[str]) -> dict[str, str]:
    """Return the images that lie in folders of masks, each with that folder.

    Within a class, such a folder is called ``ground_truth``; or ``masks`` or the like, beside a folder of images or of
    a split. Where class folders may lie, nothing but such folders may be beside it, and folders that are not called
    ``ground_truth`` must have names of files from there. Nothing is a mask if everything would be.

    Parameters
    ----------
    names : sequence of str
        Paths relative to the root, with ``/``.

    Examples
    --------
    >>> masks_in(["a/images/1.png", "a/masks/1.png"]), masks_in(["masks/1.png", "images/1.png", "faces/1.png"])
    ({'a/masks/1.png': 'a/masks'}, {})
    """
    inside: dict[str, set[str]] = {}  # the folders in each folder
    with_images = {name.rpartition("/")[0] for name in names}
    for folder in with_images:
        while folder:
            above, _, last = folder.rpartition("/")
            inside.setdefault(above, set()).add(last)
            folder = above

    @functools.cache
    def is_mask(above: str, last: str) -> bool:
        word, others = _plain(last), inside[above] - {last}
        if word not in MASKS:
            return False
        in_split = split_of(above.rpartition("/")[2]) is not None
        beside = [other.lower() in IMAGES or (split_of(other) is not None and not in_split) for other in others]
        if _may_hold_classes(above, inside):
            is_alone = all(_plain(other) in MASKS or pictures for other, pictures in zip(others, beside, strict=True))
            named_alike = word in GROUND_TRUTH or _named_like_others(names, above, last)
            return any(beside) and is_alone and named_alike
        return any(beside) or (word in GROUND_TRUTH and (bool(others) or above in with_images))

    masks: dict[str, str] = {}
    for name in names:
        parts = name.split("/")[:-1]
        for depth, last in enumerate(parts):
            if is_mask("/".join(parts[:depth]), last):
                masks[name] = "/".join(parts[: depth + 1])
                break
    return masks if len(masks) < len(names) else {}


def _may_hold_classes(folder: str, inside: Mapping[str, Set[str]]) -> bool:
    """Whether a folder, and each above it, is a split or has no other folder beside it."""
    while folder:
        above, _, last = folder.rpartition("/")
        if split_of(last) is None and len(inside[above]) > 1:
            return False
        folder = above
    return True


def _named_like_others(names: Sequence[str], above: str, last: str) -> bool:
    """Whether most images of a folder are called like others that lie below the same one, as masks are."""
    start = f"{above}/" if above else ""
    stems: dict[bool, set[str]] = {True: set(), False: set()}
    for name in names:
        if name.startswith(start):
            stem = name.rpartition("/")[2].rpartition(".")[0]
            stems[name.startswith(f"{start}{last}/")].add(stem)
    alike = [stem for stem in stems[True] if {stem, MASK_ENDING.sub("", stem)} & stems[False]]
    return 2 * len(alike) > len(stems[True])


def read_layout(root: Path | str, parts: Sequence[Parts]) -> Layout:
    """Say what the folders mean.

    Parameters
    ----------
    root : Path or str
        For errors.
    parts : sequence of sequences of str
        Where each image lies.

    Raises
    ------
    ImagesError
        It is not clear which folders are classes.
    """
    layout = Layout()
    depth = _wrappers(parts)
    if depth:
        wrapper, folders = "/".join(parts[0][:depth]), sorted({part[depth] for part in parts})
        layout.notes.append(f"{some_names([wrapper])} is taken as a wrapper around the folders {some_names(folders)}")
    loose = [part[depth] for part in parts if len(part) == depth + 1]
    if len(loose) == len(parts):
        layout.notes.append("there are no class folders: the images have no labels")
        return layout
    if loose:
        raise ImagesError(
            f"{root}: {len(loose)} images lie beside the folders ({some_names(loose)}), so the folders are not clear "
            "as classes; move these images into a class folder, or elsewhere"
        )
    tops = sorted({part[depth] for part in parts})
    splits = {top: split for top in tops if (split := split_of(top)) is not None}
    others = [top for top in tops if top not in splits]
    if splits and not others:
        _read_splits(layout, root, parts, depth)
    elif len(set(splits.values())) > 1:
        raise ImagesError(
            f"{root}: {some_names(list(splits))} look like splits, but {some_names(others)} lies beside them; move it "
            "elsewhere, or rename the splits if they are classes"
        )
    else:
        if splits:
            layout.notes.append(f"{some_names(list(splits))} is taken as a class, like {some_names(others)} beside it")
        _read_classes(layout, parts, depth)
    return layout


def _wrappers(parts: Sequence[Parts]) -> int:
    """Return how many folders lie one in the other, with nothing beside them, above several class folders or splits."""
    depth = 0
    while len({part[depth] for part in parts}) == 1 and all(len(part) > depth + 2 for part in parts):
        if split_of(parts[0][depth]) is not None:
            return depth
        depth += 1
    tops = {part[depth] for part in parts}
    is_several = len(tops) > 1 or (split_of(next(iter(tops))) is not None)
    return depth if is_several and all(len(part) > depth + 1 for part in parts) else 0


def _read_splits(layout: Layout, root: Path | str, parts: Sequence[Parts], depth: int) -> None:
    """Set labels and splits of images in split folders, which hold the class folders."""
    if shallow := [part for part in parts if len(part) == depth + 2]:
        split, name = "/".join(shallow[0][: depth + 1]), shallow[0][-1]
        raise ImagesError(
            f"{root}: {some_names(['/'.join(shallow[0])])} lies in a split, but in no class folder; expected e.g. "
            f"{some_names([split])}/CLASS/{some_names([name])}"
        )
    layout.splits = [split_of(part[depth]) or "" for part in parts]
    below = depth + 1 + _wrapped(parts, depth)
    if below > depth + 1:
        layout.notes.append(f"taken as wrappers around the class folders: {_folders(parts, depth + 1)}")
    _label(layout, parts, below)
    trained = {part[below] for part, split in zip(parts, layout.splits, strict=True) if split == "train"}
    if trained and (new := sorted({part[below] for part in parts} - trained)):
        layout.notes.append(f"classes without images in train: {some_names(new)}")


def _wrapped(parts: Sequence[Parts], depth: int) -> bool:
    """Whether each split has one folder alone, around several class folders, as in ``seg_train/seg_train``."""
    inner: dict[str, set[str]] = {}
    for part in parts:
        inner.setdefault(part[depth], set()).add(part[depth + 1])
    is_alone = all(len(folders) == 1 for folders in inner.values()) and all(len(part) > depth + 3 for part in parts)
    return is_alone and len({part[depth + 2] for part in parts}) > 1


def _read_classes(layout: Layout, parts: Sequence[Parts], depth: int) -> None:
    """Set labels of images in class folders; where all of these hold split folders, the splits as well."""
    in_splits = [split_of(part[depth + 1]) if len(part) > depth + 2 else None for part in parts]
    if all(in_splits):
        layout.splits = [split or "" for split in in_splits]
        layout.notes.append(f"split folders lie in the class folders: {_folders(parts, depth + 1)}")
    elif any(in_splits):
        some = sorted({"/".join(part[: depth + 2]) for part, split in zip(parts, in_splits, strict=True) if split})
        layout.notes.append(f"{some_names(some)}: not taken as splits, because other class folders have none")
    _label(layout, parts, depth, depth + 1 if layout.splits else None)


def _label(layout: Layout, parts: Sequence[Parts], depth: int, split_depth: int | None = None) -> None:
    """Take the folders at a depth as classes, and note folders below them that mean nothing."""
    layout.labels = [as_text(part[depth]) for part in parts]
    if masks := sorted({label for label in layout.labels if _plain(label) in GROUND_TRUTH}):
        layout.notes.append(f"taken as a class, not as masks: {some_names(masks)}")
    below = max(depth, split_depth or 0) + 1
    if deeper := sorted({"/".join(part[: below + 1]) for part in parts if len(part) > below + 1}):
        layout.notes.append(f"folders in class folders are not told apart: {some_names(deeper)}")
    names = {(*part[:-1], part[-1].rpartition(".")[0]) for part in parts}
    stems = [name for name in names if (found := MASK_FILE.fullmatch(name[-1])) and (*name[:-1], found[1]) in names]
    if stems:
        layout.notes.append(
            "images that are called like masks of others beside them count as images of their class: "
            f"{some_names(sorted('/'.join(name) for name in stems))}"
        )


def _folders(parts: Sequence[Parts], depth: int) -> str:
    return some_names(sorted({"/".join(part[: depth + 1]) for part in parts}))


def _plain(name: str) -> str:
    return re.sub(r"[\s-]", "_", name.lower())
