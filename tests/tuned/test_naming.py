"""What a name of a ranker names, and what is said of a name that names none."""

import json

import pytest

from lorank.errors import UsageError
from lorank.tuned.naming import recognise


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Folders of each kind, with the files that tell them apart and nothing else."""
    monkeypatch.chdir(tmp_path)
    marks = {
        "runs/first/model/lorank.json": {"kind": "bi-encoder", "mix": {}},
        "saved/lorank.json": {"kind": "cross-encoder", "options": {}},
        "peft/adapter_config.json": {"peft_type": "LORA"},
        "encoder/config.json": {"model_type": "bert"},
        "runs/first/model/adapter/adapter_config.json": {},
        "stopped/checkpoints/step-1/state.json": {},
        "weights/model.safetensors": {},
        "half/adapter_model.safetensors": {},
        "beir/corpus.jsonl": {},
        "onnx/model.onnx": {},
        "notes/todo.txt": {},
    }
    for name, content in marks.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "empty").mkdir()
    (tmp_path / "recipe.toml").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("runs/first", "tuned"),
        ("runs/first/model", "tuned"),
        ("saved", "saved"),
        ("peft", "peft"),
        ("encoder", "model"),
        ("minilm", "model"),
        ("owner/name", "model"),
        ("bert-base-uncased", "model"),
        ("bm25", "bm25"),
        ("causal:smollm2", "judge"),
        ("openai:http://localhost:8000/v1#m", "judge"),
    ],
)
def test_every_kind_of_name(folders, name, kind):
    assert recognise(name).kind == kind


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("minlm", "did you mean 'minilm'"),
        ("bm52", "did you mean 'bm25'"),
        ("runs/frist", r"there is no folder runs/frist; did you mean runs/first"),
        ("runs/first/model/adapter", r"the adapter inside a tuned ranker; give that, .*runs/first$"),
        ("runs", r"rankers lie in its folders; give one of them: runs/first"),
        ("stopped", "a run that did not end .*--resume"),
        ("weights", r"weights \(model.safetensors\) and no config.json"),
        ("half", "an adapter's weights and no adapter_config.json"),
        ("beir", "a collection; give it to --data"),
        ("onnx", "an export .*--path"),
        ("notes", "it holds todo.txt, and neither config.json nor lorank.json"),
        ("empty", "it is empty"),
        ("recipe.toml", "a recipe: give it to `lorank train`"),
        ("runs/first/model/lorank.json", r"one file of a ranker: give its folder, runs/first/model"),
        ("no/such/folder", "there is no folder no/such/folder"),
        ("openia:http://localhost", "did you mean openai:http://localhost"),
        ("causal:", "give the URL or the model after the colon"),
    ],
)
def test_what_names_no_ranker_is_told_with_what_was_found_and_what_works(folders, name, says):
    with pytest.raises(UsageError, match=says) as refused:
        recognise(name, "--ranker")
    assert str(refused.value).startswith("--ranker: ")
    assert "adapter inside" in str(refused.value) or "a ranker is a packaged model" in str(refused.value)
