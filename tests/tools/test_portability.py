"""No test knows its processor: what the lint finds, how doctests compare numbers, what the portable passes set."""

import doctest
import os
import platform
import subprocess
import sys
from pathlib import Path

import lint_floats
import portable_passes
import pytest

from rounded_doctests import RoundedOutputChecker, numbers_agree

ROOT = Path(__file__).resolve().parents[2]


def lines(source):
    return [finding.line for finding in lint_floats.find_in_source(source, "test.py")]


def test_the_repository_has_no_test_that_knows_its_processor():
    found = lint_floats.find([ROOT / folder for folder in lint_floats.FOLDERS])
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize(
    "line",
    [
        "assert ndcg(order) == 1.0",
        "assert 0.25 == f()",
        "assert f() != -0.5",
        "assert f().tolist() == [[1.0, 0.0], [0.0, 0.0]]",
        "assert f() == {'a': 0.5}",
        "assert {row.ndcg for row in rows} == {1.0}",
        "assert f() == 0.5**2 * 3",
        "assert f() in (0.0, 1.0)",
        "assert f() == g() == 2.5",
        "assert all(x == 2.5 for x in f())",
        "assert (f() == torch.tensor([0.1])).all()",
        "assert torch.equal(f(), torch.tensor([0.5]))",
        "assert np.array_equal(f(), np.array([1.5]))",
        "np.testing.assert_array_equal(f(), [1.5])",
    ],
)
def test_an_exact_float_is_found(line):
    assert lines(f"x = 1.5\n{line}") == [2]
    assert lines(f"x = 1.5\n{line}  # exact: copied from the file") == []


@pytest.mark.parametrize(
    "line",
    [
        "assert f() == pytest.approx(0.25)",
        "assert f() == 0.0",
        "assert f().tolist() == [0.0, 0.0]",
        "assert f() > 0.5",
        "assert f() == 3",
        "assert f(0.5) == g(0.5)",
        "torch.testing.assert_close(f(), torch.tensor([0.5]))",
        "assert f() == float('inf')",
    ],
)
def test_what_is_portable_is_let_through(line):
    assert lines(line) == []


def test_literals_that_are_rounded_to_float32_first_are_found():
    assert lines("x = 1\ny = torch.tensor([0.6]).double()") == [2]
    assert lines("y = torch.tensor([0.6], dtype=torch.float64)\nz = torch.tensor([3]).double()") == []


def test_a_doctest_that_prints_all_digits_is_found():
    source = 'def f():\n    """Return x.\n\n    >>> f()\n    {}\n    """\n'
    assert lines(source.format("1.4142135623730951")) == [4]
    assert lines(source.format("{'a': [0.5, 8.333333e-01]}")) == [4]
    assert lines(source.format("1.4142")) == lines(source.format("0.333...")) == []
    assert lines(source.format("'torch 2.13.0+cpu'")) == []


def test_the_lint_is_a_command(tmp_path):
    path = tmp_path / "test_it.py"
    path.write_text("assert f() == 0.3\n")
    done = subprocess.run(
        [sys.executable, ROOT / "tools/lint_floats.py", path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "test_it.py:1: 0.3 is compared exactly" in done.stdout) == (1, True)


@pytest.mark.parametrize(
    ("want", "got", "same"),
    [
        ("1.0", "1.0000000000000002", True),
        ("1.0", "0.9999999403953552", True),
        ("1.0", "0.999", False),
        ("1.0", "1", False),
        ("0.7602", "0.7603", True),
        ("0.7602", "0.7604", False),
        ("tensor([1., 3., 2.])", "tensor([1.0000, 3.0000, 2.0000])", True),
        ("tensor([1., 3., 2.])", "tensor([1.0000, 2.0000, 3.0000])", False),
        ("([0.0, 1.0], True)", "([-0.0, 1.0], True)", True),
        ("([0.0, 1.0], True)", "([0.0, 1.0], False)", False),
        ("[0.5, 1.0]", "[0.5]", False),
        ("{'a': 0.5, 'b': 0.8333...}", "{'a': 0.5, 'b': 0.8333333333333334}", True),
        ("{'a': 0.3...}", "{'a': 0.29999999999999998}", True),
        ("tensor([0.2500, 0.7500])", "tensor([ 0.2500,  0.7500])", True),
        ("array([ 2.5e-03])", "array([0.0025])", True),
        ("'3.12'", "'3.13'", False),
        ("nan", "nan", True),
    ],
)
def test_numbers_of_doctests_agree_up_to_rounding(want, got, same):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert RoundedOutputChecker().check_output(want + "\n", got + "\n", flags) == same


def test_the_place_that_is_written_decides():
    assert numbers_agree("1.234e-05", "1.235e-05")
    assert not numbers_agree("1.5", "1.4")


@pytest.mark.parametrize("name", portable_passes.PASSES)
def test_a_pass_computes_with_other_kernels(name):
    chosen = portable_passes.PASSES[name]
    given = {key: value for key, value in os.environ.items() if key not in chosen.variables}
    environment = chosen.environment(given)
    assert {key: environment[key] for key in chosen.variables} == chosen.variables
    assert chosen.environment({"OPENBLAS_CORETYPE": "Zen"})["OPENBLAS_CORETYPE"] == "Zen"  # the machine's own stays
    if platform.machine() == "x86_64":
        assert portable_passes.capability(environment) in {chosen.capability, "DEFAULT"}
