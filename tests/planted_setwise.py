"""A planted question for language models: which passage holds the word that says it is the right one?

A line of the prompt is one token of a tiny model, which is first taught by plain cross-entropy to answer in the format
with a label drawn at random. So every reply can be read and the right passage is found at chance; which one it is, only
the reward says.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from lorank.ranking.judges.question import Question
from lorank.ranking.scorers import CausalRanker
from lorank.training.settings import OptimizerSettings
from lorank.tuned.policy import WrittenPolicy
from tiny_causals import SIZES

TEMPLATE = "$query\n$documents"
SIGNAL = "gold"
PLAIN = ("stone", "water", "paper", "cloud", "grass", "brick", "smoke", "glass")
LABELS = ("[1]", "[2]", "[3]")
REPLIES = ("<think>", "</think>", "<answer>", "</answer>", *LABELS, "so")
MARKS = ("<pad>", "</s>", "<unk>", "<answers>", "Yes", "No")
"""What every planted tokenizer knows."""
CHAT = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}<answers>{% endif %}"


def line_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole lines; a line that it does not know is one token too."""
    shown = [f"{label} {word}" for label in LABELS for word in (SIGNAL, *PLAIN)]
    return tokenizer_of([*MARKS, *REPLIES, *shown], "\n")


def tokenizer_of(lines: Sequence[str], between: str | Regex) -> PreTrainedTokenizerFast:
    """Return a tokenizer each of whose tokens is one of ``lines``, which a text has ``between`` it."""
    tokenizer = Tokenizer(models.WordLevel({line: i for i, line in enumerate(lines)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(between, "removed")
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    wrapped.chat_template = CHAT
    return wrapped


def write_rows(path: Path, count: int, seed: int, size: int = 3) -> Path:
    """Write training rows: a query, one document with the signal, and ``size`` - 1 without."""
    rng = random.Random(seed)
    with path.open("w") as file:
        for i in range(count):
            wrong = rng.sample(PLAIN, size - 1)
            file.write(json.dumps({"query": f"find it {i}", "pos": [SIGNAL], "neg": wrong}) + "\n")
    return path


def write_answering_model(folder: Path, rows: Path, *, steps: int = 100, seed: int = 0, quotes: bool = False) -> Path:
    """Write a tiny model that answers setwise questions over ``rows`` in the format, with a label at random.

    With ``quotes`` its thought is the passage that it names, so that a chain shows whether it is right, and it knows
    yes and no of one passage.
    """
    tokenizer = line_tokenizer()
    torch.manual_seed(seed)
    sizes = SIZES | {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64}
    model = AutoModelForCausalLM.from_config(LlamaConfig(**sizes))
    judge = WrittenPolicy("setwise", 3, 20, 8, True, TEMPLATE).judge(_Plain(model, tokenizer))
    rng, optimizer = random.Random(seed), torch.optim.AdamW(model.parameters(), lr=5e-3)
    lists = [json.loads(line) for line in rows.read_text().splitlines()]
    for _ in range(steps):
        sequences, starts = [], []
        for row in rng.sample(lists, min(len(lists), 32)):
            texts = [*row["pos"], *row["neg"]]
            rng.shuffle(texts)
            prompt = judge.encode(judge.prompt(row["query"], texts, Question("setwise", (0, 1, 2))))
            label = rng.choice(LABELS)
            thought = f"{label} {texts[LABELS.index(label)]}" if quotes else "so"
            reply = ["<think>", thought, "</think>", "<answer>", label, "</answer>", "</s>"]
            starts.append(len(prompt))
            sequences.append(prompt + tokenizer.convert_tokens_to_ids(reply))
            if quotes:
                prompt = judge.encode(judge.frame(f"{label} {texts[0]}"))
                starts.append(len(prompt))
                word = "Yes" if texts[0] == SIGNAL else "No"
                sequences.append(prompt + tokenizer.convert_tokens_to_ids([word, "</s>"]))
        width = max(map(len, sequences))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in sequences])
        labels = ids.clone()
        for row, (start, tokens) in enumerate(zip(starts, sequences)):
            labels[row, :start] = labels[row, len(tokens) :] = -100
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_template(folder: Path) -> Path:
    """Write the folder of the short prompt, for ``policy.prompts``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "setwise.txt").write_text(TEMPLATE)
    return folder


class _Plain(CausalRanker):
    """A model and its tokenizer, which is all that a judge takes of a causal ranker."""

    def __init__(self, module: torch.nn.Module, tokenizer: PreTrainedTokenizerFast) -> None:
        self.module, self.tokenizer = module, tokenizer


def short_training(steps: int) -> OptimizerSettings:
    """Return the settings of a run of a few steps of two lists, which keeps a checkpoint of each."""
    return OptimizerSettings(
        steps=steps,
        batch_size=2,
        lr=1e-2,
        evaluations=1,
        precision="fp32",
        evaluation_queries=2,
        checkpoint_seconds=0.0,
    )
