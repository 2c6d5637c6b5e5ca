"""The scikit-learn transformer: in a pipeline, cloned, checked, and without torch until it is fitted."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

import braindino as bd
from braindino import catalog
from braindino.volume.io import read_case, read_volume

CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)


@pytest.mark.parametrize("check", CHECKS)
def test_checks_of_scikit_learn_that_need_no_numbers(check, weights):
    getattr(estimator_checks, check)("BrainEncoder", bd.BrainEncoder(weights))


@pytest.fixture(scope="module")
def scans(cohort):
    cases = catalog.load("cohorts", "synthetic").cases(cohort)[:2]
    return [next(scan.path for scan in case.scans if scan.contrast == "T1w") for case in cases]


def test_paths_and_volumes_in_a_matrix_out(weights, scans):
    given = [scans[0], read_volume(str(scans[1]))]
    flat = bd.BrainEncoder(weights, views="flat").fit_transform(given)
    mean = bd.BrainEncoder(str(weights)).fit(given).transform([str(path) for path in scans])
    assert flat.shape == (2, 10 * 32) and mean.shape == (2, 32) and mean.dtype == np.float32
    assert np.allclose(flat.reshape(2, 10, 32).mean(1), mean, atol=1e-6)
    tokens = bd.load_encoder("braindino", weights).tokens(given[1], patches=True)
    assert np.allclose(flat[1], tokens.cls.ravel(), atol=1e-6)
    patches = bd.BrainEncoder(weights, pooling="mean_patch").fit_transform(given)
    assert np.allclose(patches[1], tokens.patch.mean((0, 1)), atol=1e-5)


def test_it_stands_in_a_pipeline_and_in_a_search(weights, cohort):
    volumes = [read_case(case.scans[:1]) for case in catalog.load("cohorts", "synthetic").cases(cohort)[:4]]
    line = make_pipeline(bd.BrainEncoder(weights), LogisticRegression(max_iter=50, tol=1e-1))
    search = GridSearchCV(clone(line), {"brainencoder__views": ["mean", "flat"]}, cv=2).fit(volumes, [0, 1, 0, 1])
    assert search.predict(volumes[:2]).shape == (2,)


def test_what_it_refuses(weights, tmp_path, scans):
    fitted = bd.BrainEncoder(weights).fit([])
    (tmp_path / "bad.nii.gz").write_bytes(scans[0].read_bytes()[:300])
    with pytest.raises(ValueError, match=r"scan 1 of X: .*truncated"):
        fitted.transform([scans[0], tmp_path / "bad.nii.gz"])
    with pytest.raises(ValueError, match="must be a list"):
        fitted.transform([])
    with pytest.raises(ValueError, match="expected cls or mean_patch"):
        bd.BrainEncoder(weights, pooling="max").fit([])
    with pytest.raises(ValueError, match="not fitted yet"):
        bd.BrainEncoder(weights).transform(scans)


def test_it_is_imported_without_torch():
    code = "import sys, braindino as bd; bd.BrainEncoder(); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
