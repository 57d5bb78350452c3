"""Data as it is, made into a collection: pages, tables, rows, clicks, topics; see ``READERS`` for the kinds.

`read_sources_as_collection` keeps it in memory, `import_sources` writes a BEIR folder, which ``lorank train --data``
reads.
"""

from lorank.data.importing.collect import Choices, Imported, import_sources, read_sources_as_collection
from lorank.data.importing.frames import is_in_memory, read_in_memory
from lorank.data.importing.registry import READERS, reader

__all__ = [
    "READERS",
    "Choices",
    "Imported",
    "import_sources",
    "is_in_memory",
    "read_in_memory",
    "read_sources_as_collection",
    "reader",
]
