"""The house of docs/design.md, held by tests: option budgets, every option read, every public name documented."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import braindino
from braindino import catalog, types, verbs
from braindino.pretraining.config import ComputeConfig, PretrainConfig
from braindino.volume.recipe import Recipe

SOURCE = Path(braindino.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
TYPES = ("Scan", "Case", "Volume", "Tokens", "Encoder", "Features", "Task", "Head", "Predictions")


def _leaves(kind):
    hints = typing.get_type_hints(kind, include_extras=False)
    for field in dataclasses.fields(kind):
        inner = hints[field.name]
        yield from _leaves(inner) if dataclasses.is_dataclass(inner) else [field.name]


def test_the_types_are_the_ones_of_the_design():
    public = [n for n, v in vars(types).items() if inspect.isclass(v) and v.__module__ == types.__name__]
    assert tuple(public) == TYPES


def test_option_budget_of_pretrain():
    """What the machine is told has a budget of its own: it does not decide the result."""
    settings, compute = len(list(_leaves(PretrainConfig))), len(list(_leaves(ComputeConfig)))
    assert settings - compute <= 84 and compute <= 10
    assert len(list(_leaves(verbs.VERBS["pretrain"]))) - settings <= 20


@pytest.mark.parametrize("verb", [verb for verb in verbs.VERBS if verb != "pretrain"])
def test_option_budget_of_a_verb(verb):
    """The recipe is an artefact with a budget of its own."""
    kind = verbs.VERBS[verb]
    recipe = "recipe" in {field.name for field in dataclasses.fields(kind)}
    assert len(list(_leaves(kind))) - recipe * len(list(_leaves(Recipe))) <= 20


def test_option_budget_of_a_recipe():
    assert len(list(_leaves(Recipe))) <= 20


def _dataclasses_with_options(kind):
    yield kind
    for hint in typing.get_type_hints(kind).values():
        if dataclasses.is_dataclass(hint):
            yield from _dataclasses_with_options(hint)


@pytest.mark.parametrize("kind", [PretrainConfig, *verbs.VERBS.values()], ids=lambda kind: kind.__name__)
def test_every_option_is_read_somewhere(kind):
    """Each field of each config appears as `.field` outside the place that defines it."""
    text = "\n".join(path.read_text() for path in FILES)
    for owner in _dataclasses_with_options(kind):
        for field in dataclasses.fields(owner):
            uses = re.findall(rf"\.{field.name}\b", text)
            assert uses, f"{owner.__name__}.{field.name} is never read"


def test_every_option_has_a_docstring_under_it():
    for path in (
        *sorted((SOURCE / "verbs").glob("*.py")),
        SOURCE / "pretraining" / "config.py",
        SOURCE / "pretraining" / "hardware.py",
        SOURCE / "model" / "config.py",
        SOURCE / "synthesis" / "config.py",
        SOURCE / "volume" / "recipe.py",
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ClassDef):
                continue
            for this, following in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(this, ast.AnnAssign):
                    documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                    assert documented or node.name in ("Fit", "Predict"), f"{path.name}: {node.name}.{this.target.id}"


@pytest.mark.parametrize("name", sorted(n for n in braindino.__all__))
def test_every_public_name_is_documented(name):
    thing = getattr(braindino, name)
    assert inspect.getdoc(thing), name
    if inspect.isfunction(thing):
        assert (
            "Raises:" in inspect.getdoc(thing) or name == "read_case" or name == "load_task" or name == "load_encoder"
        ), name


def test_no_file_is_longer_than_400_lines():
    assert {p.name: n for p in FILES if (n := len(p.read_text().splitlines())) > 400} == {}


def test_no_class_is_subclassed_but_modules_and_value_error():
    allowed = {"nn.Module", "nn.Linear", "torch.autograd.Function", "NamedTuple", "Protocol", "ValueError"}
    sklearn = {"TransformerMixin", "ClassifierMixin", "RegressorMixin", "BaseEstimator"}
    allowed |= sklearn  # what scikit-learn asks of an estimator
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                assert {ast.unparse(base) for base in node.bases} <= allowed, f"{path.name}: {node.name}"


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_every_plug_in_keeps_its_contract(kind):
    needed = {
        "encoders": ("load",),
        "heads": ("from_state", "Fitted"),
        "cohorts": ("cases", "SOURCE", "TERMS"),
        "tasks": ("build",),
        "perturbations": ("apply",),
    }
    for name in catalog.names(kind):
        module = catalog.load(kind, name)
        for attribute in needed[kind]:
            assert hasattr(module, attribute), f"{kind}/{name} has no {attribute}"
        if kind == "heads":
            kinds = module.Fitted.kinds
            assert ("segmentation" in kinds) == hasattr(module, "fit_dense") == hasattr(module.Fitted, "predict_dense")
            assert hasattr(module, "fit") == (kinds != ("segmentation",))
        assert catalog.summary(kind, name).strip(), f"{kind}/{name} has no docstring"


def test_verbs_without_learning_start_without_torch_and_at_once():
    code = (
        "import sys; from braindino.cli import main; main(['list']);"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules and 'scipy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "encoders:" in done.stdout and "braindino" in done.stdout


def test_every_module_imports():
    for module in pkgutil.walk_packages([str(SOURCE)], "braindino."):
        if module.name != "braindino.__main__":
            importlib.import_module(module.name)
