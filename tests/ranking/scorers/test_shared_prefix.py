"""What the prompts of a list begin with is computed once: the scores are those of whole prompts, for every family."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM, Qwen3NextConfig

from lorank import lowrank
from lorank.ranking.scorers import CausalRanker
from lorank.ranking.scorers.causal_batches import pad_left
from lorank.ranking.scorers.shared_prefix import beginnings, common_tokens, reuse_refusal
from lorank.ranking.scorers.tokens import Ragged
from tiny_causals import llama, write_causal
from tiny_rerankers import write_reranker

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SLIDING = {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}
MODELS = {
    "Qwen3-Reranker-0.6B": ("qwen3", {}),
    "Qwen3-Reranker-4B": ("qwen3", SLIDING),
    "mxbai-rerank-base-v2": ("qwen2", {"num_key_value_heads": 1}),
    "bge-reranker-v2-gemma": ("gemma", {"begins": True}),
    "zerank-2": ("qwen3", {"chat": CHATML}),
    "gemma2": ("gemma2", {"sliding_window": 24}),
    "gemma3": ("gemma3", {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]}),
    "mistral": ("mistral", {"sliding_window": 24}),
    "phi3": ("phi3", {"sliding_window": 24}),
    "llama": ("llama", {"num_key_value_heads": 4}),
}
QUERIES = ["what is a panda?", "", " list\n", "a longer query, of which there is more to read " * 2, "asked once"]
DOCUMENTS = [
    "The giant panda is a bear.",
    "",
    "",
    "sorting: sorted(x)\n",
    "The giant panda. " * 9,
    "中文 text",
    " \nx?",
]
PAIRS = np.array([(q, d) for q in range(4) for d in range(7)] + [(4, 3)])
each = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each model."""
    root = tmp_path_factory.mktemp("hub")
    return {name: write_reranker(root / name, kind, **options) for name, (kind, options) in MODELS.items()}


def open_both(folder, **options):
    """The ranker, and the same that computes every prompt whole."""
    options = {"chat": "off"} | options
    both = CausalRanker(folder, **options), CausalRanker(folder, **options, reuse_prefix=False)
    both[1].module = both[0].module
    return both


def scored(ranker):
    return ranker.score_pairs(QUERIES, DOCUMENTS, PAIRS)


@contextmanager
def tokens_of(ranker):
    """Count the tokens that the model computes, padding included."""
    counted = []
    hook = ranker.module.get_input_embeddings().register_forward_pre_hook(
        lambda module, given: counted.append(given[0].numel())
    )
    yield counted
    hook.remove()


def agree(found, whole, tolerance=1e-5):
    assert np.ptp(whole) > 0
    assert np.abs(found - whole).max() <= tolerance * np.abs(whole).max()


@each
def test_scores_are_those_of_whole_prompts(folders, name):
    ranker, whole = open_both(folders[name])
    assert ranker.reuses_prefix
    assert not whole.reuses_prefix
    with tokens_of(ranker) as shared:
        found = scored(ranker)
    with tokens_of(whole) as all_of_them:
        agree(found, scored(whole))
    assert sum(shared) < 0.9 * sum(all_of_them)


@each
@pytest.mark.parametrize("budget", [1, 300, 100_000])
def test_whatever_shares_a_batch(folders, name, budget):
    ranker, whole = open_both(folders[name], token_budget=budget)
    agree(scored(ranker), scored(whole))


@each
def test_under_an_adapter(folders, name):
    ranker, whole = open_both(folders[name])
    before = scored(ranker)
    adapter = lowrank.attach(ranker.module, "lora", rank=4, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    found = scored(ranker)
    agree(found, scored(whole))
    assert np.abs(found - before).max() > 1e-2 * np.abs(before).max()
    adapter.detach()


@each
def test_in_bfloat16_as_far_from_float32_as_whole_prompts_are(folders, name):
    exact = scored(open_both(folders[name])[1])
    ranker, whole = open_both(folders[name], dtype="bfloat16")
    found, size = scored(ranker), np.ptp(exact)
    assert np.abs(found - exact).mean() <= 2 * np.abs(scored(whole) - exact).mean() + 0.002 * size
    assert np.abs(found - exact).max() < 0.1 * size


@each
def test_texts_that_are_cut(folders, name):
    cost = CausalRanker(folders[name], chat="off").template.cost
    for room in (8, 30, 60):
        ranker, whole = open_both(folders[name], max_length=cost + room)
        inputs = ranker.prepare(QUERIES, DOCUMENTS)
        assert inputs.truncation(PAIRS, ranker.room).truncated
        agree(scored(ranker), scored(whole))


@pytest.mark.parametrize("view", ["expected", "head", "log-ratio"])
@pytest.mark.parametrize("name", ["Qwen3-Reranker-4B", "gemma2", "llama"])
def test_every_view(folders, name, view):
    ranker, whole = open_both(folders[name], view=view, head="random")
    if view == "log-ratio":
        for one in (ranker, whole):
            one.view = "likelihood"
    with tokens_of(ranker) as shared:
        found = scored(ranker)
    with tokens_of(whole) as all_of_them:
        agree(found, scored(whole))
    assert sum(shared) < sum(all_of_them)


def test_documents_that_begin_alike_share_that_too(folders):
    ranker, whole = open_both(folders["Qwen3-Reranker-0.6B"])
    documents = ["one title of them all: " * 4 + text for text in DOCUMENTS]
    with tokens_of(ranker) as titled:
        found = ranker.score("q", documents)
    with tokens_of(ranker) as plain:
        ranker.score("q", DOCUMENTS)
    assert sum(titled) <= sum(plain) + len(documents[1])
    agree(found, whole.score("q", documents))


def test_a_list_of_one_document_and_one_of_none(folders):
    ranker, whole = open_both(folders["Qwen3-Reranker-0.6B"])
    with tokens_of(ranker) as counted:
        assert ranker.score("q", ["one"]) == pytest.approx(whole.score("q", ["one"]), rel=1e-5)
    assert len(counted) == 2
    assert ranker.score("q", []).shape == (0,)
    agree(ranker.score("q", ["one", "one", "two"]), whole.score("q", ["one", "one", "two"]))


def test_a_model_that_cannot_go_on_from_a_prefix_says_so_and_computes_whole_prompts(tmp_path, caplog):
    config = llama()
    config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    folder = write_causal(tmp_path / "dynamic", config)
    with caplog.at_level("INFO", "lorank"):
        ranker = CausalRanker(folder)
    assert not ranker.reuses_prefix
    assert "computes every prompt of a list whole: its rotary embedding (dynamic)" in caplog.text
    assert np.isfinite(ranker.score("q", DOCUMENTS)).all()


def test_which_models_cannot():
    small = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 2}
    attention = small | {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 8}
    assert reuse_refusal(LlamaForCausalLM(LlamaConfig(**attention))) is None
    assert "is a state" in reuse_refusal(MambaForCausalLM(MambaConfig(**small, state_size=2)))
    model = LlamaForCausalLM(LlamaConfig(**attention))
    model.config = Qwen3NextConfig(**attention, head_dim=4)
    assert "linear_attention" in reuse_refusal(model)
    model.config = LlamaConfig(**attention)
    model.config.num_kv_shared_layers = 1
    assert "share" in reuse_refusal(model)


@pytest.mark.parametrize("seed", range(5))
def test_common_tokens_are_the_longest_common_beginning(seed):
    draw = np.random.default_rng(seed)
    rows = [draw.integers(0, 2, draw.integers(3, 12)) for _ in range(4)]
    common = draw.integers(0, 9, 5)
    rows = [np.concatenate([common, row]) for row in rows]
    rest = np.array([int(draw.integers(1, len(row))) for row in rows])
    ragged = Ragged(np.concatenate(rows), np.zeros(sum(map(len, rows)), np.int64), np.array(list(map(len, rows))))
    most = min(len(row) - int(own) for row, own in zip(rows, rest))
    same = next((i for i, column in enumerate(zip(*rows)) if len(set(column)) > 1), min(map(len, rows)))
    assert common_tokens([(ragged, rest)]).tolist() == rows[0][: min(most, same)].tolist()
    lengths = np.array([3, 0, 1, 8])
    begun = beginnings(ragged, lengths)
    assert begun.lengths.tolist() == [3, 1, 8]
    assert begun.ids.tolist() == [token for row, n in zip(rows, lengths) for token in row[:n]]
    inside = pad_left(begun, 9, torch.device("cpu"))["attention_mask"]
    assert inside.sum(1).tolist() == [3, 1, 8]
