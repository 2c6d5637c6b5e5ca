"""The page: well formed, self-contained, escaped, its numbers readable."""

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from braindino.pipeline.report import _read, _sections, report
from braindino.record import read_record
from braindino.reporting.page import Section, Table, Text, number, p_value, render, with_interval, without_folders

VOID = {"meta", "img", "br", "link", "input", "hr"}
OWNED = """<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>"""
EVIL = '<script>alert("x")</script>\' $x_1$ & "'


class Balance(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen, self.links, self.ids, self.attributes = [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        found = dict(attributes)
        self.links += [found[name] for name in ("src", "href", "data", "srcset", "poster") if name in found]
        self.ids += [found["id"]] if "id" in found else []
        self.attributes += list(found)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


def parsed(html):
    parser = Balance()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def page(line, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return report(out, title=f"All of it {EVIL}", notes=[EVIL], **line)


def test_page_is_well_formed_and_ids_are_unique(page):
    found = parsed(page.read_text())
    assert len(found.ids) == len(set(found.ids))
    assert all(link[1:] in found.ids for link in found.links if link.startswith("#"))


def test_page_fetches_nothing(page):
    html = page.read_text()
    links = parsed(html).links
    assert links and all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    addresses = re.findall(r"url\(([^)]*)\)", html)
    assert all(address.strip("'\"").startswith("#") for address in addresses)
    assert "@import" not in html and "http://" not in html and "https://" not in html
    assert "default-src 'none'" in html


def test_page_has_every_section_and_marks_synthetic_ones(page):
    html = page.read_text()
    titles = re.findall(r'<h2 id="[^"]*">\d (.*?) <(?:span|a)', html)
    assert titles == [
        "Summary", "Corpus", "Tasks", "Scans", "Training", "Patch similarity", "Results", "Analysis",
        "Methods and provenance",
    ]  # fmt: skip
    assert html.count('<span class="badge">Synthetic subjects</span>') == 8  # header and seven sections


def test_hostile_text_is_escaped(page):
    html = page.read_text()
    assert "<script" not in html and "&lt;script&gt;" in html
    assert_harmless(html)


def assert_harmless(html):
    """No script, no event handler, no picture but the page's own: nothing that a name could have brought in."""
    found = parsed(html)
    assert not {"script", "iframe", "object", "base", "form"} & set(found.seen)
    assert not [name for name in found.attributes if name.startswith("on")]
    assert found.seen.count("img") == html.count('<img src="data:image/png;base64,')


@pytest.mark.parametrize("evil", [OWNED, "</svg></table>" + OWNED, "x" * 300])
def test_hostile_cohorts_contrasts_sites_and_reasons_are_shown_harmlessly(line, evil):
    assert_harmless(hostile_page(line, evil))


def hostile_page(line, evil):
    """The tables and pictures of a line in which every name of a cohort, site, contrast, case, class, ... is `evil`."""
    found = _read(*(line[name] for name in ("corpus", "runs", "predictions", "scores", "analysis", "cases")))
    corpus = found.corpus
    tiles = tuple(replace(tile, cohort=evil, contrast=evil) for tile in corpus.tiles)
    pairs = pd.DataFrame([[evil, evil, evil, evil, 0.9]], columns=corpus.overlaps.columns)
    names = dict.fromkeys(("cohort", "subject", "session", "site", "contrast", "person", "axes"), evil)
    scans = pd.concat([corpus.scans.assign(sex=evil, **names), corpus.scans.assign(age=50.0, sex="F")])
    corpus = replace(corpus, tiles=tiles, scans=scans, overlaps=pairs)
    quarantine = found.quarantine.assign(cohort=evil, contrast=evil, reason=evil)
    one = next(answers for answers in found.answers if answers.kind == "classification")
    table = one.table.assign(site=evil, case=evil, status=["ok"] * 20 + [evil] * 4).replace("dementia", evil)
    one = replace(one, task=evil, encoder=evil, table=table.rename(columns={"output_dementia": f"output_{evil}"}))
    metrics, compared = (t[t["task"] == "diagnosis"].assign(task=evil) for t in (found.metrics, found.comparisons))
    task = replace(line["tasks"][0], name=evil, contrasts=(evil,), unit=evil, source=evil)
    case = replace(line["cases"]["head"], subject=evil, participant={"group": evil})
    points = tuple((evil, row, column) for _, row, column in found.similarity.points)
    found = replace(
        found, corpus=corpus, quarantine=quarantine, answers=(one,), metrics=metrics, tasks={evil: task},
        comparisons=compared, cases={evil: case}, similarity=replace(
            found.similarity, points=points, maps={evil: found.similarity.maps["braindino"]}),
        analysis={name: t.assign(**{t.columns[0]: evil}) for name, t in found.analysis.items()},
    )  # fmt: skip
    return render(evil, _sections(found, [evil]), synthetic=True)


def test_hostile_names_in_figures_are_escaped(line, tmp_path):
    case = replace(line["cases"]["head"], subject=EVIL)
    path = report(tmp_path, title="t", runs={EVIL: line["runs"]["stage 1"]}, cases={EVIL: case})
    assert_harmless(path.read_text())
    assert all(file.parent == tmp_path / "figures" for file in tmp_path.rglob("*.png"))


def test_every_figure_is_a_file_that_shows_something(page):
    html, files = page.read_text(), sorted((page.parent / "figures").glob("*.png"))
    assert len(files) == len(re.findall("<figure ", html)) == 16
    for file in files:
        image = matplotlib.image.imread(file)
        assert min(image.shape[:2]) > 200 and np.ptp(image[..., :3]) > 0.5, file.name
    assert html.count('alt="') + html.count('role="img" aria-label="') == len(files)


def test_the_report_is_committed_and_repeats(page, line, tmp_path):
    record = read_record(page.parent, "report")
    assert "index.html" in record["files"] and set(record["parents"]) >= {"corpus", "scores", "run stage 1"}
    some = {name: line[name] for name in ("scores", "analysis")}
    first, again = (report(tmp_path / name, title="t", **some) for name in "ab")
    assert read_record(first.parent)["files"] == read_record(again.parent)["files"]


def test_nothing_of_the_machine_is_told(page, line):
    assert str(line["corpus"].parent) not in page.read_text()


def test_units_sizes_and_splits_are_told(page):
    html = page.read_text()
    assert "MAE (years) ↓" in html and "True value (years)" in html and "Time (days)" in html
    row = re.search(r"<td>Brain age</td><td>age \(years\)</td><td>T1w</td>(<td>\d+</td>){3}", html)
    assert row and re.findall(r"\d+</td>", row[0])[-3:] == ["8</td>", "2</td>", "24</td>"]
    assert "3 subjects" in html and "8 subjects" in html  # of 8 training subjects at 40 % (by thirds) and at 100 %
    assert "None of the 24 test subjects (of any task) is among the 2 subjects" in html
    assert "synthetic subjects" in html and "In short: models were compared 14 times" in html


def test_every_table_and_figure_is_numbered_and_can_be_scrolled_by_keyboard(page):
    html = page.read_text()
    found = [int(number) for number in re.findall(r"<b>Figure (\d+)\.", html)]
    assert found == list(range(1, len(found) + 1))
    assert html.count("<table>") == len(set(re.findall(r'id="(table-\d+)"', html)))
    assert html.count('tabindex="0"') == html.count("<table>") + len(found)
    assert 'href="#content"' in html


def test_failed_and_excluded_cases_are_listed_with_reasons(page):
    html = page.read_text()
    assert "1 failed case." in html and "truncated scan" in html
    assert "Left out: 1 of 3 scans (33.3%), by reason" in html and "(file) is damaged" in html


def test_sections_without_an_artefact_vanish(line, tmp_path):
    html = report(tmp_path, title="t", analysis=line["analysis"]).read_text()
    titles = re.findall(r'<h2 id="[^"]*">\d (.*?) <(?:span|a)', html)
    assert titles == ["Patch similarity", "Analysis", "Methods and provenance"]
    assert "Synthetic subjects" not in html
    parsed(html)


def test_nothing_to_report_and_bad_folders_are_refused(line, tmp_path):
    with pytest.raises(ValueError, match="nothing to report on"):
        report(tmp_path / "r", title="t")
    with pytest.raises(ValueError, match=r"does not exist; run 'braindino score'"):
        report(tmp_path / "r", title="t", scores=tmp_path / "absent")
    with pytest.raises(ValueError, match="was made by 'braindino analyze', expected one made by 'prepare'"):
        report(tmp_path / "r", title="t", corpus=line["analysis"])
    copy = shutil.copytree(line["runs"]["stage 2"], tmp_path / "run")
    (copy / "log.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="differs from its record"):
        report(tmp_path / "r", title="t", runs={"x": copy})
    assert not (tmp_path / "r").exists()


def test_template_escapes_tables_and_text():
    blocks = (Text(EVIL), Text(EVIL, "code"), Table(EVIL, (EVIL,), ((EVIL,),)), Table(EVIL, ("a",), (("b",),), True))
    html = render(EVIL, [Section("One", blocks), Section("Empty", ())], synthetic=False)
    assert "script" not in parsed(html).seen and "Empty" not in html
    assert html.count("&lt;script&gt;") == 8  # title twice, two texts, two captions, heading, cell


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.14159, "3.14"),
        (-0.5, "−0.5"),
        (0.0, "0"),
        (12345.6, "12346"),
        (float("nan"), "not defined"),
        (1e-5, "1e−05"),
        (-3e-15, "0"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


def test_intervals_p_and_paths():
    assert with_interval(1.0, 0.5, 2.0) == "1 [0.5,\N{NO-BREAK SPACE}2]"
    assert with_interval(1.0, float("nan"), 2.0) == "1 [interval not defined]"
    assert with_interval(float("nan"), float("nan"), float("nan")) == "not defined"
    assert (p_value(0.0004), p_value(0.0123), p_value(float("nan"))) == ("p < 0.001", "p = 0.012", "p not defined")
    told = without_folders("/home/me/x.nii.gz is bad (1/2 read), see '/tmp/z.nii'")
    assert told == "x.nii.gz is bad (1/2 read), see 'z.nii'"
