"""A frozen encoder as a scikit-learn transformer: scans in, a matrix out. torch is imported when it is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from braindino.types import Tokens, Volume
from braindino.volume.io import read_volume


class BrainEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Scans to features by a frozen encoder, for use in a scikit-learn `Pipeline`.

    Nothing is learned from the scans: `fit` loads the encoder. So it may stand in a cross-validation without leakage.

    Args:
        weights: encoder.safetensors, run folder, or folder of `save_pretrained`; None for encoders without weights.
        encoder: plug-in (see `braindino list encoders`).
        variant: one of its variants; "" is the first.
        seed: for encoders that draw their weights.
        pooling: a view is summed up by its CLS token, or by the mean of its patch tokens.
        views: `mean` gives (scan, dim), the mean over the slices; `flat` gives (scan, view x dim), all of them.
        assume_orientation: axis codes for files whose orientation codes are both 0.
    """

    def __init__(
        self,
        weights: Path | str | None = None,
        *,
        encoder: str = "braindino",
        variant: str = "",
        seed: int = 0,
        pooling: str = "cls",
        views: str = "mean",
        assume_orientation: str | None = None,
    ) -> None:
        self.weights = weights
        self.encoder = encoder
        self.variant = variant
        self.seed = seed
        self.pooling = pooling
        self.views = views
        self.assume_orientation = assume_orientation

    def fit(self, X: Sequence[Path | str | Volume], y: Any = None) -> BrainEncoder:
        """Load the encoder; neither `X` nor `y` is looked at.

        Raises:
            ValueError: as `load_encoder`; or a pooling or views that do not exist.
        """
        from braindino.pipeline.loading import load_encoder

        if self.pooling not in ("cls", "mean_patch") or self.views not in ("mean", "flat"):
            raise ValueError(
                f"pooling is {self.pooling!r} and views {self.views!r}, expected cls or mean_patch, and mean or flat"
            )
        weights = None if self.weights is None else Path(self.weights)
        self.encoder_ = load_encoder(self.encoder, weights, self.seed, self.variant)
        return self

    def transform(self, X: Sequence[Path | str | Volume]) -> Float32[np.ndarray, "scan feature"]:
        """Features of each scan: a path, or a volume as `read_volume` gives it.

        Raises:
            ValueError: not fitted, no scans, a scan that cannot be read or encoded (its place in `X` is named), or
                with `views="flat"` scans of different numbers of views.
        """
        check_is_fitted(self)
        if isinstance(X, str | Path | Volume) or not len(X):
            raise ValueError("X must be a list of scans (paths or volumes) with at least one of them")
        found = [self._features(number, scan) for number, scan in enumerate(X)]
        if len({len(features) for features in found}) > 1:
            raise ValueError("the scans have different numbers of views; use views='mean'")
        return np.stack(found)

    def _features(self, number: int, scan: Path | str | Volume) -> Float32[np.ndarray, " feature"]:
        try:
            given = scan if isinstance(scan, Volume) else read_volume(scan, assume_orientation=self.assume_orientation)
            tokens: Tokens = self.encoder_.tokens(given, patches=self.pooling == "mean_patch")
        except (ValueError, OSError) as error:
            raise ValueError(f"scan {number} of X: {error}") from error
        if self.pooling == "mean_patch" and tokens.patch is None:
            raise ValueError("this encoder gives no patch tokens; use pooling='cls'")
        views = tokens.cls if tokens.patch is None or self.pooling == "cls" else tokens.patch.mean(axis=1)
        return np.asarray(views.mean(axis=0) if self.views == "mean" else views.ravel(), np.float32)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "encoder_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = True
        return tags
