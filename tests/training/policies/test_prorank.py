"""ProRank from the command line: a model that replies anything learns to say 1 and 0, and to say the right one."""

import json
import random

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.errors import UsageError
from lorank.ranking.judges.question import Question
from lorank.ranking.policies.presets import find_policy
from lorank.ranking.scorers import CausalRanker
from lorank.training import load_ranker
from lorank.training.checks import check_options
from lorank.training.policies.settings import resolve_policy
from lorank.training.recipe import RecipeFile, override
from lorank.training.settings import PolicySettings
from lorank.tuned.policy import WrittenPolicy
from planted_setwise import MARKS, PLAIN, SIGNAL, TEMPLATE, tokenizer_of, write_rows
from tiny_causals import SIZES

pytestmark = pytest.mark.usefixtures("own_cache")

REPLIES = ("0", "1", "so", "7")
"""What the model replies before training, each as often as the others: half of it is in the format."""


def write_model(folder, seed):
    """Write a tiny model that replies to a passage by any of ``REPLIES``."""
    tokenizer = tokenizer_of([*MARKS, *REPLIES, SIGNAL, *PLAIN], "\n")
    torch.manual_seed(seed)
    sizes = SIZES | {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64}
    model = AutoModelForCausalLM.from_config(LlamaConfig(**sizes))
    with torch.no_grad():
        model.lm_head.weight *= (
            8  # so that a state of unit variance can be sure of a token, as that of a real model can
        )
    ranker = CausalRanker.__new__(CausalRanker)
    ranker.module, ranker.tokenizer = model, tokenizer
    judge = WrittenPolicy("pointwise", 3, 20, 4, False, TEMPLATE).judge(ranker)
    rng, optimizer = random.Random(seed), torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        sequences = []
        for _ in range(32):
            text = rng.choice((SIGNAL, *PLAIN))
            prompt = judge.encode(judge.prompt("find it", [text], Question("pointwise", (0,))))
            sequences.append(prompt + tokenizer.convert_tokens_to_ids([rng.choice(REPLIES), "</s>"]))
        ids = torch.tensor(sequences)
        labels = ids.clone()
        labels[:, :-2] = -100
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)


def last_of(folder):
    """The parts of the reward of greedy replies on dev, at the last look."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["dev"] for line in lines if "dev" in line][-1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_replies_come_into_the_format_and_a_ranking_loss_makes_them_right(tmp_path, seed):
    rows, model = write_rows(tmp_path / "rows.jsonl", 120, seed), write_model(tmp_path / "model", seed)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "binary.txt").write_text(TEMPLATE)
    same = ("--data", rows, "--kind", "causal", "--seed", seed, "--lr", 1e-2, "--set", "training.precision=fp32")
    run(
        *("train", *same, "--base", model, "--policy", "prorank", "--steps", 60, "--batch-size", 8, "--out"),
        *(tmp_path / "one", "--set", "policy.max_tokens=4", "--set", f"policy.prompts={tmp_path / 'prompts'}"),
        *("--set", "keep=tuned"),
    )
    dev = last_of(tmp_path / "one")
    assert dev["format"] > 0.95
    assert dev["train/format"] > 0.85  # of replies that are drawn, where a half was in the format before
    run("adapter", "merge", tmp_path / "one", "--out", tmp_path / "merged")
    names = {name for name, _ in AutoModelForCausalLM.from_pretrained(model).named_parameters()}
    assert {name for name, _ in AutoModelForCausalLM.from_pretrained(tmp_path / "merged").named_parameters()} == names
    run(
        *("train", *same, "--base", tmp_path / "merged", "--loss", "softmax", "--steps", 60, "--out", tmp_path / "two"),
        *("--set", f"reading.prompt={TEMPLATE}", "--set", 'reading.answers=["1","0"]', "--offset", "none"),
    )
    tuned = load_ranker(tmp_path / "two")
    for other in PLAIN:
        scores = tuned.score("find it", [other, SIGNAL])
        assert scores[1] > scores[0]


def test_another_question_has_a_prompt_and_a_reward_of_its_own():
    assert find_policy("prorank").template == "binary"
    changed = resolve_policy(PolicySettings("prorank", question="setwise"))
    assert (changed.template, changed.reward) == ("", "")


@pytest.mark.parametrize("settings", [{"policy.objective": "cloning"}, {"policy.thinking": True}])
def test_what_is_answered_by_one_number_has_no_thought_and_no_expert(settings):
    with pytest.raises(UsageError, match="by 1 or 0 alone"):
        check_options(override(RecipeFile(), {"policy.name": "prorank", **settings}))
