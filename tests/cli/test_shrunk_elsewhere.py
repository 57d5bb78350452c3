"""What a shrunk ranker can do beside reranking: be served, take other scoring paths; and what is refused, and how."""

import json
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lorank import lowrank
from lorank.cli.app import app
from lorank.data import write_beir
from lorank.errors import UsageError
from lorank.layers import describe_layers
from lorank.ranking.scorers import BiEncoder, CausalRanker, CrossEncoder
from lorank.serving.requests.engine import Job
from lorank.serving.start import open_engine
from lorank.tuned.open_ranker import open_ranker
from lorank.tuned.ranker import TunedRanker
from lorank.tuned.shrinking import ShrinkSettings, shrink_ranker

TEXTS = ["a list of words", "the moon orbits the earth", "sorting a list", "x"]
METHODS = ("eora", "zeroquant-fp", "ctr-lowrank-afm")


@pytest.fixture(scope="module")
def place(texts, tiny_folders, tmp_path_factory):
    """A BEIR folder, a cross-encoder with a trained head, a bi-encoder, and both shrunk by several methods."""
    here = tmp_path_factory.mktemp("shrunk")
    write_beir(texts, here / "beir")
    ranker = CrossEncoder(tiny_folders["bert"], max_length=40, head="random")
    TunedRanker(ranker, None).save(here / "cross")
    BiEncoder(tiny_folders["bert"]).save(here / "encoder")
    for kind in ("cross", "encoder"):
        for method in METHODS:
            run("shrink", here / kind, *data(here), "--out", here / f"{kind}-{method}", "--method", method)
    return here


def data(here):
    return "--data", here / "beir", "--queries", 3, "--calibration-queries", 3


def run(*words, code=0):
    done = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=True)
    if code:
        assert done.exit_code != 0, done.output
        return f"{done.exception} {done.output}"
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.mark.parametrize("kind", ["cross", "encoder"])
@pytest.mark.parametrize("method", METHODS)
def test_it_is_served_with_the_scores_that_it_has(place, kind, method):
    folder = place / f"{kind}-{method}"
    expected = open_ranker(str(folder)).score("moon", TEXTS)
    engine = open_engine(str(folder), None, memory_bytes=1 << 22, dtype="float32")
    (found,) = engine.score([Job(None, "moon", TEXTS)])
    engine.close()
    np.testing.assert_allclose(found.scores, expected, atol=1e-4 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adapters_on_its_factors_are_served_together_with_it(place, tmp_path, dtype):
    base = str(place / "cross-eora" / "model" / "model")
    expected = {None: open_ranker(base).score("moon", TEXTS)}
    for seed, name in enumerate(("acme", "globex")):
        ranker = CrossEncoder(base)
        adapter = lowrank.attach(ranker.module, "lora", rank=2, exclude=["classifier"], seed=seed)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(seed))
        tuned = TunedRanker(ranker, adapter)
        expected[name] = tuned.score("moon", TEXTS)
        tuned.save(tmp_path / "store" / name)
    assert float(np.abs(expected["acme"] - expected["globex"]).max()) > 1e-3
    engine = open_engine(str(place / "cross-eora"), str(tmp_path / "store"), memory_bytes=1 << 22, dtype=dtype)
    found = engine.score([Job(name, "moon", TEXTS) for name in expected])
    engine.close()
    for name, each in zip(expected, found, strict=True):
        assert not isinstance(each, Exception), each
        size = max(1.0, float(np.abs(expected[name]).max()))
        np.testing.assert_allclose(each.scores, expected[name], atol=(1e-4 if dtype == "float32" else 0.2) * size)


@pytest.mark.parametrize("path", ["torch-float32", "torch-bfloat16", "openvino-float32", "onnxruntime-float32"])
@pytest.mark.parametrize("method", METHODS)
def test_a_scoring_path_keeps_its_order_or_is_refused_before_any_work(place, method, path):
    pytest.importorskip(path.partition("-")[0], reason="its runtime is not installed")
    folder = place / f"cross-{method}"
    words = ("agree", folder, folder, "--path-a", "torch-float32", "--path-b", path, *data(place)[:4], "--json")
    if method == "zeroquant-fp" and not path.startswith("torch"):
        assert "on a grid of few bits, which torch alone computes with; take a torch path" in run(*words, code=1)
        return
    assert json.loads(run(*words))["tau"]["mean"] > (0.99 if "float32" in path else 0.5)


@pytest.mark.parametrize("format", ["peft", "portable", "merged"])
def test_an_export_for_other_tools_is_refused_with_what_to_do(place, format, tmp_path):
    said = run("adapter", "export", place / "cross-eora", "--out", tmp_path / "out", "--format", format, code=1)
    assert "products of factors, which other tools do not know; use its folder with lorank" in said
    assert not list(tmp_path.iterdir())


def refused(place, tmp_path, name, *words):
    """What `lorank shrink` says, after which nothing lies in the folder."""
    out = tmp_path / "out"
    out.mkdir()
    said = run("shrink", name, *data(place), "--out", out / "small", *words, code=1)
    assert not list(out.iterdir())
    return said


def test_a_quantised_base_is_refused(tiny_folders):
    ranker = CrossEncoder(tiny_folders["bert"], head="random")
    lowrank.quantise(ranker.module, "int8", targets=["query"])
    adapter = lowrank.attach(ranker.module, "lora", rank=2, targets=["query"], seed=0)
    with pytest.raises(UsageError, match="quantised.*dequantise|cannot be merged.*dense base"):
        shrink_ranker(TunedRanker(ranker, adapter), ShrinkSettings("svd"))


def test_a_tied_head_stays_tied(place, tiny_causals, tmp_path):
    ranker = CausalRanker(str(next(iter(tiny_causals.values()))))
    ranker.module.config.tie_word_embeddings = True
    ranker.module.lm_head.weight = ranker.module.get_input_embeddings().weight
    ranker.save(tmp_path / "tied")
    words = ("--method", "svd", "--ratio", 0.9)
    run("shrink", tmp_path / "tied", *data(place), "--out", tmp_path / "small", *words)
    module = open_ranker(str(tmp_path / "small")).ranker.module
    assert module.lm_head.weight is module.get_input_embeddings().weight
    assert len(describe_layers(module)) > 0


def test_a_layer_that_shares_its_weight_is_refused_and_left_out_on_demand(tiny_folders):
    ranker = BiEncoder(tiny_folders["bert"])
    layers = ranker.module.encoder.layer
    layers[1].attention.self.query.weight = layers[0].attention.self.query.weight
    with pytest.raises(UsageError, match="tied to or shared with another module.*exclude: query"):
        shrink_ranker(TunedRanker(ranker, None), ShrinkSettings("svd"))
    small, report = shrink_ranker(TunedRanker(ranker, None), ShrinkSettings("svd", exclude=("query",)))
    assert not any("query" in layer.path for layer in report.layers)
    assert np.isfinite(small.score("moon", TEXTS)).all()


def test_empty_calibration_texts_are_refused(place, tmp_path):
    blank = tmp_path / "blank"
    shutil.copytree(place / "beir", blank)
    rows = [json.loads(line) for line in (blank / "corpus.jsonl").read_text().splitlines()]
    (blank / "corpus.jsonl").write_text("".join(json.dumps({**row, "title": "", "text": " "}) + "\n" for row in rows))
    out = tmp_path / "out"
    out.mkdir()
    said = run("shrink", place / "encoder", "--data", blank, "--out", out / "small", code=1)
    assert "empty" in said
    assert not list(out.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ratio", 0.01), "below one rank"),
        (("--ratio", 0), "above 0"),
        (("--ratio", -0.5), "above 0"),
        (("--ratio", "nan"), "above 0"),
        (("--ratio", 1.5), "up to 1"),
        (("--rank", 400), "above min"),
        (("--rank", 0), "from 1 up"),
        (("--rank", 4, "--ratio", 0.5), "state one of them"),
        (("--ranks", "order", "--rank", 4, "--grid", "fp3"), "fp3"),
    ],
)
def test_sizes_that_cannot_be_are_refused(place, tmp_path, words, said):
    assert said in refused(place, tmp_path, place / "encoder", *words)


def test_a_failure_while_writing_leaves_nothing(place, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(torch.nn.Module, "state_dict", fails)
    out = tmp_path / "out"
    out.mkdir()
    run("shrink", place / "encoder", *data(place), "--method", "svd", "--out", out / "small", code=1)
    assert not list(out.iterdir())
