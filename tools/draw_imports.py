"""Draw the packages of ddnb/ layer by layer, and exit with 1 if imports go in a circle: ``draw_imports.py [FOLDER]``.

An arrow is an import of one module by another, anywhere in the file: inside functions and for type checkers only, too.
A package or module directly below ddnb/ is one room; the layer of a room is one above the highest room it imports.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

Graph = dict[str, set[str]]
PACKAGE = Path(__file__).resolve().parents[1] / "ddnb"


def read_modules(package: Path) -> dict[str, ast.Module]:
    """Parse every file of a package; dotted module name -> syntax tree."""
    files = {path: path.relative_to(package.parent).with_suffix("") for path in sorted(package.rglob("*.py"))}
    return {
        ".".join(part for part in name.parts if part != "__init__"): ast.parse(path.read_text(encoding="utf-8"))
        for path, name in files.items()
    }


def imported_names(tree: ast.Module, module: str, is_package: bool) -> Iterator[str]:
    """Yield the absolute dotted name of everything that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")
            above = parents[: len(parents) - node.level + is_package] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def module_graph(package: Path) -> Graph:
    """Return module -> modules it imports, within a package."""
    modules = read_modules(package)
    graph: Graph = {module: set() for module in modules}
    for module, tree in modules.items():
        is_package = any(other.startswith(f"{module}.") for other in modules)
        for name in imported_names(tree, module, is_package):
            while name and name not in modules:  # a name inside a module: the module itself
                name = name.rpartition(".")[0]
            if name and name != module:
                graph[module].add(name)
    return graph


def room_of(module: str) -> str:
    """Return the part of a dotted name that lies directly below the package; the package's own name for itself."""
    return module.split(".")[1] if "." in module else module


def room_graph(graph: Graph) -> Graph:
    """Return room -> rooms it imports."""
    rooms: Graph = {room_of(module): set() for module in graph}
    for module, targets in graph.items():
        rooms[room_of(module)] |= {room_of(target) for target in targets} - {room_of(module)}
    return rooms


def find_circle(graph: Graph) -> list[str]:
    """Return the nodes of one circle, the first one again at the end; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def layers(rooms: Graph) -> list[list[str]]:
    """Group the rooms of a graph without circles by layer, the lowest first."""
    level: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        level[room] = 1 + max((level[below] for below in rooms[room]), default=0)
    grouped = defaultdict(list)
    for room in sorted(rooms):
        grouped[level[room]].append(room)
    return [grouped[i] for i in sorted(grouped)]


def count_lines(package: Path, room: str) -> int:
    """Count the lines of the Python files of a room."""
    where = package / room
    files = where.rglob("*.py") if where.is_dir() else [where.with_suffix(".py")]
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files if path.is_file())


def main(arguments: list[str]) -> int:
    package = Path(arguments[0]).resolve() if arguments else PACKAGE
    graph = module_graph(package)
    rooms = room_graph(graph)
    for circle in filter(None, (find_circle(graph), find_circle(rooms))):
        print(f"Imports go in a circle: {' -> '.join(circle)}", file=sys.stderr)
        return 1
    del rooms[package.name]  # __init__.py stands above all: it hands on the public names
    drawn = layers(rooms)
    for i, names in reversed(list(enumerate(drawn, 1))):
        print(f"{i:3}  " + "   ".join(f"{name} {count_lines(package, name):,}" for name in names))
    arrows = sum(map(len, graph.values()))
    print(f"{len(rooms)} packages and modules in {len(drawn)} layers, {len(graph)} files, {arrows} imports, no circle")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
