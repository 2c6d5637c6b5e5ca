"""Does the difference of two models differ between two groups of the subjects?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from braindino.stats.bench import Bench, Cases
from braindino.stats.comparisons import Difference, paired_bootstrap
from braindino.stats.draws import Draws, Weights
from braindino.stats.intervals import bootstrap_counts, jackknife, strata_of
from braindino.stats.sheets import Model, Sheet
from braindino.stats.strata import large_enough, levels_of, only


@dataclass(frozen=True)
class Apart:
    """The cases of two levels on the same draws of subjects."""

    bench: Bench
    """Of the cases of both levels."""
    upper: Cases
    """Those of the level from which the other one is subtracted."""
    strata: np.ndarray
    """(case,): what the draws keep fixed: the level, within it the class or the event."""
    measured: dict[tuple[str, float, str, bytes], tuple[float, np.ndarray, np.ndarray, np.ndarray]] = field(
        default_factory=dict, repr=False, compare=False
    )
    """What `_resampled` gave: a model stands in many pairs."""

    def large_enough(self, ok: Cases) -> bool:
        """Whether both levels are, on these cases."""
        return all(large_enough(self.bench.sheet, ok & level) for level in (self.upper, ~self.upper))

    def difference(self, a: Model, b: Model, name: str) -> Difference:
        """(a minus b at the upper level) minus (a minus b at the lower one), on the cases that both answered.

        Interval and p are BCa, as of a difference of models; the draws are of subjects within each level and class (or
        event), so that levels keep their size. A subject (family) with cases at both levels is drawn with all of them.
        """
        ok = a.ok & b.ok
        value_a, drawn_a, left_a, first = self._resampled(a, name, ok)
        value_b, drawn_b, left_b, _ = self._resampled(b, name, ok)
        return paired_bootstrap(drawn_a, drawn_b, value_a - value_b, left_a - left_b, self.strata[ok][first])

    def _resampled(self, model: Model, name: str, ok: Cases) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
        """Metric at the upper minus at the lower level: of the sample, (draw,), and (cluster,) without each cluster.

        The last is the first case of each cluster.
        """
        key = (model.name, model.fraction, name, ok.tobytes())
        if key not in self.measured:
            upper = self.upper[ok]

            def function(weights: Weights) -> Draws:
                high, low = (
                    self.bench.values(model, name, ok & level, weights[:, own]).mean(0)
                    for level, own in ((self.upper, upper), (~self.upper, ~upper))
                )
                return np.asarray(high - low)

            value = float(function(np.ones((1, int(ok.sum()))))[0])
            left_out, first = jackknife(function, self.bench.sheet.clusters[ok])
            self.measured[key] = value, function(self.bench.counts[:, ok]), left_out, first
        return self.measured[key]


def apart(sheet: Sheet, variable: str, upper: str, lower: str, draws: int, seed: int) -> Apart:
    """Two levels of a variable of a sheet, with draws of their subjects."""
    levels = levels_of(sheet, variable)
    both = only(sheet, (levels == upper) | (levels == lower))
    above = levels_of(both, variable) == upper
    kept = strata_of(both.kind, both.target)
    strata = above * 1 if kept is None else np.unique(np.stack([above, kept], 1), axis=0, return_inverse=True)[1]
    counts = bootstrap_counts(both.clusters, strata=strata, draws=draws, seed=seed)
    return Apart(Bench(both, counts), above, strata)
