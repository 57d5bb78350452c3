import json

import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import read_run, write_run
from lorank.errors import LorankError, UsageError
from lorank.ranking.consensus import aggregate, aggregate_runs
from lorank.ranking.consensus.preflib import read_preflib


@pytest.fixture
def lorank():
    def run(*arguments):
        done = CliRunner().invoke(app, ["aggregate", *map(str, arguments)])
        if isinstance(done.exception, LorankError):
            raise done.exception
        return done

    return run


@pytest.fixture
def runs(tmp_path):
    parts = [{"q1": {"a": 3.0, "b": 2.0}, "q2": {"x": 1.0}}, {"q1": {"b": 9.0, "c": 1.0}}]
    for number, part in enumerate(parts):
        write_run(part, tmp_path / f"{number}.run")
    return parts


@pytest.mark.parametrize("method", ["rrf", "borda", "kemeny", "bradley-terry", "score-fusion"])
def test_runs_merge_into_a_run(lorank, runs, tmp_path, method):
    out = tmp_path / "merged.run"
    done = lorank("--method", method, "--run", tmp_path / "0.run", "--run", tmp_path / "1.run", "--out", out)
    assert done.exit_code == 0
    assert done.stdout.strip() == str(out)
    assert read_run(out) == aggregate_runs(runs, method)


SOI = "# ALTERNATIVE NAME 1: a\n# ALTERNATIVE NAME 2: b\n# ALTERNATIVE NAME 3: c\n3: 1,2\n2: 3,1,2\n"


def test_rankings_print_their_order(lorank, tmp_path):
    path = tmp_path / "votes.soi"
    path.write_text(SOI)
    done = lorank("--method", "borda", "--rankings", path)
    assert done.stdout == "1\t5\ta\n2\t4\tc\n3\t0\tb\n"
    assert "2 ballots of weight 5 over 3 items" in done.stderr
    shown = json.loads(lorank("--rankings", path, "--json", "--missing", "last").stdout)
    expected = aggregate(read_preflib(path), "bradley-terry", missing="last")
    assert shown["method"] == "bradley-terry"
    assert [row["item"] for row in shown["order"]] == list(expected.order)
    assert {row["item"]: row["score"] for row in shown["order"]} == pytest.approx(expected.scores)


def test_tables_and_duels(lorank, tmp_path):
    table = tmp_path / "board.csv"
    table.write_text("Model,Score,T1,T2\nx,1,90/80,1\ny,2,85,2\nz,3,70,3\n")
    done = lorank("--method", "plurality", "--table", table, "--lower-is-better", "T2")
    assert done.stdout == "1\t1.5\tx\n2\t0.5\ty\n3\t0\tz\n"
    assert "voting: T1, T2" in done.stderr
    done = lorank("--method", "copeland", "--table", table, "--task", "T2")
    assert [line.split("\t")[2] for line in done.stdout.splitlines()] == ["z", "y", "x"]
    duels = tmp_path / "duels.csv"
    duels.write_text("a,b,1\na,b,1\na,b,0\na,b,tie\n")
    done = lorank("--duels", duels, "--option", "prior=0", "--option", "ties=half")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[2] for row in rows] == ["a", "b"]
    assert [row[0] for row in rows] == ["1", "2"]


def test_ties_share_a_rank(lorank, tmp_path):
    duels = tmp_path / "duels.csv"
    duels.write_text("a,b\nb,a\na,c\nb,c\n")
    assert [line.split("\t")[0] for line in lorank("--method", "copeland", "--duels", duels).stdout.splitlines()] == [
        "1",
        "1",
        "3",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --run"),
        (["--duels", "d.csv", "--table", "t.csv"], "--table and --duels"),
        (["--run", "a.run"], "--out"),
        (["--duels", "d.csv", "--out", "x"], "writes a run"),
        (["--duels", "absent.csv"], "no such file"),
        (["--duels", "d.csv", "--option", "prior"], "not key=value"),
    ],
)
def test_wrong_use_is_named(lorank, arguments, message):
    with pytest.raises(LorankError, match=message):
        lorank(*arguments)


def test_unknown_methods_and_options_are_named(lorank, tmp_path):
    path = tmp_path / "votes.soi"
    path.write_text(SOI)
    with pytest.raises(LorankError, match="did you mean 'borda'"):
        lorank("--method", "bordo", "--rankings", path)
    with pytest.raises(LorankError, match="option of method 'borda'"):
        lorank("--method", "borda", "--rankings", path, "--option", "k=3")
    path.write_text("# NUMBER VOTERS: 9\n" + SOI)
    with pytest.raises(LorankError, match="9 voters"):
        lorank("--rankings", path)
    assert lorank("--method", "borda", "--rankings", path, "--ignore-counts").exit_code == 0


def test_help_has_examples(lorank):
    assert "lorank aggregate --method rrf --run bm25.run" in " ".join(lorank("--help").stdout.split())


def test_all_rules_of_vote_n_rank_stand_side_by_side(lorank, tmp_path):
    board = tmp_path / "board.csv"
    board.write_text("Model,T1,T2,T3\na,9,7,1\nb,8,6,90\n")
    rows = [line.split("\t") for line in lorank("--method", "all", "--table", board).stdout.splitlines()]
    assert rows[0][0] == "mean rank"
    assert rows[0][-1] == "item"
    columns = dict(zip(rows[0], zip(*sorted(rows[1:], key=lambda row: row[-1]), strict=True), strict=True))
    assert columns["copeland"] == ("1", "2")
    assert columns["mean"] == ("2", "1")
    shown = json.loads(lorank("--method", "all", "--table", board, "--json").stdout)
    assert [row["item"] for row in shown["orders"]["copeland"]] == ["a", "b"]


def test_a_committee_is_chosen_within_its_bounds(lorank, tmp_path):
    votes, groups = tmp_path / "votes.soi", tmp_path / "groups.csv"
    votes.write_text("# ALTERNATIVE NAME 1: a\n# ALTERNATIVE NAME 2: b\n# ALTERNATIVE NAME 3: c\n2: 1,2,3\n1: 3,1,2\n")
    groups.write_text("item,group\na,old\nb,old\nc,new\n")
    given = ["--choose", 2, "--method", "borda", "--rankings", votes]
    assert json.loads(lorank(*given, "--json").stdout)["items"] == ["a", "b"]
    bounded = lorank(*given, "--group-of", groups, "--at-least", "new=1")
    assert bounded.stdout == "1\ta\told\n2\tc\tnew\n"
    with pytest.raises(LorankError, match="group=count"):
        lorank(*given, "--group-of", groups, "--at-least", "new")
    with pytest.raises(LorankError, match="--choose"):
        lorank("--rankings", votes, "--at-least", "new=1")
    groups.write_text("a,old\na,new\n")
    with pytest.raises(LorankError, match=r"groups.csv:2: 'a' is in two groups"):
        lorank(*given, "--group-of", groups, "--at-least", "new=1")


def test_games_by_prompt_rate_models(lorank, tmp_path):
    games = tmp_path / "games.csv"
    games.write_text("prompt,a,b,outcome\np,x,y,1\np,y,z,a\np,z,x,b\nq,x,y,tie\nq,x,z,tie\nq,y,z,tie\n")
    assert lorank("--games", games).stdout.splitlines()[0].endswith("\tx")
    shown = json.loads(lorank("--games", games, "--json").stdout)
    assert shown["prompts"]["p"] > shown["prompts"]["q"]
    for option, value, remedy in (
        ("--missing", "last", "add a row for each pair"),
        ("--task", "p", "give a leaderboard to --table"),
        ("--name", "a", "columns a and b"),
        ("--lower-is-better", "p", "turn the outcomes round"),
        ("--split-cells", None, "give a leaderboard"),
        ("--ignore-counts", None, "give it to --rankings"),
    ):
        with pytest.raises(UsageError, match=f"{option} is not used with --games.*{remedy}"):
            lorank("--games", games, option, *([] if value is None else [value]))
    games.write_text("p,x,y,1\np,y,z,1\n")
    with pytest.raises(LorankError, match="'x' and 'z' did not meet on prompt 'p'"):
        lorank("--games", games)
    with pytest.raises(LorankError, match="--duels takes every other rule"):
        lorank("--games", games, "--method", "borda")
