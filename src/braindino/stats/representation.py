"""What features are like before anything is learned on them: neighbours, similarity, rank, site."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped


def knn_votes(
    bank: Float[np.ndarray, "train dim"],
    labels: Int[np.ndarray, " train"],
    queries: Float[np.ndarray, "query dim"],
    k: int,
    classes: int,
) -> Float[np.ndarray, "query class"]:
    """Share of each class among the k nearest of the memory bank by cosine similarity, unweighted.

    Equal similarities go to the earlier row of the bank.

    Raises:
        ValueError: k below 1 or above the size of the bank.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"k must be 1 to {len(bank)} (the size of the memory bank), got {k}")
    similarity = unit_rows(queries) @ unit_rows(bank).T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return np.asarray((labels[nearest][..., None] == np.arange(classes)).mean(1))


def knn_classify(
    bank: Float[np.ndarray, "train dim"],
    labels: Int[np.ndarray, " train"],
    queries: Float[np.ndarray, "query dim"],
    k: int,
) -> Int[np.ndarray, " query"]:
    """Majority vote of the k nearest by cosine; of equal votes, the class with the lower index."""
    return np.asarray(knn_votes(bank, labels, queries, k, int(labels.max()) + 1).argmax(1))


def nearest_of_others(
    x: Float[np.ndarray, "row dim"], subjects: Shaped[np.ndarray, " row"], k: int
) -> Int[np.ndarray, "row k"]:
    """The k nearest rows by cosine similarity among those of other subjects, nearest first; of equals the earlier.

    Raises:
        ValueError: k below 1, or above the number of rows that a subject's other subjects have.
    """
    counts = np.unique(subjects, return_counts=True)[1]
    others = len(x) - int(counts.max(initial=0))
    if not 1 <= k <= others:
        raise ValueError(f"k must be 1 to {others} (the fewest rows of other subjects), got {k}")
    unit = unit_rows(x)
    similarity = np.where(subjects[:, None] == subjects[None], -np.inf, unit @ unit.T)
    return np.asarray(np.argsort(-similarity, axis=1, kind="stable")[:, :k])


def unit_rows(x: Float[np.ndarray, "row dim"]) -> Float[np.ndarray, "row dim"]:
    """Rows scaled to Euclidean length 1; a row of zeros stays."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, 1))


def linear_cka(x: Float[np.ndarray, "case dim_x"], y: Float[np.ndarray, "case dim_y"]) -> float:
    """Linear centred kernel alignment ||Y'X||^2 / (||X'X|| ||Y'Y||), Frobenius norms of centred features, 0 to 1.

    1 for features equal up to rotation, scale and shift (Kornblith et al., ICML 2019). Computed on the case x case
    Gram matrices, which gives the same number. NaN where either does not vary. It is biased upward when there are
    fewer cases than dimensions: compare only values from the same cases.
    """
    if len(x) != len(y):
        raise ValueError(f"CKA needs the same cases in both, got {len(x)} and {len(y)}")
    a, b = x - x.mean(0), y - y.mean(0)
    gram_a, gram_b = a @ a.T, b @ b.T
    norms = float(np.linalg.norm(gram_a) * np.linalg.norm(gram_b))
    return float(np.sum(gram_a * gram_b)) / norms if norms > 0 else float("nan")


def patch_similarity(patch: Float[np.ndarray, "patch dim"], reference: int) -> Float[np.ndarray, " patch"]:
    """Cosine similarity of the patch `reference` with every patch of a slice, scaled by min and max to 0..1."""
    unit = unit_rows(patch)
    cosine = unit @ unit[reference]
    span = float(cosine.max() - cosine.min())
    return np.asarray((cosine - cosine.min()) / span if span > 0 else np.ones_like(cosine))


def effective_rank(x: Float[np.ndarray, "case dim"]) -> float:
    """exp of the entropy of the normalised singular values of the centred features (Roy and Vetterli 2007).

    From 1 (all on one line) to min(cases - 1, dim); 0 where nothing varies.
    """
    values = np.linalg.svd(x - x.mean(0), compute_uv=False)
    share = values[values > 1e-12 * max(values.max(), 1e-300)] / max(values.sum(), 1e-300)
    return float(np.exp(-np.sum(share * np.log(share)))) if len(share) else 0.0


def probe(
    x: Float[np.ndarray, "case dim"],
    labels: Shaped[np.ndarray, " case"],
    subjects: Shaped[np.ndarray, " case"],
    *,
    folds: int = 5,
    seed: int = 0,
) -> float:
    """How well a linear classifier reads `labels` (such as the site) off the features: balanced accuracy.

    Logistic regression (C = 10 / dim on standardised features), cross-validated with all cases of a subject in one
    fold; chance is 1 / number of labels.

    Raises:
        ValueError: fewer than two labels, or a label with fewer subjects than folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fewest = min((len(np.unique(subjects[labels == label])) for label in np.unique(labels)), default=0)
    if len(np.unique(labels)) < 2 or fewest < folds:
        raise ValueError(f"a probe needs two labels with {folds} subjects each; the rarest has {fewest}")
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=10 / x.shape[1], class_weight="balanced", max_iter=1000)
    )
    plan = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    said = cross_val_predict(model, x, labels, groups=subjects, cv=plan)
    return float(balanced_accuracy_score(labels, said))
