"""What a causal ranker reads: a prompt around query and document, as constant pieces of tokens.

A prompt is a text with the fields $query and $documents, in this order. Its pieces are tokenised once and texts once
each, so a pair is put together without the tokenizer. A space before a field is tokenised with the text that follows,
as it would be in one string.
"""

from dataclasses import dataclass
from typing import Any, Self

from lorank.errors import UsageError
from lorank.ranking.judges.prompts import Prompts

QUERY, DOCUMENT = "$query", "$documents"
ANSWER = "Question:\n$query\n\nAnswer:\n$documents"
"""A document that is an answer to the query, for models without a chat template."""


@dataclass(frozen=True)
class Prompt:
    """Token ids ``before`` the query, ``between`` query and document, and ``after``; a space goes in front of a text
    where ``spaced_query`` or ``spaced_document`` says so."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    spaced_query: bool = False
    spaced_document: bool = False

    @property
    def cost(self) -> int:
        """Tokens beside query and document."""
        return len(self.before) + len(self.between) + len(self.after)

    @classmethod
    def question(cls, tokenizer: Any, text: str, chat: bool) -> Self:
        """Return the prompt whose reply is read: ``text`` as the user's turn, up to where the reply begins."""
        if chat:
            rendered = tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
        else:
            rendered = f"{text}\n\nAnswer:"
        return cls.of(tokenizer, rendered, chat)

    @classmethod
    def answer(cls, tokenizer: Any, chat: bool) -> Self:
        """Return the prompt in which the document is the reply to the query, ended by the end token."""
        text = (
            ANSWER
            if not chat
            else tokenizer.apply_chat_template(
                [{"role": "user", "content": QUERY}, {"role": "assistant", "content": DOCUMENT}], tokenize=False
            )
        )
        made = cls.of(tokenizer, text[: text.index(DOCUMENT) + len(DOCUMENT)], chat)
        return cls(made.before, made.between, (tokenizer.eos_token_id,), made.spaced_query, made.spaced_document)

    @classmethod
    def of(cls, tokenizer: Any, text: str, chat: bool) -> Self:
        """Cut a rendered prompt at its fields and tokenise the pieces."""
        at, to = text.find(QUERY), text.find(DOCUMENT)
        if not 0 <= at < to or text.count(QUERY) != 1 or text.count(DOCUMENT) != 1:
            raise UsageError(f"a prompt has {QUERY} and then {DOCUMENT}, each once; this one is {text!r}")
        pieces = text[:at], text[at + len(QUERY) : to], text[to + len(DOCUMENT) :]
        ids = [tuple(tokenizer(piece.removesuffix(" "), add_special_tokens=False)["input_ids"]) for piece in pieces[:2]]
        begin = () if chat else beginning(tokenizer)
        last = tuple(tokenizer(pieces[2], add_special_tokens=False)["input_ids"]) if pieces[2] else ()
        return cls(begin + ids[0], ids[1], last, pieces[0].endswith(" "), pieces[1].endswith(" "))


def beginning(tokenizer: Any) -> tuple[int, ...]:
    """Return the token that the tokenizer puts at the beginning of every text, if it has one."""
    first = tokenizer("a")["input_ids"][:1]
    return tuple(first) if first and first[0] == tokenizer.bos_token_id else ()


def question_text(view: str, prompt: str | None) -> str:
    """Return the text that is asked: ``prompt``, or the packaged one of a view."""
    return prompt or Prompts.load().templates[{"yes-no": "yes-no"}.get(view, "pointwise")].template


def answer_token(tokenizer: Any, word: str, chat: bool) -> int:
    """Return the one token of an answer: as the reply begins with it after a template, with a space after a text."""
    for spelling in (word, f" {word}") if chat else (f" {word}", word):
        ids = tokenizer.encode(spelling, add_special_tokens=False)
        if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
            return int(ids[0])
    raise UsageError(f"{word!r} is not one token of this tokenizer; choose other answers")
