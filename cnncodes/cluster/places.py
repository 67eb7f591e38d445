"""Which machines of a cluster work, with which processors and GPUs, and whether their networks agree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cnncodes.cluster.transport import Node
from cnncodes.cluster.worker import Ready
from cnncodes.errors import SettingError, parameter

__all__ = ["Place", "check_device", "kind_of", "mismatch", "places_of"]

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Place:
    """Where one worker is: a GPU of a node, or all its processors.

    Attributes
    ----------
    key : str
        Unique in the cluster.
    node : str
        Key of the node.
    name : str
        Name of the node, for people.
    device : {"cpu", "cuda"}
    cpus, gpus : int
        What the worker takes of the node.
    """

    key: str
    node: str
    name: str
    device: str
    cpus: int
    gpus: int = 0


def check_device(device: str | None) -> None:
    """Refuse a device that is of one machine alone.

    Raises
    ------
    SettingError
        A cluster has no such device.
    """
    if device is not None and device not in DEVICES:
        raise SettingError(f"{parameter('device', device)}: on a cluster it is {', '.join(DEVICES)}")


def kind_of(device: str | None, nodes: Iterable[Node]) -> str:
    """Return the device on which the network runs: by default, GPUs if any node has one.

    Raises
    ------
    SettingError
        A cluster has no such device, or this one has no GPU.
    """
    check_device(device)
    has_gpu = any(node.all_gpus >= 1 for node in nodes)
    if device == "cuda" and not has_gpu:
        raise SettingError(f"{parameter('device', device)}: no machine of the cluster has a GPU; leave it out")
    return "cuda" if has_gpu and device != "cpu" else "cpu"


def places_of(node: Node, kind: str, *, mixed: bool = False) -> tuple[list[Place], str]:
    """Return the places of a node, and why it has none.

    Parameters
    ----------
    node : Node
    kind : {"cpu", "cuda"}
    mixed : bool, default=False
        Use the processors of nodes without a GPU where others have some.

    Examples
    --------
    >>> places, _ = places_of(Node("a1", "box", cpus=16, gpus=2, all_cpus=16, all_gpus=2), "cuda")
    >>> [(place.key, place.cpus) for place in places]
    [('a1.0', 8), ('a1.1', 8)]
    >>> places_of(Node("a1", "box", cpus=0, gpus=0, all_cpus=4, all_gpus=0), "cpu")
    ([], 'others use its 4 processors')
    """
    cpus, gpus = int(node.cpus), int(node.gpus)
    if kind == "cuda" and (node.all_gpus >= 1 or not mixed):
        if node.all_gpus < 1:
            return [], f"it has no GPU; {parameter('mixed_nodes', True)} uses its processors, too"
        if not gpus:
            return [], f"others use its {_counted(node.all_gpus, 'GPU')}"
        return [Place(f"{node.key}.{i}", node.key, node.name, "cuda", cpus // gpus, 1) for i in range(gpus)], ""
    if not cpus:
        return [], f"others use its {_counted(node.all_cpus, 'processor')}" if node.all_cpus else "it has no processor"
    return [Place(f"{node.key}.cpu", node.key, node.name, "cpu", cpus)], ""


def mismatch(lead: Ready, ready: Ready, *, mixed: bool = False) -> str:
    """Return in what the network of a node differs from that of the first one; empty if the codes are the same.

    Parameters
    ----------
    lead, ready : Ready
    mixed : bool, default=False
        Let devices and processors differ.
    """
    differences = [
        words
        for words in ready.facts.provenance.differences(lead.facts.provenance, every=True)
        if not (mixed and words.startswith("runtime."))
    ]
    if differences:
        return ", ".join(differences)
    if ready.photo_digest != lead.photo_digest and not mixed:
        other = f", not {lead.processor}" if lead.processor != ready.processor else ""
        return (
            f"its processor ({ready.processor}{other}) rounds otherwise, so that its codes differ in their last bits; "
            f"{parameter('mixed_nodes', True)} allows that"
        )
    return ""


def _counted(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'s' * (number != 1)}"
