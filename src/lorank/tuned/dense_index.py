"""A bi-encoder and the dense index of its vectors: opened together, brought up to date, and searched."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lorank.data.collection import Collection
from lorank.errors import UsageError
from lorank.lowrank import Adapter
from lorank.progress import StageCallback
from lorank.ranking.dense_index import DenseIndex, fingerprint_encoder
from lorank.ranking.dense_index.description import FILE
from lorank.ranking.scorers import BiEncoder
from lorank.ranking.scorers.pretrained import is_classifier
from lorank.ranking.types import Run
from lorank.tuned.naming import recognise
from lorank.tuned.open_ranker import kind_of, open_ranker
from lorank.tuned.ranker import merged
from lorank.tuned.reading import ReadingSettings


def open_encoder(
    name: str, kind: str | None, reading: ReadingSettings | None = None, flag: str = "--ranker"
) -> tuple[BiEncoder, Adapter | None]:
    """Return the bi-encoder of a name and its adapter.

    Args:
        name: The name of a ranker, as `open_ranker` takes it.
        kind: The kind that a base is opened as; None takes what it was made for.
        reading: How texts are read.
        flag: The option that the name was given by, for messages.

    Raises:
        UsageError: For a ranker that scores pairs alone, and so cannot search.
    """
    if kind is None and recognise(name).kind == "model" and not is_classifier(name):
        kind = "bi-encoder" if kind_of(name) == "cross-encoder" else None  # an encoder that says nothing of its use
    model = open_ranker(name, kind=kind, reading=reading, flag=flag)
    if not isinstance(model.ranker, BiEncoder):
        raise UsageError(
            f"{flag} {name}: a ranker of kind {model.ranker.kind} cannot search a whole collection; retrieve with "
            "bm25 or a bi-encoder, and rerank with it"
        )
    return model.ranker, model.adapter


def open_index(
    folder: str | Path,
    encoder: BiEncoder,
    name: str,
    *,
    reading: Mapping[str, Any] | None = None,
    kind: str | None = None,
    dtype: str | None = None,
) -> DenseIndex:
    """Return the index in ``folder``, made where there is none, after a check that it is of this encoder.

    Args:
        folder: The folder of the index.
        encoder: The bi-encoder, its adapter not merged.
        name: What it is called, for the description.
        reading: The settings with which it was opened, for the description.
        kind: The kind that it was opened as, for the description.
        dtype: The format of the vectors; None is float32, or that of the index that is there.

    Raises:
        DataError: Where the folder holds the vectors of another ranker.
        UsageError: Where the vectors that are there have another format.
    """
    hashed = fingerprint_encoder(encoder)
    if not (Path(folder) / FILE).exists():
        return DenseIndex.create(
            folder,
            ranker=hashed,
            name=name,
            dimension=encoder.dimension,
            dtype=dtype or "float32",
            long=encoder.long,
            title_weight=encoder.title_weight,
            reading=reading,
            kind=kind,
        )
    index = DenseIndex.open(folder)
    index.check_ranker(hashed, name)
    if dtype not in (None, index.description.dtype):
        raise UsageError(f"{folder} holds vectors of {index.description.dtype}, not {dtype}; build it anew elsewhere")
    return index


def indexed_run(
    index: DenseIndex,
    encoder: BiEncoder,
    adapter: Adapter | None,
    collection: Collection,
    queries: Mapping[str, str],
    depth: int,
    on_progress: StageCallback = lambda what, done, total: None,
    *,
    probes: int | None = None,
) -> Run:
    """Return the documents of ``collection`` nearest to each query; what the index lacks of it is encoded and added.

    Args:
        index: The index of the encoder's vectors, which may hold documents of other collections too.
        encoder: The bi-encoder.
        adapter: Its adapter, None where it has none.
        collection: The collection of texts that is searched.
        queries: The text of each query, by id.
        depth: The number of documents per query, 1 or more.
        on_progress: It receives the stage, the number of units done and their total.
        probes: The lists of the index that are looked into for a query; None searches exactly.
    """
    with merged(adapter):
        ids, texts = list(collection.document_ids), [str(text) for text in collection.documents]
        index.add(ids, texts, encoder.encode_documents, on_progress=partial(on_progress, "encode documents"))
        vectors = encoder.encode(list(queries.values()), query=True)
    asked = dict(zip(queries, vectors, strict=True))
    return index.search(asked, depth, only=ids, probes=probes, on_progress=partial(on_progress, "search"))
