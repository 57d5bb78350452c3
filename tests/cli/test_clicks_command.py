"""`lorank clicks`: a log is simulated, fitted and described, and slips are met before any data is read."""

import json

import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import write_beir
from lorank.data.clicks import read_clicks
from lorank.errors import DataError, LorankError, UsageError


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


def test_a_log_is_described_and_converted(log, tmp_path):
    assert "pairs of a query and a document" in run("report", "--log", log).stdout
    record = json.loads(run("report", "--log", log, "--json").stdout)
    assert record["impressions"] == 3000
    table = tmp_path / "log.csv"
    table.write_text("query,document,position,clicked\na,x,1,0\na,y,2,1\n")
    run("convert", "--log", table, "--out", tmp_path / "again.jsonl")
    (one,) = read_clicks(tmp_path / "again.jsonl")
    assert one.clicks == (0, 1)


def test_runs_are_interleaved(texts, tmp_path):
    from lorank.data import write_qrels, write_run

    qrels = texts.test.qrels
    good = {
        query: {d: 1.0 - 0.1 * i for i, d in enumerate([*row, *texts.document_ids[:5]])} for query, row in qrels.items()
    }
    bad = {query: {d: -score for d, score in row.items()} for query, row in good.items()}
    write_run(good, tmp_path / "good.run", "good")
    write_run(bad, tmp_path / "bad.run", "bad")
    write_qrels(qrels, tmp_path / "qrels.txt")
    runs = ["--run", tmp_path / "good.run", "--run", tmp_path / "bad.run", "--qrels", tmp_path / "qrels.txt"]
    for method in ("team-draft", "probabilistic", "optimised"):
        said = run("interleave", *runs, "--method", method, "--sessions", 400, "--depth", 4).stdout
        assert "good.run won" in said
    with pytest.raises(UsageError, match="did you mean 'team-draft'"):
        run("interleave", *runs, "--method", "team-drft")


def test_a_trial_is_estimated(tmp_path):
    path = tmp_path / "trial.csv"
    path.write_text(
        "arm,outcome,treated,index_0,index_1\n1,5,1,9,9\n1,1,0,1,1\n1,2,0,2,2\n0,4,1,9,9\n0,3,0,1,1\n0,1,0,2,2\n"
    )
    found = json.loads(run("trial", path, "--json").stdout)
    assert found["reshuffled"] == pytest.approx(1 / 3)
    path.write_text("arm,outcome\n1,2\n")
    with pytest.raises(DataError, match=r"trial\.csv:1"):
        run("trial", path)


def evaluated(*arguments):
    result = CliRunner().invoke(app, ["evaluate", "--json", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return json.loads(result.stdout)


def test_rankers_are_estimated_from_a_log(log, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    more = ["--log", log, "--data", log.parent / "beir", "--ranker", "bm25"]
    found = evaluated(*more, "--estimator", "position")["bm25"]
    assert found["low"] < found["value"] < found["high"]
    assert found["value"] == pytest.approx(found["logged"], rel=0.2)  # BM25 logged it, up to the swaps
    with pytest.raises(DataError, match="states no propensities"):
        evaluated(*more)
    with pytest.raises(UsageError, match="did you mean 'snips'"):
        evaluated(*more, "--estimator", "snps")


def test_a_policy_is_estimated_from_logged_propensities(tmp_path):
    import numpy as np

    from lorank.data import write_run
    from lorank.data.clicks import Impression, write_clicks

    rng = np.random.default_rng(0)
    chosen = rng.integers(4, size=4000)
    clicks = (rng.random(4000) < np.array([0.8, 0.4, 0.2, 0.1])[chosen]).astype(int)
    rows = [Impression("s", "q", (f"d{d}",), (int(c),), (0.25,)) for d, c in zip(chosen, clicks)]
    write_clicks(rows, tmp_path / "log.jsonl")
    write_run({"q": {"d0": 3.0, "d1": 2.0, "d2": 1.0, "d3": 0.0}}, tmp_path / "best.run", "best")
    write_run({"q": {"other": 3.0}}, tmp_path / "other.run", "other")
    for estimator in ("ips", "snips", "dr"):
        more = ["--log", tmp_path / "log.jsonl", "--run", tmp_path / "best.run", "--estimator", estimator]
        found = evaluated(*more)["best.run"]
        assert found["low"] < 0.8 < found["high"]
    with pytest.raises(LorankError, match="says nothing of it"):
        evaluated("--log", tmp_path / "log.jsonl", "--run", tmp_path / "other.run")


def test_gossip_online_and_screen(log, tmp_path):
    from lorank.data import read_run
    from lorank.data.clicks import Impression, write_clicks

    run("gossip", log, log, "--out", tmp_path / "gossip.run")
    assert read_run(tmp_path / "gossip.run")
    rows = [
        Impression("s", "q", ("bait", "good"), (1, i % 2), features=((0.0,), (1.0,)), dwell=(0.0, 60.0 * (i % 2)))
        for i in range(400)
    ]
    write_clicks(rows, tmp_path / "rows.jsonl")
    assert run("screen", "--log", tmp_path / "rows.jsonl").stdout.split() == ["bait"]
    said = run("online", "--log", tmp_path / "rows.jsonl", "--delay", 3, "--out", tmp_path / "weights.json").stdout
    assert "pairs in the order of the clicks" in said
    assert len(json.loads((tmp_path / "weights.json").read_text())["weights"]) == 1
    with pytest.raises(DataError, match="neither dwell nor gains"):
        run("screen", "--log", log)
    with pytest.raises(DataError, match="no features"):
        run("online", "--log", log)
