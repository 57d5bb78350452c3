"""The prompt that a reranker's folder brings: a chat template that knows the roles query and document.

Such a template (chat_template.jinja, or in tokenizer_config.json) renders messages of the roles query and document;
the default prompt of config_sentence_transformers.json goes before them as a system message. A LogitScore module names
the tokens whose logits make the score; without one they are yes and no, as sentence-transformers has it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from lorank.errors import UsageError
from lorank.ranking.scorers.causal_prompt import DOCUMENT, QUERY, Prompt
from lorank.ranking.scorers.sentence_files import SentenceFiles
from lorank.ranking.scorers.slots import Slot, encoder
from lorank.ranking.scorers.tokens import Template

STRUCTURED = ("content[0]", ".type", "'type'", '"type"', "message.content[")
"""What in a template shows that it takes content as a list of parts."""


@dataclass(frozen=True)
class OwnPrompt:
    """A prompt, and the tokens whose logits make the score: the first less the second, or the first alone."""

    prompt: Prompt
    answers: tuple[int, ...]

    @classmethod
    def of(cls, files: SentenceFiles, tokenizer: Any, *, replies: bool = True) -> "OwnPrompt | None":
        """Return the prompt of a folder, None where it has none that takes a query and a document.

        Args:
            files: What the folder's sentence-transformers files say.
            tokenizer: Its tokenizer.
            replies: Whether the score is read from the tokens of a reply, and not by a head of its own.
        """
        template = render_pair(tokenizer, files, QUERY, DOCUMENT)
        meant = files.reads_messages or (files.reads_messages is None and knows_roles(tokenizer))
        if meant and template is not None:
            wide = render_pair(tokenizer, files, f"  {QUERY}  ", f"  {DOCUMENT}  ") or ""
            strip = f"  {QUERY}  " not in wide or f"  {DOCUMENT}  " not in wide
            prompt = Prompt.of_segments(tokenizer, [template], strip=strip)
        elif replies and files.module("LogitScore") is not None:
            if files.reads_messages:
                raise UsageError(
                    f"{files.source} reads messages, but its chat template shows no query and document; put the "
                    "template that it was published with beside the tokenizer"
                )
            prompt = pair_prompt(tokenizer, files.default_prompt, "")
        else:
            return None
        return cls(prompt, answer_ids(files, tokenizer) if replies else ())


def knows_roles(tokenizer: Any) -> bool:
    """Return whether a chat template speaks of a query and a document; many render whatever role they are given."""
    template = getattr(tokenizer, "chat_template", None)
    return isinstance(template, str) and all(re.search(f"['\"]{role}['\"]", template) for role in ("query", "document"))


def render_pair(tokenizer: Any, files: SentenceFiles, query: str, document: str) -> str | None:
    """Return the chat template's text for a query and a document, or None where it leaves one of them out.

    Args:
        tokenizer: The tokenizer that holds the chat template.
        files: The sentence-transformers files of the folder, with its default prompt.
        query: The text of the query.
        document: The text of the document.
    """
    template = getattr(tokenizer, "chat_template", None)
    if not isinstance(template, str):
        return None
    parts = any(sign in template for sign in STRUCTURED)
    turns = [("system", files.default_prompt)] if files.default_prompt else []
    turns += [("query", query), ("document", document)]
    messages = [{"role": role, "content": [{"type": "text", "text": text}] if parts else text} for role, text in turns]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, **files.template_options)
    except (TemplateError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
        return None  # the template does not know these roles, and says so in its own way
    at, to = text.find(query.strip()), text.find(document.strip())
    return text if 0 <= at < to and text.count(query.strip()) == text.count(document.strip()) == 1 else None


def pair_prompt(tokenizer: Any, query_prefix: str, document_prefix: str) -> Prompt:
    """Return the prompt of a tokenizer's own pairs, with a constant text before query and document."""
    encode, template = encoder(tokenizer), Template.of(tokenizer, with_types=False)
    query, document = Slot.of(encode, query_prefix, ""), Slot.of(encode, document_prefix, "")
    before, between, after = template.pair
    return Prompt((*before, *query.head), (*between, *document.head), after, query=query, document=document)


def answer_ids(files: SentenceFiles, tokenizer: Any) -> tuple[int, ...]:
    """Return the tokens of a LogitScore module, or those of yes and no."""
    module = files.module("LogitScore")
    if module is not None:
        named = module.config.get("true_token_id"), module.config.get("false_token_id")
        if not isinstance(named[0], int):
            raise UsageError(f"{files.source}: {module.path}/config.json names no true_token_id; save the model again")
        ids = tuple(int(token) for token in named if token is not None)
    else:
        ids = word_ids(tokenizer, ("yes", "no"), files.source)
    if any(not 0 <= token < len(tokenizer) for token in ids):
        raise UsageError(f"{files.source}: the answers' tokens {ids} are not in its vocabulary of {len(tokenizer)}")
    return ids


def word_ids(tokenizer: Any, words: Sequence[str], source: str) -> tuple[int, ...]:
    """Return the token of each word: the word itself where the vocabulary has it, else the first of its tokens.

    Raises UsageError where two words begin with the same token, which would make every score the same.
    """
    known = tokenizer.get_vocab()
    ids = tuple(
        int(known[word]) if word in known else int(tokenizer.encode(word, add_special_tokens=False)[0])
        for word in words
    )
    if len(set(ids)) != len(words) or tokenizer.unk_token_id in ids:
        raise UsageError(
            f"the answers {', '.join(words)} are no tokens of their own in the tokenizer of {source}; give others"
        )
    return ids
