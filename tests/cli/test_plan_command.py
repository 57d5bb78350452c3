"""`lorank plan` as people type it."""

import json
import subprocess
import sys

import pytest

LORANK = [sys.executable, "-c", "from lorank.cli import main; main()", "plan"]
SMALL = ["--documents", "20", "--top", "5", "--queries", "3"]


def run(*arguments):
    return subprocess.run([*LORANK, *arguments], capture_output=True, text=True, check=False)


def test_a_plan_names_one_strategy_and_keeps_the_budget():
    done = run(*SMALL, "--budget", "calls=30", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert sum(row["recommended"] for row in rows) == 1
    assert all(row["calls"] <= 30 for row in rows)
    assert [row["ndcg"] for row in rows] == sorted((row["ndcg"] for row in rows), reverse=True)
    table = run(*SMALL, "--kinds", "pointwise,listwise", "--noise", "0")
    assert table.stdout.splitlines()[-1].startswith("* recommended: ")
    assert "prp" not in table.stdout


def test_the_table_of_sorting_costs():
    done = run("--documents", "12", "--top", "3", "--sorts")
    assert done.returncode == 0
    assert "all-pairs   no         1         66.0        66.0" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--agreement", "0.4"], "above 0.5"),
        (["--budget", "30"], "cannot read the budget"),
        (["--kinds", "pointwize"], "did you mean 'pointwise'"),
    ],
)
def test_wrong_use_is_told(arguments, message):
    done = run(*SMALL, *arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
