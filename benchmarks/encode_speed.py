"""`encode` of whole volumes against what is done without this package, with the same weights.

    OMP_NUM_THREADS=1 python benchmarks/encode_speed.py --volumes 2 --rounds 2

A volume is the T1w image of the packaged head at about 1 mm with its brain mask, from file to 128 CLS tokens of 224 x
224 px, by a ViT-S/16 of random weights with LayerScale 1, so that every block counts. The user's arm reads with
nibabel, does the same preprocessing with numpy and scipy (`scipy.ndimage.zoom` where this package antialiases), repeats
each slice to three channels and runs transformers' DINOv3ViTModel over batches of 32 (and of 8, which suits a small
cache better). `products by torch` is ours without oneDNN for the linear layers. So that features can be compared, one
more arm runs transformers' model over slices prepared by this package; the largest difference of its CLS tokens from
ours is printed. `brain` is the variant that leaves out patches of background, `bf16` computes linear layers and
attention in bfloat16; their cosines with the exact CLS tokens are printed. What they cost in a task's score:
`reduced_score.py`.

Arms run in turn, in an order that changes from round to round; ours runs twice (A/A). CPU seconds, so that neighbours
on the machine count less; reading that overlaps with computing gains wall time on machines with a core to spare, and
nothing in CPU seconds. With --weights, an `encoder.safetensors` instead of random weights (for the cosine).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import nibabel as nib
import numpy as np
import torch
from prepare_volume import make_scan
from scipy import ndimage
from transformers import DINOv3ViTModel

from braindino.config import to_dict
from braindino.model import linear
from braindino.model.config import preset
from braindino.model.pretrained import save_pretrained
from braindino.model.slice_encoder import SliceEncoder
from braindino.model.vit import VisionTransformer
from braindino.pipeline.encode import encode, load_encoder
from braindino.types import Case, Scan
from braindino.volume.io import read_case
from braindino.volume.preprocess import preprocess, to_slices
from braindino.volume.recipe import Recipe

RESULT = Path(__file__).parent / "results" / "encode_speed.md"
RECIPE = Recipe()


def user_slices(image, mask):
    """(slice, 1, row, column) as an ordinary script makes them."""
    scan = nib.as_closest_canonical(nib.load(image))
    voxels, step = scan.get_fdata(dtype=np.float32), scan.header.get_zooms()[:3]
    brain = nib.as_closest_canonical(nib.load(mask)).get_fdata() > 0
    voxels = ndimage.zoom(voxels, step, order=1)
    brain = ndimage.zoom(brain.astype(np.float32), step, order=1) > 0.5
    low, high = np.percentile(voxels[brain], RECIPE.clip_percent)
    voxels = np.clip(voxels, low, high)
    voxels = np.where(brain, (voxels - voxels[brain].mean()) / voxels[brain].std(), RECIPE.background)
    box = ndimage.find_objects(brain.astype(np.uint8))[0]
    voxels = voxels[box]
    size = RECIPE.size_px
    pads = [((size - n) // 2, size - n - (size - n) // 2) for n in voxels.shape[:2]]
    voxels = np.pad(voxels, [*pads, (0, 0)], constant_values=RECIPE.background)
    last = voxels.shape[2] - 1
    places = np.linspace(RECIPE.margin * last, (1 - RECIPE.margin) * last, RECIPE.slices)
    return np.ascontiguousarray(voxels[:, ::-1, np.rint(places).astype(int)].transpose(2, 1, 0)[:, None], np.float32)


@torch.inference_mode()
def user_features(model, slices, batch):
    """CLS tokens by transformers; slices are repeated to the three channels that released models have."""
    return np.concatenate(
        [
            model(torch.from_numpy(slices[n : n + batch]).expand(-1, 3, -1, -1)).pooler_output.numpy()
            for n in range(0, len(slices), batch)
        ]
    )


def three_channels(one, folder):
    """The same transformer with three channels, whose kernels sum to the one kernel, opened by transformers."""
    model = VisionTransformer(replace(one.config, in_channels=3)).eval()
    state = one.state_dict()
    kernel = state["patch_embed.proj.weight"]
    model.load_state_dict(state | {"patch_embed.proj.weight": (kernel / 3).repeat(1, 3, 1, 1)})
    recipe = replace(RECIPE, neighbours=1)  # only so that three channels are allowed
    save_pretrained(SliceEncoder("three", model, recipe), folder)
    return DINOv3ViTModel.from_pretrained(folder).eval()


def cosine(one, other):
    """Of each view."""
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--weights", type=Path)
    parser.add_argument(
        "--arms", nargs="*", help="only ours and these; the table is then named after the first of them"
    )
    options = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set OMP_NUM_THREADS=1: all arms run on one thread")
    torch.set_num_threads(1)
    if options.weights:
        exact = load_encoder("braindino", options.weights)
        exact = replace(exact, recipe=replace(RECIPE, background=exact.recipe.background))
    else:
        model = VisionTransformer(preset("small", layer_scale=1.0), torch.Generator().manual_seed(0))
        exact = SliceEncoder("random", model, RECIPE)
    brain, bf16 = replace(exact, variant="brain"), replace(exact, variant="bf16")
    half = replace(exact, recipe=replace(exact.recipe, slices=64))
    with tempfile.TemporaryDirectory() as place:
        theirs = three_channels(exact.model, Path(place) / "model")
        image, mask = make_scan(Path(place))
        scan = Scan("bench", "s", "T1w", image, brain_mask=mask)
        cases = [Case(f"s{n}", (scan,)) for n in range(options.volumes)]

        def peer(batch):
            return lambda: [user_features(theirs, user_slices(image, mask), batch) for _ in cases]

        def products_by_torch():
            with patch.object(linear, "ONEDNN", False):
                encode(cases, exact)

        arms = {
            "ours": lambda: encode(cases, exact),
            "ours again": lambda: encode(cases, exact),
            "transformers, batches of 32": peer(32),
            "transformers, batches of 8": peer(8),
            "ours, products by torch": products_by_torch,
            "ours, variant bf16": lambda: encode(cases, bf16),
            "ours, variant bf16, 64 slices": lambda: encode(cases, replace(half, variant="bf16")),
            "ours, variant brain": lambda: encode(cases, brain),
            "ours, 64 slices": lambda: encode(cases, half),
        }
        arms = {name: arm for name, arm in arms.items() if options.arms is None or name in ("ours", *options.arms)}
        cpu, wall = {name: [] for name in arms}, {name: [] for name in arms}
        for number in range(options.rounds):
            for name in np.roll(list(arms), number):
                began = time.process_time(), time.perf_counter()
                arms[name]()
                cpu[name].append((time.process_time() - began[0]) / len(cases))
                wall[name].append((time.perf_counter() - began[1]) / len(cases))
                print(f"{name}: {cpu[name][-1]:.2f} CPU s, {wall[name][-1]:.2f} s per volume", flush=True)
        volume = read_case([scan])
        tokens = exact.tokens(volume)
        prepared = np.ascontiguousarray(to_slices(preprocess(volume, RECIPE).voxels))
        apart = float(np.abs(user_features(theirs, prepared, 32) - tokens.cls).max())
        near = {
            name: cosine(found.tokens(volume).cls, tokens.cls) for name, found in (("bf16", bf16), ("brain", brain))
        }
        means = (half.tokens(volume).cls.mean(0)[None], tokens.cls.mean(0)[None])
        kept = [float(brain._kept(torch.from_numpy(prepared[n : n + 8])).float().mean()) for n in range(0, 128, 8)]
    lines = [
        "| arm | median CPU s per volume | over ours | rounds, min to max | median wall s |",
        "|---|---|---|---|---|",
    ]
    for name, values in cpu.items():
        ratio = np.array(values) / np.array(cpu["ours"])
        spread = f"{ratio.min():.2f} to {ratio.max():.2f}"
        lines.append(
            f"| {name} | {np.median(values):.2f} | {np.median(ratio):.2f} | {spread} | {np.median(wall[name]):.2f} |"
        )
    source = "an encoder.safetensors" if options.weights else "random weights"
    lines += [
        "",
        f"{options.volumes} volumes x {options.rounds} rounds, {source}, {to_dict(exact.model.config)['dim']} wide.",
        f"Largest difference of the CLS tokens from transformers' on the same slices: {apart:.1e}.",
        *(
            f"Cosine of `{name}` with the exact CLS tokens: mean {found.mean():.6f}, least {found.min():.6f}."
            for name, found in near.items()
        ),
        f"`brain` keeps {np.mean(kept):.0%} of the patches.",
        f"Cosine of the mean over 64 slices with the mean over 128: {float(cosine(*means)[0]):.4f}.",
    ]
    print("\n" + "\n".join(lines))
    stem = "_".join(["encode_speed", *(["trained"] * bool(options.weights)), *(options.arms or [])[:1]])
    RESULT.with_stem(stem.replace("ours, ", "").replace(" ", "_")).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
