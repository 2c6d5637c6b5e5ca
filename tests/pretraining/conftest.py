"""A corpus of phantoms in two contrasts, and a run on it that takes seconds: for tests of the engine."""

import numpy as np
import pytest

from braindino.model.config import ViTConfig
from braindino.pipeline.prepare import prepare
from braindino.pretraining.config import (
    ComputeConfig,
    CropConfig,
    HeadConfig,
    OptimConfig,
    PretrainConfig,
    TeacherConfig,
)
from braindino.record import write_bytes
from braindino.volume.io import write_nifti
from braindino.volume.recipe import Recipe
from phantom import head

SUBJECTS = 16


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """A BIDS tree of bright and dark heads with ages and sexes that mean nothing."""
    folder, rows = tmp_path_factory.mktemp("scans") / "phantoms", ["participant_id\tage\tsex"]
    for number in range(SUBJECTS):
        volume = head(seed=number)
        bright, dark = volume.voxels[0], np.where(volume.brain_mask, 220 - volume.voxels[0], 0)
        for contrast, voxels in (("T1w", bright), ("T2w", dark.astype(np.float32))):
            name = f"sub-{number:02d}"
            write_nifti(folder / name / "anat" / f"{name}_{contrast}.nii.gz", voxels, volume.affine)
        rows.append(f"{name}\t{'n/a' if number < 2 else 20 + 4 * number}\t{'FM'[number % 2]}")
    write_bytes(folder / "participants.tsv", "\n".join(rows).encode())
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    return prepare([f"bids={folder}"], out, Recipe(spacing_mm=4.0, size_px=48, slices=10), workers=1)


@pytest.fixture(scope="session")
def small_run(phantoms):
    """40 steps in a few seconds: at this size a sharp teacher and a large learning rate show health and collapse."""
    heads = HeadConfig(hidden=64, bottleneck=32, prototypes=64, unit_prototypes=True)
    return PretrainConfig(
        corpus=phantoms.folder,
        steps=40,
        batch_size=16,
        model=ViTConfig(dim=48, depth=2, heads=2, patch_size=8, layer_scale=1.0),
        crops=CropConfig(global_px=32, local_px=16, local_count=2),
        dino_head=heads,
        ibot_head=heads,
        teacher=TeacherConfig(momentum=(0.9, 1.0), temperature=(0.02, 0.02)),
        optim=OptimConfig(lr=5e-3),
        compute=ComputeConfig(checkpoint_every=1000),
    )
