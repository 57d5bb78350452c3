"""What a causal ranker asks: the prompt of its folder or of its family, and the tokens that answer it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lorank.errors import UsageError
from lorank.ranking.scorers.causal_prompt import Prompt, answer_token
from lorank.ranking.scorers.families import NONE, OWN, find_family, recognise
from lorank.ranking.scorers.own_prompt import OwnPrompt, pair_prompt, word_ids
from lorank.ranking.scorers.sentence_files import SentenceFiles


class AskedRanker(Protocol):
    """What decides what a causal ranker asks: its model, its view, and what its user stated."""

    module: Any
    tokenizer: Any
    view: str
    new_parameters: Any
    prompt: str | None
    answers: Sequence[str] | None
    instruction: str | None
    files: SentenceFiles


@dataclass(frozen=True)
class Asked:
    """What is asked: the prompt, whose it is, the tokens of the answers and their values, the usual length, and the
    text that was given to the model before it was filled in."""

    prompt: Prompt
    family: str
    ids: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    max_length: int | None = None
    text: str = ""


def published_prompt(ranker: AskedRanker, source: str, file: str, family: str | None) -> Asked | None:
    """Return the prompt of the folder or of its family, or None where the ranker has a prompt of its own or needs none.

    Args:
        ranker: The ranker, with its model and tokenizer loaded.
        source: The folder or the Hub name of the checkpoint.
        file: The name of a file in it that holds the model, or an empty string.
        family: The name of a family, ``own``, ``none``, or None where the folder decides.

    Raises:
        UsageError: For a family that is not known, has no prompt here, or is not for this view.
    """
    classifier = ranker.view == "head" and not ranker.new_parameters
    if ranker.prompt is not None or family == NONE or not (ranker.view == "yes-no" or classifier):
        if family not in (None, NONE):
            raise UsageError(f"family={family!r}: a prompt of one's own, and view={ranker.view!r}, have no family")
        return None
    replies, tokenizer = ranker.view == "yes-no", ranker.tokenizer
    if family in (None, OWN):
        ranker.files = SentenceFiles.read(source)
        own = OwnPrompt.of(ranker.files, tokenizer, replies=replies)
        if own is not None:
            ids = own.answers if ranker.answers is None else word_ids(tokenizer, ranker.answers, source)
            return Asked(own.prompt, OWN, ids, (1.0, 0.0)[: len(ids)], ranker.files.max_length)
        if family == OWN:
            raise UsageError(f"family='own': {source} has no chat template that takes a query and a document")
    known = find_family(family) if family else recognise(source, type(ranker.module).__name__, file)
    if known is None:
        return None
    if known.refused is not None:
        raise UsageError(f"family={family!r}: {known.refused}")
    words = (ranker.answers or known.answers) if replies else ()
    if replies and not words:
        raise UsageError(
            f"family={known.name!r} reads a head of its own; open it with view='head' or as a cross-encoder"
        )
    ids = word_ids(tokenizer, words, source) if words else ()
    prompt = pair_prompt(tokenizer, *known.pair) if known.pair else known.prompt(tokenizer, ranker.instruction)
    return Asked(prompt, known.name, ids, (1.0, 0.0)[: len(ids)], known.max_length, "".join(known.segments))


def single_tokens(tokenizer: Any, words: Sequence[str], chat: bool, skip: bool) -> dict[float, int]:
    """Return the token of each word under its value: the number it is, or 1 and 0 for two words.

    With ``skip`` words that are not one token are left out, as 10 is in many vocabularies.

    Args:
        tokenizer: The tokenizer of the model.
        words: The possible answers.
        chat: True if an answer follows a chat template.
        skip: True takes numbers and leaves out those that are not one token; False takes words and refuses such.

    Returns:
        The token id of each word, by the value of the word.

    Raises:
        UsageError: If fewer than two of the words are tokens of their own, or, without ``skip``, if any is not.
    """
    found: dict[float, int] = {}
    for place, word in enumerate(words):
        try:
            found[float(word) if skip else float(1 - place)] = answer_token(tokenizer, word, chat)
        except UsageError:
            if not skip:
                raise
    if words and len(set(found.values())) < 2:
        raise UsageError(f"the answers {', '.join(words)} are not tokens of their own in this tokenizer")
    return found
