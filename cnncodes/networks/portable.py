"""Networks of the user that go to other processes, with the pickle of what uses them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping

from joblib import wrap_non_picklable_objects

from cnncodes.errors import BackboneError, first_line
from cnncodes.networks.registry import arrived_networks, registered_networks

__all__ = ["Packed", "pack_networks", "unpack_networks"]

Packed = dict[str, bytes | str]  # by name: the network, or the reason for which it cannot be pickled
LIGHT_BYTES = 100_000  # up to so many, a network goes along though another one is used: a search may set its name

_bytes_of_arrived: dict[str, bytes] = {}


def pack_networks(name: str) -> Packed:
    """Return the networks of the user as they go along with a pickle.

    Parameters
    ----------
    name : str
        The network that is used. Others go along if they are small.
    """
    packed: Packed = {}
    for other in registered_networks.keys() | arrived_networks.keys():
        content = _bytes_of_arrived.get(other, b"")
        if other in registered_networks:
            try:  # joblib pickles by value what a new process could not import
                content = pickle.dumps(wrap_non_picklable_objects(registered_networks[other], keep_wrapper=False))
            except Exception as error:  # objects refuse to be pickled in many ways
                packed |= {other: f"it cannot be pickled: {first_line(error)}"} if other == name else {}
                continue
        if other == name or len(content) <= LIGHT_BYTES:
            packed[other] = content
    return packed


def unpack_networks(packed: Mapping[str, bytes | str], name: str | None = None) -> None:
    """Take in networks that came with a pickle; one that this process has registered itself goes before them.

    Parameters
    ----------
    packed : mapping of str to bytes or str
        As `pack_networks` returns it.
    name : str, optional
        The network that is used now.

    Raises
    ------
    BackboneError
        The network of this name is not registered, and did not come with the pickle.
    """
    for other, content in packed.items():
        if other in registered_networks or _bytes_of_arrived.get(other) == content:
            continue
        if isinstance(content, str):
            reason = content
        else:
            try:
                arrived_networks[other] = pickle.loads(content)
                _bytes_of_arrived[other] = content
                continue
            except Exception as error:  # a module that is not here, another version of Python, …
                reason = f"it cannot be read here: {first_line(error)}"
        if other == name:
            raise BackboneError(
                f"the backbone {name!r} did not come with the estimator ({reason}); "
                f"call register_backbone({name!r}, …) in this process first"
            )
