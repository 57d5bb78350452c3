"""Every form and start has an example worked by hand from the paper's equation, in a test marked ``by_hand``."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorank.lowrank.forms.form import FORMS, ROUTED
from lorank.lowrank.starts import STARTS


def worked(tree: ast.Module) -> Iterator[str]:
    """Yield the names given to ``@pytest.mark.by_hand("name", ...)`` above the functions of a test file."""
    for function in ast.walk(tree):
        for mark in getattr(function, "decorator_list", []):
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.by_hand":
                yield from (ast.literal_eval(name) for name in mark.args)


@pytest.fixture(scope="module")
def examples() -> set[str]:
    files = Path(__file__).parent.rglob("test_*.py")
    return {name for file in files for name in worked(ast.parse(file.read_text(encoding="utf-8")))}


@pytest.mark.parametrize("name", sorted({*FORMS, *ROUTED, *STARTS}))
def test_there_is_an_example_worked_by_hand(name, examples):
    assert name in examples, f"no test under tests/lowrank is marked @pytest.mark.by_hand({name!r})"


def test_no_example_is_of_something_that_is_gone(examples):
    assert examples <= {*FORMS, *ROUTED, *STARTS}
