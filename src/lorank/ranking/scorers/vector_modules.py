"""What a sentence-transformers folder does with token vectors: pooling, dense layers, normalisation.

    cls          the first token                    mean                  the mean of the tokens
    lasttoken    the last token                     mean_sqrt_len_tokens  their sum over the root of their number
    max          the largest value of each place    weightedmean          their mean, token i counting i times

Several poolings stand one after the other in the vector. With ``include_prompt`` false the tokens of the prompt are not
pooled. Dense layers are read as they are and are not trained.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.ranking.scorers.folders import write_json
from lorank.ranking.scorers.pretrained import model_file
from lorank.ranking.scorers.sentence_files import Module, SentenceFiles

KNOWN = ("Transformer", "Pooling", "Dense", "Normalize", "Dropout")
FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
"""Pooling -> its key in a configuration; several are joined in this order."""
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Tokens:
    """Token vectors of sequences, one after another: ``hidden`` [tokens, dim], the sequence of each (``owner``), its
    place in it from 1 up, whether it is pooled, and the number of sequences."""

    hidden: Tensor
    owner: Tensor
    place: Tensor
    kept: Tensor
    count: int

    @classmethod
    def of(cls, hidden: Tensor, lengths: np.ndarray, skipped: np.ndarray | None) -> "Tokens":
        """Lay out ``hidden`` by the ``lengths`` of the sequences, of which the first ``skipped`` are not pooled."""
        device, sizes = hidden.device, torch.from_numpy(lengths).to(hidden.device)
        owner = torch.repeat_interleave(torch.arange(len(lengths), device=device), sizes)
        begins = torch.cumsum(sizes, 0) - sizes
        place = torch.arange(len(hidden), device=device) - begins[owner] + 1
        first = torch.zeros_like(sizes) if skipped is None else torch.from_numpy(skipped).to(device)
        return cls(hidden, owner, place, place > first[owner], len(lengths))

    def sums(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted sums [sequences, dim] of the tokens that are pooled, and the sums of weights."""
        weights = (weights * self.kept).to(self.hidden.dtype)
        total = self.hidden.new_zeros(self.count).index_add(0, self.owner, weights)
        sums = self.hidden.new_zeros(self.count, self.hidden.shape[1])
        return sums.index_add(0, self.owner, self.hidden * weights.unsqueeze(1)), total.clamp(min=1e-9).unsqueeze(1)

    def at(self, place: Tensor) -> Tensor:
        """Return the vector at ``place`` [sequences] of each sequence, counted from 1."""
        begins = torch.bincount(self.owner, minlength=self.count).cumsum(0)
        begins = torch.cat([begins.new_zeros(1), begins[:-1]])
        return self.hidden[begins + place - 1]


def _first(tokens: Tokens) -> Tensor:
    sizes = torch.bincount(tokens.owner, minlength=tokens.count)
    kept = torch.bincount(tokens.owner[tokens.kept], minlength=tokens.count)
    return tokens.at(torch.where(kept > 0, sizes - kept + 1, 1))


def _last(tokens: Tokens) -> Tensor:
    return tokens.at(torch.bincount(tokens.owner, minlength=tokens.count))


def _max(tokens: Tokens) -> Tensor:
    hidden = tokens.hidden.masked_fill(~tokens.kept.unsqueeze(1), -torch.inf)
    largest = hidden.new_full((tokens.count, hidden.shape[1]), -torch.inf)
    return largest.scatter_reduce(0, tokens.owner.unsqueeze(1).expand_as(hidden), hidden, "amax")


def _mean(tokens: Tokens) -> Tensor:
    sums, total = tokens.sums(torch.ones_like(tokens.place))
    return sums / total


def _root_mean(tokens: Tokens) -> Tensor:
    sums, total = tokens.sums(torch.ones_like(tokens.place))
    return sums / total.sqrt()


def _weigh(tokens: Tokens) -> Tensor:
    sums, total = tokens.sums(tokens.place)
    return sums / total


POOLINGS: dict[str, Callable[[Tokens], Tensor]] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _root_mean,
    "weightedmean": _weigh,
    "lasttoken": _last,
}


def pool_tokens(hidden: Tensor, lengths: np.ndarray, pooling: str, skipped: np.ndarray | None = None) -> Tensor:
    """Return the pooled vectors of sequences, [sequences, dim x poolings].

    Args:
        hidden: The hidden states [tokens, dim], with the sequences one after another.
        lengths: The int64 [sequences] numbers of tokens, which sum to ``tokens``.
        pooling: The name of a pooling, or several joined by +.
        skipped: The int64 [sequences] numbers of first tokens that are left out; None leaves out none.

    >>> pool_tokens(torch.tensor([[1.0], [3.0], [5.0]]), np.array([2, 1]), "cls+mean").tolist()
    [[1.0, 2.0], [5.0, 5.0]]
    """
    tokens = Tokens.of(hidden, lengths, skipped)
    return torch.cat([POOLINGS[mode](tokens) for mode in pooling.split("+")], -1)


def check_pooling(pooling: str) -> None:
    """Raise UsageError for a pooling that is not known."""
    wrong = [mode for mode in pooling.split("+") if mode not in POOLINGS]
    if wrong:
        raise UsageError(f"pooling={pooling!r}: choose of {', '.join(POOLINGS)}, several joined by +")


def pooling_of(module: Module, source: str) -> str:
    """Return the pooling that a Pooling module's configuration states, in its old or its new form."""
    stated = module.config.get("pooling_mode")
    modes = [mode for mode, flag in FLAGS.items() if module.config.get(flag) is True]
    others = [
        key
        for key, on in module.config.items()
        if key.startswith("pooling_mode_") and on is True and key not in FLAGS.values()
    ]
    if stated is not None:
        modes = [stated] if isinstance(stated, str) else [str(mode) for mode in stated]
    if others or any(mode not in POOLINGS for mode in modes):
        raise UsageError(f"{source} pools by {', '.join([*modes, *others])}; only {', '.join(POOLINGS)} are known here")
    return "+".join(modes) or "mean"


class Dense(nn.Module):
    """One linear layer after pooling, with its activation and, where it has one, its residual path."""

    def __init__(self, config: dict[str, Any], tensors: dict[str, Tensor], source: str) -> None:
        super().__init__()
        self.config = config
        weight = tensors.get("linear.weight")
        if weight is None:
            raise UsageError(f"{source}: no linear.weight in the weights of a Dense module; save the model again")
        self.linear = nn.Linear(weight.shape[1], weight.shape[0], bias="linear.bias" in tensors)
        self.residual = nn.Identity() if config.get("use_residual") else None
        if "residual.weight" in tensors:
            self.residual = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        self.activation = activation_of(
            str(config.get("activation_function", "torch.nn.modules.activation.Tanh")), source
        )
        self.requires_grad_(False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return activation(W v + b), and v besides where there is a residual path."""
        made = self.activation(self.linear(vectors))
        return made if self.residual is None else made + self.residual(vectors)


class Normalize(nn.Module):
    """Vectors of length 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Return v / |v|."""
        return F.normalize(vectors, dim=-1)


def activation_of(name: str, source: str) -> nn.Module:
    """Return an activation of torch.nn by its whole name; raise UsageError for code from elsewhere."""
    kind = getattr(nn, name.rpartition(".")[2], None)
    if not name.startswith("torch.nn.") or not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UsageError(f"{source}: a Dense module's activation is {name}, which is none of torch.nn")
    return kind()


@dataclass
class VectorModules:
    """What follows the transformer: how tokens are pooled, and the layers that vectors go through after it."""

    pooling: str = "mean"
    include_prompt: bool = True
    layers: list[nn.Module] = field(default_factory=list)

    @classmethod
    def read(cls, files: SentenceFiles, pooling: str | None) -> "VectorModules":
        """Read a folder's modules; ``pooling`` takes the place of what they say.

        Raises UsageError for modules and settings that lorank does not apply: vectors would not be the model's.
        """
        files.refuse_other_than(KNOWN, "bi-encoder")
        module = files.module("Pooling")
        stated = "mean" if module is None else pooling_of(module, files.source)
        check_pooling(pooling or stated)
        included = True if module is None else bool(module.config.get("include_prompt", True))
        made = cls(pooling or stated, included)
        for each in files.modules:
            if each.name == "Normalize":
                made.layers.append(Normalize())
            elif each.name == "Dense":
                made.layers.append(dense_of(files.source, each))
        return made

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return what the layers make of pooled vectors [sequences, dim]."""
        for layer in self.layers:
            vectors = layer.to(vectors.device)(vectors)
        return vectors

    def dimension(self, hidden: int) -> int:
        """Return the numbers of a vector of a transformer of ``hidden``; raise UsageError where layers do not fit."""
        size = hidden * len(self.pooling.split("+"))
        for layer in self.layers:
            if isinstance(layer, Dense):
                if layer.linear.in_features != size:
                    raise UsageError(
                        f"a Dense module takes vectors of {layer.linear.in_features}, and pooling={self.pooling!r} "
                        f"makes {size}; leave out pooling"
                    )
                size = layer.linear.out_features
        return size

    def write(self, folder: Path, hidden: int, normalized: bool) -> list[str]:
        """Write configurations and weights for sentence-transformers; return the names of the modules in order."""
        layers = [*self.layers]
        if normalized and not (layers and isinstance(layers[-1], Normalize)):
            layers.append(Normalize())
        modes = self.pooling.split("+")
        flags = {flag: mode in modes for mode, flag in FLAGS.items()}
        config = {"word_embedding_dimension": hidden, **flags, "include_prompt": self.include_prompt}
        write_json(folder / "1_Pooling" / "config.json", config)
        names = ["Transformer", "Pooling"]
        for place, layer in enumerate(layers, start=2):
            names.append(type(layer).__name__)
            home = folder / f"{place}_{names[-1]}"
            write_json(home / "config.json", layer.config if isinstance(layer, Dense) else {})
            if isinstance(layer, Dense):
                save_file({name: t.contiguous() for name, t in layer.state_dict().items()}, home / WEIGHTS)
        return names


def dense_of(source: str, module: Module) -> Dense:
    """Read a Dense module; raise UsageError where its weights are pickled or missing, or it reads something else."""
    given = module.config.get("module_input_name", "sentence_embedding"), module.config.get("module_output_name")
    if given[0] != "sentence_embedding" or given[1] not in (None, "sentence_embedding"):
        raise UsageError(f"{source}: the Dense module in {module.path} does not read the vector")
    path = model_file(source, f"{module.path}/{WEIGHTS}")
    if path is None:
        raise UsageError(
            f"{source}: {module.path} holds no {WEIGHTS} (a pytorch_model.bin is a pickle and can run any code); open "
            "the model with sentence-transformers where you trust its maker, save it again, and give that folder"
        )
    return Dense(dict(module.config), load_file(path), f"{source}/{module.path}")
