"""The package has no circle of modules, imports inside functions included."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_modules_import_each_other_in_a_circle():
    spec = importlib.util.spec_from_file_location("structure", ROOT / "tools" / "structure.py")
    structure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(structure)
    modules = structure.modules_of(ROOT / "src")
    graph = {name: structure.imports_of(file, modules) - {name} for name, file in modules.items()}
    assert structure.circles_of(graph) == []


def test_a_circle_is_found():
    spec = importlib.util.spec_from_file_location("structure", ROOT / "tools" / "structure.py")
    structure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(structure)
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert structure.circles_of(graph) == [["a", "b", "c"]]
