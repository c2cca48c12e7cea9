"""The shape of the project: imports go one way, packages are declared, modules say what they offer."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "tcja_deploy": ROOT / "tcja_deploy",
    "tcja_deploy.exporters": ROOT / "exporters",
    "tcja_deploy.energy": ROOT / "energy",
    "tcja_deploy.hardware_profiles": ROOT / "hardware_profiles",
}
SHIPPED_SCRIPTS = ROOT / "exporters" / "lava" / "runner"
"""Copied into bundles and run in Lava's environment: no part of the package."""


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the package with its file."""
    for package, folder in FOLDERS.items():
        for file in sorted(folder.rglob("*.py")):
            if SHIPPED_SCRIPTS not in file.parents:
                parts = file.relative_to(folder).with_suffix("").parts
                yield ".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts))), file


MODULES = dict(modules())


def imports(name: str, tree: ast.AST) -> Iterator[str]:
    """Full names that a module imports anywhere, `package.name` for `from package import name`."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def part(module: str) -> str:
    """The folder or file directly under `tcja_deploy` that a name belongs to."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "tcja_deploy"


# -- imports go one way ----------------------------------------------------------------------------------------------------
BASE = {"errors", "ir", "unsupported"}
ALLOWED: dict[str, set[str]] = {
    "text": set(),
    "errors": {"text"},
    "reading": {"errors", "files"},
    "unsupported": {"errors"},
    "files": {"errors"},
    "artifacts": {"errors", "exporters", "files"},
    "ir": {"errors", "unsupported"},
    "ir_file": BASE | {"files", "reading", "torch_file"},
    "nir_file": BASE | {"files", "reading"},
    "torch_file": {"errors", "reading"},
    "passes": BASE,
    "runtime": BASE | {"files", "passes", "reading", "torch_file"},
    "zoo": BASE,
    "events": {"errors", "files", "reading", "torch_file"},
    "data": {"errors", "files", "reading"},
    "frontend": BASE | {"files", "ir_file", "nir_file", "torch_file", "passes", "reading", "runtime"},
    "exporters": BASE | {"files", "ir_file", "nir_file", "passes", "reading", "runtime"},
    "hardware_profiles": {"errors"},
    "meters": {"errors"},
    "schemas": set(),
    "energy": BASE | {"files", "passes", "reading", "runtime", "hardware_profiles"},
}
"""What each part may import besides itself, the standard library and third-party packages."""

EVERYONES = {"errors", "text", "version"}
"""Anyone may import them."""

TIES = {"tcja_deploy", "__main__", "api", "cli", "library", "streaming"}
"""They tie the parts together and may import all of them."""

KNOWN: dict[tuple[str, str], str] = {
    ("frontend", "zoo"): "checkpoints in the authors' layout are the zoo's networks",
}
"""Exceptions, and why. One that is no longer needed has to go."""


def crossings() -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for name, file in MODULES.items():
        for target in imports(name, parsed(file)):
            if target.startswith("tcja_deploy.") and part(target) != part(name):
                found.setdefault((part(name), part(target)), set()).add(name)
    return found


def test_imports_go_one_way() -> None:
    found = crossings()
    assert {a for a, _ in found} - TIES <= set(ALLOWED), "a new part needs a place in ALLOWED"
    against = {
        (a, b): who for (a, b), who in found.items() if a not in TIES and b not in ALLOWED[a] | EVERYONES
    }
    assert set(against) == set(KNOWN), against


def test_the_rules_themselves_have_no_cycle() -> None:
    order: list[str] = []
    while len(order) < len(ALLOWED):
        free = [p for p in ALLOWED if p not in order and ALLOWED[p] <= set(order)]
        assert free, f"a cycle among {set(ALLOWED) - set(order)}"
        order += free
    assert "exporters" not in ALLOWED["energy"]
    assert "energy" not in ALLOWED["exporters"]


def arrows() -> dict[str, set[str]]:
    """For each module the modules of the package that it imports: at its top, inside functions, or for types alone."""
    found: dict[str, set[str]] = {}
    for name, file in MODULES.items():
        found[name] = set()
        for target in imports(name, parsed(file)):
            while target and target not in MODULES:
                target = target.rpartition(".")[0]
            found[name] |= {target} - {"", name}
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules of which each leads back to itself through the others."""
    left = dict(graph)
    while ends := {name for name, targets in left.items() if not targets & left.keys()}:
        left = {name: targets for name, targets in left.items() if name not in ends}
    found = []
    for name in left:
        reached, open_names = set[str](), [name]
        while open_names:
            for target in left[open_names.pop()] & left.keys() - reached:
                reached.add(target)
                open_names.append(target)
        if name in reached:
            found.append((name, reached))
    groups = {frozenset(b for b, back in found if b in ahead and a in back) for a, ahead in found}
    return sorted(sorted(group) for group in groups)


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"a"}}) == [["a"]]
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": {"d"}, "f": {"a"}, "g": set()}
    assert circles(graph) == [["a", "b", "c"], ["d", "e"]]


def test_no_module_leads_back_to_itself() -> None:
    """Lazy imports included: two files that need each other are one file, or want a third."""
    assert circles(arrows()) == []


def test_the_folders_of_a_part_lead_one_way() -> None:
    """Such as energy's count, place, price and report, or the runtime's stream and its integers."""
    folders: dict[str, set[str]] = {}
    for name, targets in arrows().items():
        if (own := folder(name)) is not None:
            reached = {place for target in targets if (place := folder(target)) not in (None, own)}
            folders[own] = folders.get(own, set()) | {place for place in reached if place is not None}
    assert {"tcja_deploy.energy.price", "tcja_deploy.runtime.stream"} <= set(folders)
    assert circles(folders) == []


def folder(module: str) -> str | None:
    """The sub-folder of a part that a module lies in; `None` for files of the part itself."""
    home = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    names = home.split(".")
    return ".".join(names[:3]) if len(names) > 2 else None


def test_the_ir_knows_no_framework() -> None:
    for name, file in MODULES.items():
        if part(name) == "ir":
            for target in imports(name, parsed(file)):
                top = target.partition(".")[0]
                assert top in ("numpy", "tcja_deploy") or top in sys.stdlib_module_names, (
                    f"{name} imports {target}"
                )


def loaded(statement: str) -> set[str]:
    """Top-level modules in memory after a statement, in a fresh interpreter."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    return set(done.stdout.split())


def test_importing_the_package_is_light() -> None:
    heavy = {
        "torch",
        "numpy",
        "onnx",
        "onnxruntime",
        "pandas",
        "matplotlib",
        "spikingjelly",
        "h5py",
        "safetensors",
        "rich",
        "typer",
    }
    assert not heavy & loaded("import tcja_deploy")
    assert not (heavy - {"rich", "typer"}) & loaded("import tcja_deploy.cli")


def test_the_ir_runs_without_any_framework() -> None:
    before = loaded("import numpy")
    after = loaded("import tcja_deploy.ir, tcja_deploy.ir.ops")
    # What an editable install hooks into the interpreter is there before.
    assert after - before - {"tcja_deploy"} <= set(sys.stdlib_module_names)


# -- packages --------------------------------------------------------------------------------------------------------------
def test_the_list_of_packages_is_the_tree() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    tree = {name: file.parent for name, file in MODULES.items() if file.name == "__init__.py"}
    assert sorted(settings["packages"]) == sorted(tree)
    for name, folder in settings["package-dir"].items():
        assert tree[name] == ROOT / folder
    outside = {name for name in tree if part(name) in ("exporters", "energy", "hardware_profiles")}
    assert outside <= set(settings["package-dir"])


def test_every_folder_of_code_is_a_package() -> None:
    for folder in {file.parent for file in MODULES.values()}:
        assert (folder / "__init__.py").is_file(), folder


# -- modules ---------------------------------------------------------------------------------------------------------------
PUBLIC = sorted(n for n in MODULES if not any(p.startswith("_") for p in n.split(".")))


def exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(ast.unparse(t) == "__all__" for t in node.targets):
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def bound(body: list[ast.stmt]) -> set[str]:
    """Names that statements bind, in their branches too."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.If):
            names |= bound(node.body) | bound(node.orelse)
        else:
            names |= {
                n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
    return names


@pytest.mark.parametrize("name", PUBLIC)
def test_modules_say_what_they_offer(name: str) -> None:
    tree = parsed(MODULES[name])
    names = exported(tree)
    assert ast.get_docstring(tree), "no docstring"
    there = bound(tree.body)
    if names is None:
        assert {n for n in there if n[0] != "_"} <= {"annotations"}, "no __all__"
        return
    assert len(set(names)) == len(names), "a name stands twice in __all__"
    assert set(names) <= there, f"__all__ names what is not there: {set(names) - there}"


def test_a_name_has_one_meaning() -> None:
    """Public classes and type aliases: an alias that is written twice says the same both times.

    Private classes stay in their file, and Lava's runner imports nothing of the package: both may repeat a name.
    """
    meanings: dict[str, dict[str, str]] = {}
    for name, file in MODULES.items():
        tree = parsed(file)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name[0] != "_":
                meanings.setdefault(node.name, {})[f"class of {name}"] = name
        for node in tree.body:
            target = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
            if isinstance(node, ast.Assign) and re.fullmatch(r"[A-Z]+[a-z]\w*", target):
                meanings.setdefault(target, {})[ast.unparse(node.value)] = name
    assert {name: where for name, where in meanings.items() if len(where) > 1} == {}


OWN = [
    f
    for d in (*FOLDERS.values(), ROOT / "training", ROOT / "benchmarks", ROOT / "examples")
    for f in sorted(d.rglob("*.py"))
]


def test_no_assert_outside_tests() -> None:
    """Assertions vanish under `python -O`, and their tracebacks help no user."""
    found = [
        f"{f.relative_to(ROOT)}:{n.lineno}"
        for f in OWN
        for n in ast.walk(parsed(f))
        if isinstance(n, ast.Assert)
    ]
    assert found == []


def test_files_are_short() -> None:
    """A file with one reason to exist stays under 400 lines."""
    lengths = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in OWN}
    assert {name: n for name, n in lengths.items() if n >= 400} == {}


PARENTHESISED = re.compile(r"(?<![\w=.\]])\((?:\.\.\.|[TNC])(?:, (?:\.\.\.|[TNCHWK]|n))+\)")
"""An array's shape in the notation of tuples."""


def test_shapes_have_one_notation() -> None:
    """`[T, N, C, H, W]` in docstrings, attributes' texts and messages."""
    found = [
        f"{f.relative_to(ROOT)}:{node.lineno} {match[0]}"
        for f in OWN
        for node in ast.walk(parsed(f))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for match in PARENTHESISED.finditer(node.value)
    ]
    assert found == []
    assert PARENTHESISED.search("frames (" + "T, N, C, H, W)")
