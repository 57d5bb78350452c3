"""A local encoder-decoder (FLAN-T5 and its kin) as judge: the encoder reads the question, the decoder answers.

It answers as a causal language model does (`lorank.ranking.judges.causal`): short answers by the logits of the first
token that is decoded, others by generated text.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.judges.question import Question, Reply
from lorank.ranking.scorers.seq2seq_pretrained import load_encoder_decoder


class EncoderDecoderJudge(CausalJudge):
    """Asks a transformers encoder-decoder; its arguments are those of a causal judge."""

    scheme: ClassVar[str] = "t5"

    @classmethod
    def load(cls, base: str | Path, **options: Any) -> Self:
        """Load a folder or a Hub name; raise UsageError for a base that is no encoder-decoder or lacks weights."""
        loaded = load_encoder_decoder(base)
        return cls(loaded.module, loaded.tokenizer, **{"name": str(base), **options})

    def frame(self, text: str) -> str:
        """Return the text as it is: the decoder begins the answer by itself."""
        return text

    def encode(self, prompt: str) -> list[int]:
        """Return the tokens that the encoder reads, its end token included."""
        return list(self.tokenizer(prompt, add_special_tokens=True)["input_ids"])

    def next_logits(self, prompts: Sequence[list[int]]) -> Tensor:
        """Return the logits of the first decoded token, float32 [prompts, vocabulary]."""
        inputs = self._pad(prompts)
        start = torch.full((len(prompts), 1), self._start, device=inputs["input_ids"].device)
        logits: Tensor = self.model(**inputs, decoder_input_ids=start, use_cache=False).logits
        return logits[:, -1].float()

    def write(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """Return the tokens that are decoded greedily, to the end token, which is included."""
        model: Any = self.model
        found = model.generate(**self._pad(prompts), max_new_tokens=self.max_tokens, do_sample=False)
        return [self._to_end(ids) for ids in found[:, 1:].tolist()]

    def _expect(
        self, questions: Sequence[Question], prompts: list[list[int]], written: list[list[int]], replies: list[Reply]
    ) -> list[Reply]:
        """Return the replies as they are: the decoder does not read on after a prompt."""
        return replies

    @property
    def _start(self) -> int:
        config: Any = self.model.config
        start = config.decoder_start_token_id
        return int(config.pad_token_id if start is None else start)
