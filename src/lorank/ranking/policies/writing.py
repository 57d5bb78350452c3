"""A causal language model as a policy over texts: replies drawn from it, and the log-probabilities of their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorank.ranking.scorers.scoring_mode import scoring

MOST_LOGITS = 1 << 24
"""How many logits of replies one pass computes, so many replies as that are read together."""


@dataclass(frozen=True)
class TokenLogs:
    """Log-probabilities of the tokens of replies.

    Attributes:
        logs: [replies, tokens], aligned at the end: the last token of each reply stands in the last column.
        mask: bool [replies, tokens], True at tokens of the reply.
    """

    logs: Tensor
    mask: Tensor

    def means(self) -> Tensor:
        """Return the mean log-probability of a token of each reply, [replies]."""
        return (self.logs * self.mask).sum(1) / self.mask.sum(1).clamp(min=1)


class Writer:
    """Draws replies from a causal language model, and reads how likely they were.

    Args:
        model: The model, adapted or not.
        tokenizer: Its tokenizer.
        max_tokens: The most tokens of a reply.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, max_tokens: int) -> None:
        self.model, self.tokenizer, self.max_tokens = model, tokenizer, max_tokens
        self.end = int(tokenizer.eos_token_id)
        self.pad = int(tokenizer.pad_token_id) if tokenizer.pad_token_id is not None else self.end

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next(self.model.parameters()).device

    def write(
        self, prompts: Sequence[Sequence[int]], *, temperature: float = 1.0, seed: int | None = None
    ) -> list[list[int]]:
        """Return a reply for each prompt, its end included where it came to one.

        Args:
            prompts: The tokens of each prompt.
            temperature: By what logits are divided.
            seed: The seed of the draws; None takes the likeliest token at each place.
        """
        if not prompts:
            return []
        given = self._padded(prompts, [[]] * len(prompts))
        width = given["input_ids"].shape[1]
        drawn = {"do_sample": False} if seed is None else {"do_sample": True, "temperature": temperature}
        devices = [self.device] if self.device.type == "cuda" else []
        with scoring(self.model), torch.random.fork_rng(devices=devices):
            torch.manual_seed(0 if seed is None else seed)
            written = self.model.generate(  # type: ignore[operator]
                **given,
                max_new_tokens=self.max_tokens,
                pad_token_id=self.pad,
                eos_token_id=self.end,
                **({"top_k": 0, "top_p": 1.0} if seed is not None else {}),
                **drawn,
            )
        return [self._until_the_end(row) for row in written[:, width:].tolist()]

    def texts(self, replies: Sequence[Sequence[int]]) -> list[str]:
        """Return the replies as text."""
        return [self.tokenizer.decode(reply, skip_special_tokens=True) for reply in replies]

    def spell(self, text: str) -> list[int]:
        """Return the tokens of a reply as the model would write it, its end included.

        Args:
            text: The reply.
        """
        chats = bool(getattr(self.tokenizer, "chat_template", None))
        given = self.tokenizer(text if chats else f" {text}", add_special_tokens=False)["input_ids"]
        return [*given, self.end]

    def pieces(self, reply: Sequence[int]) -> list[str]:
        """Return the text of each token of a reply by itself."""
        return [self.tokenizer.decode([token], skip_special_tokens=True) for token in reply]

    def log_probs(
        self, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], temperature: float = 1.0
    ) -> TokenLogs:
        """Return the log-probabilities of the tokens of each reply after its prompt, with their graph.

        Args:
            prompts: The tokens of each prompt.
            replies: The tokens of each reply, at least one.
            temperature: By what logits are divided.
        """
        longest = max(len(reply) for reply in replies)
        rows = self._rows(longest)
        parts = [
            self._read(prompts[start : start + rows], replies[start : start + rows], longest, temperature)[0]
            for start in range(0, len(replies), rows)
        ]
        logs = torch.cat(parts)
        lengths = torch.tensor([len(reply) for reply in replies], device=logs.device)
        return TokenLogs(logs, torch.arange(longest, device=logs.device) >= longest - lengths.unsqueeze(1))

    def contrasts(
        self, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], tokens: Sequence[int]
    ) -> Tensor:
        """Return the logit of the first of two tokens less that of the second, after each token of each reply.

        Args:
            prompts: The tokens of each prompt.
            replies: The tokens of each reply, at least one.
            tokens: The two tokens.

        Returns:
            [replies, tokens], aligned at the end, with their graph.
        """
        longest = max(len(reply) for reply in replies)
        parts, most = [], self._rows(longest)
        for start in range(0, len(replies), most):
            given = self._padded(prompts[start : start + most], replies[start : start + most])
            positions = (given["attention_mask"].cumsum(1) - 1).clamp(min=0)
            logits = self.model(**given, position_ids=positions, logits_to_keep=longest, use_cache=False).logits.float()
            apart = logits[..., tokens[0]] - logits[..., tokens[1]]
            parts.append(F.pad(apart, (longest - apart.shape[1], 0)))
        return torch.cat(parts)

    @torch.no_grad()
    def entropy(
        self, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], temperature: float = 1.0
    ) -> float:
        """Return the mean entropy in nats at the tokens of the replies.

        Args:
            prompts: The tokens of each prompt.
            replies: The tokens of each reply.
            temperature: By what logits are divided.
        """
        total, count, most = 0.0, 0, self._rows(max(map(len, replies), default=1))
        for start in range(0, len(replies), most):
            rows = replies[start : start + most]
            longest = max(map(len, rows))
            _, logits = self._read(prompts[start : start + most], rows, longest, temperature)
            logs = logits.log_softmax(-1)
            each = -(logs.exp() * logs).sum(-1)
            for row, reply in enumerate(rows):
                total += float(each[row, longest - len(reply) :].sum())
                count += len(reply)
        return total / max(1, count)

    def _rows(self, longest: int) -> int:
        """Return how many replies of ``longest`` tokens are read together."""
        return max(1, MOST_LOGITS // (len(self.tokenizer) * (longest + 1)))

    def _read(
        self, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], longest: int, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Return log-probabilities [rows, longest] and the logits [rows, longest, vocabulary] that they come from."""
        given = self._padded(prompts, replies)
        positions = (given["attention_mask"].cumsum(1) - 1).clamp(min=0)
        logits = self.model(**given, position_ids=positions, logits_to_keep=longest + 1, use_cache=False).logits
        logits = logits[:, :-1].float() / temperature
        targets = given["input_ids"][:, -longest:]
        if logits.shape[1] < longest:  # the longest reply is of another part: what is missing is masked
            short = longest - logits.shape[1]
            logits, targets = F.pad(logits, (0, 0, short, 0)), F.pad(given["input_ids"], (longest, 0))[:, -longest:]
        each = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
        return -each, logits

    def _padded(self, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        rows = [[*prompt, *reply] for prompt, reply in zip(prompts, replies, strict=True)]
        width = max(map(len, rows))
        ids = torch.tensor([[self.pad] * (width - len(row)) + row for row in rows], device=self.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.device)
        return {"input_ids": ids, "attention_mask": mask}

    def _until_the_end(self, tokens: list[int]) -> list[int]:
        return tokens[: tokens.index(self.end) + 1] if self.end in tokens else tokens
