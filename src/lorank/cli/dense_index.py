"""`lorank index`: an index of a bi-encoder's vectors that lasts."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorank.cli import completion
from lorank.cli.options import Language, Negative
from lorank.cli.progress import console, progress_bars, stage
from lorank.cli.ranker_options import Kind, Long, MaxLength, Set, reading_of
from lorank.errors import UsageError

if TYPE_CHECKING:
    from lorank.lowrank import Adapter
    from lorank.ranking.dense_index import DenseIndex
    from lorank.ranking.scorers import BiEncoder

index = typer.Typer(
    no_args_is_help=True,
    help="Build, change and search an index of a bi-encoder's vectors; `lorank retrieve --vectors` uses it too.",
)

Folder = Annotated[Path, typer.Argument(help="Folder of the index.")]
Ranker = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.rankers,
        help="A bi-encoder: minilm, a model's folder or Hub name, or the --out folder of `lorank train`. [default: the "
        "one that the index was made with]",
    ),
]
Data = Annotated[str | None, typer.Option(help="A packaged collection or a BEIR folder: all its documents.")]
Documents = Annotated[
    str | None, typer.Option(help='JSON lines {"_id": ..., "text": ..., "title": ...}, as corpus.jsonl of BEIR.')
]
Probes = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many lists of the index (`lorank index cluster`) are looked into for a query: fewer are faster and "
        "miss more. [default: exact search]",
    ),
]
Seed = Annotated[int, typer.Option(help="Accepted for uniformity; nothing is drawn.")]


@index.command()
def build(
    folder: Folder,
    data: Data = None,
    documents: Documents = None,
    ranker: Ranker = None,
    kind: Kind = None,
    max_length: MaxLength = None,
    long: Long = None,
    settings: Set = None,
    dtype: Annotated[
        str | None, typer.Option(help="How vectors are kept: float32, or float16 for half the room. [default: float32]")
    ] = None,
    chunk: Annotated[int, typer.Option(min=1, help="Documents that are written at once.")] = 4096,
    negative: Negative = "error",
    language: Language = "auto",
    seed: Seed = 0,
) -> None:
    """Make the index hold these documents and no others: new and changed ones are encoded, all others are kept.

    A build that was stopped goes on where it was with the same command.

    Examples:

        lorank index build vectors --data pydocs --ranker minilm

        lorank index build vectors --documents corpus.jsonl --ranker runs/first --dtype float16
    """
    ids, texts = _read(data, documents, negative, language)
    made, encoder, adapter = _open(folder, ranker, kind, max_length, long, settings, dtype)
    encoded = _encode(made, encoder, adapter, ids, texts, chunk)
    gone = made.delete(set(made.ids) - set(ids))
    if len(made.segments) > 1:
        with stage("write the segments as one"):
            made.compact()
    console.print(f"{encoded} documents encoded, {gone} deleted, {len(made)} in the index")
    print(folder)


@index.command()
def add(
    folder: Folder,
    data: Data = None,
    documents: Documents = None,
    ranker: Ranker = None,
    negative: Negative = "error",
    language: Language = "auto",
    seed: Seed = 0,
) -> None:
    """Add documents to an index, and replace those whose text has changed.

    Examples:

        lorank index add vectors --documents new.jsonl
    """
    _require(folder)
    ids, texts = _read(data, documents, negative, language)
    made, encoder, adapter = _open(folder, ranker, None, None, None, None, None)
    encoded = _encode(made, encoder, adapter, ids, texts, 4096)
    console.print(f"{encoded} documents encoded, {len(made)} in the index")
    print(folder)


@index.command()
def delete(
    folder: Folder,
    id: Annotated[list[str] | None, typer.Option(help="The id of a document; repeat it.")] = None,
    ids: Annotated[Path | None, typer.Option(help="A file of ids, one a line.")] = None,
    seed: Seed = 0,
) -> None:
    """Delete documents from an index; `lorank index compact` gives their room back.

    Examples:

        lorank index delete vectors --id d17 --id d18
    """
    from lorank.ranking.dense_index import DenseIndex
    from lorank.reading import lines

    names = [*(id or []), *(text.strip() for _, text in (lines(ids) if ids else ()))]
    if not names:
        raise UsageError("no document; give --id, or a file with --ids")
    made = DenseIndex.open(folder)
    gone = made.delete(names)
    console.print(f"{gone} of {len(set(names))} documents deleted, {len(made)} in the index")
    print(folder)


@index.command()
def search(
    folder: Folder,
    query: Annotated[str, typer.Option(help="The query.")],
    ranker: Ranker = None,
    top: Annotated[int, typer.Option(min=1, help="Documents to print.")] = 10,
    probes: Probes = None,
    seed: Seed = 0,
) -> None:
    """Search an index for one query; prints {"id", "score"} best first, the score being the similarity.

    `lorank retrieve --vectors` searches it for all queries of a collection.

    Examples:

        lorank index search vectors --query "sort a dict by value" --top 3
    """
    from lorank.tuned.ranker import merged

    _require(folder)
    made, encoder, adapter = _open(folder, ranker, None, None, None, None, None)
    with merged(adapter):
        (vector,) = encoder.encode([query], query=True)
    for document, score in made.search({"q": vector}, top, probes=probes)["q"].items():
        print(json.dumps({"id": document, "score": score}, ensure_ascii=False))


@index.command()
def cluster(
    folder: Folder,
    lists: Annotated[
        int | None,
        typer.Option(min=1, help="How many lists there are. [default: about 4 times the root of the vectors]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the centroids.")] = 0,
) -> None:
    """Put the vectors into lists around centroids, so that `--probes` looks into the nearest lists alone.

    This is for millions of documents, and needs FAISS: pip install 'lorank[approximate]'. Documents that are added
    later are searched exactly until it is called again; compact first, as compacting drops the lists.

    Examples:

        lorank index cluster vectors

        lorank retrieve --data my-data --ranker runs/first --vectors vectors --probes 32 --out dense.run
    """
    from lorank.ranking.dense_index import DenseIndex

    made = DenseIndex.open(folder)
    if not len(made):
        raise UsageError(f"{folder} holds no documents; add some with `lorank index add`")
    with progress_bars() as on_progress:
        done = made.cluster(lists, seed=seed, on_progress=partial(on_progress, "assign vectors to lists"))
    console.print(f"{sum(done.values())} lists in {len(done)} segments, {len(made)} documents")
    print(folder)


@index.command()
def compact(folder: Folder, seed: Seed = 0) -> None:
    """Write an index as one segment, without what was deleted or replaced.

    Examples:

        lorank index compact vectors
    """
    from lorank.ranking.dense_index import DenseIndex

    DenseIndex.open(folder).compact()
    print(folder)


@index.command()
def show(folder: Folder, seed: Seed = 0) -> None:
    """Print what an index holds as JSON: its ranker, documents, segments, and bytes.

    Examples:

        lorank index show vectors
    """
    from lorank.ranking.dense_index import DenseIndex

    made = DenseIndex.open(folder)
    about = made.description
    facts = {
        "ranker": about.name,
        "fingerprint": about.ranker,
        "documents": len(made),
        "vectors": sum(len(segment.documents.vectors) for segment in made.segments),
        "deleted": sum(int((~segment.alive).sum()) for segment in made.segments),
        "dimension": about.dimension,
        "dtype": about.dtype,
        "long": about.long,
        "segments": len(made.segments),
        "documents in lists": made.clustered(),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    }
    print(json.dumps(facts, indent=1, ensure_ascii=False))


def _require(folder: Path) -> None:
    """Raise DataError where ``folder`` holds no index."""
    from lorank.ranking.dense_index.description import read_description

    read_description(folder)


def _read(data: str | None, documents: str | None, negative: str, language: str) -> tuple[list[str], Sequence[str]]:
    """Return the ids and the texts of the documents of a collection or a file."""
    if (data is None) == (documents is None):
        raise UsageError("give the documents: --data for a collection, or --documents for a file of JSON lines")
    if data is not None:
        import lorank
        from lorank import index as names

        names.check_data(data, "--data")
        with stage(f"read {data}"):
            collection = lorank.load(data, negative=negative, language=language)
        if collection.has_features:
            raise UsageError(f"--data {data} holds feature rows, which no encoder reads")
        return list(collection.document_ids), list(collection.documents)
    from lorank.cli.documents import read_named_documents

    return read_named_documents(str(documents))


def _open(
    folder: Path,
    ranker: str | None,
    kind: str | None,
    max_length: int | None,
    long: str | None,
    settings: list[str] | None,
    dtype: str | None,
) -> "tuple[DenseIndex, BiEncoder, Adapter | None]":
    """Return the index of a folder with its encoder: the one that is named, or that which the index was made with."""
    from lorank.ranking.dense_index.description import FILE, read_description
    from lorank.tuned.dense_index import open_encoder, open_index
    from lorank.tuned.reading import ReadingSettings

    reading = reading_of(settings, max_length, long)
    if (folder / FILE).exists():
        found = read_description(folder)
        kind = kind or found.kind
        reading = ReadingSettings(**{**found.reading, **reading.as_options()})
        ranker = ranker or found.name
    if ranker is None:
        raise UsageError("no ranker; give --ranker minilm, or the --out folder of `lorank train`")
    with stage(f"open {ranker}"):
        encoder, adapter = open_encoder(ranker, kind, reading)
    made = open_index(folder, encoder, ranker, reading=reading.as_options(), kind=kind, dtype=dtype)
    return made, encoder, adapter


def _encode(
    made: "DenseIndex",
    encoder: "BiEncoder",
    adapter: "Adapter | None",
    ids: list[str],
    texts: Sequence[str],
    chunk: int,
) -> int:
    from lorank.tuned.ranker import merged

    with progress_bars() as on_progress, merged(adapter):
        said = partial(on_progress, "encode documents")
        return made.add(ids, texts, encoder.encode_documents, chunk=chunk, on_progress=said)
