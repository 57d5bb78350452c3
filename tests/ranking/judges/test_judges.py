"""Sessions, caches, budgets, meters, and the oracle and rankers as judges."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorank.errors import DataError, UsageError
from lorank.ranking import Oracle, rerank
from lorank.ranking.judges import KINDS, Budget, Cache, Judge, JudgeError, Question, Reply, Session, Usage
from lorank.ranking.judges.cache import Kept
from lorank.ranking.judges.question import neutral_answer, repair_answer
from lorank.ranking.judges.ranker_judge import RankerJudge
from lorank.ranking.scorers import BiEncoder
from lorank.ranking.scorers.ranker import Ranker

SIZE = {"pointwise": 1, "pairwise": 2}


def question(kind, size=4):
    return Question(kind, tuple(range(SIZE.get(kind, size))))


def well_formed(asked, answer):
    places = range(len(asked.documents))
    if asked.kind == "pointwise":
        return isinstance(answer, float) and not math.isnan(answer)
    if asked.kind == "pairwise":
        return 0 <= answer <= 1
    if asked.kind in ("setwise", "exclude"):
        return answer in places
    if asked.kind in ("groupwise", "identifiers"):
        return len(answer) == len(places) and not any(math.isnan(score) for score in answer)
    return (
        len(set(answer)) == len(answer)
        and set(answer) <= set(places)
        and (asked.kind == "selection" or set(answer) == set(places))
    )


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4) | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(value=ANYTHING, size=st.integers(1, 6))
def test_a_checked_answer_is_well_formed_and_stays_so(kind, value, size):
    asked = question(kind, size)
    answer, _ = repair_answer(asked, value)
    assert well_formed(asked, answer)
    if answer != neutral_answer(asked) and -math.inf not in (answer if isinstance(answer, tuple) else (answer,)):
        assert repair_answer(asked, answer) == (answer, False)


@pytest.mark.parametrize(
    ("kind", "value", "answer", "malformed"),
    [
        ("listwise", [2, 0, 1, 3], (2, 0, 1, 3), False),
        ("listwise", [3], (3, 0, 1, 2), True),
        ("listwise", [1, 1, 0, 2, 3], (1, 0, 2, 3), True),
        ("listwise", [1.0, 0, 2, 3], (1, 0, 2, 3), False),
        ("groupwise", [1, None, 2.5, 3], (1.0, -math.inf, 2.5, 3.0), True),
        ("groupwise", [1, 2], (-math.inf,) * 4, True),
        ("identifiers", None, (0.0, -1.0, -2.0, -3.0), True),
        ("pairwise", 1.5, 0.5, True),
        ("pairwise", 0, 0.0, False),
        ("selection", [], (), False),
        ("selection", [3, 1], (3, 1), False),
        ("selection", [3, 9], (3,), True),
        ("selection", None, (0, 1, 2, 3), True),
        ("setwise", 3, 3, False),
        ("setwise", 4, 0, True),
        ("setwise", True, 0, True),
        ("exclude", "no", 3, True),
        ("pointwise", math.nan, -math.inf, True),
    ],
)
def test_repairs(kind, value, answer, malformed):
    assert repair_answer(question(kind), value) == (answer, malformed)


AS_GIVEN = {
    "numpy scalars": (np.float32, lambda values: [np.float64(v) for v in values]),
    "numpy integers": (lambda v: np.int64(v) if float(v).is_integer() else np.float64(v), np.array),
    "arrays of one element": (lambda v: np.array([v]), lambda values: np.array(values, np.float64)),
    "tensors": (torch.tensor, torch.tensor),
    "half tensors": (lambda v: torch.tensor([v], dtype=torch.bfloat16), lambda v: torch.tensor(v, dtype=torch.float16)),
    "trained tensors": (
        lambda v: torch.tensor(float(v), requires_grad=True),
        lambda v: torch.tensor(v, dtype=torch.float64, requires_grad=True),
    ),
    "fractions": (lambda v: Fraction(v), tuple),
}


@pytest.mark.parametrize("form", sorted(AS_GIVEN))
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_numbers_of_numpy_and_torch_are_answers_like_pythons(kind, form):
    one, many = AS_GIVEN[form]
    asked = question(kind)
    (reply,) = Oracle([1.0, 3.0, 0.0, 2.0], threshold=1.5).answer("q", ["d"] * 4, [asked])
    given = many(reply.value) if isinstance(reply.value, list) else one(reply.value)
    assert repair_answer(asked, given) == repair_answer(asked, reply.value)
    assert repair_answer(asked, given)[1] is False


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, "NaN"),
        (np.float32("nan"), "NaN"),
        (torch.tensor([math.nan]), "NaN"),
        (np.inf, "infinite"),
        (10**400, "1000"),
        (None, "nothing"),
        ("yes", "'yes'"),
    ],
)
def test_what_is_no_number_is_malformed_and_called_by_name(value, said):
    class Says(Judge):
        def answer(self, query, documents, questions):
            return [Reply(value) for _ in questions]

    done = rerank("q", ["a", "b"], Says(), "pointwise")
    assert done.malformed.all
    assert done.order == (0, 1)
    assert said in done.malformed.sample


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_oracle_answers_by_its_labels(kind):
    labels = [1.0, 3.0, 0.0, 2.0]
    asked = question(kind)
    (reply,) = Oracle(labels, threshold=1.5).answer("q", ["d"] * 4, [asked])
    expected = {
        "pointwise": 1.0,
        "pairwise": 0.0,
        "setwise": 1,
        "exclude": 2,
        "groupwise": labels,
        "identifiers": labels,
        "listwise": [1, 3, 0, 2],
        "selection": [1, 3],
    }
    assert reply.value == expected[kind]
    assert repair_answer(asked, reply.value)[1] is False


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_noise_is_a_function_of_seed_and_question(kind):
    asked = [Question(kind, tuple(np.random.default_rng(i).permutation(9)[: SIZE.get(kind, 5)])) for i in range(30)]

    def values(seed, questions):
        return [r.value for r in Oracle(range(9), 4.0, seed=seed).answer("q", ["d"] * 9, questions)]

    assert values(0, asked) == values(0, asked[::-1])[::-1] == [values(0, [one])[0] for one in asked]
    assert values(0, asked) != values(1, asked)


def test_noise_is_normal_on_each_utility():
    noisy = [
        reply.value
        for seed in range(3000)
        for reply in Oracle([2.0], noise=1.5, seed=seed).answer("q", ["d"], [Question("pointwise", (0,))])
    ]
    assert np.mean(noisy) == pytest.approx(2.0, abs=0.1)
    assert np.std(noisy) == pytest.approx(1.5, abs=0.08)


def test_position_bias_favours_the_first_place():
    shown = Question("listwise", (2, 0, 1))
    (reply,) = Oracle([0.0, 0.1, 0.2], position_bias=10.0).answer("q", ["d"] * 3, [Question("listwise", (0, 1, 2))])
    assert reply.value == [0, 1, 2]
    (reply,) = Oracle([0.0, 0.1, 0.2], position_bias=-10.0).answer("q", ["d"] * 3, [shown])
    assert reply.value == [2, 1, 0]


def test_the_share_of_malformed_answers_is_as_asked():
    done = rerank("q", ["d"] * 2000, Oracle(range(2000), malformed=0.3), "pointwise")
    assert done.usage.malformed == pytest.approx(600, abs=80)


@pytest.mark.parametrize(
    "bad", [{"noise": -1}, {"malformed": 1.5}, {"kinds": ["duel"]}, {"labels": [[1]]}, {"labels": [math.nan]}]
)
def test_oracle_settings_are_checked(bad):
    with pytest.raises(UsageError):
        Oracle(**{"labels": [1, 2], **bad})


def test_the_meter_counts_what_was_asked():
    documents = ["one two", "three", "four five six"]
    session = Session(Oracle([1, 2, 3]), "a query", documents, batch_size=2)
    session.points(range(3))
    session.orders([[0, 1, 2]])
    usage = session.usage
    assert (usage.calls, usage.batches, usage.rounds) == (4, 3, 2)
    assert usage.tokens_in == (2 + 2) + (2 + 1) + (2 + 3) + (2 + 6)
    assert usage.tokens_out == 3 + 3
    assert usage.tokens == usage.tokens_in + usage.tokens_out
    assert usage.wall_time_s > 0
    assert (usage + Usage(calls=2)).calls == 6


def test_questions_of_one_document_are_not_asked():
    session = Session(Oracle([1, 2]), "q", ["a", "b"])
    assert session.bests([[1], [0, 1]]) == [1, 1]
    assert session.orders([[1], []]) == [[1], []]
    assert session.usage.calls == 1


def test_a_question_that_stands_twice_in_a_batch_is_asked_once():
    session = Session(Oracle([1, 2]), "q", ["a", "b"], cache=Cache())
    assert session.duels([(0, 1), (0, 1), (1, 0)], both_orders=False) == pytest.approx([0.0, 0.0, 1.0])
    assert (session.usage.calls, session.usage.cache_hits) == (2, 1)


def test_a_judge_is_not_asked_what_it_does_not_answer():
    with pytest.raises(UsageError, match="does not answer pointwise questions, only listwise"):
        rerank("q", ["a", "b"], Oracle([1, 2], kinds=["listwise"]), "pointwise")
    assert rerank("q", ["a", "b"], Oracle([1, 2], kinds=["listwise"]), "full").order == (1, 0)


class Silent(Judge):
    def answer(self, query, documents, questions):
        yield from [Reply(1.0)] * (len(questions) - 1)


def test_a_judge_that_swallows_questions_is_an_error():
    with pytest.raises(JudgeError, match="2 replies to 3 questions"):
        rerank("q", ["a", "b", "c"], Silent(), "pointwise")


@pytest.mark.parametrize("text", ["calls", "calls=x", "cost=3", "", "calls=-1"])
def test_budgets_that_cannot_be_read(text):
    with pytest.raises(UsageError, match="cannot read the budget"):
        Budget.parse(text)


def test_budgets_below_zero_are_refused():
    with pytest.raises(UsageError, match="0 or above"):
        Budget(tokens=-1)


def test_a_cache_on_disk_gives_back_what_was_put(tmp_path):
    path = tmp_path / "deep" / "answers.jsonl"
    kept = {
        "pointwise": -math.inf,
        "pairwise": 0.5,
        "setwise": 3,
        "listwise": (2, 0, 1),
        "groupwise": (1.5, -math.inf),
        "selection": (),
    }
    with Cache(path) as cache:
        for kind, answer in kept.items():
            cache.put(kind, kind, Kept(answer, kind == "setwise", 7, 1))
    again = Cache(path)
    assert {kind: again.get(kind).answer for kind in kept} == kept
    assert again.get("setwise").malformed
    assert json.loads(path.read_text().splitlines()[0])["answer"] is None


def test_a_torn_last_line_is_cut_off_and_written_again(tmp_path):
    path = tmp_path / "answers.jsonl"
    with Cache(path) as cache:
        for key in "abc":
            cache.put(key, "pairwise", Kept(1.0, False, 7, 1))
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with Cache(path) as cache:
            assert len(cache) == whole[:cut].count(b"\n")
            cache.put("d", "pairwise", Kept(0.0, False, 7, 1))
        assert Cache(path).get("d").answer == 0.0


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "what",
        "[1]",
        '{"key": "a", "kind": "duel", "answer": 1, "malformed": false}',
        '{"key": "a", "kind": "pairwise", "answer": {}, "malformed": false}',
    ],
)
def test_a_broken_line_names_its_place(line, tmp_path):
    path = tmp_path / "answers.jsonl"
    with Cache(path) as cache:
        cache.put("a", "pairwise", Kept(1.0, False, 7, 1))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=r"answers.jsonl:2: not an answer .* delete the line"):
        Cache(path)


def test_keys_tell_judges_queries_and_documents_apart(tmp_path):
    asked = Question("listwise", (0, 1))
    keys = {
        Oracle(labels, noise=noise).key(query, ["a", "b"], asked)
        for labels in ([1, 2], [2, 1])
        for noise in (0.0, 1.0)
        for query in ("q", "r")
    }
    assert len(keys) == 8
    by_text = RankerJudge(ByLength(), name="length")
    assert by_text.key("q", ["a", "b"], asked) != by_text.key("q", ["a", "c"], asked)
    assert by_text.key("q", ["a", "b"], asked) != by_text.key("q", ["b", "a"], asked)
    assert by_text.key("q", ["a", "b"], asked) == by_text.key("q", ["x", "a", "b"], Question("listwise", (1, 2)))
    with pytest.raises(UsageError, match="give it a name"):
        rerank("q", ["a"], ByLength(), "pointwise", cache=tmp_path / "answers.jsonl")


def test_a_killed_process_pays_for_nothing_twice(tmp_path):
    path, paid = tmp_path / "answers.jsonl", tmp_path / "paid"
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent("""
        import os, signal, sys
        from lorank.ranking import Oracle, rerank

        class Paid(Oracle):
            def answer(self, query, documents, questions):
                for reply in super().answer(query, documents, questions):
                    with open(sys.argv[2], "a") as file:
                        file.write("x")
                    if os.path.getsize(sys.argv[2]) == int(sys.argv[3]):
                        os.kill(os.getpid(), signal.SIGKILL)
                    yield reply

        done = rerank("q", ["d"] * 30, Paid(list(range(30)), noise=5.0), "setwise", cache=sys.argv[1])
        print(*done.order)
    """)
    )

    def run(kill_at):
        return subprocess.run(
            [sys.executable, script, path, paid, str(kill_at)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )

    assert run(10).returncode == -signal.SIGKILL
    assert len(Cache(path)) == 9
    finished = run(-1)
    whole = rerank("q", ["d"] * 30, Oracle(list(range(30)), noise=5.0), "setwise", cache=Cache())
    assert finished.stdout.split() == [str(d) for d in whole.order]
    assert paid.stat().st_size == whole.usage.calls + 1


class ByLength(Ranker):
    def __init__(self):
        self.scored = []

    def score_pairs(self, queries, documents, pairs, on_progress=None):
        self.scored += [documents[d] for _, d in pairs]
        return np.array([len(documents[d]) for _, d in pairs], np.float32)


@pytest.mark.parametrize(
    "strategy",
    [
        "pointwise",
        "prp",
        "setwise",
        "sliding",
        "full",
        "first",
        "grouprank",
        "iranker",
        "jointrank",
        "top-down",
        "listt5",
    ],
)
def test_any_ranker_is_a_judge_and_scores_each_document_once(strategy):
    documents = ["x" * length for length in (3, 9, 1, 7, 5, 8, 2)]
    ranker = ByLength()
    done = rerank("q", documents, ranker, strategy)
    assert done.order == tuple(np.argsort([-len(d) for d in documents]))
    assert sorted(ranker.scored) == sorted(documents)


def test_a_ranker_judge_forgets_when_the_list_changes():
    judge = RankerJudge(ByLength())
    assert rerank("q", ["aa", "b"], judge, "full").order == (0, 1)
    assert rerank("q", ["a", "bb"], judge, "full").order == (1, 0)
    assert rerank("r", ["a", "bb"], judge, "full").usage.calls == 1


def test_a_trainable_ranker_is_known_by_its_weights(tiny):
    ranker = BiEncoder(tiny)
    first = RankerJudge(ranker).identity
    assert first == RankerJudge(BiEncoder(tiny)).identity
    with torch.no_grad():
        next(ranker.module.parameters()).flatten()[0] += 1.0
    assert RankerJudge(ranker).identity != first
