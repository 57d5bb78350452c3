"""Every strategy runs by its name from `lorank rerank`, at its defaults, or says what kind of model it needs."""

import pytest
from typer.testing import CliRunner

from lorank import index
from lorank.cli.app import app
from lorank.data import order_documents, read_run, write_beir, write_run
from lorank.errors import UsageError
from lorank.ranking.scorers import BiEncoder, CausalRanker, CrossEncoder
from lorank.ranking.strategies import MODEL_STRATEGIES

NEEDS = {"promptreps": "causal"}
"""The kind of ranker that a strategy needs; every other runs with an embedding model."""

WRONG = [
    ("e2rank", ["--ranker", "cross"], "an embedding model"),
    ("e2rank", ["--judge", "oracle"], "an embedding model"),
    ("promptreps", ["--ranker", "encoder"], "a causal language model"),
    ("anncur", ["--judge", "oracle"], "a ranker that scores pairs"),
    ("anncur", ["--judge", "causal:causal"], "a ranker that scores pairs"),
]


@pytest.fixture(scope="module")
def place(texts, tiny_folders, tiny_causals, tmp_path_factory):
    here = tmp_path_factory.mktemp("strategies")
    write_beir(texts, here / "beir")
    write_run({q: {f"d{i}": 40.0 - i for i in range(30)} for q in texts.test.queries}, here / "first.run")
    BiEncoder(tiny_folders["bert"]).save(here / "encoder")
    CrossEncoder(tiny_folders["bert"], head="random").save(here / "cross")
    CausalRanker(tiny_causals["llama"], max_length=400).save(here / "causal")
    return here


def run(place, *arguments):
    named = [str(place / word) if word in ("encoder", "cross", "causal") else str(word) for word in arguments]
    given = ["--data", str(place / "beir"), "--run", str(place / "first.run"), "--out", str(place / "out.run")]
    (place / "out.run").unlink(missing_ok=True)
    return CliRunner().invoke(app, ["rerank", *given, *named])


@pytest.mark.parametrize("name", index.names("strategy"))
def test_a_strategy_runs_from_the_command_line_at_its_defaults(name, place):
    done = run(place, "--ranker", NEEDS.get(name, "encoder"), "--strategy", name, "--depth", 20)
    assert done.exit_code == 0, (done.output, done.exception)
    before, after = read_run(place / "first.run"), read_run(place / "out.run")
    assert {query: set(row) for query, row in after.items()} == {query: set(row) for query, row in before.items()}
    assert any(order_documents(after[query]) != order_documents(before[query]) for query in after)
    for query in after:
        assert order_documents(after[query])[20:] == order_documents(before[query])[20:]
    assert "calls" in done.stderr


@pytest.mark.parametrize(("name", "model", "needed"), WRONG)
def test_a_model_of_another_kind_is_met_with_the_kind_that_is_needed(name, model, needed, place, tiny_causals):
    model = [f"causal:{tiny_causals['llama']}" if word == "causal:causal" else word for word in model]
    done = run(place, *model, "--strategy", name)
    assert isinstance(done.exception, UsageError), done.output
    assert f"strategy {name!r} needs {needed}" in str(done.exception)
    assert not (place / "out.run").exists()


def test_a_language_model_that_is_a_judge_is_looked_into_too(place, tiny_causals):
    assert run(place, "--ranker", "causal", "--strategy", "promptreps", "--depth", 5).exit_code == 0
    as_ranker = read_run(place / "out.run")
    done = run(place, "--judge", f"causal:{tiny_causals['llama']}", "--strategy", "promptreps", "--depth", 5)
    assert done.exit_code == 0, done.output
    assert read_run(place / "out.run").keys() == as_ranker.keys()
    assert {q: order_documents(row) for q, row in read_run(place / "out.run").items()} == {
        q: order_documents(row) for q, row in as_ranker.items()
    }
    assert not (place / "out.run.answers.jsonl").exists()


@pytest.mark.parametrize("name", sorted(MODEL_STRATEGIES))
@pytest.mark.parametrize(
    ("option", "what"),
    [
        (["--budget", "calls=3"], "a budget is not used"),
        (["--batch-size", "2"], "a batch size is not used"),
        (["--cache", "kept.jsonl"], "a cache of answers is not used"),
    ],
)
def test_what_belongs_to_questions_is_refused_where_none_are_put(name, option, what, place):
    done = run(place, "--ranker", NEEDS.get(name, "encoder"), "--strategy", name, *option)
    assert isinstance(done.exception, UsageError)
    assert what in str(done.exception)


def test_anncur_takes_its_anchor_queries_from_the_other_splits_or_says_that_there_are_none(place, texts):
    others = len(texts.train.queries) + len(texts.dev.queries)
    done = run(place, "--ranker", "encoder", "--strategy", "anncur", "--option", "anchors=3", "--option", "reranked=4")
    assert done.exit_code == 0, done.output
    pairs = others * 30 + len(texts.test.queries) * 7
    assert f"{pairs:,}" in next(line for line in done.stderr.splitlines() if line.startswith("calls"))
    alone = run(place, "--ranker", "encoder", "--strategy", "anncur", "--option", "queries=[]")
    assert isinstance(alone.exception, UsageError)
    assert "give data with a training split" in str(alone.exception)


@pytest.mark.parametrize(("model", "warned"), [("minilm", True), ("encoder", False)])
def test_e2rank_warns_of_a_packaged_base_that_was_not_trained_for_its_prompts(place, model, warned):
    done = run(place, "--ranker", model, "--strategy", "e2rank", "--depth", 3, "--option", "words=4")
    assert done.exit_code == 0, done.output
    assert ("was not trained to read e2rank's prompts" in done.stderr.replace("\n", " ")) == warned


def test_only_what_dynamicrag_selects_is_written(place, texts):
    done = run(place, "--judge", "oracle", "--strategy", "dynamicrag", "--only-selected")
    assert done.exit_code == 0, done.output
    found, before = read_run(place / "out.run"), read_run(place / "first.run")
    for query, judged in texts.test.qrels.items():
        assert set(found.get(query, {})) == judged.keys() & before[query].keys()
    refused = run(place, "--judge", "oracle", "--strategy", "full", "--only-selected")
    assert isinstance(refused.exception, UsageError)
    assert "dynamicrag does" in str(refused.exception)


def test_rank_k_asks_for_a_thought_and_the_budget_of_tokens_bounds_it(place, tiny_causals):
    judge = ["--judge", f"causal:{tiny_causals['llama']}", "--depth", 3, "--accept-malformed"]
    written = {}
    for name, more in (("sliding", []), ("rank-k", []), ("rank-k", ["--no-thinking"]), ("setwise", ["--thinking"])):
        (place / "out.run.answers.jsonl").unlink(missing_ok=True)
        done = run(place, *judge, "--strategy", name, "--max-tokens", 4, "--words", 10, *more)
        assert done.exit_code == 0, done.output
        lines = {line.split("  ")[0]: line.split() for line in done.stderr.splitlines() if line.startswith("tokens")}
        written[name, *more] = [int(lines[f"tokens {way}"][2].replace(",", "")) for way in ("in", "out")]
    (place / "out.run.answers.jsonl").unlink()
    assert written["rank-k",][0] > written["sliding",][0] == written["rank-k", "--no-thinking"][0]
    assert written["rank-k",][1] <= 6 * 4
    assert written["setwise", "--thinking"][1] > 6
    refused = run(place, "--judge", "oracle", "--strategy", "rank-k", "--thinking")
    assert isinstance(refused.exception, UsageError)
    assert "give openai:... or causal:... or t5:..." in str(refused.exception)
