import gzip

import pytest

from lorank.errors import DataError, UsageError
from lorank.ranking.consensus import aggregate
from lorank.ranking.consensus.duel_files import read_duels
from lorank.ranking.consensus.leaderboards import read_leaderboard
from lorank.ranking.consensus.preflib import read_preflib

HEADER = "\n".join(f"# ALTERNATIVE NAME {n}: {name}" for n, name in enumerate("abcd", 1)) + "\n"


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "items", "voters", "orders"),
    [
        ("cities.soi", 36, 392, 372),
        ("shirt.soc", 11, 30, 30),
        ("netflix.soc", 4, 588, 24),
        ("skaters.toc", 30, 9, 9),
        ("education_qualities.toi", 20, 15, 15),
        ("example.toi", 6, 5, 4),
        ("new_example.cat", 5, 5, 4),
    ],
)
def test_preflib_files_have_the_counts_of_their_sources(shared_data, name, items, voters, orders):
    profile = read_preflib(shared_data / "preflib" / name)
    assert len(profile.items) == items
    assert profile.weight.sum() == voters
    assert profile.ballots == orders
    if name.endswith("c") and "cat" not in name:
        assert (profile.sizes() == items).all()


def test_edited_preflib_files_are_refused_unless_counts_are_not_checked(shared_data):
    path = shared_data / "preflib" / "education_courses.soi"
    with pytest.raises(DataError, match="states 14 voters and the file holds 12"):
        read_preflib(path)
    assert read_preflib(path, check_counts=False).weight.sum() == 12


def test_netflix_by_every_condorcet_rule(shared_data):
    profile = read_preflib(shared_data / "preflib" / "netflix.soc")
    orders = {aggregate(profile, method).order for method in ("kemeny", "copeland", "minimax", "baldwin")}
    assert {order[0] for order in orders} == {"Beverly Hills Cop"}


def test_preflib_lines(tmp_path):
    toi = written(tmp_path, "x.toi", HEADER + "3: 2, {1,4}\n1:{3},1\n\n")
    profile = read_preflib(toi)
    assert profile.items == tuple("abcd")
    assert profile.weight.tolist() == [3, 1]
    assert profile.item.tolist() == [1, 0, 3, 2, 0]
    assert profile.level.tolist() == [0, 1, 1, 0, 1]
    cat = read_preflib(written(tmp_path, "x.cat", HEADER + "2: {}, {1,2}, 3\n"))
    assert cat.level.tolist() == [1, 1, 2]
    zipped = tmp_path / "y.toi.gz"
    zipped.write_bytes(gzip.compress(toi.read_bytes()))
    assert read_preflib(zipped).level.tolist() == profile.level.tolist()
    assert read_preflib(written(tmp_path, "plain.txt", HEADER + "1: 1,2\n"), kind="soi").ballots == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.soc", HEADER + "1: 1,2,3\n", r"x.soc:5: 3 of 4 alternatives in a .soc"),
        ("x.soi", HEADER + "1: {1,2}\n", "a tie in a .soi"),
        ("x.soi", HEADER + "1: 1,7\n", "alternative 7 is not named"),
        ("x.soi", HEADER + "1: 1,1\n", "twice"),
        ("x.soi", HEADER + "1,2,3\n", "is no order"),
        ("x.soi", HEADER + "1: {1,2\n", "is no order"),
        ("x.soi", "1: 1,2\n", "no alternative is named"),
        ("x.soi", "# ALTERNATIVE NAME 1: a\n# ALTERNATIVE NAME 2: a\n", "same name"),
        ("x.soi", "# NUMBER VOTERS: 5\n" + HEADER + "4: 1,2\n", "5 voters and the file holds 4"),
        ("x.txt", HEADER, "'txt' is no PrefLib kind"),
        ("x.soi", b"\xff", "not UTF-8"),
        ("x.soi", b"\x1f\x8bxx", "gzip"),
    ],
)
def test_bad_preflib_files_are_named(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        read_preflib(path)
    with pytest.raises(DataError, match="no such file"):
        read_preflib(tmp_path / "absent.soi")


BOARD = (
    "Rank,Model,URL,Score,T1,T2,Loss\n1,x,http://x,90,93.9/91.8,80,0.5\n2,y,,80,90.0/91.0,-,0.4\n3,x,,70,NaN/91.0,70,\n"
)


def test_leaderboard_cells(tmp_path):
    path = written(tmp_path, "board.csv", BOARD)
    profile = read_leaderboard(path, lower_is_better=["Loss"])
    assert profile.names == ("T1", "T2", "Loss")
    assert profile.items == ("x (line 2)", "x (line 4)", "y")
    scores = {
        (profile.names[b], profile.items[i]): s
        for b, i, s in zip(profile.ballot, profile.item, profile.score, strict=True)
    }
    assert scores == pytest.approx(
        {
            ("T1", "x (line 2)"): (93.9 + 91.8) / 2,
            ("T1", "y"): 90.5,
            ("T2", "x (line 2)"): 80,
            ("T2", "x (line 4)"): 70,
            ("Loss", "x (line 2)"): -0.5,
            ("Loss", "y"): -0.4,
        }
    )
    split = read_leaderboard(path, tasks=["T1"], parts="split")
    assert split.names == ("T1/1", "T1/2")
    assert len(split.ballot) == 5
    assert read_leaderboard(path, name="Rank", tasks=["T2"]).items == ("1", "2", "3")


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        (BOARD, {"tasks": ["T3"]}, UsageError, "unknown column 'T3'"),
        (BOARD, {"tasks": ["URL"]}, DataError, r"board.csv:2: 'http://x' in column 'URL' is no score"),
        (BOARD, {"name": "System"}, UsageError, "unknown column"),
        (BOARD, {"parts": "sum"}, UsageError, "treatment of parts"),
        ("Model,T\nx,1,2\n", {}, DataError, "3 cells where the header has 2"),
        ("Model,T\n", {}, DataError, "there is no system"),
        ("Model,T\nx,word\n", {}, DataError, "no column holds scores"),
        ("Model\nx\n", {}, DataError, "two or more columns"),
        ("Model,T\nx,inf\n", {"tasks": ["T"]}, DataError, "infinite"),
    ],
)
def test_bad_leaderboards_are_named(tmp_path, text, options, error, message):
    with pytest.raises(error, match=message):
        read_leaderboard(written(tmp_path, "board.csv", text), **options)


@pytest.mark.parametrize(
    "text",
    [
        "a,b\nb,a\n",
        "winner,loser\na,b\nb,a\n",
        "model_a,model_b,winner\na,b,model_a\na,b,model_b\n",
        "a\tb\t1\nb\ta\t1\n",
    ],
)
def test_duels_in_every_layout(tmp_path, text):
    assert read_duels(written(tmp_path, "d.csv", text)).preferences().tolist() == [[0, 1], [1, 0]]


def test_draws_and_the_order_of_play(tmp_path):
    profile = read_duels(written(tmp_path, "d.csv", "a,b,tie\nc,a,0\nb,c,draw\n"))
    assert profile.pairs().draws.tolist() == [1, 0, 1]
    assert profile.item.tolist() == [0, 1, 0, 2, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\na,b,1\n", "d.csv:2: 3 columns"),
        ("a\n", "1 columns"),
        ("a,a\n", "is no duel"),
        ("a,b,maybe\n", "'maybe'"),
        ("winner,loser\n", "holds no duels"),
    ],
)
def test_bad_duels_are_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_duels(written(tmp_path, "d.csv", text))
