"""The page of a corpus: counted by hand, from the table of scans alone, small for any number of scans."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from braindino.cli import main
from braindino.corpus.shards import Corpus, open_corpus
from braindino.reporting.artefacts import Artefacts
from braindino.reporting.corpus_view import TILES, CorpusView, chosen_slices, corpus_view, sessions_of, subjects_of
from braindino.reporting.figures_corpus import MOST_POINTS, corpus_scans_figure, people_figure
from braindino.reporting.figures_scans import mosaic_figure
from braindino.reporting.page import render
from braindino.reporting.sections_corpus import (
    MOST_LISTED,
    MOST_ROWS,
    cohorts_table,
    corpus_section,
    counts_table,
    left_out,
    reason_kind,
    years,
)
from braindino.volume.recipe import Recipe

NBSP = "\N{NO-BREAK SPACE}"


def scans(*rows):
    """Scans of (cohort, subject, session, contrast, slices, age, sex)."""
    table = pd.DataFrame(rows, columns=["cohort", "subject", "session", "contrast", "slices", "age", "sex"])
    first = np.cumsum(table["slices"]) - table["slices"]
    return table.assign(person=table["cohort"] + "/" + table["subject"], first=first, site="")


PEOPLE = scans(
    ("a", "1", "1", "T1w", 5, 30.0, "F"),
    ("a", "1", "1", "T2w", 5, 30.0, "F"),
    ("a", "1", "2", "T1w", 5, 34.5, "F"),  # again: one subject, two sessions
    ("a", "2", "", "T1w", 5, 93.0, "M"),
    ("a", "3", "", "T1w", 5, np.nan, ""),
    ("a", "4", "1", "T1w", 5, np.nan, "M"),
    ("a", "4", "2", "T1w", 5, 50.0, "F"),  # contradicts itself
    ("b", "1", "", "T1w", 7, np.nan, "O"),
)


def many(count, cohorts=20, seed=0):
    """A large table of scans."""
    rng = np.random.default_rng(seed)
    cohort, session = rng.integers(0, cohorts, count), rng.integers(0, 3, count)
    rows = zip(cohort.tolist(), session.tolist(), strict=True)
    table = scans(*((f"c{c:02d}", f"{n // 2}", str(v), "T1w", 3, 0.0, "F") for n, (c, v) in enumerate(rows)))
    quality = {"brain_ml": rng.normal(1400, 100, count), "snr": rng.gamma(3, 4, count), "cjv": rng.random(count)}
    edges = {f"spacing_{axis}_mm": rng.choice([0.8, 1.0, 5.0], count) for axis in "ras"}
    table = table.assign(**quality, **edges, axes=rng.choice(["RAS", "LAS"], count), age=rng.uniform(3, 99, count))
    return table.assign(sex=rng.choice(["F", "M", ""], count), site=[f"s{n % 300}" for n in range(count)])


def test_subjects_count_once_at_their_first_age_and_nothing_is_imputed():
    table = subjects_of(PEOPLE).set_index("person")
    assert table["age"].to_dict() == pytest.approx(
        {"a/1": 30, "a/2": 89, "a/3": np.nan, "a/4": 50, "b/1": np.nan}, nan_ok=True
    )
    assert table["sex"].to_dict() == {"a/1": "F", "a/2": "M", "a/3": "", "a/4": "", "b/1": ""}
    assert table["sessions"].tolist() == [2, 1, 1, 2, 1] and table["scans"].tolist() == [3, 1, 1, 2, 1]
    assert sessions_of(PEOPLE)["age"].dropna().tolist() == [30, 34.5, 89, 50]


def test_the_table_of_cohorts_by_hand():
    table = cohorts_table(PEOPLE)
    assert table.columns == (
        "cohort", "subjects", "sessions", "scans", "slices", "female", "male", "sex not known", "median age", "ages",
        "age not known",
    )  # fmt: skip
    a, b, both = ([cell.replace(NBSP, " ") for cell in row] for row in table.rows)
    assert a == ["a", "4", "6", "7", "35", "1 (25%)", "1 (25%)", "2 (50%)", "50", "30 to 89+", "1 (25%)"]
    assert b == ["b", "1", "1", "1", "7", "0", "0", "1 (100%)", "", "", "1 (100%)"]
    assert both == ["all", "5", "7", "8", "42", "1 (20%)", "1 (20%)", "3 (60%)", "50", "30 to 89+", "2 (40%)"]
    assert len(cohorts_table(PEOPLE[PEOPLE["cohort"] == "a"]).rows) == 1


def test_ages_above_89_are_not_told_apart_anywhere_on_the_page():
    table = many(60).assign(age=np.linspace(91.25, 97.75, 60))
    section = corpus_section(Artefacts(CorpusView(table, pd.DataFrame(), tiles(), Recipe())))
    html = render("t", [section], synthetic=False)
    words = " ".join(re.findall(r">([^<>]+)<", html))
    assert "89+ to 89+" in words.replace(NBSP, " ") and not re.search(r"\b9[1-7]\b", words)
    assert [years(age) for age in (0.34, 41.0, 88.96, 89.0, 95.0)] == ["0.3", "41", "89", "89+", "89+"]


def tiles():
    return corpus_view(corpus(many(30)), 0).tiles


def corpus(table, shape=(1, 4, 4)):
    """Something with the attributes of a corpus that the page may use; slice n holds the number n."""
    return SimpleNamespace(
        scans=table, names=list(table["person"]), overlaps=pd.DataFrame(), recipe=Recipe(),
        read=lambda number: np.full(shape, number, np.float32),
    )  # fmt: skip


def test_tiles_are_drawn_as_evenly_as_the_corpus_allows():
    table = scans(
        ("b", "1", "", "T2w", 500, 1, ""), ("a", "1", "", "T1w", 400, 1, ""), ("b", "1", "", "FLAIR", 2, 1, ""),
        ("a", "2", "", "T1w", 600, 1, ""),
    )  # fmt: skip
    chosen = chosen_slices(table, 0)
    kinds = pd.Series([tuple(table.iloc[row][["cohort", "contrast"]]) for row, _ in chosen]).value_counts().to_dict()
    assert kinds == {("a", "T1w"): 12, ("b", "T2w"): 10, ("b", "FLAIR"): 2} and len(chosen) == TILES
    assert len({number for _, number in chosen}) == TILES
    for row, number in chosen:
        assert table["first"][row] <= number < table["first"][row] + table["slices"][row]
    assert chosen == chosen_slices(table, 0) != chosen_slices(table, 1)
    assert {table["subject"][row] for row, _ in chosen if table["cohort"][row] == "a"} == {"1", "2"}


def test_every_one_of_twenty_cohorts_gets_a_tile():
    table = many(400)
    table["contrast"] = np.random.default_rng(1).choice(["T1w", "T2w", "FLAIR"], len(table))
    drawn = corpus_view(corpus(table)).tiles
    assert {tile.cohort for tile in drawn} == {f"c{n:02d}" for n in range(20)} and len(drawn) == TILES
    assert {tile.contrast for tile in drawn} == {"T1w", "T2w", "FLAIR"}


def test_of_a_slice_with_neighbours_the_middle_one_is_shown():
    seen = corpus(PEOPLE)
    seen.recipe = Recipe(neighbours=1)
    seen.read = lambda _: np.stack([np.full((2, 2), n, np.float32) for n in range(3)])
    assert {tile.image.tobytes() for tile in corpus_view(seen).tiles} == {np.ones((2, 2), np.float32).tobytes()}


def test_slices_of_whole_heads_are_called_so():
    assert "brain only" in mosaic_figure(tiles(), Recipe()).caption
    told = mosaic_figure(tiles(), Recipe(brain="none")).caption
    assert "can show a face" in told and "brain only" not in told


def test_a_corpus_made_before_ages_were_kept():
    found = corpus_view(corpus(PEOPLE.drop(columns=["age", "sex"])))
    assert found.scans["age"].isna().all() and set(found.scans["sex"]) == {""}
    complete = many(30).drop(columns=["age", "sex"])
    words = [
        block.words for block in corpus_section(Artefacts(corpus_view(corpus(complete)))).blocks if block.kind == "text"
    ]
    assert any("No age and no sex is known" in text for text in words)


def test_the_page_of_a_corpus_alone_never_makes_a_table_of_slices(line, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Corpus, "index", property(lambda _: pytest.fail("a table of all slices was made")))
    monkeypatch.setattr(Corpus, "rows", lambda _: pytest.fail("the index was read"))
    main(["report", "--corpus", str(line["corpus"]), "--out", str(tmp_path / "page")])
    page = tmp_path / "page" / "index.html"
    assert capsys.readouterr().out.strip() == str(page)
    titles = re.findall(r'<h2 id="[^"]*">\d (.*?) <(?:span|a)', page.read_text())
    assert titles == ["Summary", "Corpus", "Methods and provenance"]
    with pytest.raises(pytest.fail.Exception, match="table of all slices"):
        _ = open_corpus(line["corpus"]).index


def test_many_groups_are_cut_and_what_is_not_shown_is_counted():
    table = scans(*((f"c{n:03d}", "1", "", "T1w", 1 + n, 1, "") for n in range(100)))
    found = counts_table(table, ["cohort"], "Corpus by cohort.")
    assert len(found.rows) == MOST_ROWS + 1 and found.rows[0] == ("c060", "1", "1", "61")
    assert found.rows[-1] == ("and 60 more", "60", "60", str(sum(range(61)))) and "40 of 100" in found.caption
    assert sum(int(row[-1]) for row in found.rows) == table["slices"].sum()


@pytest.mark.parametrize(
    ("reason", "path", "kind"),
    [
        (
            "poor scan: brain mask of 2501 ml (expected 250 to 2200)",
            "",
            "poor scan: brain mask of … ml (expected … to …)",
        ),
        ("a_T1w.nii.gz is truncated: 12 bytes of 99", "a_T1w.nii.gz", "(file) is truncated: … bytes of …"),
        ("x-1.nii: voxel sizes [0.9, 1e-05, -2.0] are", "a.nii", "(file): voxel sizes […] are"),
        ("1 holds 1.5 of 12 volumes", "1", "(file) holds … of … volumes"),
        ("folder 7 has no image '3_t1'; it has 'a', 'b'", "x", "folder … has no image …; it has …"),
        ("co-register T1w and a 4-D file", "x", "co-register T1w and a 4-D file"),
    ],
)
def test_reasons_of_one_kind_differ_in_numbers_and_names_only(reason, path, kind):
    assert reason_kind(reason, path) == kind


def quarantine(count):
    rows = [
        (f"c{n % 7}", f"s{n}", "", "T1w", f"s{n}.nii", f"/data/deep/s{n}.nii is truncated: {n} bytes of 99")
        for n in range(count - 1)
    ]
    rows.append(("c0", "odd", "", "T1w", "odd.nii", "odd.nii is a folder"))
    return pd.DataFrame(rows, columns=["cohort", "subject", "session", "contrast", "path", "reason"])


def test_thousands_left_out_are_grouped_and_the_list_is_cut():
    kinds, listed = left_out(quarantine(5000), 15_000)
    assert kinds.caption.startswith("Left out: 5000 of 20000 scans (25.0%)")
    assert [row[:2] for row in kinds.rows] == [
        ("(file) is truncated: … bytes of …", "4999"),
        ("(file) is a folder", "1"),
    ]
    assert kinds.rows[0][2].endswith("and 2 more") and kinds.rows[0][3] == "s0.nii is truncated: 0 bytes of 99"
    assert len(listed.rows) == MOST_LISTED and any(row[1] == "odd" for row in listed.rows)
    assert f"{MOST_LISTED} shown of 5000 scans, all stand in quarantine.tsv" in listed.caption
    few = left_out(quarantine(3), 1)[1]
    assert len(few.rows) == 3 and few.caption == "Left out, each scan: 3 scans"


def test_the_page_of_many_scans_stays_small():
    few, lots = many(300), many(12_000)
    assert len(few) < MOST_POINTS < len(lots)
    pairs = pd.DataFrame(
        [("a/1", "b/1", "corpus", "near", 0.9)] * 3000, columns=["subject", "other", "place", "evidence", "similarity"]
    )
    view = CorpusView(lots, pairs, tiles(), Recipe())
    section = corpus_section(Artefacts(view, quarantine(4000)))
    html = render("t", [section], synthetic=False)
    text = re.sub(r"data:image/png;base64,[^\"]*", "", html)
    assert len(text) < 600_000 and text.count("<tr>") < 400
    assert "Scans per cell" in corpus_scans_figure(lots).svg and "Scans per cell" not in corpus_scans_figure(few).svg
    assert "c00" in corpus_scans_figure(few[few["cohort"] < "c05"]).svg


def test_scans_without_a_measure_of_quality_are_counted_not_drawn():
    table = many(300)
    table.loc[[0, 1], "snr"] = np.inf
    assert "2 with an extreme or no value lie outside" in corpus_scans_figure(table).caption
    everything = corpus_scans_figure(table.assign(cjv=np.inf))
    assert "300 with an extreme or no value" in everything.caption


def test_ages_are_told_by_sex_else_by_cohort():
    table = many(200)
    by_sex = people_figure(subjects_of(table), sessions_of(table))
    assert all(word in by_sex.svg for word in ("female (", "male (", "sex not known (", "all sessions (", "89+"))
    unknown = table.assign(sex="")
    by_cohort = people_figure(subjects_of(unknown), sessions_of(unknown)).svg
    assert "c00 (" in by_cohort and "others (" in by_cohort and "female" not in by_cohort
    nobody = table.assign(age=np.nan)
    assert "no age is known" in people_figure(subjects_of(nobody), sessions_of(nobody)).svg
    crowd = many(400, cohorts=60)
    assert "36 others" in people_figure(subjects_of(crowd), sessions_of(crowd)).svg
