"""Weights that others published, as weights of this transformer: every key accounted for, or an error.

What is read is Meta's DINOv3 in its own names (flat, or the teacher of a training checkpoint), in those of transformers
and of timm, and the `teacher` files of MedDINOv3 and of the BrainDINO paper. No weights come with this package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from braindino.model.config import ViTConfig
from braindino.model.dialects import Dialect, canonical, detect, find_backbone, pieces, why_ignored
from braindino.model.key_report import Line, Report
from braindino.model.layers import key_mask
from braindino.model.shapes import infer_config, name_of
from braindino.model.tensor_files import read_json_beside, read_tensors
from braindino.model.tokens import RopeEmbed
from braindino.model.vit import VisionTransformer
from braindino.model.weights import is_encoder_file
from braindino.record import sha256

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
KERNEL = "patch_embed.proj.weight"


def read_foreign(
    path: Path, config: ViTConfig | None = None, *, in_channels: int | None = None
) -> tuple[dict[str, Tensor], ViTConfig, Report]:
    """Read weights of others: a complete state dict of `VisionTransformer(config)` in float32, its config, a report.

    The dialect is told by the keys and the sizes by the shapes. Nothing in a file is run (see `read_tensors`). Stored
    RoPE periods are kept, which released files hold rounded to bfloat16; elsewhere they are computed.

    Args:
        path: .safetensors, .pth, .pt, .bin or .ckpt, or a folder of transformers.
        config: what the weights must fit; None: inferred. Of a file without a bias on queries, keys and values it may
            ask for one: zeros, which compute the same.
        in_channels: image channels wanted where the file has others: each new kernel is the sum of the old ones over
            `in_channels`, which computes the same for a picture that is repeated in all channels.

    Raises:
        ValueError: nothing readable, not DINOv3 weights, or a key that is missing, unexpected, of a wrong shape or of a
            wrong value (not finite, periods of another base); the message holds the report.
    """
    path = Path(path)
    if path.suffix == ".safetensors" and is_encoder_file(path):
        raise ValueError(f"{path} is an encoder of this package; read it with load_encoder")
    _check_tag(path)
    content = read_tensors(path)
    try:
        prefix, own, lines = _backbone(content)
        tensors = {key: value for key, value in own.items() if not unusable(value)}
        dialect = detect(own)
        assumed: tuple[str, ...] = ()
        if config is None:
            settings = read_json_beside(path) if dialect == "hugging_face" else {}
            config, assumed = infer_config(dialect, tensors, settings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if in_channels is not None:
        config = replace(config, in_channels=in_channels)
    state, found = _translate(own, dialect, config, convert=in_channels is not None)
    report = Report(dialect, prefix, name_of(config), assumed, (*found, *lines))
    if report.problems:
        raise ValueError(f"{path} does not fit:\n{report.short()}")
    return state, config, report


def _check_tag(path: Path) -> None:
    """Raises ValueError where a released file does not have the hash that its name ends in."""
    tag = re.fullmatch(r"dinov3_.*-([0-9a-f]{8})\.pth", path.name)
    if tag and path.is_file() and not sha256(path).startswith(tag[1]):
        raise ValueError(f"{path} is damaged: its SHA-256 does not begin with the {tag[1]} of its name; get it again")


def _backbone(content: Mapping[str, Any]) -> tuple[str, dict[str, Tensor], list[Line]]:
    """Prefix of the backbone, its entries by their plain names, and a line for everything else."""
    named: dict[str, Tensor] = {}
    lines = []
    for key, value in content.items():
        plain = canonical(key)
        if plain in named:
            raise ValueError(f"the key {plain} occurs twice, as {key} too")
        if isinstance(value, Tensor):
            named[plain] = value.detach()
        else:
            lines.append(Line("ignored", key, "no tensor"))
    prefix = find_backbone(named)
    own = {key[len(prefix) :]: value for key, value in named.items() if key.startswith(prefix)}
    beside = f"not under {prefix}"
    lines += [Line("ignored", key, beside) for key in named if not key.startswith(prefix)]
    return prefix, own, lines


def unusable(tensor: Tensor) -> str | None:
    """Why a tensor cannot be used, whatever its shape: its type, or that it is not held in full by the file."""
    if (
        type(tensor) is not Tensor
        or tensor.dtype not in FLOATS
        or tensor.layout != torch.strided
        or tensor.device.type != "cpu"
    ):
        return f"{tensor.dtype} {tensor.layout} on {tensor.device}, expected floating-point numbers in full"
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return "repeated from fewer numbers than its shape says"
    return None


def _translate(
    own: Mapping[str, Tensor], dialect: Dialect, config: ViTConfig, *, convert: bool
) -> tuple[dict[str, Tensor], list[Line]]:
    """Our state dict, in part where there are problems, and a line for every key of the backbone."""
    with torch.device("meta"):
        expected = VisionTransformer(config).state_dict()
    state: dict[str, Tensor] = {}
    lines: list[Line] = []
    used: set[str] = set()
    no_bias = not any("attn.qkv.bias" in name and set(_stored(dialect, name, config)) & set(own) for name in expected)
    for name, place in expected.items():
        stored = _stored(dialect, name, config)
        used.update(stored)
        if not stored or (no_bias and "attn.qkv.bias" in name):
            state[name], how = _computed(name, config, place)
            lines.append(Line("computed", name, how))
            continue
        absent = [key for key in stored if key not in own]
        if absent:
            lines += [Line("missing", key, f"for {name} {tuple(place.shape)}") for key in absent]
            continue
        value, found = _taken(own, name, pieces(dialect, name, config), place, convert=convert)
        if value is not None and name.endswith((".bias_mask", ".periods")):
            value, found = _checked(value, name, stored[0], config)
        lines += found
        if value is not None:
            state[name] = value
    for key in own:
        if key not in used:
            why = why_ignored(key) or ("holds nothing" if own[key].numel() == 0 else None)
            lines.append(Line("ignored", key, why) if why else Line("unexpected", key, str(tuple(own[key].shape))))
    return state, lines


def _stored(dialect: Dialect, name: str, config: ViTConfig) -> list[str]:
    return [piece for piece in pieces(dialect, name, config) if piece is not None]


def _taken(
    own: Mapping[str, Tensor], name: str, parts: tuple[str | None, ...], place: Tensor, *, convert: bool
) -> tuple[Tensor | None, list[Line]]:
    """The weight `name` from its pieces in float32, or None with the lines that say why not."""
    shape = torch.Size((len(place) // len(parts), *place.shape[1:])) if len(parts) > 1 else place.shape
    stored = [part for part in parts if part is not None]
    problems = [line for key in stored for line in _problems(own[key], key, name, shape, convert=convert)]
    if problems:
        return None, problems
    given = own[stored[0]]
    how = [f"rows of {name}"] if len(parts) > 1 else []
    if name == KERNEL and given.shape != shape:
        how += [f"{given.shape[1]} channels summed into {shape[1]}"]
        value = convert_channels(given.float(), shape[1])
    else:
        how += [] if given.shape == shape else [f"{tuple(given.shape)} as {tuple(shape)}"]
        value = torch.cat([torch.zeros(shape) if p is None else own[p].float().reshape(shape) for p in parts])
    how += sorted({f"{own[key].dtype} as float32" for key in stored if own[key].dtype != torch.float32})
    return value, [Line("transformed" if how else "taken", key, ", ".join(how)) for key in stored]


def _problems(tensor: Tensor, key: str, name: str, shape: torch.Size, *, convert: bool) -> list[Line]:
    """What keeps `tensor` from being a piece of the weight `name`, of the given shape."""
    if why := unusable(tensor):
        return [Line("wrong value", key, why)]
    got = tensor.shape
    other_channels = name == KERNEL and len(got) == 4 and got != shape and (got[0], *got[2:]) == (shape[0], *shape[2:])
    fits = got == shape or (other_channels and convert) or (name == "mask_token" and got == (1, *shape))
    if not fits:
        hint = "; in_channels sums or spreads them" if other_channels else ""
        return [Line("wrong shape", key, f"{tuple(got)}, expected {tuple(shape)}{hint}")]
    masks = name.endswith(".bias_mask")  # full of NaN where never set; it is set here
    return [] if masks or tensor.isfinite().all() else [Line("wrong value", key, "NaN or infinite")]


def convert_channels(kernel: Float[Tensor, "dim old p p"], channels: int) -> Float[Tensor, "dim new p p"]:
    """Patch kernel for another number of channels, equal on a picture that is repeated in all channels."""
    return (kernel.sum(1, keepdim=True) / channels).repeat(1, channels, 1, 1)


def _computed(name: str, config: ViTConfig, place: Tensor) -> tuple[Tensor, str]:
    """What the file does not hold: buffers from the config, the rest zeros."""
    if name.endswith(".periods"):
        rope = RopeEmbed(config)
        rope.reset(None)
        return rope.periods, "from the config"
    if name.endswith(".bias_mask"):
        return key_mask(config.dim), "from the config"
    return torch.zeros(place.shape), "zeros, since the file has none"


def _checked(value: Tensor, name: str, key: str, config: ViTConfig) -> tuple[Tensor | None, list[Line]]:
    """A stored buffer against what the config gives: periods to the rounding of bfloat16, the mask exactly or NaN."""
    due, _ = _computed(name, config, value)
    if name.endswith(".bias_mask"):
        good = bool(((value == due) | value.isnan()).all())
        line = Line("transformed", key, "set to 1 for queries and values, 0 for keys")
        return (due, [line]) if good else (None, [Line("wrong value", key, "masks something else than the keys")])
    if ((value / due - 1).abs() <= 2**-8).all():
        return value, [Line("taken", key)]
    return None, [Line("wrong value", key, f"other periods than those of rope_base {config.rope_base:g}")]
