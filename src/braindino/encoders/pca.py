"""Principal components of small slices: the simplest learner on the same corpus and the same subjects as a run of ours.

What a pretraining is worth beyond the corpus itself: `weights` is the folder of a finished run, of which the recipe,
the corpus and the subjects that were kept out are used, but not the network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, Int
from sklearn.decomposition import PCA

from braindino.catalog import chosen
from braindino.config import from_dict
from braindino.corpus.audit import name_digest
from braindino.corpus.shards import Corpus, open_corpus
from braindino.model.weights import load_encoder
from braindino.record import read_record
from braindino.types import Tokens, Volume
from braindino.volume.preprocess import preprocess, slice_positions_mm, to_slices
from braindino.volume.recipe import Recipe

VARIANTS: tuple[str, ...] = ("default",)
SIDE = 32
"""Pixels along each side of a slice that is made small, at most."""
COMPONENTS = 128
"""At most; fewer where there are fewer slices."""
SLICES = 2000
"""Slices that are looked at, at most."""


def load(weights: Path | None, *, seed: int = 0, variant: str = "") -> Components:
    """Fit the components on the training subjects of the run in the folder `weights`; `seed` draws the slices.

    Raises:
        ValueError: no folder of a finished run, its corpus is not where it was or is another one, nobody is left, or
            an unknown variant.
    """
    chosen("pca", variant, VARIANTS)
    if weights is None or not Path(weights).is_dir():
        raise ValueError(f"pca needs --weights: the folder of a finished pretraining run, got {weights}")
    run = read_record(Path(weights), "pretrain")
    metadata = load_encoder(Path(weights) / "encoder.safetensors")[1]
    told, source = Path(run["config"]["corpus"]), metadata["source"]
    beside = Path(weights).absolute().parent / told.name
    folder = told if told.is_dir() else beside
    if not folder.is_dir():
        raise ValueError(
            f"the corpus of the run {weights}, on which pca is fitted, is neither {told} nor {beside}; bring it back"
        )
    corpus = open_corpus(folder)
    if corpus.fingerprint != source["corpus"]:
        raise ValueError(f"{folder} is another corpus than that of the run {weights}; pca needs the same one")
    slices = drawn_slices(corpus, {*source["excluded"], *source["held_out"]}, seed)
    small = np.concatenate([shrunk(corpus.read(int(number))[None]) for number in slices])
    fitted = PCA(min(COMPONENTS, len(small) - 1, small.shape[1]), svd_solver="full").fit(small)
    recipe = from_dict(metadata["recipe"], Recipe)
    looked_at = {name for name, numbers in corpus.slices_of_subject.items() if np.isin(numbers, slices).any()}
    seen = frozenset(map(name_digest, looked_at))
    return Components(recipe, fitted.mean_.astype(np.float32), fitted.components_.astype(np.float32), seen=seen)


@dataclass(frozen=True, eq=False)
class Components:
    """The `Encoder` protocol of `types`. One view per slice and contrast: y = C (x - m) for the small slice x."""

    recipe: Recipe
    mean: Float32[np.ndarray, " pixel"]
    """m: the mean small slice."""
    components: Float32[np.ndarray, "component pixel"]
    """C: orthonormal rows, of falling variance."""
    name: str = "pca"
    seen: frozenset[str] = frozenset()
    """Digests of the subjects whose slices they were fitted on."""

    def __post_init__(self) -> None:
        if self.recipe.channels * min(SIDE, self.recipe.size_px) ** 2 != len(self.mean):
            raise ValueError(f"components of {len(self.mean)} pixels do not fit slices of {self.recipe.size_px} px")

    @property
    def dim(self) -> int:
        """Number of components."""
        return len(self.components)

    def digest(self) -> str:
        """SHA-256 over mean and components."""
        return hashlib.sha256(self.mean.tobytes() + self.components.tobytes()).hexdigest()

    def tokens(self, volume: Volume, *, patches: bool = False, every_slice: bool = False) -> Tokens:
        """The components of every slice of every contrast; there are no patch tokens.

        Raises:
            ValueError: see `preprocess`.
        """
        prepared = preprocess(volume, self.recipe, every_slice=every_slice)
        pictures = to_slices(prepared.voxels)
        by_contrast = np.split(pictures, len(volume.contrasts), axis=1)
        return Tokens(
            cls=(shrunk(np.concatenate(by_contrast)) - self.mean) @ self.components.T,
            patch=None,
            storage=None,
            grid=(0, 0),
            position_mm=np.tile(slice_positions_mm(prepared), len(volume.contrasts)),
            contrasts=tuple(c for c in volume.contrasts for _ in range(prepared.voxels.shape[3])),
            prepared=prepared,
        )


def drawn_slices(corpus: Corpus, unseen: Collection[str], seed: int) -> Int[np.ndarray, " slice"]:
    """At most `SLICES` slices, in rounds of one per subject, each subject's in a random order.

    Who and what is drawn depends on the subjects outside of `unseen` ("cohort/subject") alone.

    Raises:
        ValueError: fewer than two slices.
    """
    rng = np.random.default_rng(seed)
    allowed = [numbers for name, numbers in corpus.slices_of_subject.items() if name not in unseen]
    orders = [rng.permutation(allowed[subject]) for subject in rng.permutation(len(allowed))]
    rounds = max(map(len, orders), default=0)
    dealt = [order[number] for number in range(rounds) for order in orders if number < len(order)][:SLICES]
    if len(dealt) < 2:
        raise ValueError(f"{corpus.folder} has {len(dealt)} slices of subjects that the run has trained on")
    return np.array(dealt)


def shrunk(pictures: Float32[np.ndarray, "view channel row column"]) -> Float32[np.ndarray, "view pixel"]:
    """Pictures averaged over areas down to `SIDE` x `SIDE` pixels (smaller ones stay), channel after channel."""
    side = min(SIDE, pictures.shape[-1])
    small = [[cv2.resize(c, (side, side), interpolation=cv2.INTER_AREA) for c in picture] for picture in pictures]
    return np.array(small, np.float32).reshape(len(pictures), -1)
