"""encode, fit, predict, score as one line on synthetic subjects, and what each of them refuses."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from braindino import catalog
from braindino.pipeline.encode import encode, load_encoder, read_features, write_features
from braindino.pipeline.fit import fit, load_task, read_head, write_head
from braindino.pipeline.predict import predict, read_predictions, write_predictions
from braindino.pipeline.score import score
from braindino.volume.io import read_case, read_volume


@pytest.fixture(scope="module")
def features(cohort, encoder):
    cases = catalog.load("cohorts", "synthetic").cases(cohort)
    return encode(cases, encoder, ("T1w",))


def test_features_are_a_row_per_case_and_a_view_per_slice(features, encoder):
    assert features.values.shape == (27, 10, 32) and features.values.dtype == np.float16
    assert features.contrasts == ("T1w",) * 10
    assert np.all(np.diff(features.position_mm, axis=1) > 0)
    assert features.encoder_digest == encoder.digest() and features.recipe == encoder.recipe.hash()


def test_encoding_alone_or_among_others_is_the_same(cohort, encoder, features):
    cases = catalog.load("cohorts", "synthetic").cases(cohort)
    alone = encode(cases[5:6], encoder, ("T1w",))
    row = int(np.flatnonzero(features.cases["case"] == cases[5].name)[0])
    assert np.array_equal(alone.values[0], features.values[row])


def test_a_view_may_be_summed_up_by_the_mean_of_its_patch_tokens(tmp_path, cohort, encoder, features):
    case = catalog.load("cohorts", "synthetic").cases(cohort)[0]
    pooled = encode([case], encoder, ("T1w",), pooling="mean_patch")
    tokens = encoder.tokens(read_case(case.scans[:1]), patches=True)
    assert np.allclose(pooled.values[0], tokens.patch.mean(1), atol=2e-3)
    assert not np.allclose(pooled.values[0], tokens.cls, atol=0.05)
    write_features(pooled, tmp_path / "f")
    assert read_features(tmp_path / "f").pooling == "mean_patch" and features.pooling == "cls"


def test_features_round_trip(tmp_path, features):
    write_features(features, tmp_path / "f")
    read = read_features(tmp_path / "f")
    assert np.array_equal(read.values, features.values, equal_nan=True)
    pd.testing.assert_frame_equal(read.cases, features.cases)
    for name in ("encoder", "encoder_digest", "recipe", "contrasts", "pooling", "perturbation", "severity"):
        assert getattr(read, name) == getattr(features, name)


def test_a_bad_case_keeps_its_row_and_its_reason_to_the_end(tmp_path, cohort, encoder):
    task = load_task("diagnosis", cohort, "synthetic")
    bad = task.cases_of("test")[0]
    broken = tmp_path / "x.nii.gz"
    broken.write_bytes(bad.scans[0].path.read_bytes()[:500])
    cases = [c if c is not bad else replace(c, scans=(replace(c.scans[0], path=broken),)) for c in task.cases]
    features = encode(cases, encoder)
    assert (features.cases["status"] != "ok").sum() == 1
    table = predict(task, features, fit(task, features)).table
    failed = table[table["status"] != "ok"]
    assert list(failed["case"]) == [bad.name] and "truncated" in failed["status"].iloc[0]
    assert len(table) == len(task.cases_of("test"))
    assert int(score(table, draws=50).metrics["failed"].iloc[0]) == 1


def test_a_missing_contrast_is_a_reason(cohort, encoder):
    cases = catalog.load("cohorts", "synthetic").cases(cohort)
    features = encode(cases, encoder, ("T2w",))
    reasons = features.cases.loc[features.cases["status"] != "ok", "status"]
    assert len(reasons) == 18 and all("has no T2w" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("task_name", "head"), [("brain_age", "linear"), ("diagnosis", "linear"), ("diagnosis", "prior")]
)
def test_fit_predict_round_trip(tmp_path, cohort, features, task_name, head):
    task = load_task(task_name, cohort, "synthetic")
    fitted = fit(task, features, head, fraction=1.0, seed=0)
    write_head(fitted, tmp_path / "head")
    table = predict(task, features, read_head(tmp_path / "head"))
    pd.testing.assert_frame_equal(table.table, predict(task, features, fitted).table)
    write_predictions(table, tmp_path / "p")
    read = read_predictions(tmp_path / "p").table
    pd.testing.assert_frame_equal(read, table.table, check_dtype=False)
    assert set(table.table["subject"]) == {case.subject for case in task.cases_of("test")}
    assert set(fitted.subjects) == {case.subject for case in task.cases_of("train")}


def test_survival_takes_four_contrasts(cohort, encoder):
    task = load_task("survival", cohort, "synthetic")
    features = encode(task.cases, encoder)
    assert features.values.shape[1] == 40
    table = predict(task, features, fit(task, features, "cox")).table
    assert {"time", "event", "output"} <= set(table.columns)


def test_segmentation_ends_as_label_maps_in_the_scans_own_space(tmp_path, cohort, encoder):
    task = load_task("tumour_segmentation", cohort, "synthetic")
    before = encoder.digest()
    fitted = fit(task, encoder, "decoder", seed=0)
    assert encoder.digest() == before
    write_head(fitted, tmp_path / "head")
    table = predict(task, encoder, read_head(tmp_path / "head"), out=tmp_path / "p").table
    for case in task.cases_of("test"):
        image = nib.load(tmp_path / "p" / "label_maps" / f"{case.name}_dseg.nii.gz")
        scan = read_volume(case.scans[0].path)
        assert image.shape == scan.voxels.shape[1:] and np.allclose(image.affine, scan.affine, atol=1e-3)
        assert set(np.unique(image.get_fdata())) <= {0, 1, 2, 3}
    assert table["output_WT_dice"].between(0, 1).all()
    assert table["output_WT_dice"].mean() > 0.3  # a linear map from pixels finds a bright lesion


def test_the_trivial_answer_of_segmentation_is_no_lesion(tmp_path, cohort, encoder):
    task = load_task("tumour_segmentation", cohort, "synthetic")
    fitted = fit(task, encoder, "prior")
    write_head(fitted, tmp_path / "head")
    table = predict(task, encoder, read_head(tmp_path / "head"), out=tmp_path / "p").table
    assert (table[[f"output_{region}_dice" for region in ("WT", "TC")]] == 0).all(axis=None)
    for case in task.cases_of("test"):
        image = nib.load(tmp_path / "p" / "label_maps" / f"{case.name}_dseg.nii.gz")
        assert image.shape == read_volume(case.scans[0].path).voxels.shape[1:] and not image.get_fdata().any()


def test_what_does_not_fit_together_is_refused(cohort, features, encoder, weights):
    task = load_task("diagnosis", cohort, "synthetic")
    fitted = fit(task, features)
    twin = load_encoder("random_init", weights, seed=9)
    with pytest.raises(ValueError, match="other encoder weights"):
        predict(task, encode(task.cases, twin), fitted)
    for other in ({"recipe": "0" * 12}, {"pooling": "mean_patch"}):
        with pytest.raises(ValueError, match="another recipe or another pooling"):
            predict(task, replace(features, **other), fitted)
    with pytest.raises(ValueError, match="learned on task 'diagnosis', not on 'brain_age'"):
        predict(load_task("brain_age", cohort, "synthetic"), features, fitted)
    with pytest.raises(ValueError, match="serves"):
        fit(task, features, "cox")
    with pytest.raises(ValueError, match="patch tokens"):
        fit(load_task("tumour_segmentation", cohort, "synthetic"), features, "decoder")
    with pytest.raises(ValueError, match="run encode first"):
        fit(task, encoder, "linear")
    with pytest.raises(ValueError, match="no cases"):
        encode([], encoder)
    with pytest.raises(ValueError, match="appears twice"):
        encode([task.cases[0], task.cases[0]], encoder)


def test_random_init_is_another_encoder_of_the_same_shape(weights, encoder):
    one, again, two = (load_encoder("random_init", weights, seed=seed) for seed in (0, 0, 1))
    assert one.digest() == again.digest() != two.digest() != encoder.digest()
    assert one.recipe == encoder.recipe and one.dim == encoder.dim
