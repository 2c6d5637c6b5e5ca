"""The page of a sweep: many encoders, heads, fractions, draws, perturbations and strata, from small tables."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from braindino.pipeline.report import report
from braindino.pipeline.score import score, write_scores
from braindino.record import write_record, write_table
from braindino.reporting.artefacts import Artefacts, answers_of
from braindino.reporting.figures import DASHES, MARKERS, PALETTE
from braindino.reporting.names import encoder_label, metric_label
from braindino.reporting.sections_groups import risk_groups, strata
from braindino.reporting.sections_robustness import robustness, severities
from braindino.reporting.standings import standings, standings_sentence, standings_table
from braindino.reporting.verdicts import contests

SKILL = {"braindino": 0.3, "dinov3@brain": 0.6, "regions": 0.9, "random_init": 2.0, "clinical": 1.5}
HEADS = {"brain_age": ("linear", "mlp"), "survival": ("cox", "discrete_time")}
RUNS = [(0.5, 0, "none", 0), (0.5, 1, "none", 0), (1.0, 0, "none", 0), (1.0, 0, "gibbs", 3), (1.0, 0, "gibbs", 5)]


def table(task, encoder, head, subjects=40):
    """A sweep's predictions table; age and sex alone are not perturbed."""
    rng = np.random.default_rng(len(task + encoder + head))
    truth = np.linspace(-1.5, 1.5, subjects)
    rows = []
    for fraction, seed, perturbation, severity in RUNS:
        if encoder == "clinical" and severity:
            continue
        noise = SKILL[encoder] * (1 + 0.2 * severity) / fraction
        said = np.zeros(subjects) if head == "prior" else truth + noise * rng.standard_normal(subjects)
        base = {"task": task, "encoder": encoder, "head": head, "fraction": fraction, "seed": seed, "split": "test"}
        base |= {"perturbation": perturbation, "severity": severity, "protocol": "three_way", "status": "ok"}
        for n in range(subjects):
            who = {"subject": f"s{n:02d}", "case": f"s{n:02d}", "sex": "FM"[n % 2], "age": 15.0 + 1.8 * n}
            rows.append(base | who | outcome(task, truth[n], said[n], n))
    return pd.DataFrame(rows)


def outcome(task, truth, said, n):
    if task == "brain_age":
        return {"kind": "regression", "metric": "mae", "target": 50 + 15 * truth, "output": 50 + 15 * said}
    told = {
        "kind": "survival",
        "metric": "concordance_index",
        "time": 400 * np.exp(-truth) + n,
        "event": int(n % 4 > 0),
    }
    return told | {"output": said, "threshold": 0.25}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Folders of predictions and scores, and what was read of them."""
    root = tmp_path_factory.mktemp("sweep")
    tables = {}
    for task, heads in HEADS.items():
        for encoder in SKILL:
            own = heads[:1] if encoder == "clinical" else heads
            tables |= {root / f"{task}-{encoder}-{head}": table(task, encoder, head) for head in own}
        tables[root / f"{task}-clinical-prior"] = table(task, "clinical", "prior")
    for folder, own in tables.items():
        write_table(folder / "predictions.tsv", own)
        write_record(folder, "predict", {"task": str(own["task"].iloc[0])}, parents={})
    scores = score(list(tables.values()), draws=100)
    write_scores(scores, root / "scores")
    answers = tuple(one for folder, own in tables.items() for one in answers_of(folder, own))
    given = {
        name: getattr(scores, name)
        for name in ("metrics", "comparisons", "strata", "stratum_comparisons", "risk_groups")
    }
    return list(tables), root / "scores", Artefacts(answers=answers, **given)


def test_a_folder_is_cut_into_one_answer_per_fit_and_perturbation():
    cut = answers_of(Path("p"), table("brain_age", "braindino", "linear"))
    assert [(one.fraction, one.seed, one.perturbation, one.severity) for one in cut] == RUNS
    assert all(len(one.table) == 40 for one in cut)


def test_figures_show_the_first_learned_head_of_each_encoder(sweep):
    found = sweep[2]
    assert found.main_heads()["survival", "regions"] == "cox"
    drawn = found.in_figures(found.metrics)
    assert set(drawn["head"]) == {"linear", "cox", "prior"} and set(drawn["encoder"]) == set(SKILL)
    bare = replace(found, answers=())
    assert bare.main_heads()["brain_age", "braindino"] == "linear"


def test_severities_begin_with_the_clean_value_of_the_same_model(sweep):
    found = sweep[2]
    rows = severities(found)
    one = rows[(rows["task"] == "brain_age") & (rows["encoder"] == "braindino") & (rows["head"] == "linear")]
    assert one["severity"].tolist() == [0, 3, 5] and set(one["perturbation"]) == {"gibbs"}
    metrics = found.metrics[(found.metrics["metric"] == "mae") & (found.metrics["fraction"] == 1)]
    same = metrics[(metrics["encoder"] == "braindino") & (metrics["head"] == "linear")].set_index("severity")["value"]
    assert one["value"].tolist() == [same[0], same[3], same[5]]
    figure, changes = robustness(found)
    assert "Brain age" in figure.svg and "dinov3 (brain)" in figure.svg and "age and sex" not in figure.svg
    assert changes.folded and len(changes.rows) == 2 * 4 * 2 * 2
    row = next(r for r in changes.rows if r[0] == "Brain age" and r[2] == "braindino, linear" and r[4] == "5")
    assert float(row[6].replace("−", "-")) == pytest.approx(same[5] - same[0], rel=0.01)


def test_nothing_is_told_of_what_was_not_scored(sweep):
    found = sweep[2]
    clean = replace(found, metrics=found.metrics[found.metrics["perturbation"] == "none"])
    assert not list(robustness(clean)) and not list(strata(replace(found, strata=None)))
    assert not list(risk_groups(found, "brain_age")) and not list(risk_groups(replace(found, risk_groups=None), "x"))


def test_strata_have_a_figure_by_age_and_a_table(sweep):
    figure, groups = strata(sweep[2])
    assert figure.name == "results-age" and "n = 11" in figure.svg and "80+" in figure.svg
    assert groups.folded and {row[2] for row in groups.rows} == {"sex", "age"}
    assert {row[4] for row in groups.rows} >= {"braindino, linear", "age and sex, cox", "prior"}
    assert not any("mlp" in row[4] for row in groups.rows)


def test_age_bands_that_are_large_enough_have_a_table_of_differences():
    """braindino is better than regions in the young only; its second head, and sex, have no part in the table."""
    rng, young, tables = np.random.default_rng(0), np.arange(100) % 2 == 0, []
    spread = {("braindino", "linear"): np.where(young, 1, 8), ("braindino", "mlp"): 1, ("regions", "linear"): 8}
    for (encoder, head), size in spread.items():
        own = table("brain_age", encoder, head, 100).query("fraction == 1 and perturbation == 'none'")
        said = own["target"] + size * rng.standard_normal(100)
        tables.append(own.assign(age=np.where(young, 30, 85), output=said))
    scores = score(tables, draws=500)
    given = {name: getattr(scores, name) for name in ("metrics", "comparisons", "strata", "stratum_comparisons")}
    found = Artefacts(**given)
    _, differences, _ = strata(found)
    assert differences.columns[3:] == ("age 20-39", "age 80 and older", "oldest minus youngest")
    (row,) = differences.rows
    assert row[2] == "braindino, linear minus brain regions, linear" and not differences.folded
    assert row[3].endswith("n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}50, better") and row[4].endswith(
        "=\N{NO-BREAK SPACE}50"
    )
    assert row[5].startswith("80 and older − 20-39: ") and row[5].endswith("=\N{NO-BREAK SPACE}100, differs")
    assert contests(found.comparisons) == [] and "table of differences" in next(iter(strata(found))).caption


def test_risk_groups_stand_in_pairs_with_one_test(sweep):
    (groups,) = risk_groups(sweep[2], "survival")
    models = [row[0] for row in groups.rows if row[0]]
    assert len(groups.rows) == 2 * len(models) and "braindino, discrete_time" in models
    first = groups.rows[models.index("braindino, cox") * 2]
    own = sweep[2].risk_groups
    own = own[(own["encoder"] == "braindino") & (own["head"] == "cox") & (own["perturbation"] == "none")]
    high = own[(own["fraction"] == 1) & (own["group"] == "high")].iloc[0]
    assert first[1:5] == ("high", "0.25", str(high.subjects), str(high.events)) and high.p_holm < 0.05
    assert first[8] == ("< 0.001" if high.p_holm < 0.001 else f"{high.p_holm:.2g}")


def test_the_best_is_told_with_what_it_is_better_than():
    columns = ["task", "metric", "encoder", "head", "value", "low", "high"]
    rows = [("age", "mae", name, "linear", value, value - 1, value + 1) for name, value in
            (("braindino", 6.0), ("regions", 5.0), ("random_init", 8.0), ("clinical", 7.0))]  # fmt: skip
    rows += [
        ("sex", "roc_auc", "clinical", "linear", 0.9, 0.8, 1.0),
        ("sex", "roc_auc", "pca", "linear", 0.8, 0.7, 0.9),
    ]
    pairs = [("regions/linear", "random_init/linear", 0.001), ("clinical/linear", "regions/linear", 0.3)]
    compared = [("age", "mae", a, b, -3.0, -4.0, -2.0, p, 1.0, 20) for a, b, p in pairs]
    names = ["task", "metric", "a", "b", "difference", "low", "high", "p_holm", "fraction", "subjects"]
    best = standings(pd.DataFrame(rows, columns=columns), contests(pd.DataFrame(compared, columns=names)))
    assert [(one.encoder, one.baseline) for one in best] == [("regions", False), ("clinical", True)]
    assert best[0].against == {"random_init": "better", "clinical": "not shown to differ"}
    assert best[0].second == "braindino, linear: 6"
    text = standings_sentence(best)
    assert "on 2 tasks: brain regions on 1 (Age); age and sex on 1 (Sex)." in text
    assert "better than random init on 1 of 1 task (Age)." in text and "better than age and sex on 0 of 1 task." in text
    shown = standings_table(best, {"age": "years"})
    assert shown.rows[0][-2:] == ("better", "not shown to differ") and shown.rows[1][2].endswith("(a baseline)")


def test_age_and_sex_alone_are_a_baseline_for_every_head(sweep):
    found = sweep[2].comparisons
    clean = found[(found["perturbation"] == "none") & (found["fraction"] == 1)]
    told = {(one.encoder, one.head) for one in contests(clean) if one.baseline == "clinical" and one.task == "survival"}
    learned = [name for name in SKILL if name not in ("random_init", "clinical")]
    assert told == {(name, head) for name in learned for head in HEADS["survival"]}


def test_names_of_plug_ins_in_words():
    assert encoder_label("clinical") == "age and sex" and encoder_label("regions") == "brain regions"
    assert encoder_label("dinov3@brain") == "dinov3 (brain)" and encoder_label("pca@x") == "PCA of slices (x)"


def test_the_metrics_of_survival_curves_are_named_with_their_direction():
    assert metric_label("integrated_brier", unit="days", arrow=True) == "integrated Brier score ↓"
    assert metric_label("brier_skill") == "Brier skill against Kaplan-Meier, higher is better"


def test_no_two_of_many_models_look_the_same():
    for marks in (DASHES, MARKERS):
        looks = {(PALETTE[n % len(PALETTE)], marks[n % len(marks)]) for n in range(56)}
        assert len(looks) == 56


def test_the_page_of_a_sweep_folds_its_long_tables(sweep, tmp_path):
    folders, scores, _ = sweep
    html = report(tmp_path, title="t", predictions=folders, scores=scores).read_text()
    assert "Best value of the headline metric" in html and "The leader is shown to be better than prior" in html
    shown = [part.split("</table>")[0].count("<tr>") for part in html.split('<p class="caption" id="table-')[1:]]
    assert max(shown) <= 31
    assert html.count('id="figure-survival-survival-') == 5 and "change from clean" in html
