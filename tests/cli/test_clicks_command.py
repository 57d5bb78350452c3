"""`lorank clicks`: a log is simulated, fitted and described, and slips are met before any data is read."""

import json

import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import write_beir
from lorank.data.clicks import read_clicks
from lorank.errors import UsageError


def run(*arguments):
    result = CliRunner().invoke(app, ["clicks", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def log(texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clicks")
    write_beir(texts, folder / "beir")
    run("simulate", "--data", folder / "beir", "--sessions", 3000, "--shuffle", "swap", "--out", folder / "log.jsonl")
    return folder / "log.jsonl"


def test_a_log_is_simulated(log):
    read = list(read_clicks(log))
    assert len(read) == 3000
    assert sum(map(sum, (each.clicks for each in read))) > 0


def test_it_is_fitted_and_written(log, tmp_path):
    out = tmp_path / "fitted.json"
    shown = run("fit", "--log", log, "--model", "all", "--propensities", "harvest", "--out", out).stdout
    assert "perplexity" in shown
    found = json.loads(out.read_text())
    assert set(found["models"]) == {"cascade", "dbn", "dcm", "pbm", "trust", "ubm"}
    assert len(found["propensities"]["curve"]) == 10
    assert found["models"]["pbm"]["perplexity"] < 2
    plain = json.loads(run("fit", "--log", log, "--json").stdout)
    assert list(plain["models"]) == ["pbm"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fit", "--log", "x.jsonl", "--model", "pmb"], "did you mean 'pbm'"),
        (["fit", "--log", "x.jsonl", "--propensities", "harvst"], "did you mean 'harvest'"),
        (["fit", "--log", "x.jsonl", "--held-out", "2"], "--held-out"),
        (["simulate", "--data", "pydcs", "--out", "x.jsonl"], "did you mean 'pydocs'"),
        (["simulate", "--data", "pydocs", "--out", "x.jsonl", "--model", "ubn"], "did you mean 'ubm'"),
    ],
)
def test_a_slip_is_met_first(arguments, says):
    with pytest.raises(UsageError, match=says):
        run(*arguments)
