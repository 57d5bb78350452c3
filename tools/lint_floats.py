"""Find tests that know their processor: equality of floats in asserts, and doctests that print all digits of a float.

    python tools/lint_floats.py [PATH...]        exit code 1 when something is found

Sums, exponentials and products differ in their last digit between processors, so a test must not depend on it:

- In an ``assert``, a float literal may not be compared by ``==``, ``!=``, ``in``, ``.equal`` or ``array_equal``,
  whether it stands alone or inside a list, a dictionary, an array or a tensor: use ``pytest.approx`` or
  ``assert_close``. Zero is free, since "exactly none" is often what is claimed, and so are ``inf`` and ``nan``.
- A value that is copied and never computed (an option that comes back from a file) may be compared exactly by a
  line that ends in the comment ``# exact: why``.
- ``torch.tensor(...).double()`` rounds its literals to float32 first: say ``dtype=torch.float64``.
- The expected output of a doctest has floats of at most four decimals; its numbers are compared up to rounding, as
  tests/rounded_doctests.py says.
"""

import ast
import doctest
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("src", "tests", "tools", "benchmarks", "examples")
DECIMALS = 4
EXACT_COMPARISONS = {"equal", "array_equal", "assert_array_equal", "assert_equal"}
MAKERS = {"tensor", "array", "asarray", "float", "float32", "float64", "full", "full_like", "Tensor"}
"""Calls that hand on the numbers they are given."""

_LONG_FLOAT = re.compile(r"(?<![\w.])[-+]?\d*\.(\d+)(?:e[-+]?\d+)?", re.IGNORECASE)
_EXACT = re.compile(r"#.*\bexact: \S")


class Finding(NamedTuple):
    """One line that depends on the processor."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def find_in_source(source: str, path: str) -> list[Finding]:
    """Return what is found in one file's text, by line.

    >>> [finding.line for finding in find_in_source("x = 2.5\\nassert f(x) == 2.5\\nassert f(x) == approx(2.5)", "")]
    [2]
    """
    tree, lines = ast.parse(source), source.splitlines()
    found = [
        Finding(path, line, f"{literal} is compared exactly; use pytest.approx, or end the line in '# exact: why'")
        for line, end, literal in _exact_comparisons(tree)
        if not any(_EXACT.search(text) for text in lines[line - 1 : end])
    ]
    return sorted(
        {*found, *_rounded_doubles(tree, path), *_long_doctests(tree, path)}, key=lambda finding: finding.line
    )


def _exact_comparisons(tree: ast.Module) -> Iterator[tuple[int, int, str]]:
    asserts = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    calls = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    for statement in [*asserts, *(call for call in calls if _name(call) in EXACT_COMPARISONS)]:
        for node in ast.walk(statement.test if isinstance(statement, ast.Assert) else statement):
            operands: list[ast.expr] = []
            if isinstance(node, ast.Compare):
                operands = [
                    side
                    for left, operator, right in zip(
                        [node.left, *node.comparators], node.ops, node.comparators, strict=False
                    )
                    if isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn)
                    for side in (left, right)
                ]
            elif isinstance(node, ast.Call) and _name(node) in EXACT_COMPARISONS:
                operands = list(node.args)
            literal = next((value for side in operands for value in _float_literals(side)), None)
            if literal is not None:
                yield node.lineno, node.end_lineno or node.lineno, repr(literal)


def _float_literals(node: ast.expr) -> Iterator[float]:
    """Yield the floats other than zero that an operand is made of."""
    match node:
        case ast.Constant(value=float() as value) if value:
            yield value
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            for part in parts:
                yield from _float_literals(part)
        case ast.Dict(values=parts):
            for part in parts:
                yield from _float_literals(part)
        case ast.UnaryOp(operand=part) | ast.Starred(value=part):
            yield from _float_literals(part)
        case ast.BinOp(left=left, right=right):
            yield from _float_literals(left)
            yield from _float_literals(right)
        case ast.Call(args=parts) if _name(node) in MAKERS:
            for part in parts:
                yield from _float_literals(part)


def _name(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _rounded_doubles(tree: ast.Module, path: str) -> Iterator[Finding]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Call(args=[values, *_], keywords=[]) as made, attr="double")
            ) if _name(made) == "tensor" and any(_float_literals(values)):
                message = "a tensor of literals is float32 before .double(); use dtype=torch.float64"
                yield Finding(path, node.lineno, message)


def _long_doctests(tree: ast.Module, path: str) -> Iterator[Finding]:
    parser = doctest.DocTestParser()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node, clean=False)
        if not text or ">>>" not in text:
            continue
        for example in parser.get_examples(text):
            long = next((m for m in _LONG_FLOAT.finditer(example.want) if len(m.group(1)) > DECIMALS), None)
            if long:
                line = node.body[0].lineno + example.lineno
                message = f"the doctest prints {long.group()}; round it to {DECIMALS} decimals or fewer"
                yield Finding(path, line, message)


def find(paths: list[Path]) -> list[Finding]:
    """Return what is found in files and in all Python files of folders."""
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]
    return [
        finding
        for file in files
        for finding in find_in_source(
            file.read_text(encoding="utf-8"),
            str(file.relative_to(ROOT) if file.is_relative_to(ROOT) else file),
        )
    ]


def main() -> int:
    """Print what is found in the given paths, or in the whole repository, and return the exit code."""
    found = find([Path(name).resolve() for name in sys.argv[1:]] or [ROOT / folder for folder in FOLDERS])
    for finding in found:
        print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
