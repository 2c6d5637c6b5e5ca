import numpy as np
import pytest

from braindino.pipeline.around import Asked
from braindino.pipeline.design import design
from braindino.pipeline.encode import encode, load_encoder
from braindino.pipeline.fit import fit, load_task, read_head, write_head
from braindino.pipeline.pooling import pooled
from braindino.pipeline.predict import predict
from braindino.pipeline.score import score

VALUES = np.array([[1, 2], [3, 4], [10, 20], [30, 40]], np.float16)
NAMES = ("T1w", "T1w", "FLAIR", "FLAIR")


def test_mean_and_concat():
    assert pooled(VALUES, NAMES).tolist() == [11, 16.5]
    assert pooled(VALUES, NAMES, "concat").tolist() == [2, 3, 20, 30]


def test_a_missing_contrast_takes_no_part_in_the_mean_and_is_refused_by_concat():
    lacking = VALUES.copy()
    lacking[2:] = np.nan
    assert pooled(lacking, NAMES).tolist() == [2, 3]
    with pytest.raises(ValueError, match="sub-1 has no FLAIR, which concat needs"):
        pooled(lacking, NAMES, "concat", "sub-1")
    with pytest.raises(ValueError, match="unknown fusion 'max', expected mean, concat, weighted"):
        pooled(VALUES, NAMES, "max")


def test_a_head_remembers_its_fusion_and_the_table_names_it(tmp_path, cohort, weights):
    task = load_task("survival", cohort, "synthetic")
    features = encode(task.cases, load_encoder("braindino", weights))
    assert [design(task, features, task.cases, fusion=one).x.shape[1] for one in ("mean", "concat")] == [32, 4 * 32]
    tables = [predict(task, features, fit(task, features, "cox")).table]
    for fusion in ("concat", "weighted"):
        fitted = fit(task, features, "cox", asked=Asked(fusion=fusion))
        write_head(fitted, tmp_path / fusion)
        tables.append(predict(task, features, read_head(tmp_path / fusion)).table)
        assert tables[-1].equals(predict(task, features, fitted).table)
    assert [set(table["encoder"]) for table in tables] == [{"braindino"}, {"braindino+concat"}, {"braindino+weighted"}]
    assert len({tuple(table["output"]) for table in tables}) == 3
    assert fitted.around.fusion.contrasts == task.contrasts and fitted.around.fusion.weights.sum() == pytest.approx(1)
    names = set(score(tables, draws=50).metrics["encoder"])
    assert names == {"braindino", "braindino+concat", "braindino+weighted"}


def test_weights_serve_cases_that_lack_a_contrast(cohort, weights):
    task = load_task("survival", cohort, "synthetic")
    features = encode(task.cases, load_encoder("braindino", weights))
    gone = np.array(features.contrasts) == task.contrasts[1]
    features.values[::3, gone] = np.nan
    table = predict(task, features, fit(task, features, "cox", asked=Asked(fusion="weighted"))).table
    assert (table["status"] == "ok").all() and np.isfinite(table["output"]).all()
    with pytest.raises(ValueError, match="fusion is for heads on pooled views"):
        fit(task, features, "attention_pool", asked=Asked(fusion="weighted"))
