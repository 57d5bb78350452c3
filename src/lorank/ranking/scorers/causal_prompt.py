"""What a causal ranker reads: a prompt around query and document, as constant pieces of tokens and two slots.

A prompt is a row of segments with the fields $query and $documents, in this order; every segment is tokenised as one
string, as the makers of a model tokenise it. Its constant tokens are found once and texts are tokenised once each, so a
pair is put together without the tokenizer (`lorank.ranking.scorers.slots`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from lorank.errors import UsageError
from lorank.ranking.judges.prompts import Prompts
from lorank.ranking.scorers.slots import Slot, encoder, place_to_cut
from lorank.ranking.scorers.tokens import TokenTable, tokenize

QUERY, DOCUMENT = "$query", "$documents"
ANSWER = "Question:\n$query\n\nAnswer:\n$documents"
"""A document that is an answer to the query, for models without a chat template."""


@dataclass(frozen=True)
class Prompt:
    """Token ids ``before`` the query, ``between`` query and document, and ``after``, and how the texts are tokenised.

    A text stands in its slot, ``query`` or ``document``; where there is none it is tokenised by itself, with a space in
    front where ``spaced_query`` or ``spaced_document`` says so.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    spaced_query: bool = False
    spaced_document: bool = False
    query: Slot | None = None
    document: Slot | None = None

    @property
    def cost(self) -> int:
        """Tokens beside query and document."""
        return len(self.before) + len(self.between) + len(self.after) + self.spill

    @property
    def spill(self) -> int:
        """Tokens of the ends of both texts, which stay when a text is cut."""
        return sum(len(slot.spill) for slot in (self.query, self.document) if slot is not None)

    def queries(self, tokenizer: Any, texts: Sequence[str], room: int) -> tuple[TokenTable, TokenTable | None]:
        """Return the tokens of queries, and of their ends where the prompt has slots."""
        if self.query is not None:
            return self.query.tokenize(encoder(tokenizer), texts, room, "query")
        return tokenize(tokenizer, texts, room, prefix=" " if self.spaced_query else "", what="query"), None

    def documents(self, tokenizer: Any, texts: Sequence[str], room: int) -> tuple[TokenTable, TokenTable | None]:
        """Return the tokens of documents, and of their ends where the prompt has slots."""
        if self.document is not None:
            return self.document.tokenize(encoder(tokenizer), texts, room, "document")
        return tokenize(tokenizer, texts, room, prefix=" " if self.spaced_document else ""), None

    @classmethod
    def question(cls, tokenizer: Any, text: str, chat: bool) -> Self:
        """Return the prompt whose reply is read: ``text`` as the user's turn, up to where the reply begins."""
        rendered = user_turn(tokenizer, text, chat)
        return cls.of_segments(tokenizer, [rendered], begin=not chat)

    @classmethod
    def of_segments(cls, tokenizer: Any, segments: Sequence[str], *, begin: bool = False, strip: bool = False) -> Self:
        """Return the prompt of segments that are tokenised one by one, as one string each.

        Args:
            tokenizer: The model's tokenizer.
            segments: Texts; $query and then $documents stand each once in one of them.
            begin: Whether the tokenizer's beginning token comes first, where it puts one before a text.
            strip: Whether white space is taken off the ends of query and document.
        """
        whole = "".join(segments)
        check_fields(whole)
        encode = encoder(tokenizer)
        first = next(place for place, segment in enumerate(segments) if QUERY in segment)
        last = next(place for place, segment in enumerate(segments) if DOCUMENT in segment)
        left, _, right = segments[first].partition(QUERY)
        inside: list[str] = list(segments[first + 1 : last])
        if first == last:
            middle, _, end = right.partition(DOCUMENT)
            cut = place_to_cut(encode, left, middle, end)
            query, document = (left, middle[:cut]), (middle[cut:], end)
        else:
            begins, _, ends = segments[last].partition(DOCUMENT)
            query, document = (left, right), (begins, ends)
        slots = Slot.of(encode, *query, strip), Slot.of(encode, *document, strip)

        def ids(parts: Sequence[str]) -> tuple[int, ...]:
            return tuple(token for row in encode(parts) for token in row) if parts else ()

        return cls(
            (*(beginning(tokenizer) if begin else ()), *ids(segments[:first]), *slots[0].head),
            (*slots[0].tail, *ids(inside), *slots[1].head),
            (*slots[1].tail, *ids(segments[last + 1 :])),
            query=slots[0],
            document=slots[1],
        )

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
        """Cut a rendered prompt at its fields and tokenise the pieces by themselves."""
        at, to = check_fields(text)
        pieces = text[:at], text[at + len(QUERY) : to], text[to + len(DOCUMENT) :]
        ids = [tuple(tokenizer(piece.removesuffix(" "), add_special_tokens=False)["input_ids"]) for piece in pieces[:2]]
        begin = () if chat else beginning(tokenizer)
        last = tuple(tokenizer(pieces[2], add_special_tokens=False)["input_ids"]) if pieces[2] else ()
        return cls(begin + ids[0], ids[1], last, pieces[0].endswith(" "), pieces[1].endswith(" "))


def user_turn(tokenizer: Any, text: str, chat: bool) -> str:
    """Return ``text`` as the user's turn, up to where the reply begins."""
    if not chat:
        return f"{text}\n\nAnswer:"
    turn = [{"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))


def check_fields(text: str) -> tuple[int, int]:
    """Return where the two fields of a prompt stand; raise UsageError unless both do, each once and in their order."""
    at, to = text.find(QUERY), text.find(DOCUMENT)
    if not 0 <= at < to or text.count(QUERY) != 1 or text.count(DOCUMENT) != 1:
        raise UsageError(f"a prompt has {QUERY} and then {DOCUMENT}, each once; this one is {text!r}")
    return at, to


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
