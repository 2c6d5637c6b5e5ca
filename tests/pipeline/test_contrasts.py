"""Heads take the views of their task's own contrasts, and predictions say of which a case was answered."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from braindino.cli import main
from braindino.pipeline.around import Asked
from braindino.pipeline.clinical import clinical_features
from braindino.pipeline.design import of_task, used
from braindino.pipeline.encode import read_features, write_features
from braindino.pipeline.fit import fit
from braindino.pipeline.predict import predict, read_predictions
from braindino.pipeline.score import score
from people import features_of, question

ORDER = ("FLAIR", "T1w", "T2w", "T1ce")


@pytest.fixture(scope="module")
def task():
    return question("idh")


def test_the_views_of_the_task_are_taken_in_its_order(task):
    features = features_of(task.cases, ORDER)
    own = of_task(task, features)
    assert task.contrasts == ("T1ce", "FLAIR") and own.contrasts == ("T1ce", "T1ce", "FLAIR", "FLAIR")
    np.testing.assert_array_equal(own.values, features.values[:, [6, 7, 0, 1]])
    np.testing.assert_array_equal(own.position_mm[0], [6, 7, 0, 1])
    assert of_task(task, own) is own and set(used(task, own, task.cases)) == {"T1ce+FLAIR"}


def test_one_folder_serves_several_tasks_from_disk(tmp_path, task):
    write_features(features_of(task.cases, ORDER), tmp_path / "f")
    features = read_features(tmp_path / "f")
    one = of_task(replace(task, contrasts=("T1w",)), features)
    assert one.contrasts == ("T1w", "T1w") and np.shares_memory(one.values, features.values)
    np.testing.assert_array_equal(one.values, features.values[:, 2:4])
    own = of_task(task, features)
    alone = replace(features_of(task.cases, ("T1ce", "FLAIR")), values=own.values, position_mm=own.position_mm)
    for head, asked in (("linear", Asked()), ("linear", Asked(fusion="concat")), ("attention_pool", Asked())):
        fitted = fit(task, features, head, asked=asked)
        assert fitted.contrasts == task.contrasts
        table = predict(task, features, fitted).table
        pd.testing.assert_frame_equal(table, predict(task, alone, fit(task, alone, head, asked=asked)).table)


def test_a_contrast_that_is_not_there_is_refused_by_name(task):
    with pytest.raises(
        ValueError, match="task idh asks T1ce, FLAIR, but the features are of T1w, FLAIR: no view of T1ce"
    ):
        fit(task, features_of(task.cases, ("T1w", "FLAIR")))
    with pytest.raises(ValueError, match="encode with --contrasts T1ce FLAIR"):
        predict(task, features_of(task.cases, ("T1w",)), fit(task, features_of(task.cases, ORDER)))
    with pytest.raises(ValueError, match=r"task sequence asks unknown, .* encode with --each-scan"):
        of_task(question("sequence"), features_of(task.cases, ("T1w",)))


def test_a_joint_view_must_be_of_exactly_the_contrasts_of_the_task(task):
    lacking = task.cases[0].name
    joint = features_of(task.cases, ("FLAIR+T1ce",), views=1)
    joint.cases.loc[0, "missing"] = "FLAIR"
    assert of_task(task, joint) is joint
    assert used(task, joint, task.cases)[:2] == ["T1ce", "T1ce+FLAIR"] and lacking == task.cases[0].name
    assert fit(task, joint).contrasts == ("FLAIR+T1ce",)
    for name in ("FLAIR+T1ce+T1w", "FLAIR+T1w"):
        with pytest.raises(ValueError, match="no view of T1ce or FLAIR alone"):
            of_task(task, features_of(task.cases, (name,), views=1))


def test_the_column_says_what_a_case_was_answered_on(tmp_path, task):
    tested = [case.name for case in task.cases_of("test")]
    features = features_of(
        task.cases, ORDER, missing={tested[0]: "T1ce T1w", tested[1]: "T1ce FLAIR", tested[2]: "T1w"}
    )
    features.cases.loc[features.cases["case"] == tested[3], "status"] = "truncated"
    table = predict(task, features, fit(task, features)).table.set_index("case")
    assert table.loc[tested[0], "contrasts"] == "FLAIR" and np.isfinite(table.loc[tested[0], "output_mutant"])
    assert table.loc[tested[1], "status"] == f"{tested[1]} has no T1ce, FLAIR"
    assert list(table.loc[tested[2:4], "contrasts"]) == ["T1ce+FLAIR"] * 2
    assert table.loc[tested[3], "status"] == "truncated" and (features.cases["status"] != "ok").sum() == 1


def test_age_and_sex_are_of_no_contrast_and_do_not_hide_those_of_the_images(task):
    plain = features_of(task.cases, ORDER, missing={case.name: "T1ce" for case in task.cases_of("test")[::2]})
    clinical = clinical_features(task)
    tables = [predict(task, one, fit(task, one)).table for one in (clinical, plain)]
    assert set(tables[0]["contrasts"]) == {""} and set(tables[1]["contrasts"]) == {"FLAIR", "T1ce+FLAIR"}
    strata = score(tables, draws=20).strata
    assert {"FLAIR", "T1ce+FLAIR"} == set(strata.loc[strata["variable"] == "contrasts", "level"])


def test_from_the_command_line_with_scans_one_by_one_too(tmp_path, cohort, weights):
    encode_line = f"encode synthetic={cohort} --weights {weights}"
    main(f"{encode_line} --contrasts T1w T1ce --any-contrast --out {tmp_path}/f".split())
    main(f"{encode_line} --each-scan --out {tmp_path}/s".split())
    for name, features, contrast in (("brain_age", "f", "T1w"), ("sequence", "s", "unknown")):
        line = f"--task {name} --root {cohort} --cohort synthetic --features {tmp_path}/{features}"
        main(f"fit {line} --out {tmp_path}/{name}".split())
        main(f"predict {line} --head {tmp_path}/{name} --out {tmp_path}/{name}-p".split())
        table = read_predictions(tmp_path / f"{name}-p").table
        assert set(table["contrasts"]) == {contrast} and (table["status"] == "ok").all()
