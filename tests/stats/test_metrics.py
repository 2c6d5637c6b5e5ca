import numpy as np
import pytest
from lifelines.utils import concordance_index as lifelines_c
from sklearn import metrics as sk

from braindino.stats.metrics import METRICS, segmentation_metric

RNG = np.random.default_rng(0)


def classification(n=90, classes=3, step=0.1):
    target = np.arange(n) % classes
    raw = np.exp(RNG.normal(size=(n, classes)) + 1.0 * (target[:, None] == np.arange(classes)))
    output = np.round(raw / raw.sum(1, keepdims=True) / step) * step  # ties
    return target, output


def test_auc_by_hand():
    target = np.array([0, 0, 1, 1])
    score = np.array([0.1, 0.4, 0.4, 0.8])  # pairs won: 1, 0.5, 1, 1
    output = np.stack([1 - score, score], 1)
    assert METRICS["roc_auc"].value(target, output) == 3.5 / 4


def test_auprc_by_hand():
    """From the highest score: hit, miss, hit, so AP = 1/2 * 1/1 + 1/2 * 2/3; of the other class the same."""
    target, score = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    output = np.stack([1 - score, score], 1)
    other = 1 / 2 * 1 / 1 + 1 / 2 * 2 / 3  # class 0 from its highest: hit (0.9), miss, hit, miss
    assert METRICS["auprc"].value(target, output) == pytest.approx((1 / 2 + 1 / 2 * 2 / 3 + other) / 2)


def test_balanced_accuracy_by_hand():
    output = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    assert METRICS["balanced_accuracy"].value(np.array([0, 0, 0, 1, 1]), output) == (1 + 1 / 2) / 2


def test_segmentation_metric_takes_the_longest_name():
    assert segmentation_metric("dice").name == "dice" and segmentation_metric("WT_dice").name == "dice"
    assert segmentation_metric("WT_surface_dice").name == "surface_dice"
    assert segmentation_metric("output_lesion_lesionwise_hd95_mm").name == "lesionwise_hd95_mm"
    assert segmentation_metric("lesion_hd95_mm").name == "hd95_mm"
    with pytest.raises(ValueError, match="no segmentation metric"):
        segmentation_metric("WT_volume")


def test_classification_agrees_with_sklearn():
    target, output = classification()
    said = output.argmax(1)
    auc = np.mean([sk.roc_auc_score(target == c, output[:, c]) for c in range(3)])
    assert METRICS["roc_auc"].value(target, output) == pytest.approx(auc, abs=1e-12)
    assert METRICS["accuracy"].value(target, output) == sk.accuracy_score(target, said)
    assert METRICS["balanced_accuracy"].value(target, output) == pytest.approx(sk.balanced_accuracy_score(target, said))
    ap = np.mean([sk.average_precision_score(target == c, output[:, c]) for c in range(3)])
    assert METRICS["auprc"].value(target, output) == pytest.approx(ap, abs=1e-12)
    assert METRICS["f1"].value(target, output) == pytest.approx(sk.f1_score(target, said, average="macro"))
    p = np.linspace(0, 1, 11)
    two, y = np.stack([1 - p, p], 1), np.arange(11) % 2
    assert METRICS["brier"].value(y, two) == pytest.approx(sk.brier_score_loss(y, p))


def test_regression_agrees_with_sklearn():
    y = RNG.normal(60, 10, 50)
    f = y + RNG.normal(0, 5, 50)
    assert METRICS["mae"].value(y, f) == pytest.approx(sk.mean_absolute_error(y, f))
    assert METRICS["rmse"].value(y, f) == pytest.approx(np.sqrt(sk.mean_squared_error(y, f)))
    assert METRICS["r2"].value(y, f) == pytest.approx(sk.r2_score(y, f))
    assert METRICS["pearson_r"].value(y, f) == pytest.approx(np.corrcoef(y, f)[0, 1])


def test_concordance_by_hand_and_by_lifelines():
    target = np.array([[1.0, 1], [2, 0], [3, 1], [4, 1]])
    risk = np.array([3.0, 0.0, 1.0, 1.0])  # comparable: 3 with the first, 1 tie between the last two
    assert METRICS["concordance_index"].value(target, risk) == 3.5 / 4
    time, event = np.ceil(RNG.exponential(10, 80)), RNG.random(80) < 0.6
    risk = np.round(-time / 10 + RNG.normal(size=80), 1)
    ours = METRICS["concordance_index"].value(np.stack([time, event], 1).astype(float), risk)
    assert ours == pytest.approx(lifelines_c(time, -risk, event), abs=1e-12)


@pytest.mark.parametrize("name", [name for name, one in METRICS.items() if one.of == "outputs"])
def test_weights_are_repeats(name):
    """A case of weight 3 counts like three copies of it, and one of weight 0 like none."""
    metric, n = METRICS[name], 40
    counts = RNG.integers(0, 4, size=(3, n))
    if metric.kind == "classification":
        target, output = classification(n)
    elif metric.kind == "survival":
        target = np.stack([np.ceil(RNG.exponential(10, n)), RNG.integers(0, 2, n)], 1).astype(float)
        output = RNG.normal(size=n)
    else:
        target = RNG.normal(50, 9, n)
        output = RNG.random((n, 2)) if metric.kind == "segmentation" else target + RNG.normal(size=n)
    weighted = metric.function(target, output, counts)
    repeated = [metric.value(np.repeat(target, c, axis=0), np.repeat(output, c, axis=0)) for c in counts]
    np.testing.assert_allclose(weighted, repeated, atol=1e-7 if name == "calibration_slope" else 1e-12)


def test_undefined_is_nan():
    one_class = np.zeros(5, int), np.full((5, 2), 0.5)
    for name in ("roc_auc", "auprc", "balanced_accuracy", "calibration_slope"):
        assert np.isnan(METRICS[name].value(*one_class)), name
    assert np.isnan(METRICS["concordance_index"].value(np.array([[1.0, 0], [2.0, 0]]), np.array([0.0, 1.0])))
    y = np.linspace(40, 70, 8)
    assert np.isnan(METRICS["pearson_r"].value(y, np.full(8, 55.3)))
    assert METRICS["r2"].value(y, np.full(8, y.mean())) == pytest.approx(0)
    assert np.isnan(METRICS["r2"].value(np.full(8, 55.3), y))
