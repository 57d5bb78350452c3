"""One reader a file; importing this room registers them all."""

from lorank.data.importing.readers import (  # noqa: F401
    arrow,
    datasets_folder,
    html,
    jsonl,
    marco,
    markdown,
    parquet,
    pdf,
    plain_text,
    qrels,
    rst,
    tables,
    trec_markup,
)
