"""What a header, a sidecar or a DICOM file says of a person never gets into an output.

Names of subject folders and files are ids that the user chose; they are kept.
"""

import gzip
import json
import re

import nibabel as nib
import numpy as np
import pytest

from dicom_series import series
from faults import Count, attempts

pytest.importorskip("dcm2niix", reason="needs braindino[dicom]")
CANARIES = rb"(?i)canary|1950-?01-?02|2020-?03-?04|101112|1\.2\.826\.0\.1\.3680043\.8\.498"
SMALL = ["--recipe.spacing-mm", "8", "--recipe.size-px", "24", "--recipe.slices", "4"]


def image(seed):
    """A stripped head of its own texture: (i, j, k) int16 at 4 mm."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in (40, 48, 36)], indexing="ij")
    inside = sum(axis**2 for axis in grid) < 0.75
    return np.where(inside, 500 + 80 * grid[1] + 20 * rng.standard_normal(inside.shape), 0).astype(np.int16)


def bids(root, count):
    """A BIDS tree with canaries in header fields, an extension, sidecars and columns that no verb needs."""
    affine, rows = np.diag([4.0, 4.0, 4.0, 1.0]), ["participant_id\tage\tname\tbirth"]
    for number in range(count):
        name = f"sub-{number:02d}"
        made = nib.Nifti1Image(image(number), affine)
        for field in ("descrip", "aux_file", "db_name", "intent_name"):
            made.header[field] = b"Canary^Jane"[: made.header[field].dtype.itemsize]
        made.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Canary Jane 1950-01-02"))
        path = root / name / "anat" / f"{name}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(made, path)
        assert re.search(CANARIES, gzip.decompress(path.read_bytes()))
        sidecar = {
            "PatientName": "Canary^Jane",
            "AcquisitionDateTime": "2020-03-04T10:11:12",
            "BirthDate": "1950-01-02",
        }
        path.with_name(f"{name}_T1w.json").write_text(json.dumps(sidecar))
        rows.append(f"{name}\t{20 + number}\tCanary Jane\t1950-01-02")
    broken = root / "sub-99" / "anat" / "sub-99_T1w.nii.gz"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(path.read_bytes()[:900])
    (root / "participants.tsv").write_text("\n".join([*rows, "sub-99\t50\tCanary Jane\t1950-01-02"]) + "\n")


def test_what_headers_say_is_in_no_output(tmp_path, zygote, weights):
    scans, dicoms = len(attempts(9, 30)), len(attempts(2, 20))
    bids(tmp_path / "bids", scans)
    for number in range(dicoms):
        folder = tmp_path / "dicom" / f"p{number:02d}_T1w"
        folder.parent.mkdir(exist_ok=True)
        series(folder, image=image(100 + number)[:20, ::2, ::3] if number % 5 == 4 else image(100 + number))
        for path in folder.iterdir():
            path.rename(path.with_name(f"Canary_Jane_{path.name}"))
    out, task = tmp_path / "out", ["--task", "brain_age", "--root", tmp_path / "bids"]
    on = [*task, "--features", out / "bids"]
    lines = [
        (["prepare", tmp_path / "bids", tmp_path / "dicom", "--workers", "1", *SMALL], "corpus", 0),
        (["encode", tmp_path / "bids", "--weights", weights], "bids", 1),
        (["encode", tmp_path / "dicom", "--weights", weights], "dicom", None),
        (["fit", *on], "head", 0),
        (["predict", *on, "--head", out / "head"], "predictions", 0),
        (["score", out / "predictions", "--draws", "50"], "scores", 0),
        (["analyze", out / "bids"], "analysis", 0),
        (["report", "--corpus", out / "corpus", "--predictions", out / "predictions", "--scores", out / "scores",
          "--analysis", out / "analysis", "--tasks", "brain_age", "--root", tmp_path / "bids"], "report", 0),
    ]  # fmt: skip
    (out / "logs").mkdir(parents=True)
    for line, name, expected in lines:
        code, _, said = zygote.run([*line, "--out", out / name], out / "logs" / f"{name}.txt")
        assert expected is None or code == expected, said
    zygote.run(["check", f"bids={tmp_path / 'bids'}", tmp_path / "dicom"], out / "logs" / "check.txt")
    assert (out / "dicom" / "values.npy").is_file() and "99" in (out / "corpus" / "quarantine.tsv").read_text()
    files = [path for path in out.rglob("*") if path.is_file()]
    hits = [path for path in files if re.search(CANARIES, path.read_bytes()) or "anary" in path.name]
    count = Count(29, "scans and DICOM series with canaries; all outputs of 9 verbs searched")
    count.refused, count.silent = scans + dicoms - bool(hits), len(hits)
    assert len(files) > 30 and not hits, [(path.name, re.findall(CANARIES, path.read_bytes())[:3]) for path in hits]
    count.done()
