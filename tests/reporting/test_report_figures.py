"""What the figures compute, by hand and against scikit-learn."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from braindino.reporting.artefacts import Artefacts, answers_of, is_synthetic
from braindino.reporting.figures import display_range, slug
from braindino.reporting.figures_results import colours, roc_curve, survival_at
from braindino.reporting.figures_scans import LABELS, head_box, legend, plane
from braindino.reporting.figures_training import running_median, thinned, training_figure
from braindino.reporting.provenance import shareable
from braindino.reporting.sections_data import chosen_cases
from braindino.reporting.sections_results import threshold
from braindino.stats.survival import kaplan_meier


def test_roc_by_hand_and_by_scikit_learn():
    false, true = roc_curve(np.array([True, False, True, False]), np.array([0.9, 0.8, 0.8, 0.1]))
    assert false.tolist() == [0, 0, 0.5, 1] and true.tolist() == [0, 0.5, 1, 1]
    rng = np.random.default_rng(0)
    positive, score = rng.random(80) < 0.4, np.round(rng.random(80), 1)
    expected = sk.roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(roc_curve(positive, score), expected[:2])


def test_survival_at_is_the_step_function():
    curve = kaplan_meier(np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, True, False, True]))
    np.testing.assert_allclose(survival_at(curve, np.array([0.5, 1.0, 2.5, 3.9, 4.0])), [1, 0.75, 0.5, 0.5, 0])


def test_running_median_by_hand():
    assert running_median(np.array([1.0, 9.0, 2.0, np.nan, 3.0])).tolist() == [5.0, 2.0, 5.5, 2.5, 3.0]


def test_long_curves_are_thinned_to_medians_and_spans():
    step = np.arange(10_000.0)
    value = np.where(step % 10 == 3, 50.0, step % 10)
    middle, median, low, high = thinned(step, np.where(step == 0, np.nan, value))
    assert len(middle) <= 800 and middle[0] == 6 and middle[-1] > 9_990
    assert low[1] == 0 and high[:-1].min() == 50 and 4 <= median[:-1].min() <= median[:-1].max() <= 7
    short = thinned(step[:500], value[:500])
    assert [curve.tolist() for curve in short] == [step[:500].tolist()] + [value[:500].tolist()] * 3


def test_reference_line_needs_a_known_number_of_prototypes():
    log = [{"step": n, "finite": True, "total": 1.0, "global": 1.0} for n in range(4)]
    assert "ln 64" in training_figure("r", log, {"dino_head": {"prototypes": 64}}).svg
    assert "ln " not in training_figure("r", log, {}).svg
    patches = [{"step": n, "finite": True, "ibot": 1.0} for n in range(4)]
    config = {"ibot_head": {"prototypes": 64}, "loss": {"mask_probability": 0.5}}
    assert "0.5 ln 64 = 2.08" in training_figure("r", patches, config).svg
    with pytest.raises(ValueError, match="empty"):
        training_figure("r", [], {})


def test_planes_show_anterior_and_superior_up_and_left_left():
    array = np.zeros((2, 3, 4), int)
    array[0, 2, 3] = 7  # leftmost, most anterior, most superior
    assert plane(array, 2, 3)[0, 0] == 7 and plane(array, 2, 3).shape == (3, 2)
    assert plane(array, 1, 2)[0, 0] == 7 and plane(array, 1, 2).shape == (4, 2)
    assert plane(array, 0, 0)[0, 0] == 7 and plane(array, 0, 0).shape == (4, 3)


def test_pictures_are_cut_to_the_head():
    image = np.zeros((20, 10, 30))
    image[8:10, 4, 12:20] = 1
    assert head_box(image, 0, 1, margin=2) == (slice(6, 12), slice(2, 7), slice(10, 22))
    assert head_box(np.zeros((4, 5)), 0, 1) == (slice(0, 4), slice(0, 5))


def test_legend_names_the_colours_that_are_present():
    assert legend(np.array([0, 1, 3]), {1: "core"}) == "Colours: blue core, red label 3."
    assert legend(np.zeros(3), {}) == "" and legend(np.array([len(LABELS) + 1]), {}) == "Colours: blue label 7."


def test_figures_of_synthetic_subjects_say_so_in_the_picture():
    log = [{"step": n, "finite": True, "total": 1.0} for n in range(4)]
    assert "synthetic subjects" in training_figure("r", log, {}, synthetic=True).svg
    assert "synthetic" not in training_figure("r", log, {}, synthetic=False).svg


def test_grey_window_leaves_out_the_background():
    image = np.r_[np.zeros(1000), np.linspace(10, 110, 101)]
    low, high = display_range(image)
    assert low == 0 and high == pytest.approx(109.5)
    assert display_range(np.zeros(3)) == (0, 1)


def answers(split="test", head="cox", output=(1.0, 2.0, 6.0), **more):
    base = {"task": "t", "kind": "survival", "encoder": "e", "head": head, "fraction": 1.0, "seed": 0}
    base |= {"perturbation": "none", "severity": 0, "split": split, "status": "ok", "case": "c"} | more
    return answers_of(Path("p"), pd.DataFrame([base | {"output": value} for value in output]))[0]


def test_threshold_prefers_the_training_subjects():
    test = answers(head="other")
    train = answers("train", head="other", output=(5.0, 7.0, 100.0))
    assert threshold(Artefacts(answers=(test, train)), test).value == 7 and threshold(Artefacts(), answers()).value == 0
    own = threshold(Artefacts(answers=(test, answers("train", head="other", fraction=0.4))), test)
    assert own.value == 2 and not own.fixed and "test subjects" in own.source


def test_headline_answers_are_clean_full_fraction_and_one_per_model():
    chosen, second = answers(), answers(seed=1)
    others = (answers(fraction=0.4), answers(perturbation="noise"), answers("train"), second)
    found = Artefacts(answers=(*others, chosen, answers(encoder="f"))).headline_answers()
    assert [(one.model, one.seed, one.fraction) for one in found["t"]] == [("e/cox", 0, 1.0), ("f/cox", 0, 1.0)]
    assert found["t"][0] is chosen
    with pytest.raises(ValueError, match="no predictions"):
        answers_of(Path("p"), pd.DataFrame())


def test_real_cases_come_first_then_different_groups(line):
    chosen = chosen_cases(Artefacts(cases=line["cases"]))
    assert [case.name for case in chosen] == ["head", "sub-00", "sub-01", "sub-02"]
    assert len({case.participant.get("group") for case in chosen}) == 4


def test_colours_names_and_paths():
    found = colours(["b, x", "a, x", "prior"])
    assert found["a, x"] != found["b, x"] and found["prior"] == "#808080"
    assert found == colours(["prior", "a, x", "b, x"])
    assert slug("Größe ../../x y") == "gr-e-x-y" and slug("../") == "unnamed"
    assert shareable({"a": ["/home/me/corpus", "rel/x", 3]}) == {"a": ["corpus", "rel/x", 3]}
    assert is_synthetic("synthetic") and is_synthetic("synthetic:x") and not is_synthetic("synthetics")
