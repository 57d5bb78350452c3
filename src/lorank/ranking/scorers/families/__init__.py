"""Families of rerankers with a published prompt: one TOML file each, which says how a model is asked and read.

A file holds the ``title``, the ``paper``, the Hub names of ``models``; how a folder is recognised (``names``, one of
which stands in its name, and ``architectures``); and one of

    segments   texts with $query and $documents (and $instruction), each tokenised as one string
    messages   [role, text] of a conversation that the tokenizer's chat template renders
    pair       what stands before the query and before the document, which the tokenizer then joins as a pair
    refused    why lorank cannot score with these models

``answers`` are the words whose logits make the score where the model replies: the first less the second, or the first
alone. A checkpoint with a head of its own (ForSequenceClassification) has the same prompt and no answers.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from lorank.errors import UsageError, unknown_name
from lorank.ranking.scorers.causal_prompt import Prompt

NONE, OWN = "none", "own"
"""Names beside the families': lorank's own words, and the prompt that a folder brings."""


@dataclass(frozen=True)
class Family:
    """What one file says; see the module."""

    name: str
    title: str
    paper: str
    models: tuple[str, ...]
    names: tuple[str, ...]
    architectures: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    pair: tuple[str, str] | None = None
    instruction: str = ""
    max_length: int | None = None
    begin: bool = False
    strip: bool = False
    refused: str | None = None

    def prompt(self, tokenizer: Any, instruction: str | None = None) -> Prompt:
        """Return the prompt of this family in a tokenizer's tokens; ``instruction`` takes the place of its own."""
        chosen = self.instruction if instruction is None else instruction
        segments = [segment.replace("$instruction", chosen) for segment in self.segments]
        if self.messages:
            turns = [{"role": role, "content": text} for role, text in self.messages]
            segments = [tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)]
        return Prompt.of_segments(tokenizer, segments, begin=self.begin, strip=self.strip)


@cache
def families() -> dict[str, Family]:
    """Return every family under its name.

    >>> families()["qwen3-reranker"].answers
    ('yes', 'no')
    """
    found = {}
    for file in sorted(resources.files(__name__).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            name = file.name.removesuffix(".toml")
            data = tomllib.loads(file.read_text(encoding="utf-8"))
            found[name] = Family(name, **{key: freeze_lists(value) for key, value in data.items()})
    return found


def freeze_lists(value: Any) -> Any:
    return tuple(freeze_lists(each) for each in value) if isinstance(value, list) else value


def find_family(name: str) -> Family:
    """Return the family called ``name``; raise UsageError for another name."""
    if name not in families():
        raise unknown_name("family", name, [*families(), NONE, OWN])
    return families()[name]


def recognise(source: str, architecture: str | None, file: str = "") -> Family | None:
    """Return the family of a model folder or Hub name, None where none is known.

    Args:
        source: The folder or Hub name; its own name, that of a cached Hub model, and what its config.json and model
            card say it was made from are looked at.
        architecture: The class that its configuration names.
        file: The name of a file in it that holds the model.

    Raises:
        UsageError: For a model of a family that lorank cannot score with.

    >>> recognise("Qwen/Qwen3-Reranker-0.6B", "Qwen3ForCausalLM").title
    'Qwen3-Reranker'
    """
    called = [plain_name(name) for name in (*names_of(source), file)]
    for family in families().values():
        if not any(name in each for name in family.names for each in called):
            continue
        if family.refused is not None:
            raise UsageError(f"{source} is a {family.title}: {family.refused}")
        if architecture is None or architecture in family.architectures:
            return family
    return None


def names_of(source: str) -> Iterator[str]:
    """Yield what a model is called: by its folder, in the Hub's cache, in config.json, and in its model card."""
    path = Path(source)
    yield path.name
    yield from (part for part in path.parts if part.startswith("models--"))
    if not path.is_dir():
        return
    yield path.resolve().name
    config, card = path / "config.json", path / "README.md"
    if config.is_file():
        yield str(json.loads(config.read_text(encoding="utf-8")).get("_name_or_path", ""))
    if card.is_file():
        lines = card.read_text(encoding="utf-8", errors="replace").splitlines()[:400]
        yield from card_names(lines)


def card_names(lines: Sequence[str]) -> Iterator[str]:
    """Yield the base models that a card names in its front matter, and its first heading.

    >>> list(card_names(["---", "base_model:", "- Qwen/Qwen3-Reranker-4B", "license: mit", "---", "# Ours"]))
    ['Qwen/Qwen3-Reranker-4B', '# Ours']
    """
    front = lines and lines[0].strip() == "---"
    within = False
    for line in lines[1:] if front else lines:
        text = line.strip()
        if front and text == "---":
            front = False
        elif front:
            within = text.startswith("base_model:") or (within and text.startswith("-"))
            if within:
                named = text.removeprefix("base_model:").removeprefix("-").strip(" '\"")
                yield from [named] if named else []
        elif text.startswith("# "):
            yield text
            return


def plain_name(name: str) -> str:
    """Return a name in small letters, with dashes between its parts.

    >>> plain_name("models--Qwen--Qwen3_Reranker 0.6B")
    'models--qwen--qwen3-reranker-0.6b'
    """
    return re.sub(r"[_\s]", "-", name.lower())
