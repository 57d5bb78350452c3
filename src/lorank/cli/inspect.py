"""`lorank inspect`: ranks, spectra and sizes of an adapter, and what they say of a run."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lorank.cli import completion
from lorank.cli.bad_rows import SkipBad, again, skipping
from lorank.cli.progress import console, progress_bars
from lorank.cli.width import cut_middle, terminal_width
from lorank.errors import LorankError, OnBad, UsageError

NUMBERS = 54
"""The columns that the numbers of a layer take beside its path."""


def inspect(
    adapter: Annotated[Path, typer.Argument(help="An adapter folder, or the --out folder of `lorank train`.")],
    intruders: Annotated[
        bool, typer.Option("--intruders", help="Count directions that the base's weights do not have, by threshold.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("collection"),
            help="A collection, of whose documents a bi-encoder's vectors are taken: how many directions they use.",
        ),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="List so many training queries whose gradients look as wrong labels do; of the run's collection, or "
            "of --data.",
        ),
    ] = None,
    look_at: Annotated[int, typer.Option(min=1, help="With --queries: how many queries are looked at.")] = 200,
    attention: Annotated[
        bool,
        typer.Option(
            "--attention",
            help="Check on --data whether attention's scores allow LoRA gradients in almost linear time, and at which "
            "ranks they would do.",
        ),
    ] = False,
    latency_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="With --attention: what all directions of a head's scores cost, where a relative error of 1 costs 1; "
            "the higher, the lower the ranks that are learned. [default: 0.1]",
        ),
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Keep all of it as spectra.json in the run folder, for `lorank report`.")
    ] = False,
    skip_bad: SkipBad = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print, for every layer, its rank, its effective rank, the norm of its update, and its largest singular values.

    The effective rank is exp(entropy) of the update's singular values (Roy & Vetterli 2007).

    Examples:

        lorank inspect runs/first

        lorank inspect runs/first --intruders --data pydocs --save

        lorank inspect runs/first --queries 20

        lorank inspect runs/first --attention --data pydocs
    """
    from lorank.training.diagnosing import layer_spectra

    _check_adapter(adapter)
    rows = layer_spectra(adapter)
    if attention and data is None:
        raise UsageError("--attention reads texts; give --data")
    if latency_weight is not None and not attention:
        raise UsageError("--latency-weight belongs to --attention; add it, or leave this out")
    plain = not (intruders or data is not None or queries is not None or save)
    if as_json and plain:
        print(json.dumps(rows, indent=1))
        return
    found: dict[str, Any] = {"layers": rows}
    if not plain:
        with skipping(skip_bad) as on_bad:
            found |= _diagnose(adapter, intruders, data, queries, look_at, attention, latency_weight, on_bad)
    if save:
        _save(adapter, found)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    _print_layers(rows)
    _print_found(found)


def _check_adapter(folder: Path) -> None:
    from lorank.training.diagnosing import adapter_folder

    if adapter_folder(folder) is None and not (folder / "model" / "lorank.json").is_file():
        raise LorankError(
            f"{folder}: holds no adapter (no adapter_config.json and no lorank.json); give a PEFT folder or a run "
            "folder"
        )


def _diagnose(
    folder: Path,
    intruders: bool,
    data: str | None,
    queries: int | None,
    look_at: int,
    attention: bool,
    latency_weight: float | None,
    on_bad: OnBad | None,
) -> dict[str, Any]:
    import lorank
    from lorank.training.diagnosing import (
        LATENCY_WEIGHT,
        as_rows,
        check_attention,
        find_doubtful_queries,
        find_intruders,
        vector_rank,
    )
    from lorank.training.open_recipe import open_recipe_base
    from lorank.training.recipe import read_recipe
    from lorank.tuned.ranker import TunedRanker

    found: dict[str, Any] = {}
    record = folder / "run.json"
    if queries is not None and not record.is_file():
        raise UsageError(f"--queries reads how the run was trained, and {folder} has no run.json; give a run folder")
    with progress_bars() as on_progress:
        if intruders or data is not None:
            tuned = TunedRanker.load(folder)
            if intruders:
                found["intruders"] = find_intruders(tuned, on_progress)
            texts = None if data is None else lorank.load(data, on_bad=on_bad)
            if texts is not None and (not (attention or queries) or tuned.ranker.kind == "bi-encoder"):
                found["rankme"] = vector_rank(tuned.ranker, texts.documents)
            if texts is not None and attention:
                weight = LATENCY_WEIGHT if latency_weight is None else latency_weight
                found["attention"] = check_attention(tuned.ranker, texts, latency_weight=weight)
        if queries is not None:
            recipe = read_recipe(record)
            source = data or recipe.data
            if source is None:
                raise UsageError(f"{record} names no collection; give --data")
            collection = lorank.load(source, negative=recipe.negative, on_bad=again(on_bad) if data else on_bad)
            base: Any = open_recipe_base(recipe, collection)
            doubtful = find_doubtful_queries(base, collection, recipe, most=look_at, on_progress=on_progress)
            found["queries"] = as_rows(doubtful, queries)
    return found


def _save(folder: Path, found: dict[str, Any]) -> None:
    from lorank.files import write_json
    from lorank.training.diagnosing import SPECTRA

    if not (folder / "run.json").is_file():
        raise UsageError(f"--save: {folder} is no run folder (no run.json); leave it out, or give the --out of a run")
    write_json(folder / SPECTRA, found)
    console.print(f"kept in {folder / SPECTRA}; `lorank report {folder}` draws it", soft_wrap=True, markup=False)


def _print_layers(rows: list[dict[str, Any]]) -> None:
    if not rows:
        print("whole weights were trained, so there is no adapter to describe")
        return
    columns = terminal_width()
    width = max(len(row["path"]) for row in rows)
    width = width if columns is None else max(12, min(width, columns - NUMBERS))
    print(f"{'layer':{width}}  rank  effective    norm  largest singular values")
    for row in rows:
        values = " ".join(f"{value:.3g}" for value in row["singular_values"][:4])
        path = cut_middle(row["path"], width)
        print(f"{path:{width}}  {row['rank']:4}  {row['effective_rank']:9.2f}  {row['norm']:6.3f}  {values}")
    print(f"{sum(row['parameters'] for row in rows)} values in {len(rows)} layers")


def _print_found(found: dict[str, Any]) -> None:
    if "intruders" in found:
        own = found["intruders"]
        print(
            f"\nintruder dimensions among the {own['k']} leading directions of each layer ({own['looked_at']} in all)"
        )
        print("cosine below  " + "  ".join(f"{eps:>4g}" for eps, _ in own["curve"]))
        print("intruders     " + "  ".join(f"{count:>4}" for _, count in own["curve"]))
    if "rankme" in found:
        own = found["rankme"]
        print(f"\nRankMe of {own['texts']} documents: {own['value']:.1f} of {own['dimensions']} dimensions")
        if own["bounded"]:
            print("the number of documents bounds it; compare it with values of as many documents alone")
        print("compare checkpoints of one run by it, and not models of different kinds")
    if "attention" in found:
        _print_attention(found["attention"])
    if "queries" in found:
        print("\ntraining queries whose gradients have the largest nuclear norm, before training: look at their labels")
        print("nuclear  effective   loss  query")
        for row in found["queries"]:
            numbers = f"{row['nuclear_norm']:7.3f}  {row['effective_rank']:9.2f}  {row['loss']:5.2f}"
            print(f"{numbers}  {row['id']}  {cut_middle(row['text'], 70)}")


def _print_attention(found: dict[str, Any]) -> None:
    rows, columns = found["layers"], terminal_width()
    print(
        f"\nattention on texts of up to {found['tokens']} tokens: LoRA gradients have an almost linear approximation\n"
        f"where scores are well below sqrt(log tokens) = {found['threshold']:.2f}; above it none is to be hoped for"
    )
    width = max(len(row["path"]) for row in rows)
    width = width if columns is None else max(12, min(width, columns - NUMBERS))
    print(f"{'attention':{width}}  scores up to  heads below  degree  columns for {found['error']:.0%}")
    for row in rows:
        degree, many = (">200", "-") if row["degree"] is None else (row["degree"], f"{row['columns']:.3g}")
        heads = f"{row['below']} of {row['heads']}"
        print(f"{cut_middle(row['path'], width):{width}}  {row['bound']:12.2f}  {heads:>11}  {degree:>6}  {many:>14}")
    if "ranks" in found:
        _print_ranks(found["ranks"], width)


def _print_ranks(found: dict[str, Any], width: int) -> None:
    print(
        f"\nranks that a policy learns for attention's scores; all of them cost {found['latency_weight']:g}, where a "
        "relative error\nof the output of 1 costs 1; means over heads and texts"
    )
    lower = sorted({int(rank) for row in found["layers"].values() for rank in row["errors"]})[:-1]
    at = "".join(f"  error at {rank:<2}" for rank in lower)
    print(f"{'attention':{width}}  rank  of  relative error  heads that keep all{at}")
    for path, row in found["layers"].items():
        numbers = f"{row['rank']:5.1f}  {row['width']:2}  {row['error']:14.1%}  {row['full_share']:19.0%}"
        known = {int(rank): error for rank, error in row["errors"].items()}
        others = "".join(f"  {known[rank]:11.1%}" if rank in known else " " * 13 for rank in lower)
        print(f"{cut_middle(path, width):{width}} {numbers}{others}")
