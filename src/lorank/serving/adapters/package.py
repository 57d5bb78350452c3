"""What an adapter folder holds, read and checked before any of it is used: one error names whatever is wrong.

Two kinds of folder are read: an adapter's (lorank's or PEFT's two files), and a tuned ranker's (``lorank.json`` with
``adapter/`` and perhaps ``first_stage/``), whose scores are a z + w c, see `lorank.tuned.ranker`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lorank.errors import DataError
from lorank.lowrank import adapter_files
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.folder import check_fit
from lorank.lowrank.targets import PLAIN, is_linear
from lorank.manifest import check_manifest
from lorank.ranking.calibration.folder import Calibration, read_calibration
from lorank.ranking.scorers.folders import saved_options
from lorank.ranking.scorers.pretrained import locate_base
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.ranking.scorers.text_ranker import check_head_is_there
from lorank.tuned.first_stage import FirstStage
from lorank.tuned.mix import ALONE, Mix, mix_from_json
from lorank.tuned.second_stage import FOLDER as SECOND_STAGE

MOST_RANK, MOST_PATTERNS, MOST_WILD, MOST_COMPONENTS = 4096, 1000, 32, 8
"""The largest rank, number of rank or alpha patterns, of those with wildcards, and of parts of a first stage."""
HARMLESS_PARTS = re.compile(r"\.\*|\\d\+|\[0-9\]\+")
MEMORY_OF_STATISTICS = 10
"""Bytes that a dictionary of terms takes in memory for each of its bytes on disk, roughly."""
READ_ALIKE = (
    "max_length",
    "long",
    "overlap",
    "passage_length",
    "title_weight",
    "similarity",
    "pooling",
    "temperature",
    "query_prefix",
    "document_prefix",
    "family",
    "instruction",
    "label",
    "view",
    "prompt",
    "answers",
    "chat",
)
"""Options of a ranker that change what is read or the scale of scores: all adapters of a server share them."""


@dataclass(frozen=True)
class Package:
    """An adapter as its files describe it: tensors, mix with the first stage, calibration.

    ``beside`` is the size in bytes of what is kept beside tensors: the first stage's statistics.
    """

    contents: adapter_files.Contents
    folder: Path
    mix: Mix = ALONE
    first_stage: FirstStage | None = None
    calibration: Calibration | None = None
    beside: int = field(default=0)


def read_package(folder: Path, ranker: TrainableRanker) -> Package:
    """Read a folder and check it against the base that it is to be served on.

    Raises:
        DataError: naming the file and what is wrong with it; UsageError: for PEFT options that lorank does not know.
    """
    if not (folder / "adapter").is_dir():
        contents = read_contents(folder, ranker)
        return Package(contents, folder, calibration=read_calibration(folder / "lorank.json"))
    card = folder / "lorank.json"
    if SECOND_STAGE in adapter_files.read_json(card):
        problem = "it is a cascade of two rankers, and an adapter's documents are scored by one"
        remedy = "serve it by itself with --base, or take one of its steps, bi-encoder/ or cross-encoder/ of its run"
        raise DataError(card, None, problem, remedy)
    return read_tuned(folder, ranker)


def read_tuned(folder: Path, ranker: TrainableRanker) -> Package:
    """Return the adapter of a tuned ranker's folder with its mix, first stage and calibration, checked.

    Args:
        folder: The folder, which holds ``adapter/``; of a cascade's only the first ranker is read.
        ranker: The base that it is to be served on.

    Raises:
        DataError: naming the file and what is wrong with it.
    """
    card = folder / "lorank.json"
    about: Any = adapter_files.read_json(card)
    refuse_written(about, card)
    try:
        check_alike(about["kind"], about["base"], saved_options(about), ranker, card)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(card, None, f"not what lorank writes ({error!r})"[:400], "save the ranker again") from error
    mix = read_mix(about, card)
    check_manifest(folder, about.get("files"), card)
    contents = read_contents(folder / "adapter", ranker)
    calibration = read_calibration(card) or read_calibration(folder / "adapter" / "lorank.json")
    if mix.first_stage == 0.0:
        return Package(contents, folder, mix, None, calibration)
    stage, beside = read_first_stage(folder / "first_stage", ranker)
    return Package(contents, folder, mix, stage, calibration, beside)


def refuse_written(about: Any, card: Path) -> None:
    """Raise DataError for a ranker that orders documents by the replies it writes: a server reads scores.

    Args:
        about: What the card holds.
        card: The file that an error names.
    """
    if isinstance(about, dict) and about.get("policy") is not None:
        problem = "it orders documents by the replies that it writes, and a server answers with scores"
        raise DataError(card, None, problem, "rank with it by `lorank rank` or `lorank rerank`")


def read_mix(about: Any, card: Path) -> Mix:
    """Return the mix that a card states.

    Args:
        about: What the card holds.
        card: The file that an error names.

    Raises:
        DataError: Where there is none, or its numbers are not finite.
    """
    try:
        mix = mix_from_json(about["mix"])
        if not (math.isfinite(mix.first_stage) and math.isfinite(mix.weight)):
            raise ValueError("a mix that is not finite")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(card, None, f"not what lorank writes ({error!r})"[:400], "save the ranker again") from error
    return mix


def check_alike(kind: str, base: object, options: Mapping[str, Any], ranker: TrainableRanker, card: Path) -> None:
    """Raise DataError unless the ranker was tuned on what the server's base is and reads.

    Args:
        kind: The kind of the ranker that was tuned, as its card names it.
        base: The base that it was tuned on; None where it was trained whole.
        options: How it reads, by the name of the option.
        ranker: The server's base.
        card: The file that an error names.
    """
    if base is None:
        raise DataError(card, None, "a ranker that was trained whole has no adapter", "serve it as a base of its own")
    if kind != ranker.kind:
        raise DataError(card, None, f"it is a {kind}, the server's base a {ranker.kind}", "serve it on its own kind")
    if options.get("adapted") == "queries":
        problem = "its adapter is for queries alone, and a server encodes documents with it too"
        raise DataError(card, None, problem, "serve another, or search with `lorank retrieve --vectors`")
    own = ranker.options()
    for key in READ_ALIKE:
        if key in own and key in options and options[key] != own[key]:
            raise DataError(
                card,
                None,
                f"it was tuned with {key}={options[key]!r}, the server has {own[key]!r}",
                f"start the server with --option {key}={options[key]}",
            )


def read_contents(folder: Path, ranker: TrainableRanker) -> adapter_files.Contents:
    """Return an adapter's contents; every layer, shape and number fits the base."""
    check_patterns(folder)
    check_counts(folder, ranker)
    contents = adapter_files.read(folder)
    file = folder / adapter_files.TENSORS
    for path, layer in contents.plan.items():
        if not 0 <= layer.rank <= MOST_RANK:
            raise DataError(
                folder,
                None,
                f"layer {path} has rank {layer.rank}, not 0 to {MOST_RANK}",
                "train it again with a smaller rank",
            )
    check_fit(contents, ranker.module, folder)
    check_kinds(contents, ranker, file)
    check_head_is_there(ranker, [*contents.trained, *contents.plan], folder)
    if contents.settings.form == "lora":
        check_factors(contents, ranker, file)
    for group in (contents.updates, contents.trained):
        for path, tensors in group.items():
            for key, tensor in tensors.items():
                if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                    raise DataError(file, None, f"{path}.{key} holds numbers that are not finite", "train it again")
    return contents


def check_counts(folder: Path, ranker: TrainableRanker) -> None:
    """Raise DataError for more tensors or layers than an adapter of the base can have, before any is read."""
    file, most = folder / adapter_files.TENSORS, 64 + 16 * sum(1 for _ in ranker.module.modules())
    if file.is_file():
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            head = size.to_bytes(8, "little") + opened.read(min(size, adapter_files.LARGEST_HEADER))
        adapter_files.check_header(head, file, most)
    card = folder / adapter_files.OWN
    layers = adapter_files.read_json(card).get("layers") if card.is_file() else None
    if isinstance(layers, dict) and len(layers) > most:
        raise DataError(card, None, f"it names {len(layers)} layers, more than the base has", "save the adapter again")


def check_kinds(contents: adapter_files.Contents, ranker: TrainableRanker, file: Path) -> None:
    """Raise DataError for an update of an embedding or a convolution: a server mixes linear layers alone."""
    for path in contents.plan:
        module = ranker.module.get_submodule(path)
        if not is_linear(module):
            raise DataError(
                file,
                None,
                f"it adapts {path}, a layer of type {type(module).__name__}, and one server batches the adapters of "
                "linear layers",
                "merge it (lorank adapter merge) and serve the merged model as a base, or train it without that layer",
            )


def check_patterns(folder: Path) -> None:
    """Raise DataError for a rank or alpha pattern that could take for ever to match: a regular expression of others."""
    card = folder / adapter_files.CONFIG
    config = adapter_files.read_json(card) if card.is_file() else {}
    for option in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(option) or {}
        if not isinstance(patterns, dict):
            raise DataError(card, None, f"{option} is not an object", "save the adapter again")
        wild = sum(PLAIN.fullmatch(pattern) is None for pattern in patterns)
        if len(patterns) > MOST_PATTERNS or wild > MOST_WILD:
            raise DataError(
                card,
                None,
                f"{option} has {len(patterns)} entries, {wild} of them with wildcards",
                f"at most {MOST_PATTERNS} are read here, and {MOST_WILD} with wildcards",
            )
        for pattern in patterns:
            rest = HARMLESS_PARTS.sub("", pattern, count=2)
            if len(pattern) > 400 or set(rest) & set("*+?{"):
                raise DataError(
                    card,
                    None,
                    f"{option} holds the expression {pattern[:80]!r}, which is not read here",
                    "write the layers' names, with '.*' or digits as their only wildcards",
                )


def check_factors(contents: adapter_files.Contents, ranker: TrainableRanker, file: Path) -> None:
    """Raise DataError unless each layer has an A [r, in] and a B [out, r] of its rank, or of twice that (PiSSA)."""
    for path, layer in contents.plan.items():
        own = contents.updates.get(path, {})
        base = BaseLinear(ranker.module.get_submodule(path))
        shapes = [tuple(own[key].shape) for key in ("lora_A.weight", "lora_B.weight") if key in own]
        fitting: list[list[tuple[int, ...]]] = [
            [(rank, base.in_features), (base.out_features, rank)] for rank in (layer.rank, 2 * layer.rank)
        ]
        if layer.rank and (len(own) != 2 or shapes not in fitting):
            raise DataError(
                file,
                None,
                f"layer {path}: factors of shape {shapes} do not fit rank {layer.rank} "
                f"of a [{base.out_features}, {base.in_features}] weight",
                "load it on the base model that it was trained on",
            )


def read_first_stage(folder: Path, ranker: TrainableRanker) -> tuple[FirstStage, int]:
    """Return the first stage and the bytes of its files; it may score with no other model than the server's base."""
    stage, beside = load_first_stage(folder)
    if stage.base is not None and locate_base(stage.base) != locate_base(ranker.base):
        raise DataError(
            folder / "first_stage.json",
            None,
            f"its first stage scores with {stage.base!r}, which is not the server's base",
            f"serve it on {stage.base!r}",
        )
    return stage, beside


def load_first_stage(folder: Path) -> tuple[FirstStage, int]:
    """Return the first stage of a folder, checked, and the bytes that its statistics take in memory."""
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    if not files:
        raise DataError(
            folder, None, "the mix needs the first stage's statistics and they are missing", "copy the whole folder"
        )
    try:
        stage = FirstStage.load(folder)
        check_first_stage(stage)
    except (OSError, KeyError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
        reason = f"the first stage cannot be read ({error!r})"[:400]
        raise DataError(folder, None, reason, "copy it again") from error
    return stage, MEMORY_OF_STATISTICS * sum(path.stat().st_size for path in files)


def check_first_stage(stage: FirstStage) -> None:
    """Raise ValueError or TypeError for numbers that no scores can come from, and more parts than make sense."""
    if not 0 < len(stage.components) <= MOST_COMPONENTS:
        raise ValueError(f"{len(stage.components)} components")
    numbers = [stage.mean, stage.std]
    for component in stage.components:
        if component.kind not in ("bm25", "bi-encoder"):
            raise ValueError(f"a component of kind {str(component.kind)[:40]!r}")
        numbers += [component.weight, component.mean, component.std]
    if not all(math.isfinite(number) for number in numbers) or 0 in (stage.std, *(c.std for c in stage.components)):
        raise ValueError("means and deviations that are not finite, or 0")
    terms = [term for term, _ in zip(stage.statistics.document_frequency, range(64))]
    pairs = np.zeros((1, 2), np.int64)
    if not np.isfinite(stage.statistics.score_pairs([" ".join(terms)], [" ".join(terms)], pairs)).all():
        raise ValueError("statistics whose scores are not finite")


def remarks_on(package: Package) -> list[str]:
    """Return what an operator should know of an adapter that can be served but changes little."""
    remarks = []
    if package.mix.weight == 0.0:
        remarks.append("the weight of its learned score is 0: it ranks as its first stage does")
    contents = package.contents
    factors = [tensors["lora_B.weight"] for tensors in contents.updates.values() if "lora_B.weight" in tensors]
    if contents.settings.form == "lora" and not contents.trained and not any(bool(factor.any()) for factor in factors):
        remarks.append("its update is 0, as before any training: it scores as the base does")
    return remarks
