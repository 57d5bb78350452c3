"""The names that documents go by in clicks and judgments: ids, paths with or without ending, addresses."""

from urllib.parse import unquote, urlsplit

_ENDINGS = (".html", ".htm", ".xhtml", ".md", ".markdown", ".rst", ".txt", ".pdf")


class Names:
    """Names of documents; one that two documents have is nobody's, but for ids."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self._known: dict[str, str | None] = {}
        """Forms that are no id, and ids that are another document's form too, which are nobody's but as ids."""

    def add(self, name: str, *others: str) -> None:
        """Enter a document's id, what can be made of it, and its other names."""
        self.ids.add(name)
        if self._known.get(name, name) != name:
            self._known[name] = None
        for other in {form for each in (name, *others) for form in forms_of(each)} - {name}:
            alone = other not in self.ids and self._known.get(other, name) == name
            self._known[other] = name if alone else None

    def find(self, name: str) -> str | None:
        """Return the id of the document that goes by a name, None where there is none or several."""
        if name in self.ids:
            return name
        for form in forms_of(name):
            if form in self._known or form in self.ids:
                return self._known.get(form, form)
        path = _path(name)
        while "/" in path:
            path = path.partition("/")[2]
            stem = _stem(path)
            if stem not in ("index", "readme", "") and (
                found := self._known.get(stem, stem if stem in self.ids else None)
            ):
                return found
        return None


def forms_of(name: str) -> list[str]:
    """Return the forms under which a name is entered and looked up, the plainest last.

    >>> forms_of("https://docs.example.org/guide/install.html#top")
    ['https://docs.example.org/guide/install.html#top', 'guide/install.html', 'guide/install']
    """
    path = _path(name)
    forms = [name, path, _stem(path)]
    return list(dict.fromkeys(form for form in forms if form))


def _path(name: str) -> str:
    parts = urlsplit(name) if "://" in name else None
    path = parts.path if parts is not None else name.split("#")[0].split("?")[0]
    return unquote(path).replace("\\", "/").removeprefix("./").strip("/")


def _stem(path: str) -> str:
    for ending in _ENDINGS:
        if path.lower().endswith(ending):
            path = path[: -len(ending)]
            break
    return path.removesuffix("/index") if path != "index" else path
