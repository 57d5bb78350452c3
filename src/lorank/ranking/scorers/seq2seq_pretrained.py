"""Pretrained encoder-decoders (T5 and its kin): where a base comes from, and whether its weights are all there.

Checkpoints of Fusion-in-Decoder T5 name their encoder as their training wrapped it
(``encoder.encoder.block.0.module``); they are read under T5's own names.
"""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

from lorank.errors import UsageError
from lorank.ranking.scorers.pretrained import (
    Pretrained,
    check_weights,
    first_line,
    locate_base,
    quiet_transformers,
    resolve,
    with_padding,
)

WRAPPED = {r"^encoder\.encoder\.": "encoder.", r"^(encoder\.block\.\d+)\.module\.": r"\1."}
"""Names of a Fusion-in-Decoder checkpoint, as patterns, to T5's own."""


def load_encoder_decoder(base: str | Path) -> Pretrained:
    """Load a folder or a Hub name in float32 as an encoder-decoder.

    Raises:
        UsageError: When the base cannot be reached, is no encoder-decoder, or lacks weights.
    """
    source = resolve(base)
    check_weights(source)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        try:
            config = AutoConfig.from_pretrained(source)
            if not getattr(config, "is_encoder_decoder", False):
                kind = (getattr(config, "architectures", None) or [config.model_type])[0]
                raise UsageError(f"{source} is no encoder-decoder ({kind}); ask a causal language model as causal:BASE")
            module, report = AutoModelForSeq2SeqLM.from_pretrained(
                source,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                use_safetensors=True,
                key_mapping=WRAPPED,
            )
            tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError, ImportError) as error:
            raise UsageError(
                f"cannot open the encoder-decoder {source!r} ({first_line(error)}); give a folder that holds it, or "
                "fetch it where the Hub can be reached and pass that folder"
            ) from error
    missing = set(report["missing_keys"])
    lost = [name for name, _ in module.named_parameters() if name in missing]
    if lost:
        raise UsageError(
            f"the checkpoint in {source} lacks {len(lost)} weights of an encoder-decoder, such as {lost[0]!r}: it "
            "would answer at random; name another base"
        )
    module.eval()
    return Pretrained(locate_base(base), source, module, with_padding(tokenizer), (), None)
