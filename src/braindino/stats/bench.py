"""A sheet on the bench: its models measured on the same draws of subjects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Num

from braindino.stats.comparisons import Difference, paired_bootstrap
from braindino.stats.draws import Weights
from braindino.stats.intervals import bca_interval, bootstrap_counts, jackknife, percentile_interval, strata_of
from braindino.stats.metrics import METRICS, Metric, segmentation_metric
from braindino.stats.sheets import Model, Sheet

Cases = Bool[np.ndarray, " case"]


@dataclass(frozen=True)
class Bench:
    """A sheet with the draws of subjects (or families) that all its models share."""

    sheet: Sheet
    counts: Weights
    measured: dict[tuple[str, float, str, bytes], tuple[np.ndarray, np.ndarray, np.ndarray]] = field(
        default_factory=dict, repr=False, compare=False
    )
    """What `_resampled` gave: a model stands in many pairs."""

    @staticmethod
    def of(sheet: Sheet, draws: int, seed: int) -> Bench:
        """Draws of the sheet's clusters, within classes or events, see `intervals.bootstrap_counts`."""
        strata = strata_of(sheet.kind, sheet.target)
        return Bench(sheet, bootstrap_counts(sheet.clusters, strata=strata, draws=draws, seed=seed))

    def metric(self, name: str) -> tuple[Metric, list[int] | None]:
        """The metric behind a name and, for segmentation, the output columns that it averages.

        Raises:
            ValueError: a name that no metric of this kind of task has.
        """
        if self.sheet.kind != "segmentation":
            return METRICS[name], None
        known = segmentation_metric(name)
        return known, [
            n for n, own in enumerate(self.sheet.outputs) if own == name or segmentation_metric(own).name == name
        ]

    def metrics(self, model: Model) -> list[str]:
        """All metrics of this kind of task on which the model has answers; for segmentation also one per region."""
        own = [name for name, metric in METRICS.items() if metric.kind == self.sheet.kind]
        named = [name for name in own if METRICS[name].of == "outputs" or model.curves]
        if self.sheet.kind == "segmentation":
            return [*(name for name in named if self.metric(name)[1]), *self.sheet.outputs]
        return named

    def headline(self) -> str:
        """The metric that the task names.

        Raises:
            ValueError: an unknown one, one of another kind of task, one without a better direction, or one on which
                not every model has answers.
        """
        name = str(self.sheet.key["metric"])
        own = [known for known in METRICS.values() if known.kind == self.sheet.kind]
        fit = [known.name for known in own if known.best is None and known.of == "outputs"]
        if name not in fit:
            kind, task = self.sheet.kind, self.sheet.key["task"]
            raise ValueError(f"task {task} names the metric {name!r}; a {kind}: {', '.join(fit)}")
        return name

    def values(self, model: Model, name: str, ok: Cases, weights: Num[np.ndarray, "draw answered"]) -> np.ndarray:
        """(seed, draw) of a metric on the cases `ok`; `weights` (draw, those cases)."""
        metric, columns = self.metric(name)
        if not ok.any():
            return np.full((len(model.seeds), len(weights)), np.nan)
        answers: tuple[Any, ...] = model.outputs if metric.of == "outputs" else model.curves
        outputs = [output[ok] if columns is None else output[ok][:, columns] for output in answers]
        return np.stack([metric.function(self.sheet.target[ok], output, weights) for output in outputs])

    def plain(self, model: Model, name: str, ok: Cases) -> np.ndarray:
        """(seed,): the metric on the sample itself."""
        return np.asarray(self.values(model, name, ok, np.ones((1, int(ok.sum()))))[:, 0])

    def drawn(self, model: Model, name: str, ok: Cases) -> np.ndarray:
        """(draw,): the metric in each draw, averaged over seeds."""
        return np.asarray(self.values(model, name, ok, self.counts[:, ok]).mean(0))

    def interval(self, model: Model, name: str) -> tuple[float, float]:
        """Both ends of the 95 % interval of the mean over seeds, by the method of the metric; NaN without an answer."""
        ok = model.ok
        if not ok.any():
            return float("nan"), float("nan")
        method = self.metric(name)[0].interval
        if method == "none":
            return float("nan"), float("nan")
        drawn, left_out, first = self._resampled(model, name, ok)
        if method == "percentile":
            return percentile_interval(drawn)
        strata = strata_of(self.sheet.kind, self.sheet.target[ok])
        return bca_interval(float(self.plain(model, name, ok).mean()), drawn, left_out, _of(strata, first))

    def difference(self, a: Model, b: Model, name: str, ok: Cases) -> Difference:
        """Metric of a minus metric of b on the cases `ok`, by the paired bootstrap; NaN without such a case."""
        value = float(self.plain(a, name, ok).mean() - self.plain(b, name, ok).mean())
        if not ok.any():
            return Difference(value, value, value, value)

        drawn_a, left_a, first = self._resampled(a, name, ok)
        drawn_b, left_b, _ = self._resampled(b, name, ok)
        strata = strata_of(self.sheet.kind, self.sheet.target[ok])
        return paired_bootstrap(drawn_a, drawn_b, value, left_a - left_b, _of(strata, first))

    def _resampled(self, model: Model, name: str, ok: Cases) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(draw,), (cluster,) without each cluster, (cluster,) first case of each: computed once per set of cases."""
        key = (model.name, model.fraction, name, ok.tobytes())
        if key not in self.measured:

            def function(weights: Weights) -> Any:
                return self.values(model, name, ok, weights).mean(0)

            left_out, first = jackknife(function, self.sheet.clusters[ok])
            self.measured[key] = self.drawn(model, name, ok), left_out, first
        return self.measured[key]

    def subjects(self, ok: Cases) -> int:
        """Number of subjects among the cases."""
        return len(np.unique(self.sheet.subjects[ok]))


def _of(strata: np.ndarray | None, first: np.ndarray) -> np.ndarray | None:
    """The stratum of each cluster, by its first case."""
    return None if strata is None else strata[first]
