"""`lorank recommend`: the items that users choose next, learned from a log of what they chose."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lorank.cli import completion
from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.options import key_value
from lorank.cli.progress import console, progress_bars, stage
from lorank.errors import unknown_name

recommend = typer.Typer(
    no_args_is_help=True,
    help="Recommend items to users by what they chose before: SASRec, and retrieval in rounds.",
)

METHODS = ("sasrec", "ada-retrieval")
Log = Annotated[
    Path,
    typer.Option(
        help="What users chose: user, item and time, with a header line that names them; or MovieLens's u.data, "
        "ratings.dat or ratings.csv; or rows of user and item, separated by tabs, in the order of time."
    ),
]


@recommend.command()
def train(
    data: Log,
    out: Annotated[Path, typer.Option(help="Folder of the recommender, its metrics and its checkpoints.")],
    method: Annotated[
        str, typer.Option(help="sasrec: one round; ada-retrieval: rounds that know what earlier ones found.")
    ] = "sasrec",
    loss: Annotated[str, typer.Option(autocompletion=completion.names("loss"), help="A loss of lists.")] = "softmax",
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="key=value: dim, layers, length, steps, lr, schedule, negatives, rounds, top, ...; repeat it."
        ),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a dense index (`lorank index`) whose documents are the items: their vectors are used as "
            "they are. [default: vectors are learned]"
        ),
    ] = None,
    repeats: Annotated[
        bool, typer.Option("--repeats", help="Items that a user chose before may be recommended again.")
    ] = False,
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Take up the run in --out where it stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
) -> None:
    """Learn from all but each user's last item, and say how often that one is found; prints a table.

    Examples:

        lorank recommend train --data ratings.csv --out runs/sasrec

        lorank recommend train --data ratings.csv --method ada-retrieval --option rounds=3 --out runs/ada

        lorank recommend train --data ratings.csv --vectors item-vectors --method ada-retrieval --out runs/ada

        lorank recommend train --data ratings.csv --out runs/sasrec --resume
    """
    from lorank import index

    if method not in METHODS:
        raise unknown_name("--method", method, METHODS)
    index.check("loss", loss, "--loss")
    from lorank.cli.train import interruption_message
    from lorank.data.interactions import read_interactions
    from lorank.training.recommendation import train_recommender
    from lorank.tuned.recommender import sequence_settings

    settings = sequence_settings(dict(key_value(text, "--option") for text in option or []))
    with skipping(skip_bad, out) as on_bad, stage(f"read {data}"):
        log = read_interactions(data, on_bad)
    given = None
    if vectors is not None:
        from lorank.ranking.dense_index import DenseIndex

        given = DenseIndex.open(vectors).mean_vectors(log.items)
    more: dict[str, Any] = {"vectors": given, "resume": resume, "overwrite": overwrite}
    try:
        with progress_bars() as bars:
            _, found = train_recommender(
                log, method, settings, out=out, loss=loss, repeats=repeats, seed=seed, on_progress=bars, **more
            )
    except KeyboardInterrupt as interrupted:
        console.print(interruption_message(str(interrupted), out))
        raise typer.Exit(130) from interrupted
    print(f"| recommender | recall@{settings.top} | nDCG@{settings.top} |\n|:--|--:|--:|")
    for name, values in found.items():
        print(f"| {name} | {values['recall']:.4f} | {values['nDCG']:.4f} |")
    console.print(f"{len(log.users)} users, {len(log.items)} items; the recommender is in {out}", soft_wrap=True)


@recommend.command()
def apply(
    recommender: Annotated[Path, typer.Argument(help="Folder of the recommender.")],
    data: Log,
    out: Annotated[Path, typer.Option(help="Run to write: users in the place of queries, items in that of documents.")],
    top: Annotated[int, typer.Option(min=1, help="Items per user.")] = 20,
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; nothing is drawn.")] = 0,
) -> None:
    """Recommend items to every user of a log; prints how many users and items there were.

    Examples:

        lorank recommend apply runs/ada --data ratings.csv --top 20 --out recommended.run
    """
    from lorank.data import write_run
    from lorank.data.interactions import read_interactions
    from lorank.tuned.recommender import TunedRecommender

    made = TunedRecommender.load(recommender)
    with skipping(skip_bad, out) as on_bad, stage(f"read {data}"):
        log = read_interactions(data, on_bad)
    run = made.recommend(log, top)
    write_run(run, out, made.method)
    print(json.dumps({"users": len(run), "of": len(log.users), "items": len(made.items), "run": str(out)}))
