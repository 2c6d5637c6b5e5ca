"""Shapes are checked in every test; network and plotting windows are off."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

from jaxtyping import install_import_hook

install_import_hook("braindino", "typechecker.check")

import pytest
from hypothesis import HealthCheck, settings

from phantom import head

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture
def volume():
    return head()


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """A small synthetic cohort on disk, made by the package itself at 4 mm."""
    from braindino.pipeline.synthesize import synthesize
    from braindino.synthesis.config import SynthesisConfig

    config = SynthesisConfig(healthy=9, dementia=9, glioma=9, spacing_mm=4.0)
    return synthesize(tmp_path_factory.mktemp("cohort") / "cohort", config)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """An untrained tiny encoder in a real weights file."""
    import torch

    from braindino.config import to_dict
    from braindino.model.config import ViTConfig
    from braindino.model.vit import VisionTransformer
    from braindino.model.weights import save_encoder
    from braindino.volume.recipe import Recipe

    config = ViTConfig(dim=32, depth=2, heads=2, patch_size=8, layer_scale=0.1)
    model = VisionTransformer(config, torch.Generator().manual_seed(3))
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    save_encoder(path, model, to_dict(Recipe(spacing_mm=4.0, size_px=48, slices=10)), {"steps": 0})
    return path


@pytest.fixture(scope="session")
def encoder(weights):
    """The encoder in that file."""
    from braindino.pipeline.loading import load_encoder

    return load_encoder("braindino", weights)
