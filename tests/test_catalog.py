import pytest

from braindino import catalog


def test_names_are_the_files():
    assert {"braindino", "random_init"} <= set(catalog.names("encoders"))


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ValueError, match="unknown encoder 'brandino'; did you mean 'braindino'"):
        catalog.load("encoders", "brandino")
    with pytest.raises(ValueError, match=r"unknown task 'xyz'; known: .*brain_age"):
        catalog.load("tasks", "xyz")
    with pytest.raises(ValueError, match="unknown kind of plug-in 'encoder'"):
        catalog.names("encoder")


@pytest.mark.parametrize("name", ["../record", "__init__", ""])
def test_a_path_is_no_name(name):
    with pytest.raises(ValueError, match="unknown"):
        catalog.load("heads", name)
