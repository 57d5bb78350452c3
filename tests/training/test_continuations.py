"""rankgen: one sampler of both sorts of negatives, the contrastive gradient, and coherent text by choosing."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lorank import BiEncoder
from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.losses import loss
from lorank.training import fit
from lorank.training.methods.rankgen import ContinuationSampler, beam_search, over_generate, sample_with
from lorank.training.settings import AdapterSettings, ListSettings, OptimizerSettings, Recipe

TOPICS = [
    ["moon", "earth", "sun", "new"],
    ["list", "words", "place", "low"],
    ["query", "document", "rank", "order"],
    ["language", "model", "adaptation", "large"],
]
WORDS = [word for topic in TOPICS for word in topic]
NEXT = {word: topic[(i + 1) % 4] for topic in TOPICS for i, word in enumerate(topic)}


def sentence(word, rng):
    return f"{rng.choice(['the', 'a', 'of', 'x'])} {word}."


def books(count, length=8, seed=0):
    """Texts whose sentences go round the words of a topic: after "the moon." comes "of earth."."""
    rng = np.random.default_rng(seed)
    return [" ".join(sentence(TOPICS[i % 4][(i // 4 + k) % 4], rng) for k in range(length)) for i in range(count)]


def drifting(text, count, rng):
    """A made-up language model: each piece is fluent, and of any topic."""
    return [sentence(str(rng.choice(WORDS)), rng) for _ in range(count)]


def last_word(text):
    return text.split()[-1].strip(".")


def topic(text):
    return next(i for i, words in enumerate(TOPICS) if last_word(text) in words)


def test_one_sampler_serves_both_sorts():
    text = "A one. B two. C three. D four. E five."
    sampler = ContinuationSampler(
        [text, "too short."],
        before=2,
        in_book=2,
        generated=3,
        generate=lambda prefix, count, rng: [f"{prefix} again {i}" for i in range(count)],
    )
    drawn = sampler.sample()
    assert [(each.prefix, each.true) for each in drawn] == [
        ("A one. B two.", "C three."),
        ("B two. C three.", "D four."),
        ("C three. D four.", "E five."),
    ]
    for each in drawn:
        sorts = [sort for sort, _ in each.negatives]
        assert sorts == ["in-book"] * 2 + ["generated"] * 3
        assert each.true not in dict.fromkeys(text for _, text in each.negatives)
        assert all(negative in text for sort, negative in each.negatives if sort == "in-book")
        assert all(negative.startswith(each.prefix) for sort, negative in each.negatives if sort == "generated")
    assert sampler.sample() == drawn
    assert METHODS["rankgen"].location.endswith(":ContinuationSampler")


def test_longer_continuations_never_overlap_the_true_one():
    text = " ".join(f"s{i}." for i in range(9))
    for each in ContinuationSampler([text], before=1, after=3, in_book=9).sample():
        assert all(not set(each.true.split()) & set(negative.split()) for _, negative in each.negatives)


def test_its_collection_holds_lists_divided_by_document():
    data = ContinuationSampler(books(10), in_book=2, generated=1, generate=drifting).collection(dev=0.2)
    assert len(data.train) + len(data.dev) == 10 * 6
    assert len(data.dev) == 2 * 6
    for split in (data.train, data.dev):
        for query, row in split.candidates.items():
            ((true, grade),) = split.qrels[query].items()
            assert grade == 1
            assert NEXT[last_word(split.queries[query])] == last_word(data.documents[data.position[true]])
            assert true in row
            assert 2 <= len(row) <= 4


def test_gradients_are_those_of_contrast_within_the_batch(tiny_folders):
    """With p the softmax over all continuations: dL/dp_i = (sum_j P_ij c_j - c_i) / (tau n)."""
    encoder = BiEncoder(tiny_folders["bert"], temperature=0.1)
    drawn = ContinuationSampler(books(2), in_book=1).sample()[:4]
    inputs = encoder.prepare(
        [each.prefix for each in drawn], [each.true for each in drawn] + [each.negatives[0][1] for each in drawn]
    )
    prefixes = encoder.encode_batch(inputs.queries, np.arange(4)).detach().requires_grad_()
    continuations = encoder.encode_batch(inputs.documents, np.arange(8)).detach()
    scores = encoder.forward(inputs, torch.arange(4), torch.arange(8).expand(4, 8), torch.ones(4, 8, dtype=torch.bool))
    again = prefixes @ continuations.T / 0.1
    torch.testing.assert_close(again, scores, atol=1e-4, rtol=1e-4)
    loss("softmax")(again, torch.eye(4, 8)).backward()
    expected = (again.detach().softmax(1) @ continuations - continuations[:4]) / 0.1 / 4
    torch.testing.assert_close(prefixes.grad, expected, atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def trained(tiny_folders, tmp_path_factory):
    data = ContinuationSampler(books(100, 4), before=1, in_book=1, generated=3, generate=drifting).collection()
    recipe = Recipe(
        adapter=AdapterSettings("full"),
        lists=ListSettings(shared=True),
        training=OptimizerSettings(steps=100, batch_size=16, lr=5e-3, evaluations=1),
    )
    return fit(
        BiEncoder(tiny_folders["bert"]), data, loss="softmax", recipe=recipe, out=tmp_path_factory.mktemp("run") / "run"
    )


def test_chosen_continuations_are_more_coherent_than_sampled_ones(trained, tiny_folders):
    prefixes = [sentence(word, np.random.default_rng(i)) for i, word in enumerate(WORDS * 3)]

    def share_on_topic(ranker, samples):
        found = [over_generate(p, drifting, ranker, samples=samples, seed=i)[0].text for i, p in enumerate(prefixes)]
        return np.mean([topic(p) == topic(text) for p, text in zip(prefixes, found, strict=True)])

    assert share_on_topic(trained, 20) > 0.8
    assert share_on_topic(trained, 1) < 0.45  # one sample is what the model writes by itself
    assert share_on_topic(trained, 20) > share_on_topic(BiEncoder(tiny_folders["bert"]), 20) + 0.1
    best = beam_search(prefixes[0], drifting, trained, steps=2, beam=3, samples=20)
    assert len(best) == 3
    assert [each.score for each in best] == sorted((each.score for each in best), reverse=True)
    assert all(each.text.count(".") == 2 for each in best)
    assert topic(best[0].text) == topic(prefixes[0])


def test_a_language_model_writes_the_candidates(tiny_causals, trained):
    folder = next(iter(tiny_causals.values()))
    generate = sample_with(
        AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder), tokens=5
    )
    state = torch.random.get_rng_state()
    ranked = over_generate("the moon", generate, trained, samples=4, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(ranked) == 4
    assert [each.text for each in ranked] == [
        each.text for each in over_generate("the moon", generate, trained, samples=4, seed=1)
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [({"before": 0}, "before and after"), ({"in_book": -1}, "0 or more"), ({"generated": 1}, "need a language model")],
)
def test_wrong_use_is_refused(options, says):
    with pytest.raises(UsageError, match=says):
        ContinuationSampler(["A. B. C."], **options)
    with pytest.raises(UsageError, match="no document has"):
        ContinuationSampler(["A. B."]).sample()
    with pytest.raises(UsageError, match="cannot be divided"):
        ContinuationSampler(["A. B. C."]).collection()
    with pytest.raises(UsageError, match="samples must be"):
        over_generate("A.", drifting, None, samples=0)
    with pytest.raises(UsageError, match="steps, beam"):
        beam_search("A.", drifting, None, beam=0)
