"""The page of the Python interface, generated from its signatures and docstrings."""

import inspect
import re
import textwrap
from functools import cached_property
from types import FunctionType
from typing import Any

import mtbert
from website.markdown import from_docstring

INTRODUCTION = """# Python

Everything that `import mtbert` offers. This page is generated from the docstrings; `help(mtbert.train)` prints the
same. [From Python](python.md) shows how the parts fit together.
"""
SECTION = re.compile(r"(Args|Returns|Raises|Attributes):")
LISTS = ("Args", "Raises", "Attributes")
WIDTH = 88  # of a signature on one line


def page() -> str:
    """Returns the page as Markdown."""
    text = [INTRODUCTION]
    for name in sorted(mtbert.__all__, key=lambda name: (name[0].isupper(), name.lower())):
        if name == "__version__":
            continue
        thing = getattr(mtbert, name)
        text.append(described(f"mtbert.{name}", thing, 2))
        if inspect.isclass(thing) and name != "Recipe":  # its fields are the page of recipe keys
            text += [described(f"{name}.{inner}", member, 3) for inner, member in _members(thing)]
    return "\n".join(text)


def described(name: str, thing: Any, rank: int) -> str:
    """Returns a heading, the signature and the docstring of a function, class, method or property."""
    warning = inspect.isclass(thing) and issubclass(thing, Warning)
    bare = isinstance(thing, property | cached_property) or warning or name == "mtbert.Recipe"
    shown = "" if bare else _signature(name, thing)
    return f"{'#' * rank} {name}\n\n{shown}{_sections(inspect.getdoc(thing) or '')}\n"


def _members(thing: type) -> list[tuple[str, Any]]:
    """Returns the documented public methods and properties of a class, and how it is called."""
    kinds = property | cached_property | FunctionType
    found = {name: one for name, one in vars(thing).items() if isinstance(one, kinds) and inspect.getdoc(one)}
    return [(name, one) for name, one in found.items() if name == "__call__" or not name.startswith("_")]


def _signature(name: str, thing: Any) -> str:
    """Returns the signature as a block of Python, each parameter on a line of its own if they do not fit on one."""
    signature = inspect.signature(thing)
    parameters = [one for one in signature.parameters.values() if one.name != "self"]
    result = "" if inspect.isclass(thing) else f" -> {_short(signature.return_annotation)}"
    parts: list[str] = []
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        parts.append(_short(str(one)))
    line = f"{name}({', '.join(parts)}){result}"
    if len(line) > WIDTH:
        line = "\n".join([f"{name}(", *[f"    {part}," for part in parts], f"){result}"])
    return f"```text\n{line}\n```\n\n"


def _short(annotation: Any) -> str:
    """Returns an annotation as text, without the modules of its names."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z])", "", text)


def _sections(docstring: str) -> str:
    """Returns a docstring as Markdown: section names in bold, arguments as lists, examples as blocks."""
    text, heading, body = [], "", list[str]()

    def end() -> None:
        content = textwrap.dedent("\n".join(body)).strip("\n")
        if heading:
            text.append(f"**{heading}**")
        text.append(_items(content) if heading in LISTS else from_docstring(content))
        body.clear()

    for block in re.split(r"(^>>> .*(?:\n(?!\n).*)*)", docstring, flags=re.MULTILINE):
        if block.startswith(">>>"):
            text.append(f"```pycon\n{block.replace('  # doctest: +SKIP', '').rstrip()}\n```")
            continue
        heading = ""
        for line in block.splitlines():
            if found := SECTION.fullmatch(line):
                end()
                heading = found.group(1)
            else:
                body.append(line)
        end()
    return "\n\n".join(part for part in text if part) + "\n"


def _items(content: str) -> str:
    """Returns ``name: meaning`` paragraphs, whose later lines are indented, as a list; other text as it is."""
    items = [textwrap.dedent(one) for one in re.split(r"\n(?=\S)", content)]
    pairs = [re.sub(r"\s+", " ", one).partition(": ") for one in items]
    return "\n".join(f"- `{name}`: {from_docstring(meaning)}" for name, _, meaning in pairs)
