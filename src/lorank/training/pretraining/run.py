"""One pretraining run from its recipe to a folder that `lorank train --base` opens.

The folder holds the model as transformers' own (config.json, model.safetensors, the tokenizer, and what
sentence-transformers has beside a base), the factored layers in ``factored/``, the record pretrain.json, metrics.jsonl,
and while the run lasts checkpoints/. A run that was killed goes on from its checkpoint bit for bit.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

from lorank import __version__
from lorank.errors import UsageError
from lorank.files import replaced_folder, write_json
from lorank.lowrank.factored import Factored, factored_kind, make_factored, save_factored
from lorank.progress import StageCallback
from lorank.ranking.scorers.pretrained import quiet_transformers
from lorank.ranking.scorers.sentence_files import SentenceFiles
from lorank.training.fitting import claim_run_folder
from lorank.training.hooks.hook import Hook, Progress
from lorank.training.loop.loop import train
from lorank.training.loop.run_state import Outcome
from lorank.training.loop.session import Session
from lorank.training.pretraining.corpus import read_corpus
from lorank.training.pretraining.learning import (
    MEASURE,
    FactoredEvents,
    MaskedWeights,
    cross_entropy,
    held_out_measure,
    masked_loss,
)
from lorank.training.pretraining.model import MaskedModel, count_parameters, open_masked
from lorank.training.pretraining.settings import DENSE, DENSE_RATE, KEPT, PretrainRecipe, check_pretrain
from lorank.training.pretraining.windows import Windows, cut_windows
from lorank.training.settings import OptimizerSettings, as_plain

RECORD, TOKENIZER, LAYERS = "pretrain.json", "tokenizer", "factored"
MEASURING_BATCH = 64


@dataclass(frozen=True)
class Pretrained:
    """A run that ended.

    Attributes:
        folder: The folder, which is a base for `lorank train`.
        outcome: How the loop ended.
        loss: The mean cross-entropy of held-out masked tokens at the step that was kept.
        before: The same before the first step.
        accuracy: The share of them that is predicted right.
        trained: How many values were trained, those of the embeddings included.
        dense: How many the model has with dense layers.
        sentence: All of it in words.
    """

    folder: Path
    outcome: Outcome
    loss: float
    before: float
    accuracy: float
    trained: int
    dense: int
    sentence: str


def pretrain(
    recipe: PretrainRecipe,
    *,
    resume: bool = False,
    overwrite: bool = False,
    command: str | None = None,
    hooks: Sequence[Hook] = (),
    on_progress: StageCallback = lambda what, done, total: None,
) -> Pretrained:
    """Train an encoder by masked language modelling on a user's documents, and write it as a base for rankers.

    loss = - mean over masked tokens of log p(token | the others)        (Devlin et al. 2019, arXiv:1810.04805)

    Args:
        recipe: Texts, base, layers, masking, loop and seed; ``out`` is the folder.
        resume: Go on with the run in ``out``.
        overwrite: Replace the run in ``out``.
        command: The command line, for the record.
        hooks: Hooks of the loop.
        on_progress: Receives stages, and messages with a total of 0.

    Returns:
        What was reached and where it lies.

    Raises:
        UsageError: For settings that cannot be, a base that is no encoder or is quantised, and layers that cannot be
            factored; nothing is written then.
        DataError: For a corpus that is empty or too small.
    """
    check_pretrain(recipe)
    if recipe.texts is None or recipe.out is None:
        raise UsageError(
            f"no {'texts' if recipe.texts is None else 'out'}; say which corpus is read, and where to write"
        )
    out = Path(recipe.out)
    on_progress("read texts", 0, 1)
    texts = read_corpus(recipe.texts)
    on_progress("read texts", 1, 1)
    model = open_masked(recipe.base, texts, recipe.masking.vocabulary, recipe.seed)
    dense = count_parameters(model.module.parameters())
    factored = factor_layers(model, recipe)
    recipe = replace(recipe, training=resolve_training(recipe, model.source is not None))
    out = claim_run_folder(out, resume, overwrite)
    if model.source is None:
        model = replace(model, tokenizer=_keep_tokenizer(out, model.tokenizer, resume))
    on_progress("cut windows", 0, 1)
    windows, held_out = cut_windows(texts, model.tokenizer, recipe.masking, model.longest, recipe.seed)
    on_progress("cut windows", 1, 1)
    session = make_session(model, factored, windows, held_out, recipe, out, hooks)
    outcome = train(session, on_progress=_reporter(on_progress), resume=resume)
    on_progress("write the model", 0, 1)
    found = _result(model, recipe, outcome, session, out, dense)
    _write(model, factored, recipe, found, out, command, (len(texts), windows, held_out))
    on_progress("write the model", 1, 1)
    return found


def factor_layers(model: MaskedModel, recipe: PretrainRecipe) -> Factored | None:
    """Put factored layers into the encoder as the recipe says; None where it stays dense."""
    settings = recipe.factored
    if settings.name == DENSE:
        return None
    kind, start = factored_kind(settings.name), settings.start
    if start is None and model.source is not None and "svd" in kind.starts:
        start = "svd"
    return make_factored(
        model.module,
        settings.name,
        rank=settings.rank,
        targets=settings.targets,
        exclude=settings.exclude,
        start=start,
        seed=recipe.seed,
        **settings.options,
    )


def resolve_training(recipe: PretrainRecipe, trained_before: bool) -> OptimizerSettings:
    """Return the settings of the loop with the rate as a number: the method's own, a tenth of it on a trained base."""
    if recipe.training.lr != "default":
        return recipe.training
    name = recipe.factored.name
    rate = DENSE_RATE if name == DENSE else factored_kind(name).lr
    return replace(recipe.training, lr=rate * (KEPT if trained_before else 1.0))


def make_session(
    model: MaskedModel,
    factored: Factored | None,
    windows: Windows,
    held_out: Windows,
    recipe: PretrainRecipe,
    out: Path,
    hooks: Sequence[Hook] = (),
) -> Session:
    """Return what the training loop works with.

    Args:
        model: The model.
        factored: Its factored layers, None where all are dense.
        windows: What is learned from.
        held_out: What is measured on.
        recipe: The recipe, its rate a number.
        out: The run folder.
        hooks: Further hooks.
    """

    def optimizer(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
        rates: dict[str, Any] = {"lr": settings.rate, "betas": settings.betas, "weight_decay": settings.weight_decay}
        return torch.optim.AdamW(groups, **rates) if factored is None else factored.optimizer(groups, **rates)

    events = [] if factored is None else [FactoredEvents(factored)]
    return Session(
        ranker=cast(Any, model),
        inputs=None,
        weights=MaskedWeights(model.module, factored),
        lists=cast(Any, windows),
        loss=cross_entropy,
        settings=recipe.training,
        seed=recipe.seed,
        folder=out,
        evaluate=held_out_measure(model, held_out, MEASURING_BATCH, recipe.training),
        hooks=[*events, *hooks],
        make_optimizer=optimizer,
        batch_loss=masked_loss,
        measure=MEASURE,
    )


def _keep_tokenizer(out: Path, tokenizer: Any, resume: bool) -> Any:
    """Return the tokenizer of the run: that of its beginning where it is resumed."""
    folder = out / TOKENIZER
    if resume and folder.is_dir():
        return AutoTokenizer.from_pretrained(folder)
    with replaced_folder(folder) as stage:
        tokenizer.save_pretrained(stage)
    return tokenizer


def _reporter(on_progress: StageCallback) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        held = "" if progress.dev is None else f" · held out {-progress.dev[MEASURE]:.3f}"
        on_progress(f"pretrain · loss {progress.loss:.3f}{held}", progress.step, progress.steps)

    return report


def _result(
    model: MaskedModel, recipe: PretrainRecipe, outcome: Outcome, session: Session, out: Path, dense: int
) -> Pretrained:
    assert session.evaluate is not None
    now = session.evaluate()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    before = next(-line["dev"][MEASURE] for line in lines if "dev" in line)
    trained = count_parameters(p for p in model.module.parameters() if p.requires_grad)
    said = (
        f"held-out loss {-now[MEASURE]:.3f} after {outcome.best_step} of {outcome.steps} steps, {before:.3f} before; "
        f"{now['accuracy']:.1%} of masked tokens right; {trained:,} values trained by {recipe.factored.name}, "
        f"{dense:,} in the dense model"
    )
    return Pretrained(out, outcome, -now[MEASURE], before, now["accuracy"], trained, dense, said)


def _write(
    model: MaskedModel,
    factored: Factored | None,
    recipe: PretrainRecipe,
    found: Pretrained,
    out: Path,
    command: str | None,
    corpus: tuple[int, Windows, Windows],
) -> None:
    """Write the layers, the dense model and the record; the model stands in the folder whole or not at all."""
    documents, windows, held_out = corpus
    layers = [] if factored is None else [vars(row) for row in factored.report()]
    if factored is not None:
        save_factored(factored, out / LAYERS)
        factored.merge()
    extra = _left_out(model)
    with replaced_folder(out, keep_others=True) as stage, quiet_transformers():
        model.module.save_pretrained(stage)
        if extra:
            _add_tensors(stage / "model.safetensors", extra)
        model.tokenizer.save_pretrained(stage)
        if model.source is not None:
            SentenceFiles.read(model.source).write(stage)
        record = {
            "lorank": __version__,
            "command": command,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "recipe": as_plain(recipe),
            "corpus": {"documents": documents, "windows": len(windows.rows), "held_out": len(held_out.rows)},
            "loss": found.loss,
            "before": found.before,
            "accuracy": found.accuracy,
            "steps": found.outcome.steps,
            "best_step": found.outcome.best_step,
            "seconds": round(found.outcome.seconds, 2),
            "trained_parameters": found.trained,
            "dense_parameters": found.dense,
            "layers": layers,
            "sentence": found.sentence,
        }
        write_json(stage / RECORD, record)
    shutil.rmtree(out / TOKENIZER, ignore_errors=True)


def _left_out(model: MaskedModel) -> dict[str, torch.Tensor]:
    """Return the tensors of the base's pooler, which a language model has no place for and a cross-encoder reads."""
    if model.source is None:
        return {}
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        encoder, report = AutoModel.from_pretrained(model.source, output_loading_info=True, use_safetensors=True)
    own, prefix = set(model.module.state_dict()), model.module.base_model_prefix
    return {
        f"{prefix}.{name}": value.detach().contiguous()
        for name, value in encoder.state_dict().items()
        if "pooler" in name.split(".") and name not in report["missing_keys"] and f"{prefix}.{name}" not in own
    }


def _add_tensors(file: Path, extra: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import load_file

    save_file({**load_file(file), **extra}, file, metadata={"format": "pt"})
