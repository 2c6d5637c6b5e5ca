"""Random weights in the layout of BrainMVP's file, and what its network computes, both by hand from the table of A.3.

Nothing here uses the network of the package.
"""

import torch
from torch.nn import functional as F

DIMS, DEPTHS = (64, 128, 320, 512), (3, 4, 8, 3)


def shapes():
    """Name to shape of the 329 keys of the encoder, without what stands before them."""
    found = {}
    for stage, (dim, depth) in enumerate(zip(DIMS, DEPTHS, strict=True), start=1):
        before = 1 if stage == 1 else DIMS[stage - 2]
        found[f"patch_embed{stage}.proj.weight"] = (dim, before, 2, 2, 2)
        for name in ("proj.bias", "norm.weight", "norm.bias"):
            found[f"patch_embed{stage}.{name}"] = (dim,)
        for block in range(depth):
            at = f"blocks{stage}.{block}"
            for name, shape in (_convolution(dim) if stage <= 2 else _attention(dim)).items():
                found[f"{at}.{name}.weight"], found[f"{at}.{name}.bias"] = shape, shape[:1]
            for norm in ("norm1", "norm2"):
                found |= _batch_norm(f"{at}.{norm}", dim) if stage <= 2 else {}
    return found | _batch_norm("norm", 512)


def _convolution(dim):
    one = {"conv1": (dim, dim), "conv2": (dim, dim), "mlp.fc1": (4 * dim, dim), "mlp.fc2": (dim, 4 * dim)}
    wide = {"pos_embed": (dim, 1, 3, 3, 3), "attn": (dim, 1, 5, 5, 5)}
    return wide | {name: (*shape, 1, 1, 1) for name, shape in one.items()}


def _attention(dim):
    norms = {"norm1": (dim,), "norm2": (dim,), "pos_embed": (dim, 1, 3, 3, 3)}
    inner = {"attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim)}
    return norms | inner | {"mlp.fc1": (4 * dim, dim), "mlp.fc2": (dim, 4 * dim)}


def _batch_norm(at, dim):
    vectors = {f"{at}.{name}": (dim,) for name in ("weight", "bias", "running_mean", "running_var")}
    return vectors | {f"{at}.num_batches_tracked": ()}


def encoder(seed=0):
    """Weights that keep activations near 1."""
    rng = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes().items():
        if name.endswith("num_batches_tracked"):
            made[name] = torch.tensor(1000)
        elif name.endswith("running_var") or ("norm" in name and name.endswith("weight")):
            made[name] = 0.5 + torch.rand(shape, generator=rng)
        else:
            fan_in = torch.Size(shape[1:]).numel()
            made[name] = torch.randn(shape, generator=rng) / fan_in**0.5 * (1 if len(shape) > 1 else 0.2)
    return made


def whole(seed=0):
    """The `state_dict` of the pretraining module: 352 keys; the templates are cut to a few voxels, 22 of a decoder."""
    kept = {f"module.encoder.uniformer.{name}": value for name, value in encoder(seed).items()}
    decoder = {f"module.decoder.up{n}.weight": torch.ones(2) for n in range(22)}
    return kept | decoder | {"module.rep_template": torch.ones(8, 2, 2, 2)}


def forward(w, x):
    """Map of stage 4 of (batch, 1, x, y, z), with z first: (batch, 512, z, x, y) / 16."""
    x = torch.stack([x[..., k] for k in range(x.shape[-1])], dim=2)
    for stage in range(1, 5):
        at = f"patch_embed{stage}"
        x = F.conv3d(x, w[f"{at}.proj.weight"], w[f"{at}.proj.bias"], stride=2)
        x = _layer_norm(x.movedim(1, -1), w, f"{at}.norm", 1e-5).movedim(-1, 1)
        for block in range(DEPTHS[stage - 1]):
            x = (_convolution_block if stage <= 2 else _attention_block)(w, f"blocks{stage}.{block}", x)
    return _normed(x, w, "norm")


def _convolution_block(w, at, x):
    def convolve(y, name, **more):
        return F.conv3d(y, w[f"{at}.{name}.weight"], w[f"{at}.{name}.bias"], **more)

    dim = x.shape[1]
    x = x + convolve(x, "pos_embed", padding=1, groups=dim)
    inner = convolve(_normed(x, w, f"{at}.norm1"), "conv1")
    x = x + convolve(convolve(inner, "attn", padding=2, groups=dim), "conv2")
    return x + convolve(_gelu(convolve(_normed(x, w, f"{at}.norm2"), "mlp.fc1")), "mlp.fc2")


def _attention_block(w, at, x):
    def linear(y, name):
        return y @ w[f"{at}.{name}.weight"].T + w[f"{at}.{name}.bias"]

    dim = x.shape[1]
    x = x + F.conv3d(x, w[f"{at}.pos_embed.weight"], w[f"{at}.pos_embed.bias"], padding=1, groups=dim)
    t = x.flatten(2).transpose(1, 2)
    q, k, v = linear(_layer_norm(t, w, f"{at}.norm1", 1e-6), "attn.qkv").split(dim, dim=-1)
    heads = []
    for first in range(0, dim, 64):
        part = slice(first, first + 64)
        weights = torch.softmax(q[..., part] @ k[..., part].transpose(1, 2) / 8, dim=-1)
        heads.append(weights @ v[..., part])
    t = t + linear(torch.cat(heads, dim=-1), "attn.proj")
    t = t + linear(_gelu(linear(_layer_norm(t, w, f"{at}.norm2", 1e-6), "mlp.fc1")), "mlp.fc2")
    return t.transpose(1, 2).reshape(x.shape)


def _gelu(x):
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def _layer_norm(x, w, at, eps):
    variance, mean = torch.var_mean(x, dim=-1, keepdim=True, correction=0)
    return (x - mean) / (variance + eps).sqrt() * w[f"{at}.weight"] + w[f"{at}.bias"]


def _normed(x, w, at):
    mean, variance, weight, bias = (
        w[f"{at}.{name}"][:, None, None, None] for name in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias
