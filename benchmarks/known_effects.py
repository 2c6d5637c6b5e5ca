"""What the generator put in, and what the line finds of it on true labels, for `chance.py`.

**Survival.** The generator's log hazard is eta = 0.35 per doubling of the tumour + 0.30 per decade of age - 1.2 if
mutant. Few subjects die only once, so the outcome of the same subjects is drawn again many times from the same hazard,
with another split each time; intervals are Student's over these redraws. `true factors`: the head `cox` on the three
numbers themselves, through fit and predict; its weights are log hazard ratios, shrunk by its penalty. Images: the risk
of the test subjects regressed on the three factors together; a head on images finds a part of each, so only the sign is
expected, and of `cox` a size between 0 and the planted one.

**Brain age.** ln of the ventricle volume rises by ln(45 / 15) / 70 a year with a scatter of 0.22, cortex and medial
temporal region shrink. A head that is right on average for what it sees regresses to the mean: from ln V alone the
slope of predicted on true age is known, g^2 var(age) / (g^2 var(age) + 0.22^2). Bias correction, predicted = a + b age
on the validation subjects and (predicted - a) / b on the test subjects, must bring every slope to 1. Ten splits are
pooled; intervals are percentiles of 2000 draws of subjects, each with all its answers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from braindino.encoders.regions import NAMES
from braindino.pipeline.around import Asked
from braindino.pipeline.encoding import OK, Row
from braindino.pipeline.features import case_table
from braindino.pipeline.fit import fit, load_task
from braindino.pipeline.predict import predict
from braindino.pipeline.score import score
from braindino.progress import progress
from braindino.record import digest
from braindino.stats.intervals import bootstrap_counts
from braindino.synthesis.effects import Effects
from braindino.synthesis.outcomes import draw_survival, log_hazard
from braindino.synthesis.subject import draw_person, remaining, streams, ventricle_target_ml
from braindino.tasks import strata_of, three_way
from braindino.types import Case, Features, Task

EFFECTS = Effects()
FACTORS = {
    "doubling of the tumour": EFFECTS.log_hazard_per_doubling,
    "decade of age": EFFECTS.log_hazard_per_decade,
    "IDH mutant": EFFECTS.log_hazard_mutant,
}
SPLITS, PERSONS = 10, 4000
ByContrasts = Mapping[tuple[str, ...], Features]


def effects_table(work: Path, cohort: Path, features: Mapping[str, ByContrasts], redraws: int) -> pd.DataFrame:
    """One row per quantity: what is planted, what was found with its interval, and whether the sign is right."""
    rows = [*survival_rows(load_task("survival", cohort, "synthetic"), features, redraws)]
    rows += brain_age_rows(load_task("brain_age", cohort, "synthetic"), features)
    table = pd.DataFrame(rows)
    for name in ("planted", "found", "low", "high", "right_sign"):
        table[name] = table[name].astype(float).round(4)
    return table


def row(about: str, on: str, quantity: str, planted: float, found: Sequence[float], right: float) -> dict[str, Any]:
    """`found`: value, low, high; `right`: share of the draws, or of the one answer, that has the planted sign."""
    value, low, high = found
    told = {"about": about, "on": on, "quantity": quantity, "planted": planted}
    return told | {"found": value, "low": low, "high": high, "right_sign": right}


def over_draws(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean with Student's 95 % interval."""
    mean, half = float(np.mean(values)), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


# Survival


def survival_rows(task: Task, features: Mapping[str, ByContrasts], redraws: int) -> Iterator[dict[str, Any]]:
    factors = {case.name: factors_of(case) for case in task.cases}
    yield from generator_rows(task, factors)
    true = table_features(task, factors, "true factors")
    images = [on[task.contrasts] for on in features.values()]
    models = [(true, "cox"), *itertools.product(images, ("cox", "discrete_time"))]
    weights, slopes, concordance = [], {}, {}
    with progress("redraws of survival", redraws) as advance:
        for number in range(1, redraws + 1):
            drawn = redrawn(task, number)
            for on, head in models:
                who = f"{head} on {on.encoder}"
                # Each contrast tells something else of a tumour; numbers of a table have one "contrast".
                fitted = fit(drawn, on, head, seed=number, asked=Asked(fusion="concat"))
                table = predict(drawn, on, fitted).table
                kept = table.drop(columns=["site", "sex", "age", "contrasts"], errors="ignore")
                found = score(kept, draws=20).metrics.set_index("metric")["value"]
                concordance.setdefault(who, []).append(float(found["concordance_index"]))
                if on is true:
                    weights.append(fitted.head.weights)
                else:
                    x = np.array([[1.0, *factors[name]] for name in table["case"]])
                    slopes.setdefault(who, []).append(np.linalg.lstsq(x, table["output"].to_numpy(), rcond=None)[0][1:])
            advance()
    for n, (name, planted) in enumerate(FACTORS.items()):
        for who, values in {"cox on true factors": weights, **slopes}.items():
            own = [float(value[n]) for value in values]
            what = f"log hazard per {name}" if who.startswith("cox") else f"risk per {name}"
            yield row("survival", who, what, planted, over_draws(own), float(np.mean(np.sign(own) == np.sign(planted))))
    for who, values in concordance.items():
        yield row("survival", who, "C-index", math.nan, over_draws(values), float(np.mean(np.array(values) > 0.5)))


def factors_of(case: Case) -> tuple[float, float, float]:
    """Doublings of the tumour above the median volume, decades of age above 60, and 1 where IDH is mutant."""
    about = case.participant
    doublings = math.log2(float(about["tumour_ml"]) / EFFECTS.tumour_median_ml)
    return doublings, (float(about["age"]) - 60) / 10, float(about["idh"] == "mutant")


def generator_rows(task: Task, factors: Mapping[str, Sequence[float]]) -> Iterator[dict[str, Any]]:
    """The cohort's own outcomes, and those of `PERSONS` without images, whose volume is the drawn one."""
    own = [(*factors[case.name], *(float(case.participant[n]) for n in task.target)) for case in task.cases]
    yield from hazard_rows("lifelines, own outcomes", own)
    persons = []
    for number in range(PERSONS):
        rng = streams(1003, f"person{number}")
        one = draw_person(rng["person"], f"person{number}", "glioma", ("a", "b"), EFFECTS)
        eta = log_hazard(one.lesion_ml, one.age, one.mutant, EFFECTS)
        about = {"tumour_ml": one.lesion_ml, "age": one.age, "idh": "mutant" if one.mutant else "wildtype"}
        persons.append((*factors_of(Case("", (), participant=about)), *draw_survival(rng["outcome"], eta, EFFECTS)))
    yield from hazard_rows(f"lifelines, {PERSONS} persons without images", persons)


def hazard_rows(on: str, subjects: Sequence[Sequence[float]]) -> Iterator[dict[str, Any]]:
    """Cox regression of (factors, time, event) by lifelines, without penalty; Wald intervals."""
    from lifelines import CoxPHFitter

    table = pd.DataFrame(subjects, columns=[*FACTORS, "time", "event"])
    found = CoxPHFitter().fit(table, "time", "event").summary
    for name, planted in FACTORS.items():
        ends = [float(found.loc[name, column]) for column in ("coef", "coef lower 95%", "coef upper 95%")]
        right = float(np.sign(ends[0]) == np.sign(planted))
        yield row("generator", on, f"log hazard per {name}", planted, ends, right)


def redrawn(task: Task, number: int) -> Task:
    """The same subjects with outcomes drawn again from their hazard, and split anew."""
    cases = []
    for place, case in enumerate(task.cases):
        about, rng = case.participant, np.random.default_rng([number, place, 11])
        eta = log_hazard(float(about["tumour_ml"]), float(about["age"]), about["idh"] == "mutant", EFFECTS)
        days, event = draw_survival(rng, eta, EFFECTS)
        cases.append(replace(case, participant={**about, "survival_days": days, "event": event}))
    return replace(task, cases=tuple(cases), split=three_way(strata_of(task, cases), number))


def table_features(task: Task, values: Mapping[str, Sequence[float]], name: str) -> Features:
    """Numbers of the participants table as features, as `pipeline.clinical` makes them of age and sex."""
    x = np.array([values[case.name] for case in task.cases], np.float16)[:, None]
    nowhere, fine = np.zeros((len(x), 1), np.float32), [Row(OK)] * len(x)
    cases = case_table(task.cases, fine)
    return Features(x, nowhere, cases, name, digest(name), "participants", ("table",), seen=frozenset())


# Brain age


def brain_age_rows(task: Task, features: Mapping[str, ByContrasts]) -> Iterator[dict[str, Any]]:
    ages = np.array([float(case.participant["age"]) for case in task.cases])
    yield from volume_rows(task, ages)
    log_volume = {case.name: math.log(float(case.participant["ventricle_ml"])) for case in task.cases}
    rise = math.log(EFFECTS.ventricle_ml_at_90 / EFFECTS.ventricle_ml_at_20) / 70
    explained = rise**2 * float(ages.var())
    expected = explained / (explained + EFFECTS.ventricle_scatter**2)
    one = table_features(task, {name: (value,) for name, value in log_volume.items()}, "ln ventricle volume")
    models = [(one, "linear", expected)]
    models += [(on[task.contrasts], head, math.nan) for on in features.values() for head in ("linear", "mlp")]
    for on, head, planted in models:
        who, (test, held) = f"{head} on {on.encoder}", pooled(task, on, head)
        yield row("brain age", who, "slope of predicted on true age", planted, *spread(test, slope_of(test, "truth")))
        corrected = spread(test, corrected_slope(test, held, "truth"), held)
        yield row("brain age", who, "the same after bias correction", 1.0, *corrected)
    asked = replace(task, target=("ln_ventricle",), name="ln_ventricle", cases=tuple(
        replace(case, participant={**case.participant, "ln_ventricle": log_volume[case.name]}) for case in task.cases
    ))  # fmt: skip
    regions = features["regions"][task.contrasts]
    test, held = pooled(asked, regions, "linear")
    yield row("ventricles", "linear on regions", "predicted ln V per year", rise, *spread(test, slope_of(test, "age")))
    corrected = spread(test, corrected_slope(test, held, "age"), held)
    yield row("ventricles", "linear on regions", "the same after bias correction", rise, *corrected)
    dark = dict(zip(regions.cases["case"], regions.values[:, 0, NAMES.index("dark_share")].astype(float), strict=True))
    ends = slope(ages, np.array([dark[case.name] for case in task.cases]))
    yield row("ventricles", "regions, dark_share", "share of CSF per year", math.nan, ends, float(ends[0] > 0))


def volume_rows(task: Task, ages: np.ndarray) -> Iterator[dict[str, Any]]:
    """Volumes of the participants table against age, of the base anatomy and sex alike; planted: without scatter."""
    shares = np.array([remaining(age, False, EFFECTS) for age in ages])
    ventricles = np.array([ventricle_target_ml(age, False, EFFECTS) for age in ages])
    truth = {"ventricle_ml": ventricles, "cortex_ml": shares[:, 0], "medial_temporal_ml": shares[:, 1]}
    about = pd.DataFrame([(case.participant["anatomy"], case.participant["sex"]) for case in task.cases])
    beside = pd.get_dummies(about, drop_first=True).to_numpy(float)
    for name, planted in truth.items():
        measured = np.log([float(case.participant[name]) for case in task.cases])
        known, ends = slope(ages, np.log(planted), beside)[0], slope(ages, measured, beside)
        right = float(np.sign(ends[0]) == np.sign(known))
        yield row("generator", "participants.tsv", f"ln {name} per year", known, ends, right)


def slope(x: np.ndarray, y: np.ndarray, beside: np.ndarray | None = None) -> tuple[float, float, float]:
    """Least squares slope of y on x, besides other columns, with its 95 % interval."""
    columns = np.column_stack([x, np.ones(len(x)), *([] if beside is None else beside.T)])
    found, *_ = np.linalg.lstsq(columns, y, rcond=None)
    free = len(x) - columns.shape[1]
    variance = np.sum((y - columns @ found) ** 2) / free * np.linalg.inv(columns.T @ columns)[0, 0]
    half = stats.t.ppf(0.975, free) * math.sqrt(variance)
    return float(found[0]), float(found[0] - half), float(found[0] + half)


def pooled(task: Task, on: Features, head: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answers for test and for validation subjects over `SPLITS` splits: subject, age, truth, output."""
    found: dict[str, list[pd.DataFrame]] = {"test": [], "validation": []}
    for number in range(SPLITS):
        asked = replace(task, split=three_way(strata_of(task, task.cases), number))
        fitted = fit(asked, on, head, seed=number)
        for split, tables in found.items():
            table = predict(asked, on, fitted, split=split).table
            tables.append(table.rename(columns={"target": "truth"})[["subject", "age", "truth", "output"]])
    return tuple(pd.concat(tables, ignore_index=True) for tables in found.values())  # type: ignore[return-value]


def slope_of(table: pd.DataFrame, column: str) -> Callable[[np.ndarray], np.ndarray]:
    """Weights (draw, row) to the slope of the output on a column (draw,)."""
    x, y = (table[name].to_numpy(float) - table[name].mean() for name in (column, "output"))

    def function(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(1)
        mean_x, mean_y = weights @ x / total, weights @ y / total
        return np.asarray((weights @ (x * y) / total - mean_x * mean_y) / (weights @ x**2 / total - mean_x**2))

    return function


def corrected_slope(test: pd.DataFrame, held: pd.DataFrame, column: str) -> Callable[[Any], np.ndarray]:
    """Weights of both tables to the slope on `column` after bias correction by the validation subjects."""
    ours, theirs = slope_of(test, column), slope_of(held, "truth")
    return lambda weights: ours(weights[0]) / theirs(weights[1])


def spread(
    table: pd.DataFrame, function: Callable[[Any], np.ndarray], held: pd.DataFrame | None = None
) -> tuple[tuple[float, float, float], float]:
    """Value with its percentile interval over draws of subjects (`held` in the same ones), and if it is above 0."""
    tables = [table] if held is None else [table, held]
    subjects = np.unique(np.concatenate([one["subject"] for one in tables]))
    drawn = bootstrap_counts(subjects)
    places = [np.searchsorted(subjects, one["subject"]) for one in tables]

    def at(weights: np.ndarray) -> Any:
        parts = [weights[:, place].astype(float) for place in places]
        return function(parts[0] if held is None else parts)

    value = float(at(np.ones((1, len(subjects))))[0])
    low, high = np.quantile(at(drawn), [0.025, 0.975])
    return (value, float(low), float(high)), float(value > 0)
