"""Adapters of embeddings from the command line: trained, inspected, squeezed, exported, or refused by name."""

import json
import sys

import pytest
import torch

from lorank import lowrank
from lorank.cli import main
from lorank.data import write_beir
from lorank.ranking.scorers import BiEncoder
from lorank.training import load_ranker

TARGETS = '["word_embeddings", "query"]'


def run(capsys, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lorank", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
    captured = capsys.readouterr()
    return left.value.code or 0, captured.out, captured.err


@pytest.fixture(scope="module")
def beir(texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "beir"
    write_beir(texts, folder)
    return folder


def train(capsys, beir, base, out, adapter, *more, targets=TARGETS):
    small = ["--steps", 3, "--batch-size", 4, "--rank", 2, "--kind", "cross-encoder"]
    named = ["--data", beir, "--base", base, "--adapter", adapter, "--out", out, "--set", f"adapter.targets={targets}"]
    return run(capsys, "train", *named, *small, *more)


@pytest.mark.parametrize("adapter", ["lora", "adalora", "lora-pro", "lora-ga"])
def test_a_table_named_on_the_command_line_is_trained_inspected_squeezed_and_exported(
    adapter, beir, tiny_folders, tmp_path, capsys
):
    code, _, err = train(capsys, beir, tiny_folders["bert"], tmp_path / "run", adapter, "--set", "keep=tuned")
    assert code == 0, err
    tuned = load_ranker(tmp_path / "run")
    assert {path.rpartition(".")[2] for path in tuned.adapter.layers} == {"word_embeddings", "query"}
    (table,) = (layer for path, layer in tuned.adapter.layers.items() if path.endswith("word_embeddings"))
    assert table.delta().abs().max() > 0
    code, out, _ = run(capsys, "inspect", tmp_path / "run", "--json")
    assert code == 0
    rows = {row["path"]: row for row in json.loads(out)}
    if adapter != "adalora":  # inspect reads the factors of LoRAs
        (row,) = (row for path, row in rows.items() if path.endswith("word_embeddings"))
        assert row["norm"] == pytest.approx(table.delta().norm().item(), rel=1e-4)
    code, _, err = run(capsys, "adapter", "squeeze", tmp_path / "run", "--rank", 1, "--out", tmp_path / "small")
    assert code == 0, err
    code, _, err = run(capsys, "adapter", "merge", tmp_path / "run", "--out", tmp_path / "merged")
    assert code == 0, err
    assert "largest score change" in err


@pytest.mark.parametrize(
    ("adapter", "says"), [("flylora", "routes each input"), ("eva", "inputs are no vectors"), ("qdylora", "few bits")]
)
def test_what_makes_no_sense_on_a_table_is_refused_by_name_before_any_work(
    adapter, says, beir, tiny_folders, tmp_path, capsys
):
    code, _, err = train(capsys, beir, tiny_folders["bert"], tmp_path / "run", adapter)
    assert code in (1, 2)
    text = " ".join(err.split())
    assert says in text
    assert "word_embeddings" in text
    assert "Traceback" not in err


def test_an_unknown_target_names_the_layers_that_there_are(beir, tiny_folders, tmp_path, capsys):
    code, _, err = train(capsys, beir, tiny_folders["bert"], tmp_path / "run", "lora", targets='["nothing"]')
    assert code == 2
    assert "word_embeddings" in err


def test_a_bi_encoder_learns_on_its_table_alone(tiny_folders):
    ranker = BiEncoder(str(tiny_folders["bert"]))
    adapter = lowrank.attach(ranker.module, "lora", rank=2, targets=["word_embeddings"])
    texts = ranker.prepare(["moon"], ["the moon", "a list of words"])
    grid = torch.tensor([[0, 1]])
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.01)
    before = gap = None
    for _ in range(5):
        scores = ranker.forward(texts, torch.tensor([0]), grid, torch.ones(1, 2, dtype=torch.bool))
        gap = float((scores[0, 0] - scores[0, 1]).detach())
        before = gap if before is None else before
        optimizer.zero_grad()
        (scores[0, 1] - scores[0, 0]).backward()
        optimizer.step()
    assert gap > before
