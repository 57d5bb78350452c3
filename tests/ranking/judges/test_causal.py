"""A tiny random causal LM as judge: answers equal what its logits say, batched or not."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lorank.errors import UsageError
from lorank.ranking import rerank
from lorank.ranking.judges import Question
from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.judges.opening import judge_of

TEXTS = ["sorting a list", "the moon", "low-rank adaptation of large models", "a", "ranking documents by relevance"]
CHAT = "{% for m in messages %}<user>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


def byte_tokenizer(words=("Yes", "No", "<user>", "<assistant>")):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "</s>"]
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")
    wrapped.add_tokens(list(words))
    return wrapped


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        built = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=280,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                intermediate_size=48,
                max_position_embeddings=2048,
                pad_token_id=0,
                eos_token_id=1,
                bos_token_id=None,
            )
        )
        for parameter in built.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
    return built.eval()


@pytest.fixture(params=[False, True], ids=["plain", "chat"])
def tokenizer(request):
    made = byte_tokenizer()
    made.chat_template = CHAT if request.param else None
    return made


def last_logits(model, judge, question):
    ids = judge.tokenizer(judge.prompt("q", TEXTS, question))["input_ids"]
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1], len(ids)


def token(judge, word):
    (only,) = judge.tokenizer.encode(word, add_special_tokens=False)
    return only


def test_answers_are_what_the_logits_say(model, tokenizer):
    judge = CausalJudge(model, tokenizer, batch_size=3)
    asked = [
        *(Question("pointwise", (d,)) for d in range(5)),
        Question("pairwise", (3, 2)),
        Question("setwise", (4, 0, 2)),
        Question("exclude", (1, 2)),
        Question("identifiers", (2, 0, 1, 4)),
    ]
    replies = list(judge.answer("q", TEXTS, asked))
    for question, reply in zip(asked, replies):
        logits, length = last_logits(model, judge, question)
        letters = logits[[token(judge, letter) for letter in "ABCD"[: len(question.documents)]]]
        expected = {
            "pointwise": lambda lg=logits: (lg[token(judge, "Yes")] - lg[token(judge, "No")]).item(),
            "pairwise": lambda lt=letters: lt.softmax(0)[0].item(),
            "setwise": lambda lt=letters: int(lt.argmax()),
            "exclude": lambda lt=letters: int(lt.argmax()),
            "identifiers": lambda lt=letters: pytest.approx(lt.tolist(), abs=1e-4),
        }[question.kind]()
        assert reply.value == pytest.approx(expected, abs=1e-4)
        assert (reply.tokens_in, reply.tokens_out) == (length, 1) == (judge.tokens_in("q", TEXTS, question), 1)


def test_expected_scores_lie_between_the_scores(model, tokenizer):
    judge = CausalJudge(model, tokenizer, pointwise="expected")
    question = Question("pointwise", (2,))
    (reply,) = judge.answer("q", TEXTS, [question])
    logits, _ = last_logits(model, judge, question)
    share = logits[[token(judge, str(digit)) for digit in range(10)]].softmax(0)
    assert reply.value == pytest.approx((share * torch.arange(10.0)).sum().item(), abs=1e-4)
    assert 0 < reply.value < 9
    assert reply.value != int(reply.value)


def test_first_takes_one_token_and_the_order_of_the_logits(model, tokenizer):
    judge = CausalJudge(model, tokenizer)
    done = rerank("q", TEXTS, judge, "first")
    logits, _ = last_logits(model, judge, Question("identifiers", tuple(range(5))))
    letters = logits[[token(judge, letter) for letter in "ABCDE"]]
    assert done.order == tuple(torch.argsort(-letters, stable=True).tolist())
    assert (done.usage.calls, done.usage.tokens_out) == (1, 1)


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
        "dynamicrag",
    ],
)
def test_every_strategy_runs_on_it_and_loses_no_document(strategy, model, tokenizer):
    done = rerank("q", TEXTS, CausalJudge(model, tokenizer, max_tokens=8), strategy)
    assert sorted(done.order) == list(range(5))
    assert done.usage.tokens_in > 0


def test_rank_k_costs_more_the_more_it_may_think(model, tokenizer):
    spent = [
        rerank("q", TEXTS, CausalJudge(model, tokenizer, max_tokens=most), "rank-k").usage.tokens_out
        for most in (1, 4, 16, 40)
    ]
    assert spent == sorted(spent)
    assert spent[0] == 1 < spent[-1] <= 40


def test_generated_text_does_not_depend_on_the_batch(model, tokenizer):
    asked = [Question("listwise", shown) for shown in ((0, 1), (2, 3, 4), (4, 2, 0, 1))]
    alone, together = (
        list(CausalJudge(model, tokenizer, batch_size=size, max_tokens=12).answer("q", TEXTS, asked)) for size in (1, 3)
    )
    assert alone == together


def test_a_budget_of_tokens_counts_the_longest_reply(model, tokenizer):
    judge = CausalJudge(model, tokenizer, max_tokens=8)
    one = judge.tokens("q", TEXTS, Question("listwise", tuple(range(5))))
    assert rerank("q", TEXTS, judge, "full", budget=f"tokens={one - 1}").usage.calls == 0
    assert rerank("q", TEXTS, judge, "full", budget=f"tokens={one}").usage.calls == 1


def test_more_documents_than_letters_are_refused(model, tokenizer):
    with pytest.raises(UsageError, match="27 documents has no letters for all; show 26 at most"):
        CausalJudge(model, tokenizer).prompt("q", ["d"] * 27, Question("exclude", tuple(range(27))))


def test_a_tokenizer_without_the_words_is_refused(model):
    with pytest.raises(UsageError, match="no token of its own for each of Yes, No"):
        rerank("q", TEXTS, CausalJudge(model, byte_tokenizer(words=())), "pointwise")


def test_it_is_loaded_by_name_and_cached_on_disk(model, tokenizer, tmp_path):
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    done = rerank("q", TEXTS, f"causal:{folder}", "prp", cache=tmp_path / "answers.jsonl")
    assert done.order == rerank("q", TEXTS, CausalJudge(model, tokenizer), "prp").order
    assert rerank("q", TEXTS, judge_of(f"causal:{folder}"), "prp", cache=tmp_path / "answers.jsonl").usage.calls == 0
    with pytest.raises(UsageError, match="give it a name"):
        rerank("q", TEXTS, CausalJudge(model, tokenizer), "prp", cache=tmp_path / "answers.jsonl")


def test_a_checkpoint_without_a_language_model_head_is_refused(model, tmp_path):
    config = LlamaConfig(**{**model.config.to_dict(), "tie_word_embeddings": False})
    AutoModel.from_config(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="its head would be drawn at random"):
        CausalJudge.load(tmp_path)


@pytest.mark.parametrize("settings", [{"pointwise": "yes"}, {"max_tokens": 0}, {"batch_size": 0}])
def test_settings_are_checked(settings, model):
    with pytest.raises(UsageError):
        CausalJudge(model, byte_tokenizer(), **settings)


def test_what_it_writes_after_a_prompt_is_the_greedy_continuation_batched_or_not(model, tokenizer):
    judge = CausalJudge(model, tokenizer, max_tokens=5, batch_size=2)
    prompts = ["sort a list", "the moon and the earth", "x"]
    assert judge.complete(prompts) == [text for prompt in prompts for text in judge.complete([prompt])]
    ids = tokenizer("<user>x<assistant>" if tokenizer.chat_template else "x")["input_ids"]
    before = len(ids)
    for _ in range(5):
        with torch.no_grad():
            ids = [*ids, int(model(torch.tensor([ids])).logits[0, -1].argmax())]
        if ids[-1] == tokenizer.eos_token_id:
            break
    assert judge.complete(["x"]) == [tokenizer.decode(ids[before:], skip_special_tokens=True)]
