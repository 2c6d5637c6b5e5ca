"""Weights of published 3-D encoders, in their own names: every key accounted for, or an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from braindino.model.dialects import canonical
from braindino.model.foreign import unusable
from braindino.model.key_report import Line, Report

WRAPPERS = ("state_dict", "model", "module", "backbone", "encoder", "uniformer", "net")
"""What may stand before the names of a network, in any order and number: what trainers and wrappers put there."""
BESIDE = (r"(epoch|global_step|loops|callbacks|optimizer\w*|(lr_)?scheduler\w*|hparams_name|hyper_parameters)(\..*)?",)
"""What a training checkpoint holds beside its state dict."""


@dataclass(frozen=True)
class Layout:
    """How a published network names and counts its weights."""

    name: str
    """Said in reports and errors."""
    anchor: str
    """Pattern of a key that only this network has."""
    keys: int
    """Entries of its state dict, counted on the original."""
    ignored: tuple[tuple[str, str], ...] = ()
    """Patterns of keys that may be left out, and why: heads, decoders, parts that are never used."""


def named(content: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a file without what compilation and sharding put into their names.

    Raises:
        ValueError: two entries of one name.
    """
    plain = {canonical(key): value for key, value in content.items()}
    if len(plain) < len(content):
        raise ValueError("two keys are one without the names of wrappers; save the state dict of the bare network")
    return plain


def prefix_of(content: Mapping[str, Any], layout: Layout) -> str | None:
    """What stands before the names of the network, "" where nothing does; None where the network is not in the file.

    Raises:
        ValueError: the network is there more than once.
    """
    wrapped = rf"((?:(?:{'|'.join(WRAPPERS)})\.)*)(?:{layout.anchor})"
    found = sorted({match[1] for key in content if (match := re.fullmatch(wrapped, key))})
    if len(found) > 1:
        raise ValueError(f"several networks, under {', '.join(map(repr, found))}; save the one that is meant by itself")
    return found[0] if found else None


def load_published(path: Path, content: Mapping[str, Any], prefix: str, network: nn.Module, layout: Layout) -> Report:
    """Set the weights of `network`, which must be on the meta device, from those under `prefix`; strictly.

    Numbers of lower precision become float32. What is not under the prefix is ignored where the prefix ends in
    `backbone.` or `encoder.`, since then it is beside the network by its name; else it must have a reason, as in it.

    Raises:
        ValueError: a key that is missing, unexpected, of a wrong shape or not finite; the message holds the report.
    """
    expected = network.state_dict()
    assert len(expected) == layout.keys, f"{layout.name} has {layout.keys} keys, this network {len(expected)}"
    own = {key[len(prefix) :]: value for key, value in content.items() if key.startswith(prefix)}
    lines = [_judged(own, key, place) for key, place in expected.items()]
    lines += [_left_over(key, value, layout) for key, value in own.items() if key not in expected]
    apart = prefix.endswith(("backbone.", "encoder."))
    for key, value in content.items():
        if not key.startswith(prefix):
            lines.append(Line("ignored", key, f"not under {prefix}") if apart else _left_over(key, value, layout))
    report = Report(layout.name, prefix, f"{len(expected)} keys", (), tuple(lines))
    if report.problems:
        raise ValueError(f"{path} does not fit:\n{report.short()}")
    state = {key: own[key].detach().to(place.dtype) for key, place in expected.items()}
    network.load_state_dict(state, assign=True)
    network.eval().requires_grad_(False)
    return report


def _judged(own: Mapping[str, Any], key: str, place: Tensor) -> Line:
    """What becomes of the weight `key`."""
    if key not in own:
        return Line("missing", key, str(tuple(place.shape)))
    value = own[key]
    if not isinstance(value, Tensor):
        return Line("wrong value", key, f"a {type(value).__name__}, expected numbers")
    if place.is_floating_point() and (why := unusable(value)):
        return Line("wrong value", key, why)
    if not place.is_floating_point() and value.dtype != place.dtype:
        return Line("wrong value", key, f"{value.dtype}, expected {place.dtype}")
    if value.shape != place.shape:
        return Line("wrong shape", key, f"{tuple(value.shape)}, expected {tuple(place.shape)}")
    if not value.isfinite().all():
        return Line("wrong value", key, "NaN or infinite")
    return Line("taken", key) if value.dtype == place.dtype else Line("transformed", key, f"{value.dtype} as float32")


def _left_over(key: str, value: Any, layout: Layout) -> Line:
    bare = re.sub(rf"^(?:(?:{'|'.join(WRAPPERS)})\.)*", "", key)
    for pattern, why in layout.ignored:
        if re.fullmatch(pattern, bare):
            return Line("ignored", key, why)
    if not isinstance(value, Tensor):
        return Line("ignored", key, "no tensor")
    if any(re.fullmatch(pattern, key) for pattern in BESIDE):
        return Line("ignored", key, "state of a training run")
    return (
        Line("ignored", key, "holds nothing")
        if value.numel() == 0
        else Line("unexpected", key, str(tuple(value.shape)))
    )
