"""Learning from clicks in the one loop: every kind of ranker, every debiaser, resumed bit for bit, shown in the
report."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import lorank
from lorank.cli.app import app
from lorank.data import write_beir
from lorank.data.click_logs import with_clicks
from lorank.data.clicks import Impression, write_clicks
from lorank.errors import DataError, UsageError
from lorank.ranking.clicks import Simulator, attractions
from lorank.ranking.clicks.debias import DEBIASERS
from lorank.reporting import write_report
from lorank.training import fit
from lorank.training.hooks.debiasing import Debiasing
from lorank.training.hooks.hook import Hook
from lorank.training.lists.click_lists import ClickLists
from lorank.training.loop.checkpoints import newest_checkpoint, read_checkpoint
from lorank.training.settings import (
    DebiasSettings,
    ListSettings,
    LossSettings,
    OptimizerSettings,
    Recipe,
    RuleSettings,
)

SMALL = OptimizerSettings(steps=6, batch_size=8, evaluations=2, checkpoint_seconds=0.0, lr=1e-2)


def simulate(data, split="train", sessions=600, seed=0, shuffle="swap"):
    rng = np.random.default_rng(seed)
    chosen = data.split(split)
    lists = {query: list(rng.permutation(data.document_ids)[:8]) for query in chosen.queries}
    for query, row in lists.items():
        row[:2] = [*chosen.qrels[query], *row][:2]
        lists[query] = list(dict.fromkeys(row))
    if chosen.candidates:
        lists = {query: list(row) for query, row in chosen.candidates.items()}
    simulator = Simulator(lists, attractions(lists, chosen.qrels), "pbm", 6, shuffle)
    for number, each in enumerate(simulator.draw(sessions, rng)):
        yield Impression(f"s{number}", each.query, tuple(each.documents), tuple(each.clicks))


@pytest.fixture(scope="module")
def text_log(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    write_clicks(simulate(texts), path)
    return path


@pytest.fixture(scope="module")
def row_log(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "rows.jsonl"
    write_clicks(simulate(rows), path)
    return path


@pytest.mark.parametrize("name", sorted(DEBIASERS))
def test_a_feature_ranker_learns_from_clicks(rows, row_log, tmp_path, name):
    data = with_clicks(rows, row_log)
    settings = OptimizerSettings(steps=60, batch_size=32, evaluations=2, lr=3e-2)
    recipe = Recipe(debias=DebiasSettings(name), training=settings)
    fit(lorank.FeatureRanker(hidden=(8,)), data, recipe=recipe, out=tmp_path / "run")
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["dev"]["value"] > 0.7
    if name != "none":
        assert record["debias"]["name"] in (name, DEBIASERS[name].name)


@pytest.mark.parametrize("kind", ["bi-encoder", "cross-encoder"])
@pytest.mark.parametrize("debias", ["dla", "ips"])
def test_a_text_ranker_learns_from_clicks(texts, text_log, bert, tmp_path, own_cache, kind, debias):
    data = with_clicks(texts, text_log)
    ranker = {"bi-encoder": lorank.BiEncoder, "cross-encoder": lorank.CrossEncoder}[kind](bert)
    recipe = Recipe(debias=DebiasSettings(debias), training=OptimizerSettings(steps=3, batch_size=4, evaluations=1))
    fit(ranker, data, adapter="lora", rank=2, recipe=recipe, out=tmp_path / "run")
    curve = json.loads((tmp_path / "run/run.json").read_text())["debias"]["curve"]
    assert len(curve) == 6
    assert curve[0] == pytest.approx(1)


def test_judged_texts_are_debiased_by_coupled_estimation(texts, bert, tmp_path, own_cache):
    recipe = Recipe(debias=DebiasSettings("cet"), training=OptimizerSettings(steps=4, batch_size=4, evaluations=1))
    fit(lorank.BiEncoder(bert), texts, adapter="lora", rank=2, recipe=recipe, out=tmp_path / "run")
    assert json.loads((tmp_path / "run/run.json").read_text())["debias"]["what"] == "selection"
    with pytest.raises(UsageError, match=r"give --clicks LOG, or --debias cet"):
        fit(lorank.BiEncoder(bert), texts, recipe=Recipe(debias=DebiasSettings("dla")), out=tmp_path / "other")


class Killed(Exception):
    pass


class Kill(Hook):
    watches = True

    def __init__(self, at):
        self.at = at

    def after_step(self, progress, optimizer):
        if progress.step == self.at + 1:
            raise Killed


@pytest.mark.parametrize("name", ["dla", "pair", "cet"])
def test_a_run_cut_off_resumes_to_the_same_bits_with_its_debiaser(rows, row_log, tmp_path, name):
    data = with_clicks(rows, row_log)
    recipe = Recipe(debias=DebiasSettings(name), training=SMALL)

    def run(out, **more):
        return fit(lorank.FeatureRanker(hidden=(4,)), data, recipe=recipe, out=out, **more)

    run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "cut", hooks=[Kill(3)])
    run(tmp_path / "cut", resume=True)
    whole, cut = (read_checkpoint(newest_checkpoint(tmp_path / part / "checkpoints"))[0] for part in ("whole", "cut"))
    assert any(key.startswith("hook/debias ") for key in whole)
    assert all(torch.equal(value, cut[key]) for key, value in whole.items())
    curves = [json.loads((tmp_path / part / "run.json").read_text())["debias"]["curve"] for part in ("whole", "cut")]
    assert curves[0] == curves[1]  # exact: the same bits


def test_the_report_shows_the_curve(rows, row_log, tmp_path):
    recipe = Recipe(debias=DebiasSettings("dla"), training=SMALL)
    fit(lorank.FeatureRanker(hidden=(4,)), with_clicks(rows, row_log), recipe=recipe, out=tmp_path / "run")
    page = write_report(tmp_path / "run").read_text()
    assert 'id="debiased"' in page
    assert "debiaser dla" in page


def test_a_log_of_features_is_a_collection_of_its_own(rows, tmp_path):
    impressions = [
        Impression(
            each.session,
            each.query_id,
            each.doc_ids,
            each.clicks,
            features=tuple(tuple(map(float, rows.documents[rows.position[d]])) for d in each.doc_ids),
        )
        for each in simulate(rows, shuffle="all")
    ]
    write_clicks(impressions, tmp_path / "log.jsonl")
    data = lorank.load(tmp_path / "log.jsonl")
    assert data.has_features
    assert len(data.train.impressions) == 600
    arguments = [
        "train",
        "--data",
        str(tmp_path / "log.jsonl"),
        "--debias",
        "dla",
        "--loss",
        "softmax",
        "--base",
        "mlp",
    ]
    result = CliRunner().invoke(app, [*arguments, "--steps", "20", "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert len(json.loads((tmp_path / "run/run.json").read_text())["debias"]["curve"]) == 6


def test_the_command_learns_from_a_log_over_a_collection(texts, text_log, bert, tmp_path, own_cache):
    write_beir(texts, tmp_path / "beir")
    arguments = ["train", "--data", str(tmp_path / "beir"), "--clicks", str(text_log), "--debias", "ips"]
    arguments += ["--set", "debias.most=5", "--base", bert, "--steps", "2", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    settings = json.loads((tmp_path / "run/run.json").read_text())["settings"]
    assert settings["debias"]["options"] == {"most": 5}


def test_unknown_documents_and_queries_are_errors_with_file_and_line(texts, tmp_path):
    good = Impression("s", "train0", tuple(texts.document_ids[:2]), (1, 0))
    for other, problem in (
        (Impression("s", "train0", ("nowhere", "d1"), (1, 0)), "the document 'nowhere'"),
        (Impression("s", "nobody", ("d0", "d1"), (1, 0)), "the query 'nobody'"),
    ):
        write_clicks([good, other], tmp_path / "log.jsonl")
        with pytest.raises(DataError, match=rf"log\.jsonl:2: {problem}"):
            with_clicks(texts, tmp_path / "log.jsonl")


def test_a_log_without_clicks_and_one_without_propensities_say_what_to_do(texts, bert, tmp_path, own_cache):
    write_clicks([Impression("s", "train0", ("d0", "d1"), (0, 0))] * 3, tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="nothing to learn from"):
        fit(lorank.BiEncoder(bert), with_clicks(texts, tmp_path / "none.jsonl"), out=tmp_path / "a")
    write_clicks([Impression("s", "train0", ("d0", "d1"), (0, 1))] * 3, tmp_path / "still.jsonl")
    recipe = Recipe(debias=DebiasSettings("ips"), loss=LossSettings("ranknet"))
    with pytest.raises(UsageError, match="learn them with --debias dla"):
        fit(lorank.BiEncoder(bert), with_clicks(texts, tmp_path / "still.jsonl"), recipe=recipe, out=tmp_path / "b")


def test_propensities_from_a_file(rows, row_log, tmp_path):
    (tmp_path / "curve.csv").write_text("position,propensity\n1,1.0\n2,0.5\n3,0.25\n")
    recipe = Recipe(debias=DebiasSettings("ips", str(tmp_path / "curve.csv")), training=SMALL)
    fit(lorank.FeatureRanker(hidden=(4,)), with_clicks(rows, row_log), recipe=recipe, out=tmp_path / "run")
    assert json.loads((tmp_path / "run/run.json").read_text())["debias"]["curve"] == pytest.approx([1.0, 0.5, 0.25])
    (tmp_path / "gap.csv").write_text("position,propensity\n1,1.0\n3,0.25\n")
    bad = Recipe(debias=DebiasSettings("ips", str(tmp_path / "gap.csv")), training=SMALL)
    with pytest.raises(DataError, match="without gaps"):
        fit(lorank.FeatureRanker(hidden=(4,)), with_clicks(rows, row_log), recipe=bad, out=tmp_path / "c")


def test_the_hook_carries_the_name_of_its_debiaser():
    class Loss:
        debiaser = DEBIASERS["dla"]()
        last = None

    assert Debiasing(Loss(), 1).name == "debias dla"


@pytest.mark.parametrize("negatives", [None, 2])
def test_impressions_of_a_query_stand_together(rows, row_log, negatives):
    data = with_clicks(rows, row_log)
    log, queries = data.train.impressions, {q: i for i, q in enumerate(data.train.queries)}
    given = (data, data.train, None, queries, None, negatives, None, False, 0)
    together, apart = ClickLists(*given, impressions=5), ClickLists(*given)
    for epoch in (0, 1):
        asked = [each.query_id for each in together.epoch(epoch)]
        assert sorted(asked) == sorted(each.query_id for each in apart.epoch(epoch))
        changes = 1 + sum(a != b for a, b in pairwise(asked))
        counts = np.unique(asked, return_counts=True)[1]
        assert changes <= sum(max(1, round(count / 5)) for count in counts)
    assert [each.query_id for each in together.epoch(0)] != asked
    assert len(log.with_clicks()) == len(ClickLists(*given[:5], None, *given[6:], impressions=5).epoch(0))


def test_with_negatives_each_click_is_a_list_of_its_own(rows, row_log):
    data = with_clicks(rows, row_log)
    log = data.train.impressions
    made = ClickLists(data, data.train, None, {q: i for i, q in enumerate(data.train.queries)}, None, 2, None, False, 0)
    lists = made.epoch(0)
    clicked = sum(int((log.list_at(int(number)).labels > 0).sum()) for number in log.with_clicks())
    assert len(lists) == clicked
    for each in lists[:50]:
        assert len(each) == 3
        assert (each.labels > 0).sum() == 1
        assert (np.diff(each.positions) > 0).all()
    again = made.epoch(1)
    assert {each.query_id for each in again} == {each.query_id for each in lists}
    assert any(a.documents.tolist() != b.documents.tolist() for a, b in zip(lists, again, strict=True))


@pytest.mark.parametrize("impressions", [None, 1])
def test_a_rule_that_looks_at_judged_lists_learns_from_clicks(texts, text_log, bert, tmp_path, own_cache, impressions):
    training = OptimizerSettings(steps=8, batch_size=4, evaluations=1)
    rule = RuleSettings("fast-forward", options={"interval": 3, "batches": 1})
    recipe = Recipe(
        debias=DebiasSettings("dla"), lists=ListSettings(impressions=impressions), training=training, rule=rule
    )
    fit(
        lorank.BiEncoder(bert),
        with_clicks(texts, text_log),
        adapter="lora",
        rank=2,
        recipe=recipe,
        out=tmp_path / "run",
    )
