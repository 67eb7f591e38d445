"""Parameters: from a file, read without pickle, into a network that may call them otherwise."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnncodes.errors import WeightsError, first_line, parameter
from cnncodes.system.places import refuse_url

__all__ = ["KeyRules", "digest_of", "fit_state", "read_published", "read_state"]

State = dict[str, torch.Tensor]

WRAPPERS = ("state_dict", "model")  # where published files keep the parameters, if they hold anything beside
# What holds the network itself, whatever copies of it are kept beside, such as an average
USUAL_NAMES = frozenset({"state_dict", "model", "model_state_dict", "ema", "module", "backbone", "_orig_mod"})
PREFIX_DEPTH = 8  # modules and dicts around a network; a bound, as a file may hold keys of any length
# Modules that wrap a part of a network without being a part themselves
TRANSPARENT = re.compile(r"(?<=\.)(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
RIVAL_SHARE = 0.5  # of the tensors that fit: from so many on, another prefix may hold a network, too
NOT_NEEDED = ("num_batches_tracked",)  # counters that an eval-mode network does not read
NAMED_KEYS = 5  # how many keys an error names before it counts


@dataclass(frozen=True)
class KeyRules:
    """How the keys of a file become those of the network.

    Attributes
    ----------
    renames : tuple of (pattern, replacement)
        Regular expressions, applied in order to each key.
    ignored : tuple of str
        Beginnings of keys of parts that the network is built without.
    """

    renames: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()

    def rename(self, key: str) -> str:
        for pattern, replacement in self.renames:
            key = re.sub(pattern, replacement, key)
        return key


def digest_of(state: Mapping[str, torch.Tensor]) -> str:
    """Return a SHA-256 over names, shapes, types and values: what identifies parameters that come from no file."""
    digest = hashlib.sha256()
    for key, tensor in state.items():
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_state(path: str | os.PathLike[str]) -> State:
    """Read the tensors of a ``.safetensors``, ``.pth`` or ``.pt`` file; nothing in the file is ever executed.

    Dicts within dicts become one: the tensor ``weight`` in the dict ``model`` is ``model.weight``. What has a number
    for a key is left out: it belongs to an optimizer.

    Raises
    ------
    WeightsError
        No such file, not a file of weights, or one that needs arbitrary Python objects.
    """
    content = _read(Path(path))
    tensors = dict(_tensors(content, "", set()))
    if not tensors:
        raise WeightsError(f"{path}: holds no parameters by name (a {type(content).__name__}); expected a state dict")
    return tensors


def read_published(path: str | os.PathLike[str]) -> State:
    """Read a published file as the library that loads it expects it; what is raised is as for `read_state`."""
    content = _read(Path(path))
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    return content


def _read(path: Path) -> Any:
    refuse_url(path, "a file of weights", error_type=WeightsError)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise many kinds on damaged files
        if re.search(r"\bunsupported (global|class)\b", str(error), re.IGNORECASE):
            raise WeightsError(
                f"{path}: holds Python objects beside tensors, which could run anything when loaded; where you trust "
                "it, save it again from its own program with torch.save(model.state_dict(), FILE)"
            ) from error
        reason = "not a file of PyTorch" if "weights_only" in str(error) else first_line(error)
        raise WeightsError(f"{path}: cannot be read as weights ({reason})") from error


def _tensors(content: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    if not isinstance(content, Mapping) or id(content) in seen:  # a dict may hold itself
        return
    seen.add(id(content))
    for key, value in content.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, torch.Tensor):
            yield prefix + key, value
        yield from _tensors(value, f"{prefix}{key}.", seen)


def fit_state(
    network: nn.Module, state: State, *, head: str, rules: KeyRules, allow_partial: bool = False, source: str = "file"
) -> tuple[list[str], bool]:
    """Copy the tensors of a file into a network, which need not have the same head.

    Parameters
    ----------
    network : Module
    state : dict of str to Tensor
        As `read_state` gives it. Whatever wrapped the network has put a prefix before its keys, such as ``module.`` or
        ``state_dict.teacher.``; the prefix is that below which the most tensors fit.
    head : str
        Module path of the classification head: it may differ or be absent.
    rules : KeyRules
    allow_partial : bool, default=False
        Leave parameters that are missing or have another shape as they are, and note them.
    source : str, default="file"
        What to call the file in messages.

    Returns
    -------
    notes : list of str
        What was not loaded, for the provenance.
    head_loaded : bool

    Raises
    ------
    WeightsError
        A parameter outside the head is missing or has another shape, no parameter outside the head fits, or it is
        ambiguous which tensors are meant.
    """
    own = network.state_dict()
    body = {key for key in own if not key.startswith(f"{head}.") and not key.endswith(NOT_NEEDED)}
    keys, rivals = _match_keys(state, own, body, rules, source)
    faults = _faults(own, {key: state[old] for key, old in keys.items()})
    if body and faults.keys() >= body:
        raise WeightsError(
            f"{source}: no tensor of it fits the network: it holds {_named(_shaped(state))}; expected "
            f"{_named(_shaped({key: own[key] for key in own if key in body}))}; another backbone?"
        )
    unexpected = [old for new, old in keys.items() if new not in own and not new.startswith(rules.ignored)]
    unexpected += sorted(state.keys() - set(keys.values()))
    headless = {key: faults[key] for key in faults if key.startswith(f"{head}.")}
    lacking = [fault for key, fault in faults.items() if key not in headless]
    misfit = f"{source}: does not fit the network: {_named(lacking)}"
    if lacking and not allow_partial:
        hint = f"; not used: {_named(unexpected)}" if unexpected else ""
        allow = parameter("allow_partial", True, of="extract")
        raise WeightsError(f"{misfit}{hint}; another backbone? ({allow} leaves these random)")
    with torch.no_grad():
        for key in own.keys() & keys.keys() - faults.keys():
            own[key].copy_(state[keys[key]])
    broken = [key for key, tensor in own.items() if not torch.isfinite(tensor).all()]
    notes = {
        f"{source}: {rivals}": rivals,
        f"{source}: no head for this network ({_named(headless.values())}); codes need none": headless,
        f"{source}: not used: {_named(unexpected)}": unexpected,
        f"{misfit}; left random, {len(lacking)} of {len(body)} tensors outside the head": lacking,
        f"{source}: holds values that are not finite: {_named(broken)}": broken,
    }
    return [note for note, cause in notes.items() if cause], not headless


def _faults(own: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Say what is wrong with each key of the network that is missing or has another shape."""
    faults = {}
    for key, tensor in own.items():
        if key not in given:
            if not key.endswith(NOT_NEEDED):
                faults[key] = f"{key} is missing"
        elif given[key].shape != tensor.shape:
            faults[key] = f"{key} is {tuple(given[key].shape)}, expected {tuple(tensor.shape)}"
    return faults


def _shaped(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    return [f"{key} {tuple(tensor.shape)}" for key, tensor in tensors.items()]


@dataclass(frozen=True)
class _Candidate:
    """What stands below one prefix: keys of the file by what the network would call them, and those that fit."""

    prefix: str
    keys: dict[str, str]
    fitting: frozenset[str]  # keys of the network outside its head
    n_known: int  # keys that the network has, with whatever shape

    def __str__(self) -> str:
        what = f"{self.prefix}*" if self.prefix else "what has no prefix"
        return f"{what} ({len(self.fitting)} tensors fit)"

    @property
    def is_usual(self) -> bool:
        return USUAL_NAMES.issuperset(self.prefix[:-1].split("."))

    def same_tensors(self, other: _Candidate, state: State) -> bool:
        return self.fitting == other.fitting and all(
            self.keys[key] == other.keys[key] or torch.equal(state[self.keys[key]], state[other.keys[key]])
            for key in self.fitting
        )


def _match_keys(
    state: State, own: Mapping[str, torch.Tensor], body: Set[str], rules: KeyRules, source: str
) -> tuple[dict[str, str], str]:
    """Map keys of the network to keys of the file, and say which other networks the file holds."""
    candidates = []
    for prefix, inner in _by_prefix(state).items():
        keys: dict[str, str] = {}
        for key in inner:
            new = rules.rename(key)
            if new not in own:
                new = TRANSPARENT.sub("", new)
            if new not in keys or new == key:
                keys[new] = prefix + key
        known = own.keys() & keys.keys()
        fitting = frozenset(key for key in known & body if state[keys[key]].shape == own[key].shape)
        candidates.append(_Candidate(prefix, keys, fitting, len(known)))
    best = max(candidates, key=lambda one: (len(one.fitting), one.n_known, -len(one.prefix)))
    others = [
        one
        for one in candidates
        if one.fitting
        and len(one.fitting) >= RIVAL_SHARE * len(best.fitting)
        and not {one.keys[key] for key in one.fitting} & {best.keys[key] for key in best.fitting}
        and not one.same_tensors(best, state)
    ]
    equals = [best, *(one for one in others if len(one.fitting) == len(best.fitting))]
    usual = [one for one in equals if one.is_usual]
    if len(equals) > 1 and len(usual) == 1:
        others = [one for one in [best, *others] if one is not usual[0]]
        best = usual[0]
    elif len(equals) > 1:
        raise WeightsError(
            f"{source}: ambiguous, it holds the network more than once: {_named(map(str, [best, *others]))}; save the "
            "tensors of the wanted one in a file of their own"
        )
    return best.keys, f"taken is {best}, not {_named(map(str, others))}" if others else ""


def _by_prefix(state: State) -> dict[str, list[str]]:
    """Return what follows each prefix of the keys, up to a dot."""
    inner: dict[str, list[str]] = {"": list(state)}
    for key in state:
        parts = key.split(".", PREFIX_DEPTH)
        for depth in range(1, len(parts)):
            inner.setdefault(".".join(parts[:depth]) + ".", []).append(".".join(parts[depth:]))
    return inner


def _named(keys: Iterable[str]) -> str:
    names: Sequence[str] = list(keys)
    more = len(names) - NAMED_KEYS
    return ", ".join(names[:NAMED_KEYS]) + (f" and {more} more" if more > 0 else "")
