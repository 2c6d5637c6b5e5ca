"""The paper's families: which cases and classes each takes, and the transformation of days by hand."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from braindino import catalog
from braindino.cohorts import atlas2
from braindino.pipeline.fit import load_task
from braindino.tasks import UNKNOWN, answered, learned, scan_by_scan, training_cases
from braindino.tasks.one_year_survival import one_year
from people import CONTRASTS, cases, question
from trees import sheet, touch


def build(name, found):
    return catalog.load("tasks", name).build("c", tuple(found), 0)


def with_row(case, **row):
    return replace(case, participant={**case.participant, **row})


@pytest.mark.parametrize(
    ("name", "column", "classes", "left_out"),
    [
        ("alzheimer", "diagnosis", ("dementia", "healthy", "mci"), "autism"),
        ("ad_vs_cn", "diagnosis", ("dementia", "healthy"), "mci"),
        ("autism", "diagnosis", ("autism", "healthy"), "adhd"),
        ("dementia", "diagnosis", ("dementia", "healthy"), "mci"),
        ("parkinson", "diagnosis", ("healthy", "parkinson"), "prodromal"),
        ("idh", "idh", ("mutant", "wildtype"), ""),
    ],
)
def test_classes_and_what_is_left_out(name, column, classes, left_out):
    values = [*classes, left_out]
    found = [with_row(case, **{column: values[n % len(values)]}) for n, case in enumerate(cases(80))]
    task = build(name, found)
    assert task.classes == classes and task.target == (column,) and task.metric == "roc_auc"
    assert Counter(case.participant[column] for case in task.cases) == {
        value: sum(case.participant[column] == value for case in found) for value in classes
    }
    assert {tuple(scan.contrast for scan in case.scans) for case in task.cases} == {task.contrasts}
    only = [with_row(case, **{column: classes[0]}) for case in cases()]
    with pytest.raises(ValueError, match=rf"task {name}: no scan of a subject whose {column} is .*{classes[1]}"):
        build(name, only)


@pytest.mark.parametrize(
    ("days", "event", "answer"),
    [(365, 1, "dead"), (366, 1, "alive"), (364, 0, ""), (365, 0, "alive"), (900, 0, "alive"), (1, 1, "dead")],
)
def test_one_year(days, event, answer):
    assert one_year(with_row(cases(1)[0], survival_days=days, event=event)) == answer


def test_one_year_survival_tells_whom_it_leaves_out(capsys):
    found = [with_row(case, survival_days=100 + 20 * n, event=int(n != 3)) for n, case in enumerate(cases(30))]
    task = build("one_year_survival", found)
    assert len(task.cases) == 29 and task.classes == ("alive", "dead")
    assert "lost to follow-up before day 365, left out: 1 (s003)" in capsys.readouterr().err
    assert len(build("survival", found).cases) == 30  # time-to-event keeps the censored


def test_every_scan_is_a_case_of_which_the_encoder_knows_nothing_and_the_split_is_by_subject():
    people = cases(20)
    twice = (*people, *(replace(case, session="2") for case in people), replace(people[0], subject="x", scans=()))
    task = build("sequence", twice)
    assert len(task.cases) == 160 and len({case.name for case in task.cases}) == 160
    assert Counter(case.participant["contrast"] for case in task.cases) == dict.fromkeys(CONTRASTS, 40)
    assert {scan.contrast for case in task.cases for scan in case.scans} == {UNKNOWN} == set(task.contrasts)
    names = {case.name for case in task.cases if case.subject == "s003"}
    assert names == {f"s003_{session}{c}" for c in CONTRASTS for session in ("", "2_")}
    sides = {subject: {task.split[c.subject] for c in task.cases if c.subject == subject} for subject in task.split}
    assert {len(side) for side in sides.values()} == {1}
    assert scan_by_scan(people[:1])[0].scans[0].path == people[0].scans[0].path


def test_days_are_learned_as_a_logarithm_and_answered_in_days():
    task = question("days_since_stroke")
    assert (task.transform, task.unit, task.metric) == ("log1p", "days", "mae")
    days = np.array([0.0, 1.0, 9.0, 99.0])
    assert learned(task, days) == pytest.approx([0.0, np.log(2), np.log(10), np.log(100)])
    assert answered(task, learned(task, days)) == pytest.approx(days)
    low, middle, high = answered(task, np.log([[5.0, 10.0, 20.0]]))[0]
    assert (low, middle, high) == pytest.approx((4, 9, 19))
    plain = question("brain_age")
    assert learned(plain, days) is days and answered(plain, days) is days
    with pytest.raises(ValueError, match="days_since_stroke is -2; log1p needs more than -1"):
        learned(task, np.array([3.0, -2.0]))


def test_atlas_without_days_is_left_out(tmp_path):
    rows = []
    for n in range(1, 31):
        folder = f"Training/R00{n % 3 + 1}/sub-r00{n % 3 + 1}s{n:03d}/ses-1/anat"
        touch(tmp_path, f"{folder}/sub-r00{n % 3 + 1}s{n:03d}_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz")
        rows.append([f"r00{n % 3 + 1}s{n:03d}", "" if n % 5 == 0 else n * 10])
    sheet(tmp_path / "ATLAS_2.0_MetaData.csv", ["Subject ID", "DAYS_POST_STROKE"], rows)
    assert len(atlas2.cases(tmp_path, lambda line: None)) == 30
    task = load_task("days_since_stroke", tmp_path, "atlas2")
    assert len(task.cases) == 24 and task.cohort == "atlas2"
    few, many = ({c.subject for c in training_cases(task, fraction, 2)} for fraction in (0.2, 0.6))
    assert few < many


def test_the_table_in_the_docs_has_every_task_with_what_it_says():
    text = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    table = text.partition("## The tasks")[2].partition("**A transformation")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "`" in line[:5]]
    rows = {cells[0].strip("`"): cells for cells in lines}
    assert sorted(rows) == sorted(catalog.names("tasks"))
    for name, (_, _, _, contrasts, target, unit, *_) in rows.items():
        task = question(name)
        assert contrasts == ("each scan alone" if name == "sequence" else ", ".join(task.contrasts))
        assert unit.startswith(task.unit) and ("log1p" in str(rows[name])) == (task.transform == "log1p")
        derived = name in ("sequence", "one_year_survival")
        assert derived or all(f"`{column}`" in target for column in task.target)
