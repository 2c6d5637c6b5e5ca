"""Is every head at chance where labels are shuffled, and does the line find the known effects where they are true?

    OMP_NUM_THREADS=1 python benchmarks/chance.py --work W --out benchmarks/results/chance

Makes a synthetic cohort (`synthesize`, development seed 1003), encodes it once, and asks every head of every task, by
`fit`, `predict` and `score`, with labels exchanged between subjects; then the same with true labels. Writes OUT.tsv
(shuffled labels, a row per task, encoder, head and metric), OUT_effects.tsv (true labels against what the generator
put in) and OUT.json (the counts and the judgement). Resumable: a cell that is finished is not computed again. About
15 minutes on one free core.

**Shuffled.** The columns that a task asks for (survival time and event as one) are exchanged between the task's
subjects; images, site, age and sex stay. A subject's four scans of `sequence` exchange their contrasts among
themselves, since each subject has every contrast once. Then the subjects are split again, stratified by the new labels
as `tasks` does it (`sequence`: by none). So the labels of the test subjects are in random order whatever a head has
seen, and its expected AUC and C are exactly 1/2, its expected r is 0 and its MAE no better than the mean predictor's
(the head `prior`). For segmentation subjects exchange label maps, stretched from brain to brain (`swapped_maps.py`),
and chance is the Dice of the same answers with the maps that the other test subjects were given: it holds what is
learned of where lesions lie.

**Judged.** Of correct 95 % intervals one in twenty misses. Intervals of one encoder and head on several tasks and
permutations are independent, since labels are shuffled anew for each, so their misses are binomial; a head is at chance
where they are no more than the 1 - 0.05/K quantile of Binomial(intervals, 0.05), K encoders with heads. A leak would
lie on one side, so `better` counts the intervals above chance alone (binomial with 0.025). Heads answer the same test
subjects, so their misses come together: the share over all, and the mean of each metric above its chance, have
intervals over the cells (task and permutation), drawn 2000 times. Answers that are noise tell how often the intervals
themselves miss at these sizes. An answer that is the same for everybody is at chance and has no interval to judge.

The encoder is an untrained network (`random_init`) unless `--weights` is given, and beside it `regions`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from known_effects import effects_table
from scipy import stats
from scipy.special import softmax
from swapped_maps import dense_rows

from braindino import catalog
from braindino.config import to_dict
from braindino.model.config import ViTConfig
from braindino.model.vit import VisionTransformer
from braindino.model.weights import save_encoder
from braindino.pipeline.around import Asked
from braindino.pipeline.encode import How, encode_folder, read_features
from braindino.pipeline.encoding import OK, Row
from braindino.pipeline.features import case_table
from braindino.pipeline.fit import fit, load_task
from braindino.pipeline.loading import EncoderChoice
from braindino.pipeline.predict import predict
from braindino.pipeline.score import score
from braindino.pipeline.synthesize import synthesize
from braindino.progress import progress
from braindino.record import fingerprint_of, is_done, read_table, write_json, write_record, write_table
from braindino.synthesis.config import SynthesisConfig
from braindino.tasks import strata_of, three_way
from braindino.types import Case, Encoder, Features, Pooling, Task
from braindino.volume.recipe import Recipe

COHORT = SynthesisConfig(healthy=90, dementia=45, glioma=150, stroke=45, seed=1003, spacing_mm=3.0, workers=1)
NETWORK = ViTConfig(dim=32, depth=4, heads=2, patch_size=8, layer_scale=0.1)
RECIPE = Recipe(spacing_mm=4.0, size_px=48, slices=10)
TASKS = ("dementia", "diagnosis", "idh", "one_year_survival", "sequence", "brain_age", "days_since_stroke", "survival")
GROUPS = ("healthy", "dementia", "stroke")
"""The three classes of `diagnosis`; a cohort of `synthesize` tells two."""
METRIC = {"classification": "roc_auc", "regression": "pearson_r", "survival": "concordance_index", "segmentation": ""}
CHANCE = {"roc_auc": 0.5, "pearson_r": 0.0, "concordance_index": 0.5, "mae_gain": 0.0, "dice_gain": 0.0}
"""The gains: MAE of the head `prior` minus MAE, Dice minus Dice with the maps of the others; more is better."""
ONE_SIDED = ("mae_gain",)
"""A head may well be worse than the mean predictor; that is no leak."""
LEVEL, ROUNDING = 0.05, 1e-6
PERMUTATIONS = {"cls": 12, "views": 3, "gradient": 2, "patch": 2}
"""By what a head needs; `patch` for every head of segmentation."""
INSIDE_STEPS, INSIDE_TASKS = 30, ("dementia", "brain_age", "survival")
"""Of heads that train in a copy of the encoder: a smaller form, one task of each kind."""
AROUND = {"classification": Asked("temperature", combat=True), "regression": Asked(combat=True)}
"""What is put around the head `linear` in cells of its own: ComBat takes the training labels, calibration others."""
WITH_AROUND = "linear+combat"
NOISE, NOISE_HEAD = 60, "noise"
"""How often noise answers, for each task."""
KEYS = ["task", "encoder", "head", "metric"]
TEXT = tuple(KEYS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for cohort, features and cells; resumable")
    parser.add_argument("--out", type=Path, required=True, help="path of the results without ending")
    parser.add_argument("--weights", type=Path, help="a run of ours in place of an untrained network")
    for needs, default in PERMUTATIONS.items():
        told = f"of heads that need {needs!r}"
        parser.add_argument(f"--{needs}-permutations", type=int, default=default, help=told)
    parser.add_argument("--redraws", type=int, default=40, help="of the outcomes of the gliomas, with true hazards")
    parser.add_argument("--subjects", type=int, nargs=4, help="healthy, dementia, glioma, stroke; for a short trial")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = COHORT
    if options.subjects:
        config = replace(
            COHORT, **dict(zip(("healthy", "dementia", "glioma", "stroke"), options.subjects, strict=True))
        )
    cohort = synthesize(options.work / "cohort", config)
    choices = encoders(options.work, options.weights)
    tasks = questions(cohort)
    features = {choice.name: encoded(options.work, cohort, choice, tasks) for choice in choices}
    permutations = {needs: getattr(options, f"{needs}_permutations") for needs in PERMUTATIONS}
    known = effects_table(options.work, cohort, features, options.redraws)
    write_table(options.out.with_name(f"{options.out.name}_effects.tsv"), known)
    rows = [dense_rows(options.work, cohort, live(choices[0]), permutations["patch"]), *noise(options.work, tasks)]
    numbers = range(max(permutations.values()) + 1)
    with progress("cells", len(tasks) * len(numbers)) as advance:
        for number in numbers:
            for task in tasks:
                rows += cells(options.work, task, number, permutations, choices, features)
                advance(note=f"{task.name} {number}")
    found = pd.concat(rows, ignore_index=True)
    table = summary(found)
    write_table(options.out.with_suffix(".tsv"), table)
    judged = judgement(found)
    told = {"cohort": to_dict(config) | {"anatomy": None}, "encoders": [c.name for c in choices], **judged}
    write_json(options.out.with_suffix(".json"), told)
    print(table.to_string(index=False), known.to_string(index=False), judged, sep="\n")


def encoders(work: Path, weights: Path | None) -> list[EncoderChoice]:
    """The network, trained or not, and the named numbers of `regions`."""
    if weights is not None:
        return [EncoderChoice("braindino", weights), EncoderChoice("regions")]
    path = work / "untrained" / "encoder.safetensors"
    if not path.is_file():
        model = VisionTransformer(NETWORK, torch.Generator().manual_seed(0))
        save_encoder(path, model, to_dict(RECIPE), {"steps": 0})
    return [EncoderChoice("random_init", path), EncoderChoice("regions")]


def questions(cohort: Path) -> list[Task]:
    """Every task on features, with true labels; `diagnosis` with three classes."""
    tasks = [load_task(name, cohort, "synthetic") for name in TASKS if name != "diagnosis"]
    cases = catalog.load("cohorts", "synthetic").cases(cohort)
    grouped = [
        replace(case, participant={**case.participant, "diagnosis": case.participant["group"]})
        for case in cases
        if case.participant["group"] in GROUPS
    ]
    return [*tasks, catalog.load("tasks", "diagnosis").build("synthetic", tuple(grouped), 0)]


def encoded(work: Path, cohort: Path, choice: EncoderChoice, tasks: Sequence[Task]) -> dict[tuple[str, ...], Features]:
    """Contrasts to features of all cases of the tasks that ask for them; the labels have no part in them."""
    parents = {"cohort": fingerprint_of(cohort)}
    # The CLS token of an untrained network tells next to nothing, also on true labels.
    pooling: Pooling = "cls" if choice.name == "regions" else "mean_patch"
    found = {}
    for contrasts in dict.fromkeys(task.contrasts for task in tasks):
        cases = {case.name: case for task in tasks if task.contrasts == contrasts for case in task.cases}
        out = work / "features" / f"{choice.name}-{'+'.join(contrasts)}"
        encode_folder([cases[name] for name in sorted(cases)], choice, out, How(contrasts, pooling), parents=parents)
        found[contrasts] = replace(read_features(out), seen=frozenset())
    return found


def live(choice: EncoderChoice) -> Encoder:
    """The encoder itself, without the names that it was trained on: subjects of another seed have the same names."""
    encoder: Any = choice.load()
    return replace(encoder, seen=frozenset())


def shuffled(task: Task, number: int) -> Task:
    """The task with its target columns exchanged between subjects and its subjects split anew; 0: with true labels.

    Cases of one subject that ask for several labels (`sequence`) exchange them within the subject. These are not split
    by the new labels: strata of one scan of each subject would give training and test the same excess of its labels,
    which can be learned (on the first try the linear head had an AUC of 0.513 [0.502, 0.523] by it).
    """
    if number == 0:
        return task
    rng = np.random.default_rng([number, *task.name.encode()])
    names = sorted({case.subject for case in task.cases})
    own = {name: [case for case in task.cases if case.subject == name] for name in names}
    cases: list[Case] = []
    for name, other in zip(names, rng.permutation(names), strict=True):
        within = len(own[name]) > 1
        givers = [own[name][n] for n in rng.permutation(len(own[name]))] if within else own[str(other)]
        for case, giver in zip(own[name], givers, strict=True):
            labels = {column: giver.participant[column] for column in task.target}
            cases.append(replace(case, participant={**case.participant, **labels}))
    several = len(cases) > len(names)
    split = three_way(dict.fromkeys(names, "all") if several else strata_of(task, cases), number)
    return replace(task, cases=tuple(cases), split=split)


def cells(
    work: Path,
    task: Task,
    number: int,
    permutations: Mapping[str, int],
    choices: Sequence[EncoderChoice],
    features: dict[str, dict[tuple[str, ...], Features]],
) -> Iterator[pd.DataFrame]:
    """A table for each head on one task and permutation: both encoders, one row per metric."""
    for head in (*catalog.names("heads"), WITH_AROUND):
        fitted = catalog.load("heads", head.partition("+")[0]).Fitted
        if task.kind not in fitted.kinds or head == "prior" or number > permutations[fitted.needs]:
            continue
        if fitted.needs == "gradient" and task.name not in INSIDE_TASKS:
            continue
        # `regions` gives one vector for a scan: there are no slices, and nothing inside it to train.
        some = choices if fitted.needs == "cls" else choices[:1]
        view = "+".join(task.contrasts)
        parents = {c.name: fingerprint_of(work / "features" / f"{c.name}-{view}") for c in some}
        config = {"task": task.name, "permutation": number, "head": head, "encoders": [c.name for c in some]}
        out = work / "cells" / f"{task.name}-{number}-{head}"
        if not is_done(out, "score", config, parents):
            asked = shuffled(task, number)
            rows = [row for c in some for row in cell(asked, number, head, c, features[c.name][task.contrasts])]
            write_table(out / "scores.tsv", pd.DataFrame(rows))
            write_record(out, "score", config, parents=parents)
        yield read_table(out / "scores.tsv", text=TEXT)


def cell(task: Task, number: int, head: str, choice: EncoderChoice, features: Features) -> Iterator[dict[str, Any]]:
    """A head and the prior through fit, predict and score: the metrics of this kind of task."""
    name = head.partition("+")[0]
    needs = catalog.load("heads", name).Fitted.needs
    on: Features | Encoder = live(choice) if needs == "gradient" else features
    asked = AROUND[task.kind] if head == WITH_AROUND else Asked()
    if needs == "cls" and len(task.contrasts) > 1:
        asked = replace(asked, fusion="concat")
    steps = INSIDE_STEPS if needs == "gradient" else 0
    fitted = fit(task, on, name, seed=number, asked=asked, steps=steps)
    prior = fit(task, features, "prior", seed=number)
    tables = [predict(task, on, fitted).table.assign(head=head), predict(task, features, prior).table]
    tables = [table.drop(columns=["site", "sex", "age", "contrasts"], errors="ignore") for table in tables]
    # Both under one name: the digest of what a head stands on is not asked for here.
    scores = score([table.assign(encoder=choice.name) for table in tables])
    yield from scored_rows(scores.metrics, scores.comparisons, task, number, head, choice.name)


def noise(work: Path, tasks: Sequence[Task]) -> Iterator[pd.DataFrame]:
    """Answers that are noise, on shuffled labels: how often intervals themselves miss at these sizes of a test set."""
    for task in tasks:
        config = {"task": task.name, "draws": NOISE, "subjects": len(task.cases)}
        out = work / "cells" / f"{task.name}-{NOISE_HEAD}"
        if not is_done(out, "score", config):
            rows = [row for number in range(1, NOISE + 1) for row in noise_rows(shuffled(task, number), number)]
            write_table(out / "scores.tsv", pd.DataFrame(rows))
            write_record(out, "score", config)
        yield read_table(out / "scores.tsv", text=TEXT)


def noise_rows(task: Task, number: int) -> Iterator[dict[str, Any]]:
    """The metric of normal numbers (their softmax, for classes) as answers for the test subjects."""
    rng, cases = np.random.default_rng([number, 3]), task.cases_of("test")
    x = np.zeros((len(task.cases), 1, 1), np.float16)
    table = predict(task, blank(task, x), fit(task, blank(task, x), "prior")).table.drop(columns=["site"])
    table = table.drop(columns=["sex", "age", "contrasts"], errors="ignore")
    columns = [f"output_{name}" for name in task.classes] or ["output"]
    drawn = rng.standard_normal((len(cases), len(columns)))
    table[columns] = softmax(drawn, axis=1) if task.classes else drawn
    yield from scored_rows(score(table.assign(head=NOISE_HEAD)).metrics, None, task, number, NOISE_HEAD, "none")


def blank(task: Task, x: np.ndarray) -> Features:
    """Features that hold nothing, for the head `prior`, which looks at none."""
    rows = case_table(task.cases, [Row(OK)] * len(task.cases))
    nowhere = np.zeros(x.shape[:2], np.float32)
    return Features(x, nowhere, rows, "none", "0" * 64, "none", ("none",), seen=frozenset())


def scored_rows(
    metrics: pd.DataFrame, compared: pd.DataFrame | None, task: Task, number: int, head: str, encoder: str
) -> Iterator[dict[str, Any]]:
    """The metric whose chance is known, and for regression the gain over the mean predictor."""
    about = {"task": task.name, "encoder": encoder, "head": head, "permutation": number}
    own = metrics[(metrics["head"] == head) & (metrics["metric"] == METRIC[task.kind])].iloc[0]
    ends = {name: float(own[name]) for name in ("value", "low", "high")}
    yield {**about, "metric": own["metric"], **ends, "subjects": int(own["subjects"])}
    if compared is not None and task.kind == "regression":
        pair = compared.iloc[0]
        ends = {"value": -pair["difference"], "low": -pair["high"], "high": -pair["low"]}
        yield {**about, "metric": "mae_gain", **ends, "subjects": int(pair["subjects"])}


def missed(rows: pd.DataFrame) -> pd.DataFrame:
    """For each interval: whether it holds chance, lies above it (`better`), or there is none.

    A constant answer has no correlation and holds chance: it tells nothing.
    """
    chance = rows["metric"].map(CHANCE)
    better = rows["low"] > chance + ROUNDING
    worse = (rows["high"] < chance - ROUNDING) & ~rows["metric"].isin(ONE_SIDED)
    constant = rows["low"].isna() | ((rows["low"] == rows["high"]) & (rows["low"] == chance))
    return rows.assign(chance=chance, better=better, miss=better | worse, constant=constant)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per task, encoder, head and metric: how often chance was held, and the mean over permutations."""
    found = []
    for key, own in missed(rows).groupby(KEYS, sort=False):
        drawn, true = own[own["permutation"] > 0], own[own["permutation"] == 0]
        values = drawn["value"].fillna(drawn["chance"])
        half = stats.t.ppf(0.975, len(values) - 1) * values.sem() if len(values) > 1 else np.nan
        found.append({
            **dict(zip(KEYS, key, strict=True)),
            "chance": own["chance"].iloc[0],
            "test_subjects": round(drawn["subjects"].mean(), 1),
            "permutations": len(drawn),
            "hold_chance": round(1 - drawn["miss"].mean(), 3),
            "better": int(drawn["better"].sum()),
            "constant": int(drawn["constant"].sum()),
            **{name: round(x, 3) for name, x in
               (("mean", values.mean()), ("low", values.mean() - half), ("high", values.mean() + half))},
            **{f"true_{name}": round(float(true[name].mean()), 3) for name in ("value", "low", "high")},
        })  # fmt: skip
    return pd.DataFrame(found)


def judgement(rows: pd.DataFrame) -> dict[str, Any]:
    """Misses of every head against the binomial bound, and the share over all with its interval over the cells."""
    drawn = missed(rows[rows["permutation"] > 0])
    drawn["excess"] = (drawn["value"] - drawn["chance"]).fillna(0)
    heads, own_misses = drawn[drawn["head"] != NOISE_HEAD], drawn[drawn["head"] == NOISE_HEAD]
    both = heads[~heads["metric"].isin(ONE_SIDED) & ~heads["constant"]]
    share = max(LEVEL, float(own_misses["miss"].mean()))
    return {
        "intervals": len(both),
        "misses": int(both["miss"].sum()),
        "constant": int(heads["constant"].sum()),
        "share_of_misses": over_cells(both, "miss"),
        "share_better": over_cells(both, "better"),
        "share_of_misses_of_noise": over_cells(own_misses, "miss"),
        "share_better_of_noise": over_cells(own_misses, "better"),
        "mean_above_chance": {name: over_cells(own, "excess") for name, own in heads.groupby("metric")},
        "by_head": bounds(both, share),
        "mae_by_head": bounds(heads[heads["metric"].isin(ONE_SIDED) & ~heads["constant"]], LEVEL),
    }


def bounds(rows: pd.DataFrame, share: float) -> list[dict[str, Any]]:
    """Misses of each encoder with each head, and the most that chance allows at 5 % over all of them together."""
    groups = list(rows.groupby(["encoder", "head"]))
    found = []
    for (encoder, head), own in groups:
        most, most_better = (int(stats.binom.ppf(1 - LEVEL / len(groups), len(own), p)) for p in (share, share / 2))
        told = {"encoder": encoder, "head": head, "intervals": len(own), "misses": int(own["miss"].sum())}
        told |= {"most_misses": most, "better": int(own["better"].sum()), "most_better": most_better}
        found.append({**told, "at_chance": bool(told["misses"] <= most and told["better"] <= most_better)})
    return found


def over_cells(rows: pd.DataFrame, column: str) -> list[float]:
    """Mean over the intervals, and its 95 % interval from 2000 draws of cells (task and permutation)."""
    cells = rows.groupby(["task", "permutation"])[column].agg(["sum", "count"]).to_numpy(float)
    drawn = cells[np.random.default_rng(0).integers(len(cells), size=(2000, len(cells)))].sum(1)
    ends = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return [round(float(x), 4) for x in (cells[:, 0].sum() / cells[:, 1].sum(), *ends)]


if __name__ == "__main__":
    main()
