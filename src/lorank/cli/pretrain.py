"""`lorank pretrain`: train an encoder on your own documents, as a base for rankers."""

from pathlib import Path
from typing import Annotated

import typer

from lorank import index
from lorank.cli import completion
from lorank.cli.options import setting_value
from lorank.cli.progress import console, progress_bars
from lorank.errors import UsageError


def pretrain(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe in TOML; options override it.")] = None,
    texts: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("collection"),
            help="The corpus: a packaged collection, a BEIR folder, JSON lines with a text each, or a text file whose "
            "documents are parted by blank lines.",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.bases,
            help="minilm, a model folder or a Hub name, to go on from its weights; or a config.json (or a folder with "
            "one and no weights), for an encoder from nothing.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("factored", "dense"),
            help="dense, or layers of low rank: sltrain, lost, switchlora, pretrain-refactor-reset, greenformers-lrt. "
            "[default: dense]",
        ),
    ] = None,
    rank: Annotated[
        float | None,
        typer.Option(
            help="Ranks per layer, or a share below 1 of the rank at which two factors are as large as the layer. "
            "[default: 0.5]"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write, which is then a base for `lorank train`.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the corpus. [default: 3]")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps, in place of epochs.")] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate. [default: the method's own, a tenth of it on weights that were trained]"),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Windows per step. [default: 32]")] = None,
    max_length: Annotated[int | None, typer.Option(min=8, help="Tokens of a window. [default: 128]")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16; bf16 where the machine is fast at it.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, masks, order and what is held out.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any setting, section.key=value: factored.delta=0.05 (an option of the method), masking.share=0.3, "
            "training.warmup=0.2; repeat it.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Take up the run in --out where it stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
) -> None:
    """Train an encoder by masked language modelling on your own documents; `lorank train --base` then ranks with it.

    Examples:

        lorank pretrain --texts pydocs --base minilm --out bases/pydocs

        lorank pretrain --texts notes.jsonl --base config.json --method sltrain --rank 0.5 --out bases/notes

        lorank pretrain --texts my-beir-folder --base config.json --method switchlora --lr 0.02 --out bases/switched

        lorank pretrain --texts corpus.txt --base minilm --steps 500 --set masking.share=0.3 --out bases/corpus

        lorank pretrain recipe.toml --resume

        lorank train --data pydocs --base bases/pydocs --out runs/adapted
    """
    given = {
        "texts": texts,
        "base": base,
        "out": str(out) if out else None,
        "seed": seed,
        "factored.name": method,
        "factored.rank": rank,
        "masking.max_length": max_length,
        "training.epochs": epochs,
        "training.steps": steps,
        "training.lr": lr,
        "training.batch_size": batch_size,
        "training.precision": precision,
    }
    given = {setting: value for setting, value in given.items() if value is not None}
    changes = dict(setting_value(text) for text in settings or [])
    for place, names in (("--method", given), ("--set factored.name", changes)):
        if "factored.name" in names:
            index.check("factored", str(names["factored.name"]), place, also=("dense",))
    if texts is None and recipe is None and "texts" not in changes:
        raise UsageError("no data; give --texts with a file, a BEIR folder or a packaged collection")
    if texts is not None and not Path(texts).expanduser().exists():
        index.check_data(texts, "--texts")
    if base is not None and not Path(base).expanduser().exists():
        index.check_base(base, "--base")
    from lorank.cli.train import _command, interruption_message
    from lorank.training.pretraining import PretrainRecipe
    from lorank.training.pretraining import pretrain as run
    from lorank.training.pretraining.settings import override_pretrain, read_pretrain_recipe

    plan = PretrainRecipe() if recipe is None else read_pretrain_recipe(recipe)
    plan = override_pretrain(override_pretrain(plan, given, "the command"), changes)
    if plan.out is None:
        raise UsageError("no folder to write; give --out bases/NAME")
    try:
        with progress_bars() as on_progress:
            found = run(plan, resume=resume, overwrite=overwrite, command=_command(), on_progress=on_progress)
    except KeyboardInterrupt as interrupted:
        console.print(interruption_message(str(interrupted), Path(plan.out)))
        raise typer.Exit(130) from interrupted
    console.print(found.sentence, soft_wrap=True)
    print(found.folder)
