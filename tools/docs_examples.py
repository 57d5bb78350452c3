"""Doctests of docstrings as blocks of code: Markdown would read ``>>>`` as quotations and ``[a][b]`` as links."""


def fence_examples(doc: str) -> str:
    """Return a docstring with each doctest, its output included, in a fenced block; a blank line ends one.

    >>> fence_examples("Text.\\n>>> [1, 2][:1]\\n[1]\\n\\nMore.").splitlines()
    ['Text.', '', '```pycon', '>>> [1, 2][:1]', '[1]', '```', '', 'More.']
    """
    out: list[str] = []
    margin: str | None = None
    fenced = False
    for line in [*doc.splitlines(), ""]:
        if line.lstrip().startswith("```"):
            fenced = not fenced
        if margin is None and not fenced and line.lstrip().startswith(">>>"):
            margin = line[: len(line) - len(line.lstrip())]
            if out and out[-1].strip():
                out.append("")
            out.append(f"{margin}```pycon")
        elif margin is not None and not line.strip():
            out.append(f"{margin}```")
            margin = None
        out.append(line)
    return "\n".join(out[:-1])
