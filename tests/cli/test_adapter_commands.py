"""lorank adapter squeeze, average, convert, merge, export: what is written scores as said, over nothing unless told."""

import re
import sys

import numpy as np
import pytest
import torch

from lorank import lowrank
from lorank.cli import main
from lorank.ranking.scorers import RANKERS
from lorank.training import load_ranker
from lorank.tuned.ranker import TunedRanker

PAIRS = np.array([[0, 0], [0, 1], [0, 2]])
TEXTS = ["the moon and the earth", "a list of words", "rankers order documents"]


def scores(folder):
    return load_ranker(folder).score_pairs(["moon earth"], TEXTS, PAIRS)


@pytest.fixture(scope="module")
def home(tiny_folders, tmp_path_factory):
    """Two trained LoRAs of rank 4 and 2 and a DoRA on one base, and a LoRA on another."""
    root = tmp_path_factory.mktemp("adapters")
    for name, base, form, rank, seed in (
        ("a", "bert", "lora", 4, 0),
        ("b", "bert", "lora", 2, 1),
        ("dora", "bert", "dora", 2, 2),
        ("gralora", "bert", "gralora", 2, 2),
        ("other", "roberta", "lora", 2, 1),
    ):
        torch.manual_seed(0)
        ranker = RANKERS["cross-encoder"](str(tiny_folders[base]))
        adapter = lowrank.attach(ranker.module, form, rank=rank, alpha=2.0 * rank, seed=seed, trained=["classifier"])
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        TunedRanker(ranker, adapter).save(root / name)
    return root


def run(capsys, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lorank", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
    captured = capsys.readouterr()
    return left.value.code or 0, captured.out, captured.err


def test_squeeze_at_the_own_rank_changes_nothing_and_below_reports_what_moved(home, tmp_path, capsys):
    code, out, err = run(capsys, "adapter", "squeeze", home / "a", "--rank", 4, "--out", tmp_path / "same")
    assert (code, out.strip()) == (0, str(tmp_path / "same"))
    np.testing.assert_allclose(scores(tmp_path / "same"), scores(home / "a"), atol=1e-5)
    _, _, err = run(capsys, "adapter", "squeeze", home / "a", "--rank", 1, "--out", tmp_path / "one")
    assert "rank 4 to 1" in err
    told = float(re.search(r"largest score change (\S+),", err)[1])
    assert told > 1e-4
    assert "pairs flipped" in err
    assert max(form.rank for form in load_ranker(tmp_path / "one").adapter.forms.values()) == 1
    run(capsys, "adapter", "squeeze", home / "a", "--energy", 0.5, "--out", tmp_path / "half")
    ranks = {form.rank for form in load_ranker(tmp_path / "half").adapter.forms.values()}
    assert ranks <= {1, 2, 3}


def test_nothing_is_written_over_nor_beyond_the_limit(home, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    code, _, err = run(capsys, "adapter", "squeeze", home / "a", "--rank", 1, "--out", tmp_path / "there")
    assert (code, "exists" in err) == (1, True)
    assert not list((tmp_path / "there").iterdir())
    code, _, err = run(
        capsys, "adapter", "squeeze", home / "a", "--rank", 1, "--limit", "1e-9", "--out", tmp_path / "far"
    )
    assert (code, "above the limit" in err) == (1, True)
    assert not (tmp_path / "far").exists()
    code, _, err = run(capsys, "adapter", "squeeze", home / "a", "--out", tmp_path / "x")
    assert (code, "--energy" in err) == (2, True)


@pytest.mark.parametrize("command", [("merge",), ("export", "--format", "peft"), ("export", "--format", "portable")])
def test_an_export_is_written_over_only_when_told_and_then_whole(home, tmp_path, capsys, command):
    out = tmp_path / "out"
    call = ("adapter", command[0], home / "a", *command[1:], "--out", out)
    code, told, err = run(capsys, *call)
    assert (code, told.strip()) == (0, str(out)), err
    names = {path.name for path in out.iterdir()}
    (out / "model.safetensors.old").write_text("left behind")
    code, _, err = run(capsys, *call)
    assert (code, "--overwrite" in err) == (1, True)
    code, _, err = run(capsys, *call, "--overwrite", "--limit", "-1")
    assert (code, "above the limit" in err) == (1, True)
    assert {path.name for path in out.iterdir()} == names | {"model.safetensors.old"}
    code, _, err = run(capsys, *call, "--overwrite")
    assert code == 0, err
    assert {path.name for path in out.iterdir()} == names
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_overwrite_spares_what_no_export_wrote(home, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("all of it")
    code, _, err = run(capsys, "adapter", "merge", home / "a", "--out", tmp_path, "--overwrite")
    assert (code, "stays as it is" in err) == (1, True)
    assert (tmp_path / "thesis.txt").read_text() == "all of it"


def test_convert_is_exact_where_the_form_is_a_lora_and_asks_for_a_rank_where_not(home, tmp_path, capsys):
    code, _, err = run(capsys, "adapter", "convert", home / "gralora", "--out", tmp_path / "plain")
    assert code == 0, err
    np.testing.assert_allclose(scores(tmp_path / "plain"), scores(home / "gralora"), atol=1e-5)
    assert load_ranker(tmp_path / "plain").adapter.settings.method == "lora"
    code, _, err = run(capsys, "adapter", "convert", home / "dora", "--out", tmp_path / "dora")
    assert (code, "no plain LoRA" in err) == (2, True)
    code, _, err = run(capsys, "adapter", "convert", home / "dora", "--rank", 48, "--out", tmp_path / "dora")
    assert code == 0, err
    np.testing.assert_allclose(scores(tmp_path / "dora"), scores(home / "dora"), atol=1e-4)


def test_average_is_the_weighted_sum_of_updates_and_of_heads(home, tmp_path, capsys):
    code, _, err = run(
        capsys, "adapter", "average", home / "a", home / "b", "--weights", "0.75,0.25", "--out", tmp_path / "both"
    )
    assert code == 0, err
    assert err.count("largest score change") == 2
    both, a, b = (load_ranker(folder).adapter for folder in (tmp_path / "both", home / "a", home / "b"))
    for path, layer in both.layers.items():
        expected = 0.75 * a.layers[path].delta() + 0.25 * b.layers[path].delta()
        torch.testing.assert_close(layer.delta(), expected, atol=1e-5, rtol=1e-4)
        assert both.forms[path].rank == 6
    for path, head in both.trained.items():
        torch.testing.assert_close(head.weight, 0.75 * a.trained[path].weight + 0.25 * b.trained[path].weight)
    ties = ("--method", "ties", "--rank", 3, "--out", tmp_path / "ties")
    code, _, err = run(capsys, "adapter", "average", home / "a", home / "b", *ties)
    assert code == 0, err
    assert {form.rank for form in load_ranker(tmp_path / "ties").adapter.forms.values()} == {3}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["a", "other"], 2, "one kind and base"),
        (["a"], 2, "two rankers"),
        (["a", "b", "--weights", "x,y"], 2, "not numbers"),
        (["a", "b", "--weights", "1"], 2, "1 weights"),
        (["a", "b", "--method", "mean"], 2, "known: dare"),
        (["a", "none"], 1, "no tuned ranker"),
    ],
)
def test_wrong_use_is_told_and_leaves_nothing(home, tmp_path, capsys, arguments, code, says):
    folders = [home / name if name in ("a", "b", "other", "none") else name for name in arguments]
    got, _, err = run(capsys, "adapter", "average", *folders, "--out", tmp_path / "out")
    assert (got, says in err) == (code, True), err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["squeeze", "average", "convert", "merge", "export"])
def test_help_has_an_example(command, capsys):
    code, out, _ = run(capsys, "adapter", command, "--help")
    assert code == 0
    assert f"lorank adapter {command}" in out
