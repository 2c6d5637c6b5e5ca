"""k-NN probe: what the teacher's features tell of held-out subjects while it trains. Nothing is learned on them.

A loss says how well the student follows the teacher, not what the features are worth: in a collapsed run it is low.
A row is a scan: the mean of the CLS tokens of `SLICES` whole slices of it, and that of their patch tokens. Each scan is
asked of its `NEIGHBOURS` nearest by cosine among the held-out scans of *other* subjects: the majority of their classes,
or the mean of their ages. The result is a function of the weights alone, so a resumed run writes the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Shaped
from torch import Tensor

from braindino.corpus.shards import Corpus
from braindino.model.slice_encoder import images_at_once
from braindino.pretraining.batches import held_out_subjects
from braindino.pretraining.config import PretrainConfig
from braindino.pretraining.networks import Network
from braindino.pretraining.ranks import Ranks
from braindino.stats.representation import nearest_of_others

SLICES = 8
"""Slices of a scan that are looked at, evenly spaced; all where there are fewer."""
NEIGHBOURS = 5
LEAST_SUBJECTS = 10
"""Held-out subjects with a value of the target, at least."""


@dataclass(frozen=True)
class Probe:
    """The held-out scans with a value of the target."""

    corpus: Corpus
    slices: Int[np.ndarray, " slice"]
    scan: Int[np.ndarray, " slice"]
    """Number of the scan of each slice, from 0."""
    values: Shaped[np.ndarray, " scan"]
    """Of the target, of each scan: floats for age, else names."""
    subjects: Shaped[np.ndarray, " scan"]

    def __call__(self, teacher: Network, ranks: Ranks) -> dict[str, float]:
        """`knn_cls` and `knn_patch` (see `knn_score`) of the two features, and `knn_trivial`, the answer without any.

        Ranks share out the slices; every rank calls this and gets the same numbers.
        """
        cls, patch = self._features(teacher, ranks)
        found = {"knn_cls": knn_score(cls, self.values, self.subjects)}
        found |= {"knn_patch": knn_score(patch, self.values, self.subjects)}
        return found | {"knn_trivial": trivial_score(self.values, self.subjects)}

    @torch.no_grad()
    def _features(self, teacher: Network, ranks: Ranks) -> tuple[Float[np.ndarray, "scan dim"], ...]:
        share = -(-len(self.slices) // ranks.count)
        padded = np.resize(self.slices, share * ranks.count)  # all ranks must make the same number of passes
        own = padded[ranks.rank * share : (ranks.rank + 1) * share]
        size = images_at_once(ranks.device, self.corpus.recipe.size_px)
        rows = torch.cat([self._pass(teacher, own[start : start + size], ranks) for start in range(0, share, size)])
        whole = ranks.gather(rows)[0][: len(self.slices)].cpu().double().numpy()
        sums = np.zeros((len(self.values), whole.shape[1]))
        np.add.at(sums, self.scan, whole)
        means = sums / np.bincount(self.scan)[:, None]
        return tuple(np.split(means, 2, axis=1))

    def _pass(self, teacher: Network, slices: Int[np.ndarray, " n"], ranks: Ranks) -> Float32[Tensor, "n both"]:
        """CLS token and mean patch token of some slices, side by side.

        The network is called as a whole, since its parts may be sharded.
        """
        pictures = torch.from_numpy(np.stack([self.corpus.read(int(number)) for number in slices])).to(ranks.device)
        side = pictures.shape[-1] // teacher.backbone.config.patch_size
        nothing = torch.zeros(len(pictures), side**2, dtype=torch.bool, device=ranks.device)
        tokens = teacher([pictures], [None], nothing).outputs[0]
        return torch.cat([tokens.cls, tokens.patch.mean(dim=1)], dim=1).float()


def probe_of(corpus: Corpus, config: PretrainConfig) -> Probe | None:
    """The probe of a run, or None where it asks for none.

    Raises:
        ValueError: the corpus has no such column, or too few held-out subjects have a value in it, or all the same.
    """
    if not config.probe.every:
        return None
    target, held_out = config.probe.target, held_out_subjects(corpus, config)
    if target not in corpus.scans:
        raise ValueError(f"scans.tsv of {corpus.folder} has no column {target}; make the corpus again")
    names, values = np.array(corpus.names), corpus.scans[target].to_numpy()
    known = ~np.isnan(values.astype(float)) if target == "age" else values.astype(str) != ""
    chosen = np.flatnonzero(np.isin(names, held_out) & known)
    values = values[chosen].astype(float if target == "age" else str)
    subjects = len(set(names[chosen]))
    if subjects < LEAST_SUBJECTS or len(set(values)) < 2:
        raise ValueError(
            f"the probe needs {LEAST_SUBJECTS} held-out subjects that differ in {target!r}: of {len(held_out)} "
            f"{subjects} have a value, {len(set(values))} different; raise probe.share, or set probe.every to 0"
        )
    rows = corpus.scans[["first", "slices"]].to_numpy()[chosen]
    spread = [first + np.unique(np.linspace(0, n - 1, min(SLICES, n)).round().astype(int)) for first, n in rows]
    scan = np.repeat(np.arange(len(chosen)), [len(numbers) for numbers in spread])
    return Probe(corpus, np.concatenate(spread), scan, values, names[chosen])


def knn_score(
    x: Float[np.ndarray, "scan dim"], values: Shaped[np.ndarray, " scan"], subjects: Shaped[np.ndarray, " scan"]
) -> float:
    """How well the nearest scans of other subjects tell a scan's value.

    Names: balanced accuracy, 0 to 1, of the majority among the neighbours (of equal votes, the first name). Numbers:
    mean absolute error of the neighbours' mean, in their unit. A subject counts once, whatever the number of its scans.
    """
    nearest = nearest_of_others(x, subjects, min(NEIGHBOURS, len(x) - int(_scans_each(subjects).max())))
    if values.dtype.kind == "f":
        return _over_subjects(np.abs(values[nearest].mean(axis=1) - values), subjects)
    names, codes = np.unique(values, return_inverse=True)
    votes = (codes[nearest][..., None] == np.arange(len(names))).sum(axis=1)
    right = votes.argmax(axis=1) == codes
    return float(np.mean([_over_subjects(right[codes == n], subjects[codes == n]) for n in range(len(names))]))


def trivial_score(values: Shaped[np.ndarray, " scan"], subjects: Shaped[np.ndarray, " scan"]) -> float:
    """The score without any features: 1 / number of names; for numbers the mean of all other subjects is said."""
    if values.dtype.kind != "f":
        return 1 / len(set(values))
    said = np.array([values[subjects != subject].mean() for subject in subjects])
    return _over_subjects(np.abs(said - values), subjects)


def _over_subjects(scores: Shaped[np.ndarray, " scan"], subjects: Shaped[np.ndarray, " scan"]) -> float:
    """Mean over subjects of the mean over their scans."""
    own = np.unique(subjects, return_inverse=True)[1]
    return float(np.mean(np.bincount(own, weights=scores) / np.bincount(own)))


def _scans_each(subjects: Shaped[np.ndarray, " scan"]) -> Int[np.ndarray, " subject"]:
    return np.asarray(np.unique(subjects, return_counts=True)[1])
