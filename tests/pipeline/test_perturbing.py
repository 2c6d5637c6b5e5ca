"""Heads that run the encoder live, on perturbed scans: severity 0 is clean, label maps come back to their place."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from braindino import catalog
from braindino.cli import main
from braindino.pipeline.encode import encode
from braindino.pipeline.fit import fit, load_task, write_head
from braindino.pipeline.live import CLEAN, live, segmented
from braindino.pipeline.perturbing import MOST_SEVERE, Perturbation, back_in_place
from braindino.pipeline.predict import predict, read_predictions
from braindino.record import read_record
from phantom import scanned

NAMES = catalog.names("perturbations")
TURNING = ("flip", "orientation")


@pytest.fixture(scope="module")
def task(cohort):
    return load_task("tumour_segmentation", cohort, "synthetic")


@pytest.fixture(scope="module")
def fitted(task, encoder):
    return fit(task, encoder, "decoder")


@pytest.mark.parametrize("name", NAMES)
def test_every_voxel_finds_back_to_its_place(name):
    """Labels are never interpolated: each voxel of the scan stands once in the perturbed volume."""
    volume = scanned()
    for severity in range(MOST_SEVERE + 1):
        perturbation = Perturbation(name, severity, 3)
        moved, numbers = perturbation.traced(volume)
        assert moved.label_map is None and np.array_equal(np.sort(numbers, axis=None), np.arange(numbers.size))
        assert (np.ravel(numbers) == np.arange(numbers.size)).all() == (severity == 0 or name not in TURNING)
        if name in TURNING:
            assert np.array_equal(moved.voxels[0].ravel(), volume.voxels[0].ravel()[numbers.ravel()])
        labels = perturbation.of(volume).label_map.astype(np.uint8)
        assert np.array_equal(back_in_place(labels, numbers, volume.label_map.shape), volume.label_map)


class Bright:
    """A head whose answer turns with the image: what is brighter than the 90th percentile is all lesion."""

    needs, kinds = "patch", ("segmentation",)

    def state(self):
        return {}

    def predict_dense(self, encoder, task, volume):
        assert volume.label_map is None
        return 3 * (volume.voxels[0] > np.percentile(volume.voxels[0], 90)).astype(np.uint8)


@pytest.mark.parametrize("name", TURNING)
def test_what_is_turned_is_scored_and_written_in_the_scan_s_own_grid(tmp_path, task, encoder, name):
    cases = task.cases_of("test")[:1]
    clean = segmented(task, encoder, Bright(), cases, CLEAN, tmp_path / "clean")
    assert clean[0]["status"] == "ok" and np.isfinite(clean[0]["output_WT_hd95_mm"])
    for severity in range(MOST_SEVERE + 1):
        out = tmp_path / str(severity)
        assert segmented(task, encoder, Bright(), cases, Perturbation(name, severity), out) == clean
        maps = [next(folder.rglob("*.nii.gz")).read_bytes() for folder in (tmp_path / "clean", out)]
        assert maps[0] == maps[1]


def test_severity_0_is_clean_and_ringing_is_not(tmp_path, task, encoder, fitted):
    clean = predict(task, encoder, fitted, out=tmp_path / "clean").table
    none, ringing = (
        predict(task, encoder, fitted, out=tmp_path / str(n), perturbation=Perturbation("gibbs", n)).table
        for n in (0, 5)
    )
    same = [name for name in clean if name not in ("perturbation", "severity")]
    pd.testing.assert_frame_equal(none[same], clean[same])
    maps = [sorted((tmp_path / name / "label_maps").iterdir()) for name in ("clean", "0", "5")]
    assert [p.read_bytes() for p in maps[0]] == [p.read_bytes() for p in maps[1]]
    assert set(zip(ringing["perturbation"], ringing["severity"], strict=True)) == {("gibbs", 5)}
    assert (ringing["status"] == "ok").all() and not ringing["output_WT_dice"].equals(clean["output_WT_dice"])
    scan = nib.load(task.cases_of("test")[0].scans[0].path)
    found = nib.load(tmp_path / "5" / "label_maps" / f"{task.cases_of('test')[0].name}_dseg.nii.gz")
    assert found.shape == scan.shape and np.allclose(found.affine, scan.affine, atol=1e-4)


def test_what_is_drawn_is_the_subject_s_whoever_stands_beside_it(task, encoder, fitted):
    cases = task.cases_of("test")
    both, alone, other = (
        segmented(task, encoder, fitted.head, some, Perturbation("bias_field", 5, seed), None)
        for some, seed in ((cases[:2], 1), (cases[1:2], 1), (cases[1:2], 2))
    )
    assert both[1] == alone[0] != other[0]


def test_a_head_with_a_gradient_meets_them_too(cohort, encoder):
    task = load_task("diagnosis", cohort, "synthetic")
    tuned = fit(task, encoder, "tuned", steps=2)
    clean, none, noisy = (
        predict(task, encoder, tuned, perturbation=Perturbation("noise", severity, 1)).table for severity in (0, 0, 5)
    )
    pd.testing.assert_frame_equal(clean, none)
    assert set(noisy["perturbation"]) == {"noise"} and set(noisy["severity"]) == {5} and (noisy["status"] == "ok").all()
    cases = task.cases_of("test")[:2]  # two steps teach little: that it sees other pictures is seen in these
    plain, same, other = (live(encoder, cases, Perturbation("noise", n, 1))[0].pictures for n in (0, 0, 5))
    assert all(np.array_equal(a, b) and not np.array_equal(a, c) for a, b, c in zip(plain, same, other, strict=True))


def test_a_scan_that_cannot_be_perturbed_keeps_its_row(task, encoder, fitted, tmp_path):
    """Noise wants a mean signal above 0; the case with a negative image fails with that reason, the others go on."""
    bad, *rest = task.cases_of("test")
    image = nib.load(bad.scans[0].path)
    nib.save(nib.Nifti1Image(-np.asarray(image.dataobj, np.float32), image.affine), tmp_path / "x.nii.gz")
    broken = replace(bad, scans=(replace(bad.scans[0], path=tmp_path / "x.nii.gz"), *bad.scans[1:]))
    found = segmented(task, encoder, fitted.head, (broken, *rest[:1]), Perturbation("noise", 2), None)
    assert "the mean intensity within the brain is" in found[0]["status"] and found[1]["status"] == "ok"


def test_as_a_verb(tmp_path, cohort, weights, fitted, capsys):
    write_head(fitted, tmp_path / "head")
    line = f"predict --task tumour_segmentation --root synthetic={cohort} --head {tmp_path}/head --weights {weights}"
    main([*f"{line} --perturb bias_field --severity 4 --perturb-seed 7 --out {tmp_path}/p".split()])
    table = read_predictions(tmp_path / "p").table
    assert set(table["perturbation"]) == {"bias_field"} and set(table["severity"]) == {4}
    assert read_record(tmp_path / "p")["config"]["perturb_seed"] == 7
    for more, told in (
        ("--severity 2", "of which perturbation? Add --perturb NAME"),
        ("--perturb gibs --severity 2", "did you mean 'gibbs'"),
        ("--perturb gibbs --severity 6", r"--severity is 6, expected 0"),
    ):
        with pytest.raises(SystemExit):
            main([*line.split(), *more.split(), "--out", str(tmp_path / "q")])
        assert told in capsys.readouterr().err
    assert not (tmp_path / "q").exists()


def test_of_cached_features_it_is_encode_s(cohort, encoder):
    task = load_task("diagnosis", cohort, "synthetic")
    features = encode(task.cases, encoder)
    head = fit(task, features)
    with pytest.raises(ValueError, match=r"perturbed when they are made .these: none, severity 0.: give --perturb"):
        predict(task, features, head, perturbation=Perturbation("gibbs", 3))
