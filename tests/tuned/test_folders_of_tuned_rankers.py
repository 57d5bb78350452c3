"""Folders of tuned rankers: valid JSON, opened from anywhere, and refused where the scoring head is missing."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lorank import lowrank
from lorank.errors import LorankError, UsageError
from lorank.ranking.scorers import CrossEncoder
from lorank.serving.requests.engine import Job
from lorank.serving.start import open_engine
from lorank.tuned.mix import Mix
from lorank.tuned.open_ranker import open_ranker
from lorank.tuned.ranker import TunedRanker

TEXTS = ["sorting a list", "the moon", "", "words of a list"]


def tuned(base, **options) -> TunedRanker:
    """A tuned cross-encoder with an adapter and a head that are not as they came."""
    ranker = CrossEncoder(base, max_length=40, **options)
    adapter = lowrank.attach(ranker.module, "lora", rank=2, targets="all-linear", trained=["classifier"], seed=0)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(3))
    return TunedRanker(ranker, adapter, mix=Mix(0.0, 1.0, [(0.0, 0.25), (math.inf, 0.5)]))


def refuse_constant(name):
    raise AssertionError(f"{name} is no JSON")


def without_head(folder):
    """Take the head out of the adapter of a saved ranker, as tools that know adapters alone do."""
    for file in (folder / "adapter").rglob("*.safetensors"):
        tensors = load_file(file)
        kept = {name: tensor for name, tensor in tensors.items() if "classifier" not in name}
        if kept:
            save_file(kept, file, {"format": "pt"})
        else:
            file.unlink()
    config = folder / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"modules_to_save": None}))
    (folder / "adapter" / "lorank.json").unlink()
    about = json.loads((folder / "lorank.json").read_text())
    about.pop("files", None)
    (folder / "lorank.json").write_text(json.dumps(about))


def test_the_card_is_json_and_holds_the_whole_curve(tiny_folders, tmp_path):
    tuned(tiny_folders["bert"]).save(tmp_path / "run")
    for path in (tmp_path / "run").rglob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse_constant)
    assert TunedRanker.load(tmp_path / "run").mix.curve == [(0.0, 0.25), (math.inf, 0.5)]  # exact: read, not computed


def test_cards_of_version_0_1_are_read(tiny_folders, tmp_path):
    made = tuned(tiny_folders["bert"])
    made.save(tmp_path / "run")
    card = tmp_path / "run" / "lorank.json"
    about = json.loads(card.read_text())
    about["mix"]["curve"] = [[0.0, 0.25], [math.inf, 0.5]]
    for option in ("label", "query_prefix", "family"):
        del about["options"][option]
    card.write_text(json.dumps(about))
    again = TunedRanker.load(tmp_path / "run")
    assert again.mix.curve[1][0] == math.inf
    np.testing.assert_allclose(again.score("q", TEXTS), made.score("q", TEXTS), rtol=1e-4, atol=1e-5)


FROM_ELSEWHERE = """
import sys
from lorank.tuned.ranker import TunedRanker
print(*TunedRanker.load(sys.argv[1]).score("q", ["sorting a list", "the moon"]).tolist())
"""


@pytest.mark.slow
def test_a_base_given_as_a_relative_path_opens_from_elsewhere(tiny_folders, tmp_path, monkeypatch):
    (tmp_path / "work" / "models").mkdir(parents=True)
    (tmp_path / "work" / "models" / "tiny").symlink_to(tiny_folders["bert"])
    monkeypatch.chdir(tmp_path / "work")
    made = tuned("models/tiny")
    made.save("runs/first")
    expected = made.score("q", TEXTS[:2])
    for cwd, name in ((tmp_path, "work/runs/first"), ("/", str(tmp_path / "work" / "runs" / "first"))):
        done = subprocess.run(
            [sys.executable, "-c", FROM_ELSEWHERE, name], cwd=cwd, capture_output=True, text=True, check=True
        )
        np.testing.assert_allclose([float(score) for score in done.stdout.split()], expected, rtol=1e-4, atol=1e-5)
    card = tmp_path / "work" / "runs" / "first" / "lorank.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"base": "models/tiny"}))  # as version 0.1 wrote it
    monkeypatch.chdir("/")
    np.testing.assert_allclose(TunedRanker.load(card.parent).score("q", TEXTS[:2]), expected, rtol=1e-4, atol=1e-5)


def test_an_adapter_that_lost_its_head_is_refused(tiny_folders, tmp_path):
    tuned(tiny_folders["bert"]).save(tmp_path / "store" / "team")
    without_head(tmp_path / "store" / "team")
    with pytest.raises(LorankError, match=r"has lost its scoring head.*classifier"):
        TunedRanker.load(tmp_path / "store" / "team")
    engine = open_engine(str(tiny_folders["bert"]), str(tmp_path / "store"), kind="cross-encoder", max_length=40)
    found = engine.score([Job("team", "q", TEXTS)])[0]
    assert isinstance(found, LorankError)
    assert "lost its scoring head" in str(found)


def test_a_base_without_a_head_is_served_to_its_adapters_alone(tiny_folders, tmp_path):
    with pytest.raises(UsageError, match=r"no scoring head of its own.*every score would be 0"):
        open_engine(str(tiny_folders["bert"]), None, kind="cross-encoder")
    made = tuned(tiny_folders["bert"])
    made.save(tmp_path / "store" / "team")
    engine = open_engine(str(tiny_folders["bert"]), str(tmp_path / "store"), max_length=40)
    base, team = engine.score([Job(None, "q", TEXTS), Job("team", "q", TEXTS)])
    assert "no scoring head of its own" in str(base)
    np.testing.assert_allclose(team.scores, made.score("q", TEXTS), rtol=1e-4, atol=1e-4)


def test_any_ranker_opens_by_its_name(tiny_folders, tmp_path):
    with pytest.raises(UsageError, match="no scoring head of its own"):
        open_ranker(str(tiny_folders["roberta"]))
    made = CrossEncoder(tiny_folders["roberta"], head="random", max_length=40)
    made.save(tmp_path / "saved")
    tuned(tiny_folders["bert"]).save(tmp_path / "run" / "model")
    np.testing.assert_allclose(
        open_ranker(str(tmp_path / "saved")).score("q", TEXTS), made.score("q", TEXTS), rtol=1e-4, atol=1e-5
    )
    assert open_ranker(str(tmp_path / "run")).adapter is not None
    with pytest.raises(LorankError, match=r"holds no ranker: rankers lie in its folders; give one of them: .*run"):
        open_ranker(str(tmp_path))
    with pytest.raises(UsageError, match="its kind and label stand in its"):
        open_ranker(str(tmp_path / "run"), label="1")


@pytest.mark.slow
def test_the_command_line_chooses_a_label(tiny_folders, tmp_path):
    folder = tmp_path / "nli"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForSequenceClassification.from_pretrained(tiny_folders["bert"], num_labels=3)
    model.classifier.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    model.config.id2label = {0: "contradiction", 1: "entailment", 2: "neutral"}
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_folders["bert"]).save_pretrained(folder)
    (tmp_path / "texts.jsonl").write_text("".join(f"{json.dumps(text)}\n" for text in TEXTS))
    command = [sys.executable, "-c", "from lorank.cli import main; main()", "rank", "--ranker", str(folder)]
    command += ["--query", "how are lists sorted", "--documents", str(tmp_path / "texts.jsonl")]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--label" in refused.stderr
    done = subprocess.run([*command, "--label", "entailment"], capture_output=True, text=True, check=True)
    scores = {row["index"]: row["score"] for row in map(json.loads, done.stdout.splitlines())}
    expected = CrossEncoder(folder, label=1).score("how are lists sorted", TEXTS)
    np.testing.assert_allclose(
        [scores[i] for i in range(len(TEXTS))], expected, rtol=0.02, atol=0.1
    )  # bfloat16 here and there
    with pytest.raises(UsageError, match="3 labels"):
        open_engine(str(folder), None)
    answer = open_engine(str(folder), None, label="entailment").score([Job(None, "how are lists sorted", TEXTS)])[0]
    np.testing.assert_allclose(answer.scores, expected, rtol=1e-3, atol=1e-3)
