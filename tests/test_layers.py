"""The law of the house: a module imports only from layers below its own, and no files import each other in a circle."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "edgefel": "edgefel",
    **{name: f"edgefel.{name}" for name in ("kernels", "calib", "export", "bench")},
}

# bottom up: a module may import from its own layer and from those before it
LAYERS = (
    "errors",
    "text",
    "signals",
    "workers",
    "tasks",
    "progress",
    "files",
    "report",
    "kernels",
    "data",
    "runtime",
    "models",
    "evaluation",
    "training",
    "calib",
    "export",
    "deploy",
    "serve",
    "web",
    "bench",
    "cli",
)

Imports = dict[str, set[str]]


def read_imports() -> Imports:
    """Module -> the modules of edgefel that it imports, anywhere in the file; packages' own `__init__` left out."""
    return {module: set(others) for module, others in _read_files().items()}


@functools.cache
def _read_files() -> Imports:
    files = {}
    for folder, package in FOLDERS.items():
        for file in (ROOT / folder).rglob("*.py"):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            files[".".join((package, *parts)).removesuffix(".__init__")] = file
    return {
        module: imported_modules(ast.parse(file.read_text()), set(files)) - {module}
        for module, file in files.items()
    }


def imported_modules(tree: ast.AST, modules: set[str]) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & modules
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & modules) or {node.module}
    return found


def layer(module: str) -> int:
    """Raises ValueError for a module outside all layers."""
    return LAYERS.index(module.split(".")[1])


def upward(imports: Imports) -> list[str]:
    """Imports of a higher layer, `edgefel/__init__.py` left out: it is the package's face."""
    return [
        f"{module} ({LAYERS[layer(module)]}) imports {other} ({LAYERS[layer(other)]})"
        for module, others in sorted(imports.items())
        for other in sorted(others)
        if module != "edgefel" and other != "edgefel" and layer(other) > layer(module)
    ]


def circles(imports: Imports) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in imports[module]:
            if other not in order:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], order[other])
        if low[module] == order[module]:
            start = stack.index(module)
            if len(stack) - start > 1:
                found.append(sorted(stack[start:]))
            del stack[start:]

    for module in sorted(imports):
        if module not in order:
            visit(module)
    return found


def test_every_module_has_a_layer_and_every_layer_a_module():
    assert {module.split(".")[1] for module in read_imports() if module != "edgefel"} == set(LAYERS)


def test_imports_point_down():
    assert upward(read_imports()) == []


def test_no_files_import_each_other_in_a_circle():
    assert circles(read_imports()) == []


def test_no_packages_import_each_other_in_a_circle():
    """In every package, the files and packages directly inside it form no circle, each package taken as a whole."""
    imports = read_imports()
    packages = {
        module.rsplit(".", depth)[0] for module in imports for depth in range(1, module.count(".") + 1)
    }
    for package in sorted(packages):
        inside: Imports = {}
        for module, others in imports.items():
            if child := child_of(package, module):
                children = {child_of(package, other) for other in others}
                inside.setdefault(child, set()).update(children - {None, child})
        assert circles(inside) == [], package


def child_of(package: str, module: str) -> str | None:
    """The file or package directly inside `package` that holds `module`."""
    if not module.startswith(package + "."):
        return None
    return package + "." + module.removeprefix(package + ".").split(".")[0]


@pytest.mark.parametrize(
    ("module", "other"),
    [
        ("edgefel.data.labels", "edgefel.runtime.session"),
        ("edgefel.evaluation.metrics", "edgefel.training.losses"),
        ("edgefel.calib.quantize", "edgefel.export.bundle"),
        ("edgefel.files.read", "edgefel.data.labels"),
        ("edgefel.runtime.session", "edgefel.cli.main"),
    ],
)
def test_one_wrong_import_is_found(module, other):
    imports = read_imports()
    imports[module].add(other)
    assert len(upward(imports)) == 1
    assert other in upward(imports)[0]


def test_a_circle_of_files_is_found():
    imports = read_imports()
    before = circles(imports)
    lower, higher = "edgefel.data.labels", "edgefel.data.dataset"
    assert lower in imports[higher]
    imports[lower].add(higher)
    assert [circle for circle in circles(imports) if circle not in before and {lower, higher} <= set(circle)]


def test_imports_are_read_however_they_are_written():
    modules = {"edgefel.a", "edgefel.a.b", "edgefel.c"}
    source = "import edgefel.c\nfrom edgefel.a import b\ndef f():\n    from edgefel.a.b import x\n"
    assert imported_modules(ast.parse(source), modules) == {"edgefel.c", "edgefel.a.b"}
