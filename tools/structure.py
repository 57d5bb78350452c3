"""Print the structure of the package as counts: rooms, files, circles of imports, lengths of functions.

    python tools/structure.py [SOURCE]        SOURCE is the folder that holds lorank/, by default src

A room is a folder of Python files. A circle is a set of modules that import each other, packages' faces left out. The
length of a function is that of its body without the docstring.
"""

import ast
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path


def modules_of(source: Path) -> dict[str, Path]:
    """Return dotted names and files of the modules, packages' faces left out."""
    files = sorted((source / "lorank").rglob("*.py"))
    return {".".join(f.relative_to(source).with_suffix("").parts): f for f in files if f.name != "__init__.py"}


def imports_of(file: Path, modules: dict[str, Path]) -> set[str]:
    """Return the modules that a file imports, at its head or inside its functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & modules.keys()


def circles_of(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of two modules and more (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            circle, stack[at:] = stack[at:], []
            if len(circle) > 1:
                circles.append(sorted(circle))

    for node in graph:
        if node not in index:
            visit(node)
    return circles


def body_lengths(files: list[Path]) -> Iterator[tuple[int, str]]:
    """Yield the length of every function's body and where it stands."""
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                if body:
                    yield (body[-1].end_lineno or 0) - body[0].lineno + 1, f"{file.name}:{node.name}"


def main() -> None:
    """Print the counts."""
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "src")
    modules = modules_of(source)
    rooms = Counter(str(file.parent.relative_to(source)) for file in modules.values())
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in modules.values())
    lengths = sorted(body_lengths(list(modules.values())))
    circles = circles_of({name: imports_of(file, modules) - {name} for name, file in modules.items()})
    print(f"{len(rooms)} rooms, {len(modules)} files, {lines} lines")
    print(f"files per room: median {statistics.median(rooms.values()):g}, most {rooms.most_common(1)[0]}")
    print(f"circles: {len(circles)}")
    for circle in circles:
        print("   ", ", ".join(name.removeprefix("lorank.") for name in circle))
    values = [length for length, _ in lengths]
    print(f"functions: {len(values)}, median {statistics.median(values):g} lines, longest {lengths[-1]}")
    print(f"over 50 lines: {sum(v > 50 for v in values)}, over 80: {sum(v > 80 for v in values)}")
    for room, count in sorted(rooms.items()):
        print(f"{count:4}  {room}")


if __name__ == "__main__":
    main()
