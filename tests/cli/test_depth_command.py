"""`lorank depth` as people type it."""

import json

import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import write_beir, write_run
from lorank.errors import UsageError
from lorank.ranking.metrics import group_tied_queries


@pytest.fixture
def given(texts, tmp_path):
    """The relevant documents stand at ranks 4 and 5 of the run; the scorer knows them, and loves a stray more."""
    write_beir(texts, tmp_path / "beir")
    first, scores = {}, {}
    stray = next(d for d in texts.document_ids if not any(d in row for row in texts.test.qrels.values()))
    for query, row in texts.test.qrels.items():
        others = [d for d in texts.document_ids if d not in row and d != stray]
        order = [*others[:3], *row, *others[3:], stray]
        first[query] = {d: float(-place) for place, d in enumerate(order)}
        scores[query] = {d: float(d in row) + 2.0 * (d == stray) for d in order}
    write_run(first, tmp_path / "first.run")
    write_run(scores, tmp_path / "scores.run")
    return ["depth", "--data", str(tmp_path / "beir"), "--run", str(tmp_path / "first.run"), "--measures", "R@2"]


def run(arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_where_more_candidates_help_and_where_they_harm(given, texts, tmp_path):
    command = [*given, "--scores", tmp_path / "scores.run", "--depths", "3,5,40,1000"]
    done = run([*command, "--plot", tmp_path / "depth.png"])
    assert done.exit_code == 0, done.output
    groups = len(set(group_tied_queries(texts.test.qrels).values()))
    assert f"R@2 over 6 queries in {groups} independent groups; the first stage alone has" in done.stdout
    assert "independent" not in run([*command, "--groups", "none"]).stdout
    assert "* best at 5; 5 cannot be told from it; from 40 on more candidates harm" in done.stdout
    assert (tmp_path / "depth.png").read_bytes().startswith(b"\x89PNG")
    (study,) = json.loads(run([*command, "--json"]).stdout)["studies"]
    assert [point["depth"] for point in study["points"]] == [3, 5, 40]
    assert [point["mean"] for point in study["points"]] == pytest.approx([0.0, 1.0, 0.5])
    assert study["ceiling"] == pytest.approx([0.0, 1.0, 1.0])


def test_a_bi_encoder_scores_the_run(given, tiny_folders):
    done = run([*given, "--ranker", tiny_folders["bert"], "--kind", "bi-encoder", "--depths", "2,10"])
    assert done.exit_code == 0, done.output
    assert "the first stage alone has 0.0000" in done.stdout
    assert "phantom hits in the first 10 of 6 queries" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --ranker or --scores"),
        (["--scores", "x", "--depths", "3,a"], "write numbers from 1 up"),
        (["--scores", "x", "--groups", "relevnat"], "did you mean 'relevant'"),
    ],
)
def test_wrong_use_is_told(arguments, message, given):
    done = run([*given, *arguments])
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)
