"""Published rerankers: each family's own recipe in plain transformers code, on tiny random models of its kind."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from lorank.errors import UsageError
from lorank.ranking.scorers import CausalRanker, CrossEncoder
from lorank.ranking.scorers.families import families, find_family
from lorank.tuned.open_ranker import kind_of
from tiny_rerankers import write_reranker

QUERIES = ["what is a panda?", "", " list\n"]
DOCUMENTS = [
    "The giant panda, or panda bear, is a bear.",
    "sorting a list: sorted(x)\n",
    "",
    "\nline",
    '  "quoted" text?',
    "ends in a token <|endoftext|>",
    "<|endoftext|>",
    "中文 text",
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3_BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
QWEN3_AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
MXBAI_TASK = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document "
    "pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment "
    "(0 for not relevant, 1 for relevant).\nRelevance:"
)
BGE_TASK = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)


def qwen3_ids(encode, query, document, instruction=INSTRUCTION):
    body = f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
    return encode(QWEN3_BEFORE) + encode(body) + encode(QWEN3_AFTER)


def mxbai_ids(encode, query, document):
    system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    return [
        *encode(f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n"),
        *(*encode(f"query: {query}"), *encode("\n"), *encode(f"document: {document}")),
        *(*encode("\n"), *encode(MXBAI_TASK), *encode("<|im_end|>\n<|im_start|>assistant\n")),
    ]


def bge_ids(encode, query, document):
    parts = (f"A: {query}", "\n", f"B: {document}", "\n", BGE_TASK)
    return encode("<s>") + [token for part in parts for token in encode(part)]


def zerank_ids(encode, query, document):
    turns = (("system", query.strip()), ("user", document.strip()))
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    return encode(f"{text}<|im_start|>assistant\n")


def difference(logits, token, yes, no):
    return logits[token(yes)] - logits[token(no)]


RECIPES = {
    "Qwen3-Reranker-0.6B": ("qwen3", {}, qwen3_ids, lambda logits, token: difference(logits, token, "yes", "no")),
    "mxbai-rerank-base-v2": ("qwen2", {}, mxbai_ids, lambda logits, token: difference(logits, token, "1", "0")),
    "bge-reranker-v2-gemma": ("gemma", {"begins": True}, bge_ids, lambda logits, token: logits[token("Yes")]),
    "zerank-2": ("qwen3", {"chat": CHATML}, zerank_ids, lambda logits, token: logits[token("Yes")]),
}


def last_logits(model, tokenizer, make_ids, query, document):
    """The logits at the last token of one pair, alone and without padding."""
    with torch.no_grad():
        ids = make_ids(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"], query, document)
        return model(torch.tensor([ids])).logits[0, -1]


def expected(folder, make_ids, read):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    token = tokenizer.convert_tokens_to_ids
    return np.array(
        [[float(read(last_logits(model, tokenizer, make_ids, q, d), token)) for d in DOCUMENTS] for q in QUERIES]
    )


def scored(ranker):
    pairs = np.array([(q, d) for q in range(len(QUERIES)) for d in range(len(DOCUMENTS))])
    return ranker.score_pairs(QUERIES, DOCUMENTS, pairs).reshape(len(QUERIES), len(DOCUMENTS))


@pytest.fixture(scope="module", params=list(RECIPES))
def published(request, tmp_path_factory):
    kind, options, make_ids, read = RECIPES[request.param]
    folder = write_reranker(tmp_path_factory.mktemp("hub") / request.param, kind, **options)
    return folder, expected(folder, make_ids, read)


def test_a_published_reranker_scores_by_its_own_recipe(published):
    folder, scores = published
    assert kind_of(str(folder)) == "causal"
    ranker = CausalRanker(folder)
    np.testing.assert_allclose(scored(ranker), scores, rtol=1e-4, atol=1e-4)
    assert np.ptp(scores) > 0.1
    inputs = ranker.prepare(QUERIES, DOCUMENTS)
    grid = torch.arange(len(DOCUMENTS)).expand(len(QUERIES), -1)
    with torch.no_grad():
        again = ranker.forward(inputs, torch.arange(len(QUERIES)), grid, torch.ones_like(grid, dtype=torch.bool))
    np.testing.assert_allclose(again.numpy(), scores, rtol=1e-4, atol=1e-4)


def test_its_prompt_stays_with_it_where_its_name_does_not(published, tmp_path):
    folder, scores = published
    ranker = CausalRanker(folder)
    ranker.save(tmp_path / "ours")
    np.testing.assert_allclose(scored(CausalRanker.load(tmp_path / "ours")), scores, rtol=1e-4, atol=1e-4)
    shutil.copytree(folder, tmp_path / "renamed")
    (tmp_path / "renamed" / "README.md").write_text(f"---\nbase_model: someone/{folder.name}\n---\n# A model\n")
    np.testing.assert_allclose(scored(CausalRanker(tmp_path / "renamed")), scores, rtol=1e-4, atol=1e-4)
    (tmp_path / "renamed" / "README.md").unlink()
    np.testing.assert_allclose(
        scored(CausalRanker(tmp_path / "renamed", family=ranker.family)), scores, rtol=1e-4, atol=1e-4
    )


def test_a_model_without_a_known_prompt_is_asked_in_our_words_and_says_so(published, tmp_path, caplog):
    shutil.copytree(published[0], tmp_path / "nameless")
    with caplog.at_level("WARNING", "lorank"):
        ranker = CausalRanker(tmp_path / "nameless", chat="off")
    assert "is asked in lorank's own words and answers Yes or No" in caplog.text
    assert ranker.family == "none"
    caplog.clear()
    CausalRanker(published[0])
    CausalRanker(tmp_path / "nameless", chat="off", prompt="$query $documents", answers=("yes", "no"))
    CausalRanker(tmp_path / "nameless", chat="off", view="log-ratio")
    assert not caplog.text


def test_an_instruction_of_ones_own_takes_the_place_of_the_familys(tmp_path):
    folder = write_reranker(tmp_path / "Qwen3-Reranker-4B", "qwen3")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

    def ids(encode, query, document):
        return qwen3_ids(encode, query, document, "Find code.")

    token = tokenizer.convert_tokens_to_ids
    score = [float(difference(last_logits(model, tokenizer, ids, "q?", d), token, "yes", "no")) for d in DOCUMENTS]
    ranker = CausalRanker(folder, instruction="Find code.")
    np.testing.assert_allclose(ranker.score("q?", DOCUMENTS), score, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="no place for one"):
        CausalRanker(write_reranker(tmp_path / "mxbai-rerank-large-v2", "qwen2"), instruction="Find code.")


def classifier_logits(folder, make_ids):
    """The logit of each pair, alone and without padding; NaN for a pair without a token."""
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return np.array([[float(last_logits_of(model, tokenizer, make_ids, q, d)) for d in DOCUMENTS] for q in QUERIES])


def last_logits_of(model, tokenizer, make_ids, query, document):
    with torch.no_grad():
        ids = make_ids(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"], query, document)
        if not ids:
            return float("nan")
        return model.score(model.model(torch.tensor([ids])).last_hidden_state[0, -1])[0]


def rankllama_ids(encode, query, document):
    return encode("<s>") + encode(f"query: {query}") + encode("<s>") + encode(f"document: {document}")


def plain_pair_ids(encode, query, document):
    return encode(query) + encode(document)


@pytest.mark.parametrize(
    ("name", "kind", "options", "make_ids"),
    [
        ("Qwen3-Reranker-0.6B-seq-cls", "qwen3", {}, qwen3_ids),
        ("mxbai-rerank-base-v2-seq", "qwen2", {}, mxbai_ids),
        ("rankllama-v1-7b-merged", "llama", {"begins": True}, rankllama_ids),
        ("some-gemma2-reranker", "gemma2", {}, plain_pair_ids),
    ],
)
def test_a_decoder_with_one_label_is_a_cross_encoder(name, kind, options, make_ids, tmp_path):
    folder = write_reranker(tmp_path / name, kind, head=True, **options)
    assert kind_of(str(folder)) == "cross-encoder"
    ranker, scores = CrossEncoder(folder), classifier_logits(folder, make_ids)
    found = scored(ranker)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.where(np.isnan(scores), scores, found), scores, rtol=1e-4, atol=1e-4)
    assert not list(ranker.head_parameters())
    ranker.save(tmp_path / "saved")
    np.testing.assert_allclose(scored(CrossEncoder.load(tmp_path / "saved")), found, rtol=1e-4, atol=1e-4)
    if make_ids is not plain_pair_ids:
        np.testing.assert_allclose(scored(CausalRanker(folder, view="head")), scores, rtol=1e-4, atol=1e-4)


OWN_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}[{{ m['content'] }}]{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m['role'] == 'query' %}Q: {{ m['content'] | trim }}\n{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m['role'] == 'document' %}D: {{ m['content'] | trim }}?\nSo:{% endif %}{% endfor %}"
)
LOGIT_SCORE = "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"
TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"


def with_own_prompt(folder, *, yes="1", no="0", prompts=None, messages=True):
    """Write the files of sentence-transformers into a folder of a causal reranker."""
    tokens = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": TRANSFORMER},
        {"idx": 1, "name": "1", "path": "1_LogitScore", "type": LOGIT_SCORE},
    ]
    read = {"method": "forward", "method_output_name": "logits"}
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_LogitScore").mkdir()
    (folder / "1_LogitScore" / "config.json").write_text(
        json.dumps({"true_token_id": tokens(yes), "false_token_id": None if no is None else tokens(no)})
    )
    modality = {"text": read} | ({"message": {**read, "format": "flat"}} if messages else {})
    (folder / "sentence_bert_config.json").write_text(
        json.dumps(
            {
                "transformer_task": "text-generation",
                "modality_config": modality,
                "module_output_name": "causal_logits",
            }
        )
    )
    settings = {
        "model_type": "CrossEncoder",
        "prompts": prompts or {},
        "default_prompt_name": next(iter(prompts or {}), None),
        "activation_fn": "torch.nn.modules.linear.Identity",
    }
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("qwen3", {}),
        ("llama", {"no": None}),
        ("gemma2", {"yes": "yes", "no": "no", "prompts": {"code": "Find code."}}),
        ("qwen3", {"messages": False}),
    ],
)
def test_a_prompt_in_the_folder_is_read_as_sentence_transformers_reads_it(kind, files, tmp_path):
    peer = pytest.importorskip("sentence_transformers")
    folder = with_own_prompt(write_reranker(tmp_path / "ours", kind, chat=OWN_TEMPLATE), **files)
    assert kind_of(str(folder)) == "causal"
    theirs = peer.CrossEncoder(str(folder)).predict([(q, d) for q in QUERIES for d in DOCUMENTS if q + d])
    wanted = np.array([bool(q + d) for q in QUERIES for d in DOCUMENTS])
    ranker = CausalRanker(folder)
    np.testing.assert_allclose(scored(ranker).reshape(-1)[wanted], theirs, rtol=1e-4, atol=1e-4)
    ranker.save(tmp_path / "saved")
    np.testing.assert_allclose(
        scored(CausalRanker.load(tmp_path / "saved")).reshape(-1)[wanted], theirs, rtol=1e-4, atol=1e-4
    )
    again = peer.CrossEncoder(str(tmp_path / "saved")).predict([(q, d) for q in QUERIES for d in DOCUMENTS if q + d])
    np.testing.assert_allclose(again, theirs, rtol=1e-4, atol=1e-4)


def test_a_template_that_speaks_of_query_and_document_is_the_prompt(tmp_path):
    folder = write_reranker(tmp_path / "ours", "qwen3", chat=OWN_TEMPLATE)
    assert CausalRanker(folder).family == "own"
    plain = write_reranker(tmp_path / "chat", "qwen3", chat=CHATML)
    assert CausalRanker(plain).family == "none"
    with pytest.raises(UsageError, match="no chat template that takes a query and a document"):
        CausalRanker(plain, family="own", chat="off")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("jina-reranker-v3", "in one sequence"),
        ("bge-reranker-v2-minicpm-layerwise", "head of each layer"),
        ("bge-reranker-v2.5-gemma2-lightweight", "head of each layer"),
    ],
)
def test_families_that_need_code_of_their_own_are_refused_by_name(name, said, tmp_path):
    folder = write_reranker(tmp_path / name, "qwen3")
    with pytest.raises(UsageError, match=said):
        CausalRanker(folder)


def test_every_family_says_what_is_needed_of_it():
    for family in families().values():
        given = [bool(family.segments), bool(family.messages), family.pair is not None, family.refused is not None]
        assert sum(given) == 1, family.name
        assert family.models, family.name
        assert all(any(n in model.lower() for n in family.names) for model in family.models), family.name
        assert family.paper, family.name
    with pytest.raises(UsageError, match="unknown family 'qwen3-rerankr'; did you mean 'qwen3-reranker'"):
        find_family("qwen3-rerankr")


def test_cut_texts_keep_the_prompt_whole(tmp_path):
    """However long the texts are, the prompt's own tokens stay, and no sequence is longer than the ranker takes in."""
    folder = write_reranker(tmp_path / "Qwen3-Reranker-0.6B", "qwen3")
    ranker = CausalRanker(folder, max_length=420)
    long = "the word " * 200
    inputs = ranker.prepare(["q?", long], ["short.", long])
    pairs = np.array([(q, d) for q in (0, 1) for d in (0, 1)])
    spans = ranker.spans(inputs, pairs)
    lengths = []
    read = ranker.module.forward

    def listening(input_ids, attention_mask, **others):
        lengths.extend(attention_mask.sum(1).tolist())
        texts = ranker.tokenizer.batch_decode(input_ids)
        assert all(text.endswith(QWEN3_AFTER) for text in texts)
        assert all(QWEN3_BEFORE in text and "\n<Document>:" in text for text in texts)
        return read(input_ids=input_ids, attention_mask=attention_mask, **others)

    ranker.module.forward = listening
    with torch.no_grad():
        ranker.read(inputs, spans)
    assert max(lengths) <= 420
    assert ranker.truncation(["q?"], ["short.", long]).truncated == 1
