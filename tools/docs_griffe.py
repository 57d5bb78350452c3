"""An extension of griffe, which mkdocstrings reads the API page with (see mkdocs.yml): doctests are blocks of code."""

from typing import Any

import griffe
from docs_examples import fence_examples


class FencedExamples(griffe.Extension):
    """Fences the doctests of every docstring before it is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = fence_examples(obj.docstring.value)
