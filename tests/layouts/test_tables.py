import sys
from pathlib import Path

import openpyxl
import pytest

from braindino.layouts.cases import Notes
from braindino.layouts.labels import SCHEMES, check_labels
from braindino.layouts.loni import contrast_of, to_date
from braindino.layouts.tables import Row, find_rows, read_sheet, rows_by, squeeze, to_number
from braindino.layouts.tumours import idh, mgmt

XLS = Path(__file__).with_name("sheet.xls")
"""Three cells of IXI.xls in the old Excel format: IXI_ID, "SEX_ID (1=m, 2=f)", AGE of subject 2 (35.8)."""


@pytest.mark.parametrize(
    "data",
    [
        "ID,Age at MRI\nA,\u00e9\n".encode(),
        "\ufeffID;Age at MRI\nA;\u00e9\n;\n".encode(),
        "ID\tAge at MRI\r\nA\t\u00e9\r\n".encode("cp1252"),
        '"ID","Age at MRI"\n"A","\u00e9"\n,\n'.encode(),
    ],
)
def test_separators_encodings_and_empty_rows(tmp_path, data):
    (tmp_path / "t.csv").write_bytes(data)
    assert read_sheet(tmp_path / "t.csv") == [{"id": "A", "ageatmri": "\u00e9"}]


def test_excel_in_both_formats(tmp_path):
    assert read_sheet(XLS) == [{"ixiid": "2", "sexid1m2f": "2", "age": "35.8"}]
    book = openpyxl.Workbook()
    book.active.append(["IXI_ID", "AGE"])
    book.active.append([2, 35.8])
    book.create_sheet("more").append(["IXI_ID", "AGE"])
    book["more"].append([7, None])
    book.save(tmp_path / "IXI.xlsx")
    assert read_sheet(tmp_path / "IXI.xlsx") == [{"ixiid": "2", "age": "35.8"}, {"ixiid": "7", "age": ""}]
    (tmp_path / "bad.xlsx").write_bytes(b"PK no")
    with pytest.raises(ValueError, match=r"bad\.xlsx is not a readable Excel file"):
        read_sheet(tmp_path / "bad.xlsx")


@pytest.mark.parametrize(("module", "name"), [("xlrd", XLS), ("openpyxl", "t.xlsx")])
def test_excel_without_the_extra_names_it(tmp_path, monkeypatch, module, name):
    book = openpyxl.Workbook()
    book.active.append(["a"])
    book.save(tmp_path / "t.xlsx")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r"pip install 'braindino\[tables\]'.*or export the sheet as \w+\.csv"):
        read_sheet(tmp_path / name)


def test_strange_tables(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a\0b\n")
    with pytest.raises(ValueError, match="not a text table"):
        read_sheet(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text('a\n"' + "x" * 200_000 + '"\n')
    with pytest.raises(ValueError, match=r"is not a table \(.*export the sheet as CSV"):
        read_sheet(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        read_sheet(tmp_path / "t.csv")


def test_a_csv_export_is_read_instead_of_the_sheet_beside_it(tmp_path):
    (tmp_path / "IXI.xls").write_bytes(XLS.read_bytes())
    assert find_rows(tmp_path, ("ixi*",), "", Notes())[0]["age"] == "35.8"
    (tmp_path / "IXI.csv").write_text("IXI_ID,AGE\n2,35.9\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "IXI.csv").write_text("IXI_ID,AGE\n3,1\n")
    assert [row["age"] for row in find_rows(tmp_path, ("ixi*",), "", Notes())] == ["35.9", "1"]
    notes = Notes()
    assert find_rows(tmp_path, ("other*",), "from there", notes) == []
    assert notes.kinds == {"no such table, so its columns are missing": ["from there"]}


def test_doubled_rows_keep_what_they_agree_on_in_any_order():
    rows = [{"id": "a", "x": "1", "y": "", "z": "5"}, {"id": "a", "x": "1.0", "y": "7", "z": "6"}, {"id": "", "x": "1"}]
    for order in (rows, rows[::-1]):
        notes = Notes()
        table = rows_by(order, lambda row: row["id"], "T", notes)
        assert {c: table["a"].text(c) for c in "xyz"} == {"x": "1", "y": "7", "z": ""}
        assert notes.kinds["rows of T for one id, merged"] == ["a x 2"]
        assert notes.kinds["T: z differs between rows of one id and is left empty"] == ["a"]
        assert len(notes.kinds["rows of T that cannot be assigned, left out"]) == 1


def test_cells():
    notes = Notes()
    cells = {"age": "-9999", "old": "34,5", "bad": "ten", "dx": "1.0", "strange": "3", "far": "400", "un": "Unknown"}
    row = Row("s", cells, notes)
    assert row.number("age") is None and row.number("AGE", "Old") == 34.5 and row.text("un") == "" == row.text("none")
    assert row.choice({"1": "autism"}, "DX") == "autism" and not notes.kinds
    assert row.number("bad") is None and row.number("far", high=120) is None and row.choice({"1": "x"}, "strange") == ""
    assert len(notes.kinds) == 3 and all(names == ["s"] for names in notes.kinds.values())
    assert squeeze("SEX_ID (1=m, 2=f)") == "sexid1m2f"
    assert [to_number(t) for t in ("1e3", "-2.5", " 7 ", "3,25")] == [1e3, -2.5, 7, 3.25]
    assert {to_number(t) for t in ("1,234", "1,234,5", "nan", "0x1", "")} == {None}


def test_molecular_words():
    notes = Notes()

    def row(text):
        return Row("s", {"idh": text, "mgmt": text}, notes)

    wild = ("wildtype", "Wildtype", "IDH wild-type", "wild type", "WT")
    mutant = ("Mutated", "mutated (NOS)", "IDH1 p.R132H", "IDH2 p.R172K", "mutant", "R132H")
    assert {idh(row(text), "IDH") for text in wild} == {"wildtype"}
    assert {idh(row(text), "IDH") for text in mutant} == {"mutant"}
    assert {idh(row(text), "IDH") for text in ("", "NOS/NEC", "unknown", "Indeterminate")} == {""} and not notes.kinds
    assert idh(row("perhaps"), "IDH") == "" and len(notes.kinds) == 1
    assert [mgmt(row(t), "MGMT") for t in ("positive", "Unmethylated", "negative", "Methylated", "Indeterminate")] == [
        "methylated",
        "unmethylated",
        "unmethylated",
        "methylated",
        "",
    ]


def test_labels_of_another_release_are_refused():
    for name, scheme in SCHEMES.items():
        check_labels(name, [0, *scheme.values])
        assert {value for region in scheme.regions.values() for value in region} == set(scheme.values)
    with pytest.raises(ValueError, match=r"\[3\] have no meaning in brats2021 .*another release"):
        check_labels("brats2021", [0, 1, 3])
    with pytest.raises(ValueError, match=r"\[4\] have no meaning in brats2023"):
        check_labels("brats2023", [4])
    with pytest.raises(ValueError, match="unknown label scheme"):
        check_labels("brats2030", [1])


def test_series_and_dates():
    t1w = ("MPR__GradWarp__B1_Correction__N3", "MP-RAGE", "MPRAGE_GRAPPA2", "Accelerated_SAG_IR-SPGR", "Sag_IR-FSPGR")
    assert {contrast_of(name) for name in t1w} == {"T1w"}
    assert {contrast_of(name) for name in ("Axial_T2-FLAIR", "Sagittal_3D_FLAIR")} == {"FLAIR"}
    assert contrast_of("Axial_T2_TSE") == "T2w"
    rest = ("Axial_PD_T2_FSE", "Axial_T2_Star", "Axial_DTI", "Resting_State_fMRI", "B1-calibration_Head", "Survey")
    assert {contrast_of(name) for name in rest} == {""}
    days = [str(to_date(t)) for t in ("2006-04-18", "4/18/2006", "04/18/06", "2006-04-18 00:00:00", "2006-04-18_08_20")]
    assert set(days) == {"2006-04-18"}
    assert str(to_date("03/1950")) == "1950-03-15" and to_date("soon") is None and to_date("13/1950") is None
