"""One word for one thing: no public name stands in two modules, and no module is renamed to make room for another."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src/mtbert"

# Everybody renames these. Every other module keeps its name when it is imported.
USUAL = {
    ("hypothesis", "strategies", "st"),
    ("matplotlib", "", "mpl"),
    ("numpy", "", "np"),
    ("numpy.typing", "", "npt"),
    ("pandas", "", "pd"),
    ("pyarrow", "", "pa"),
    ("pyarrow.compute", "", "pc"),
    ("pyarrow.parquet", "", "pq"),
    ("torch.nn.functional", "", "F"),
    ("xml.etree.ElementTree", "", "ET"),
}
SAME_MEANING = {
    "evaluate",  # the command and the function that it calls
    "main",  # what a program starts with
    *(
        "check",
        "export",
        "push",
        "review",
        "study",
        "train",
        "tune",
    ),  # a command, and the function of Python that does the same
}
# Folders with one file per kind of a thing: each file answers the same questions under the same names.
KINDS = ("src/mtbert/answers/", "src/mtbert/cli/", "src/mtbert/model/families/")


def public_names(module: ast.Module) -> Iterator[str]:
    """Yields the public names that a module defines at its top level."""
    for statement in module.body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found = [name]
            case ast.Assign(targets=targets):
                found = [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                found = [name]
            case _:
                found = []
        yield from (name for name in found if not name.startswith("_"))


def shared_names(modules: Mapping[str, ast.Module]) -> dict[str, list[str]]:
    """Returns the public names that several modules define, each with these modules; files of one kind count once."""
    where: dict[str, list[str]] = defaultdict(list)
    for file, module in modules.items():
        place = next((folder for folder in KINDS if file.startswith(folder)), file)
        for name in public_names(module):
            if place not in where[name]:
                where[name].append(place)
    return {name: places for name, places in where.items() if len(places) > 1}


def renamed_imports(module: ast.Module) -> set[tuple[str, str, str]]:
    """Returns every import under another name: the module, the name in the module, and the new name."""
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {(a.name, "", a.asname) for a in node.names if a.asname}
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "", a.name, a.asname) for a in node.names if a.asname not in (None, a.name)}
    return found


def parsed(*folders: Path) -> dict[str, ast.Module]:
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    return {str(file.relative_to(ROOT)): tree(file) for file in files}


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def test_no_public_name_stands_in_two_modules():
    shared = shared_names(parsed(SOURCES))
    assert {name: files for name, files in shared.items() if name not in SAME_MEANING} == {}
    assert SAME_MEANING - shared.keys() == set(), "these stand in one module now: take them off the list"


def test_nothing_is_renamed_at_import():
    modules = parsed(SOURCES, ROOT / "tests", ROOT / "benchmarks")
    found = {file: renamed_imports(module) - USUAL for file, module in modules.items()}
    assert {file: names for file, names in found.items() if names} == {}


DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def test_docstrings_begin_with_what_comes_back_or_what_a_thing_is():
    inverted = re.compile(r"(Of|That|Those|What|Whether of)\b")
    modules = parsed(SOURCES, ROOT / "tests", ROOT / "benchmarks")
    nodes = [(file, node) for file, module in modules.items() for node in ast.walk(module)]
    texts = [(file, ast.get_docstring(node) or "") for file, node in nodes if isinstance(node, DOCUMENTED)]
    assert [(file, text[:60]) for file, text in texts if inverted.match(text)] == []


def test_functions_classes_and_constants_count_as_names_and_private_ones_do_not():
    module = ast.parse(
        "A: int = 1\nb, (C, _d) = 1, (2, 3)\nclass E: f = 1\ndef g(): h = 1\ndef _i(): ...\nfrom j import k"
    )
    assert list(public_names(module)) == ["A", "b", "C", "E", "g"]
    assert shared_names({"one": module, "two": ast.parse("g = 1; g = 2")}) == {"g": ["one", "two"]}
    families = {f"{KINDS[2]}{name}.py": ast.parse("def layer(): ...") for name in ("bert", "electra")}
    assert shared_names(families) == {}
    assert shared_names(families | {"other": ast.parse("layer = 1")}) == {"layer": [KINDS[2], "other"]}


def test_an_import_is_renamed_if_its_new_name_is_another():
    text = "import a as b\nfrom c import d as e, f as f\ndef g():\n    import h.i as j"
    assert renamed_imports(ast.parse(text)) == {("a", "", "b"), ("c", "d", "e"), ("h.i", "", "j")}
