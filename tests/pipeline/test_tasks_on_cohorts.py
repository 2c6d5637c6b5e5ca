"""Tasks from folders: brain age over three cohorts in miniature, names that collide, and the synthetic cohort."""

import numpy as np
import pytest

from braindino.cli import main
from braindino.pipeline.encode import encode, load_encoder
from braindino.pipeline.fit import fit, load_task
from braindino.pipeline.predict import predict
from braindino.pipeline.sources import read_root, together
from braindino.pipeline.synthesize import synthesize
from braindino.record import read_record, read_table
from braindino.synthesis.config import SynthesisConfig
from braindino.tasks import scan_by_scan
from trees import sheet, touch


@pytest.fixture
def healthy(tmp_path):
    """12 adults of IXI, 6 children of LONG579 at two ages, 8 people of Pixar."""
    ixi, long579, pixar = (tmp_path / name for name in ("IXI", "LONG", "PIXAR"))
    touch(ixi, *(f"IXI{n:03d}-Guys-{n:04d}-T1.nii.gz" for n in range(1, 13)))
    sheet(ixi / "IXI.csv", ["IXI_ID", "SEX_ID (1=m, 2=f)", "AGE"], [[n, 1, 20 + 5 * n] for n in range(1, 13)])
    touch(long579, *(f"sub-50{n}/ses-{a}/anat/sub-50{n}_ses-{a}_T1w.nii.gz" for n in range(10, 16) for a in "57"))
    rows = [[f"sub-50{n}", "F", 5.1 + n / 100, 7.2] for n in range(10, 16)]
    sheet(long579 / "participants.tsv", ["participant_id", "Sex", "age_ses-5", "age_ses-7"], rows, "\t")
    touch(pixar, *(f"sub-pixar{n:03d}/anat/sub-pixar{n:03d}_T1w.nii.gz" for n in range(1, 9)))
    rows = [[f"sub-pixar{n:03d}", 4 + n, "M"] for n in range(1, 9)]
    sheet(pixar / "participants.tsv", ["participant_id", "Age", "Gender"], rows, "\t")
    return [f"ixi={ixi}", f"long579={long579}", f"pixar={pixar}"]


def test_brain_age_over_the_three_cohorts_of_the_paper(healthy):
    task = load_task("brain_age", healthy)
    assert task.cohort == "ixi+long579+pixar" and len(task.cases) == 32 and len(task.split) == 26
    assert {case.subject for case in task.cases} >= {"IXI001", "5010", "pixar001"}
    for child in ("5010", "5015"):
        assert len({task.split[case.subject] for case in task.cases if case.subject == child}) == 1
    again = load_task("brain_age", healthy[::-1])
    assert again.split == task.split and again.cohort == "pixar+long579+ixi"
    (alone,) = ({c.name for c in load_task("brain_age", word).cases} for word in healthy[:1])
    assert alone == {case.name for case in task.cases if case.scans[0].cohort == "ixi"}
    with pytest.raises(ValueError, match="are both T1w of ixi/IXI001"):
        load_task("brain_age", [healthy[0], healthy[0]])
    with pytest.raises(ValueError, match="unknown cohort 'ixy'; did you mean 'ixi'"):
        load_task("brain_age", ["ixy=somewhere"])
    with pytest.raises(ValueError, match="give --root"):
        load_task("brain_age", [])


def test_people_of_two_cohorts_with_one_name_are_two(tmp_path):
    for name in ("one", "two"):
        touch(tmp_path, *(f"{name}/sub-{n:02d}/anat/sub-{n:02d}_T1w.nii.gz" for n in range(1, 7)))
        rows = [[f"sub-{n:02d}", 20 + n, "f"] for n in range(1, 7)]
        sheet(tmp_path / name / "participants.tsv", ["participant_id", "age", "family"], rows, "\t")
    touch(tmp_path, "two/sub-99/anat/sub-99_T1w.nii.gz")
    found = together([read_root(tmp_path / name, "bids", tell=lambda line: None) for name in ("one", "two")])
    assert len({case.name for case in found}) == 13
    names = {case.subject: case.scans[0] for case in found}
    assert names["bids-one-01"].cohort == "bids:one" and names["bids-two-01"].cohort == "bids:two"
    assert names["bids-one-01"].subject == names["bids-two-01"].subject == "01" and "99" in names
    families = {case.participant["family"] for case in found if "family" in case.participant}
    assert families == {"bids:one/f", "bids:two/f"}
    task = load_task("brain_age", [tmp_path / "one", tmp_path / "two"])
    sides = {(case.scans[0].cohort, task.split[case.subject]) for case in task.cases}
    assert len(sides) == 2  # each family of six on one side


def test_the_families_of_tasks_that_the_synthetic_cohort_has(tmp_path, cohort):
    sizes = {}
    for name in ("brain_age", "diagnosis", "ad_vs_cn", "dementia", "idh", "survival", "sequence"):
        task = load_task(name, cohort, "synthetic")
        sizes[name] = len(task.cases)
        assert set(task.split.values()) == {"train", "validation", "test"}
    assert sizes == {"brain_age": 9, "diagnosis": 18, "ad_vs_cn": 18, "dementia": 18, "idh": 9, "survival": 9,
                     "sequence": 36}  # fmt: skip
    strokes = SynthesisConfig(healthy=0, dementia=0, glioma=0, stroke=8, spacing_mm=4.0)
    days = load_task("days_since_stroke", synthesize(tmp_path / "c", strokes), "synthetic")
    assert len(days.cases) == 8 and min(float(c.participant["days_since_stroke"]) for c in days.cases) > 0
    for name in ("alzheimer", "autism", "parkinson"):
        with pytest.raises(ValueError, match=f"task {name}: no scan of a subject whose diagnosis is"):
            load_task(name, cohort, "synthetic")


def test_from_scans_to_the_sequence_of_each(cohort, weights):
    task, encoder = load_task("sequence", cohort, "synthetic"), load_encoder("braindino", weights)
    features = encode(scan_by_scan(read_root(cohort, "synthetic")), encoder)
    assert set(features.contrasts) == {"unknown"} and len(features.cases) == 9 * 4 + 18 * 2
    table = predict(task, features, fit(task, features)).table
    assert set(table["target"]) == {"T1w", "T1ce", "T2w", "FLAIR"} and set(table["status"]) == {"ok"}
    names = [f"output_{name}" for name in task.classes]
    said = np.array(task.classes)[table[names].to_numpy().argmax(1)]
    assert np.mean(said == table["target"]) > 0.5  # chance is 0.25


def test_the_verbs_use_and_refuse_split_files(tmp_path, cohort, weights, capsys):
    on = ["--task", "diagnosis", "--root", f"synthetic={cohort}"]
    main(["split", *on, "--protocol", "site:north", "--folds", "2", "--out", str(tmp_path / "s")])
    assert "protocol site:north" in capsys.readouterr().out
    record = read_record(tmp_path / "s", "split")
    assert record["config"]["protocol"] == "site:north" and record["facts"]["test"] > 0
    main(
        ["encode", f"synthetic={cohort}", "--weights", str(weights), "--contrasts", "T1w", "--out", str(tmp_path / "f")]
    )
    use = [*on, "--features", str(tmp_path / "f"), "--split-file", str(tmp_path / "s")]
    main(["fit", *use, "--head", "prior", "--out", str(tmp_path / "h")])
    main(["predict", *use, "--head", str(tmp_path / "h"), "--out", str(tmp_path / "p")])
    table = read_table(tmp_path / "p" / "predictions.tsv")
    assert set(table["protocol"]) == {"site:north"} and set(table["site"]) == {"north"}
    for wrong, message in (
        (["--protocol", "paper"], "a split file says the protocol"),
        (["--task", "brain_age"], "task brain_age"),
    ):
        with pytest.raises(SystemExit):
            main(["fit", *use, *wrong, "--out", str(tmp_path / "h2")])
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["predict", *use[:-2], "--head", str(tmp_path / "h"), "--out", str(tmp_path / "p2")])
    assert "was fitted with another split" in capsys.readouterr().err
