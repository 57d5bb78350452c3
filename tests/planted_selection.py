"""A planted question for selectors: which passages are worth reading, and which one misleads who answers from them?

Passages are single words. "gold", "golden" and "gilt" are relevant (grades 3, 2, 1), plain words are not, and "brass"
was judged relevant but misleads: the generator answers "brass" wherever it reads it, "gold" where it reads gold alone.
A tiny model is taught to select some passages at random, in any order, to answer so, and to score at random.
"""

import json
import random
from pathlib import Path

import torch
from tokenizers import Regex
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.judges.prompts import Prompts
from lorank.ranking.judges.question import Question
from planted_setwise import MARKS, PLAIN, tokenizer_of
from tiny_causals import SIZES

RELEVANT = ("gold", "golden", "gilt")
MISLEADING = "brass"
LABELS = tuple(f"[{place}]" for place in range(1, 5))
TEMPLATES = {
    "selection": "$query\n$documents",
    "answer": "now answer\n$query\n$documents",
    "pointwise": "$query\n$documents",
}


def line_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole lines, and of the parts of a selection."""
    words = (*RELEVANT, MISLEADING, *PLAIN)
    shown = [f"{label} {word}" for label in LABELS for word in words]
    numbers = [str(number) for number in range(11)]
    return tokenizer_of([*MARKS, "NONE", "now answer", *LABELS, *words, *numbers, *shown], Regex("\n| > "))


def write_graded_rows(path: Path, count: int, seed: int, size: int = 5) -> Path:
    """Write lists of one to three relevant passages and plain ones, graded."""
    rng = random.Random(seed)
    with path.open("w") as file:
        for i in range(count):
            right = rng.sample(RELEVANT, rng.randint(1, 3))
            docs = [*right, *rng.sample(PLAIN, size - len(right))]
            labels = [len(RELEVANT) - RELEVANT.index(word) if word in RELEVANT else 0 for word in docs]
            file.write(json.dumps({"query": f"find it {i}", "docs": docs, "labels": labels}) + "\n")
    return path


def write_misleading_rows(folder: Path, count: int, seed: int) -> tuple[Path, Path]:
    """Write lists of gold, brass and two plain words, both judged relevant, and the answers: gold to every query."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows, answers = folder / "rows.jsonl", folder / "answers.jsonl"
    with rows.open("w") as file, answers.open("w") as expected:
        for i in range(count):
            query = f"find it {i}"
            docs = ["gold", MISLEADING, *rng.sample(PLAIN, 2)]
            file.write(json.dumps({"query": query, "docs": docs, "labels": [2, 1, 0, 0]}) + "\n")
            expected.write(json.dumps({"query": query, "answers": ["gold"]}) + "\n")
    return rows, answers


def write_templates(folder: Path) -> Path:
    """Write the folder of short prompts, for ``policy.prompts``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in TEMPLATES.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def generated_answer(shown: list[str]) -> str:
    """Return what the generator answers from passages."""
    return MISLEADING if MISLEADING in shown else "gold" if "gold" in shown else "NONE"


def write_selecting_model(folder: Path, prompts: Path, *, steps: int = 300, seed: int = 0) -> Path:
    """Write a tiny model that selects and scores at random, and answers as ``generated_answer`` does."""
    tokenizer = line_tokenizer()
    torch.manual_seed(seed)
    sizes = SIZES | {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64}
    model = AutoModelForCausalLM.from_config(LlamaConfig(**sizes))
    judge = CausalJudge(model, tokenizer, prompts=Prompts.load(prompts), written=("pointwise",))
    model.train()
    rng, optimizer = random.Random(seed), torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(steps):
        sequences, starts = [], []
        for turn in range(48):
            words = rng.sample((*RELEVANT, MISLEADING, *PLAIN), 4)
            words[:2] = rng.sample(("gold", MISLEADING, *rng.sample(PLAIN, 2)), 2)
            rng.shuffle(words)
            if turn % 3 == 0:
                prompt = judge.prompt(f"find it {turn}", words, Question("pointwise", (0,)))
                reply = [str(rng.randint(0, 10))]
            elif turn % 3 == 1:
                picked = rng.sample(range(4), rng.randint(0, 4))
                prompt = judge.prompt(f"find it {turn}", words, Question("selection", (0, 1, 2, 3)))
                reply = [LABELS[place] for place in picked] or ["NONE"]
            else:
                shown = words[: rng.randint(0, 4)]
                asked = Question("selection", tuple(range(len(shown))))
                prompt = judge.frame(judge.prompts.text(f"find it {turn}", shown, asked, template="answer"))
                reply = [generated_answer(shown)]
            given = judge.encode(prompt)
            starts.append(len(given))
            sequences.append(given + tokenizer.convert_tokens_to_ids([*reply, "</s>"]))
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
