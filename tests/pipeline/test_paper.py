"""paper: the plan says what can be run and what is missing; a run gives every table and is not repeated."""

import shutil
from pathlib import Path

import pytest

from braindino.cli import main
from braindino.corpus.audit import LeakageError, name_digest
from braindino.model.weights import load_encoder as read_encoder
from braindino.model.weights import save_encoder
from braindino.pipeline.clinical import clinical_features
from braindino.pipeline.demo import COHORT
from braindino.pipeline.fit import load_task
from braindino.pipeline.paper import PERTURBED, ROBUST, _sweeps, paper, plan_paper
from braindino.pipeline.predict import read_predictions
from braindino.pipeline.score import read_scores
from braindino.pipeline.studies import COHORTS, HEADS, Rival
from braindino.pipeline.synthesize import synthesize
from braindino.record import read_table
from braindino.synthesis.config import SynthesisConfig
from braindino.tasks import DRAWS, FRACTIONS
from braindino.verbs.answers import Paper


@pytest.fixture(scope="module")
def done(tmp_path_factory, cohort, weights):
    """A finished run on two tasks, and its plan."""
    out = tmp_path_factory.mktemp("paper")
    plan = plan_paper(
        [f"synthetic={cohort}"],
        ["braindino", "regions"],
        weights,
        fractions=(0.5, 1.0),
        draws=2,
        only=("dementia", "survival"),
    )
    paper(plan, out, workers=1)
    return plan, out


def test_a_plan_counts_fits_and_names_what_is_missing(cohort, weights):
    plan = plan_paper([f"synthetic={cohort}", "ixi=/nowhere"], ["braindino", "bm_mae"], weights)
    lines = "\n".join(plan.lines())
    assert "MISSING brain_age needs --root long579=FOLDER and --root pixar=FOLDER" in lines
    assert "MISSING encoder bm_mae: bm_mae needs --weights" in lines
    names = [study.name for study in plan.studies]
    assert "dementia_synthetic" in names and "tumour_segmentation_synthetic" in names
    fits = sum(26 * len(study.heads) if not study.dense else 6 for study in plan.studies)
    assert lines.endswith(f"{len(names)} tasks x 1 encoders, {fits} fits in all")


def test_other_heads_stand_where_they_serve(tmp_path, cohort, weights):
    wanted = ("knn", "lora", "conv_decoder")
    about = {"fractions": (1.0,), "heads": wanted, "dense_draws": 5}
    plan = plan_paper([f"synthetic={cohort}"], ["braindino", "regions"], weights, **about)
    heads = {study.name: study.heads for study in plan.studies}
    assert heads["dementia"] == ("knn", "lora") and heads["brain_age"] == ("lora",)
    assert heads["tumour_segmentation"] == ("conv_decoder",)
    assert {plan.draws_of(study) for study in plan.studies} == {5}
    plan = plan_paper([f"synthetic={cohort}"], ["braindino", "regions"], weights, **about, only=("dementia",))
    paper(plan, tmp_path, workers=1, perturb=False)
    metrics = read_scores(tmp_path / "scores").metrics
    found = set(zip(metrics["encoder"], metrics["head"], strict=True))
    clinical = {("clinical", "knn"), ("clinical", "prior")}
    assert found == {("braindino", "knn"), ("braindino", "lora"), ("regions", "knn"), *clinical}


def test_age_and_sex_alone_serve_any_user(tmp_path, cohort):
    asked = ["--task", "dementia", "--root", f"synthetic={cohort}", "--features", "clinical"]
    main(["fit", *asked, "--out", str(tmp_path / "head")])
    main(["predict", *asked, "--head", str(tmp_path / "head"), "--out", str(tmp_path / "answers")])
    table = read_predictions(tmp_path / "answers").table
    assert set(table["encoder"]) == {"clinical"} and (table["status"] == "ok").all()


def test_every_cohort_of_the_paper_is_asked_for_by_name():
    plan = plan_paper([], [], None)
    assert not plan.studies and len(plan.missing) == sum(map(len, COHORTS.values()))
    for cohorts in (names for places in COHORTS.values() for names in places):
        assert any(all(f"--root {name}=FOLDER" in line for name in cohorts) for line in plan.missing)


def test_every_model_has_every_fraction_and_the_clean_heads_meet_every_perturbation(done):
    plan, out = done
    metrics = read_scores(out / "scores").metrics
    for study in plan.studies:
        own = metrics[metrics["task"] == study.name]
        clean = own[own["perturbation"] == "none"]
        for encoder in ("braindino", "regions"):
            for head in HEADS[study.task.kind]:
                rows = clean[(clean["encoder"] == encoder) & (clean["head"] == head)]
                assert set(rows["fraction"]) == {0.5, 1.0}
                assert set(rows[rows["fraction"] == 0.5]["seed"]) == {"0,1"}
        assert {("clinical", "prior"), ("clinical", study.heads[0])} <= set(
            zip(clean["encoder"], clean["head"], strict=True)
        )
        changed = own[own["encoder"] == "braindino"][["perturbation", "severity"]].itertuples(index=False)
        found = {(name, int(severity)) for name, severity in changed}
        assert found == {("none", 0), *PERTURBED} if study.name in ROBUST else found == {("none", 0)}
    assert {"sex", "age"} <= set(read_scores(out / "scores").strata["variable"])
    risks = read_scores(out / "scores").risk_groups
    assert set(risks["head"]) >= {"cox", "discrete_time"} and set(risks["group"]) == {"high", "low"}
    assert len(read_table(out / "analysis" / "mcnemar.tsv", text=("a", "b")))
    assert (out / "report" / "index.html").is_file()


def test_what_was_lost_is_made_again_to_the_same_bytes_and_nothing_else(done):
    plan, out = done
    files = [p for p in out.rglob("*") if p.is_file() and p.suffix in (".tsv", ".npy")]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    lost = [out / "predictions" / "survival-braindino-cox", out / "features" / f"regions-{plan.studies[0].view}"]
    for folder in lost:
        shutil.rmtree(folder)
    paper(plan, out, workers=1)
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    assert {path: one[0] for path, one in after.items()} == {path: one[0] for path, one in before.items()}
    again = {path for path in files if after[path][1] != before[path][1]}
    assert all(any(folder in path.parents for folder in lost) or "clinical" in str(path) for path in again)


def test_segmentation_alone_has_a_page_without_an_analysis(tmp_path, cohort, weights):
    plan = plan_paper([f"synthetic={cohort}"], ["braindino"], weights, fractions=(1.0,), only=("tumour_segmentation",))
    page = paper(plan, tmp_path, workers=1)
    assert not (tmp_path / "analysis").exists() and "Headline metric on perturbed test scans" in page.read_text("utf-8")
    metrics = read_scores(tmp_path / "scores").metrics
    tested = metrics[["perturbation", "severity"]].itertuples(index=False)
    assert set(metrics["head"]) == {"decoder"}
    assert {(name, int(severity)) for name, severity in tested} == {("none", 0), *PERTURBED}
    dice = metrics[metrics["metric"] == "WT_dice"].set_index(["perturbation", "severity"])["value"]
    assert dice["gibbs", 5] != dice["none", 0] and dice.notna().all()
    assert len(list(tmp_path.glob("predictions/*/label_maps/*"))) == len(plan.studies[0].task.cases_of("test"))
    assert [one.perturbed for one in _sweeps(plan, tmp_path, {}, perturb=False)] == [()]


def test_the_papers_protocol_is_reported_on_validation_and_labelled(tmp_path, cohort, weights):
    plan = plan_paper(
        [f"synthetic={cohort}"], ["regions"], weights, fractions=(1.0,), only=("dementia",), protocol="paper"
    )
    page = paper(plan, tmp_path, workers=1, perturb=False).read_text(encoding="utf-8")
    metrics = read_scores(tmp_path / "scores").metrics
    assert set(metrics["split"]) == {"validation"} and set(metrics["protocol"]) == {"paper"}
    assert "PROTOCOL OF THE PAPER" in page and "same validation subjects" in page
    assert "Headline metric of every model" in page and "ROC" in page


def test_names_that_are_acknowledged_reach_the_tasks_and_encoders_that_they_concern(tmp_path, cohort, weights):
    model, metadata = read_encoder(weights)
    task = load_task("dementia", cohort, "synthetic")
    test = task.cases_of("test")[0].subject
    source = {**metadata["source"], "seen": [name_digest(f"synthetic/{test}")]}
    save_encoder(tmp_path / "seen.safetensors", model, metadata["recipe"], source)
    about = {"fractions": (1.0,), "only": ("dementia",)}
    asked = [f"synthetic={cohort}"], ["braindino", "regions"], tmp_path / "seen.safetensors"
    plan = plan_paper(*asked, **about)
    assert [line for line in plan.lines() if line.startswith("LEAK braindino: the encoder was pretrained on 1 subj")]
    with pytest.raises(LeakageError, match=f"pretrained on 1 subjects .*{test}"):
        paper(plan, tmp_path / "out", workers=1, perturb=False)
    assert not (tmp_path / "out").exists()  # told before anything is encoded
    plan = plan_paper(*asked, acknowledge=(f"synthetic/{test}",), **about)
    assert plan.leaks == ()
    paper(plan, tmp_path / "out", workers=1, perturb=False)
    told = read_predictions(tmp_path / "out" / "predictions" / "dementia-braindino-linear").table
    assert set(told["subject"][told["pretrained"] == "yes"]) == {test}


def test_a_head_that_no_fraction_can_teach_is_told(tmp_path, cohort, weights):
    plan = plan_paper([f"synthetic={cohort}"], ["braindino"], weights, fractions=(0.1,), draws=1, only=("survival",))
    with pytest.raises(ValueError, match=r"cannot be learned on any fraction: training: .* events among"):
        paper(plan, tmp_path, workers=1, perturb=False)


def test_age_and_sex_alone_leave_the_target_out(cohort):
    ages = clinical_features(load_task("dementia", cohort, "synthetic"))
    assert ages.values.shape[2] == 3 and ages.values[:, 0, 0].min() > 4
    sexes = clinical_features(load_task("brain_age", cohort, "synthetic"))
    assert sexes.values.shape[2] == 2 and set(sexes.values.ravel().tolist()) == {0.0, 1.0}


def test_the_flags_stand_at_the_paper_s_fractions(tmp_path):
    flags = Paper((), tmp_path)
    assert (flags.fractions, flags.draws) == (FRACTIONS, DRAWS)


def test_words_of_an_encoder(weights):
    assert Rival.of("braindino@brain", weights).name == "braindino@brain"
    assert Rival.of("braindino@exact", weights).name == "braindino"
    assert Rival.of(f"random_init={weights}", None).choice.weights == weights
    assert not Rival.of("regions", weights).slices
    with pytest.raises(ValueError, match="unknown encoder 'regoins'; did you mean 'regions'"):
        Rival.of("regoins", None)


def test_bad_words_are_told(tmp_path, cohort, capsys):
    for words, told in (
        ("--root nothing", "is no COHORT=FOLDER"),
        (f"--root synthetc={cohort}", "did you mean 'synthetic'"),
        (f"--root synthetic={cohort} --tasks brain_aeg", "did you mean 'brain_age'"),
        (f"--root synthetic={cohort} --encoders braindino", "encoder braindino"),
        (f"--root synthetic={cohort} --encoders regions regions@default", "encoder regions is given twice"),
        ("--root ixi=/nowhere --tasks brain_age", "no task can be run: brain_age needs --root long579=FOLDER"),
    ):
        with pytest.raises(SystemExit):
            main(["paper", *words.split(), "--out", str(tmp_path / "out")])
        assert told in capsys.readouterr().err


def test_the_subjects_of_runs_paper_have_other_names_than_those_that_the_demo_pretrains_on():
    words = (Path(__file__).parents[2] / "runs" / "paper").read_text(encoding="utf-8").split()
    first = int(words[words.index("--first") + 1].strip('"'))
    assert first > max(COHORT[group] for group in ("healthy", "dementia", "glioma"))


def test_a_cohort_can_be_numbered_from_elsewhere(tmp_path):
    cohort = synthesize(tmp_path, SynthesisConfig(healthy=1, dementia=0, glioma=0, spacing_mm=4.0, first=501))
    assert [path.name for path in cohort.glob("sub-*")] == ["sub-healthy501"]
    with pytest.raises(ValueError, match="first is 998: the numbers of 3 subjects must lie within 1 to 999"):
        SynthesisConfig(healthy=3, dementia=0, glioma=0, first=998)
