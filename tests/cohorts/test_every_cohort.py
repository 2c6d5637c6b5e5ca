"""What holds for every cohort plug-in: a clear error for what is not there, terms, and a row in docs/cohorts.md."""

import inspect
import re

import pytest

from braindino import catalog
from trees import DOCS

NAMES = catalog.names("cohorts")


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_is_not_this_cohort(name, tmp_path):
    cases = catalog.load("cohorts", name).cases
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        cases(tmp_path, lambda line: None)
    with pytest.raises(ValueError, match="nowhere"):
        cases(tmp_path / "nowhere", lambda line: None)


@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    module = catalog.load("cohorts", name)
    assert list(inspect.signature(module.cases).parameters) == ["root", "tell"]
    assert module.SOURCE.endswith(".") and module.TERMS.endswith(".")
    assert "Raises:" in inspect.getdoc(module.cases)


def test_the_table_in_the_docs_has_every_cohort():
    table = DOCS.partition("## The cohorts")[2].partition("## Participant columns")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(NAMES)
