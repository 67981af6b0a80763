"""Safe reading and writing of YAML 1.2, for recipes and studies: scalars, lists, and mappings whose keys are text.

PyYAML splits the text into events. This module builds values from the events under the core schema of YAML 1.2: ``no``
is a word, ``1e-5`` is a number, and ``010`` is ten. Limits on size, depth and the number of values ensure that no text
takes longer than a few seconds.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mtbert import files
from mtbert.messages import clean, reason, shown

LARGEST_YAML = 2**20  # bytes in a file
MOST_VALUES = 100_000  # in a file; every use of an alias counts the values that it stands for
DEEPEST_YAML = 50  # levels of nested lists and mappings
LONGEST_INTEGER = 40  # digits

# For each kind of unquoted scalar other than text: its pattern, and the characters that it can begin with.
_PLAIN: Mapping[str, tuple[re.Pattern[str], str]] = {
    name: (re.compile(pattern), first)
    for name, pattern, first in (
        ("null", r"~|null|", "~n\0"),
        ("bool", r"true|false", "tf"),
        ("int", r"[-+]?[0-9]+", "-+0123456789"),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
    )
}
_TAG = "tag:yaml.org,2002:"
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")  # how JSON escapes one character beyond the first 65,536
# Python represents the bytes of a file name that are not UTF-8 as surrogates from U+DC80 on. The other surrogates
# represent nothing.
_NO_CHARACTER = re.compile("[\0\ud800-\udc7f]")


def read_yaml(file: Path, what: str, key: str) -> dict[str, Any]:
    """Returns the mapping that a YAML file contains.

    Args:
        file: The path of a recipe or study.
        what: The kind of file, ``recipe`` or ``study``, for messages.
        key: A key of files of this kind, such as ``tasks``. If the file holds no mapping, the message shows this key as
            an example.

    Raises:
        ValueError: If the file cannot be read, is too large, or does not contain a YAML mapping in UTF-8. The message
            names the file and, if possible, the line.
    """
    where = f"{what} {clean(str(file))}"
    try:
        text = files.read_bytes(file, LARGEST_YAML).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 at byte {error.start}. Save the file as UTF-8.") from None
    except ValueError as error:
        raise ValueError(f"{what} {clean(str(error))} Name another file.") from None
    except OSError as error:
        raise ValueError(f"{where}: cannot be read ({error.strerror}). Name another file.") from None
    value = parse(text, where)
    if not isinstance(value, dict):
        found = "nothing" if value is None else "a list" if isinstance(value, list) else shown(value)
        raise ValueError(f"{where}: a {what} is a mapping with the key '{key}', found {found}.")
    return value


def parse(text: str, where: str) -> Any:
    """Returns the value that the YAML ``text`` describes.

    Args:
        text: One YAML document.
        where: The name of the text in messages, such as ``recipe base.yaml``.

    Raises:
        ValueError: If the text is not one valid YAML document. The message is one line, and gives the number of the
            line in ``text`` if it is known.
    """
    try:
        return _Reader(yaml.parse(text, Loader=yaml.SafeLoader)).document()
    except _Refused as error:
        raise ValueError(f"{where}, line {error.line}: not YAML: {error}. Mend the line.") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{where}{line}: not YAML: {clean(str(error.problem))}. Mend the line.") from None
    except (yaml.YAMLError, ValueError, OverflowError, AttributeError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{where}: not YAML: {reason(error)}.") from None


def dump(value: Any) -> str:
    """Returns ``value`` as YAML text. :func:`parse` and other YAML readers turn the text back into an equal value."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def inline(value: Any) -> str:
    """Returns ``value`` as one line of YAML, in a form that can follow a key and its colon.

    >>> inline(["no", "a: b", 1])
    "['no', 'a: b', 1]"
    """
    # A width that no line reaches; a text with line breaks gets double quotes, in which they are escaped.
    dumped = yaml.dump([value], Dumper=_InlineDumper, default_flow_style=True, allow_unicode=True, width=LARGEST_YAML)
    return str(dumped).strip()[1:-1]


class _Dumper(yaml.SafeDumper):
    """A YAML writer that quotes text if a YAML 1.1 or 1.2 reader would take it for a number, truth value or null."""


for _name, (_pattern, _first) in _PLAIN.items():
    _Dumper.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern.pattern})$"), list(_first))


class _InlineDumper(_Dumper):
    """A YAML writer that escapes line breaks and other characters that do not print."""


_InlineDumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar(_TAG + "str", text, None if text.isprintable() else '"')
)


class _Refused(Exception):
    def __init__(self, said: str, event: yaml.Event) -> None:
        super().__init__(said)
        self.line = event.start_mark.line + 1 if event.start_mark else 1


@dataclass
class _Anchor:
    value: Any
    values: int  # number of values inside, itself included
    done: bool  # False while the value is still being built


@dataclass
class _Reader:
    """Builds values from PyYAML's events. Refuses a text with too many or too deeply nested values."""

    events: Any
    left: int = MOST_VALUES
    depth: int = 0
    anchors: dict[str, _Anchor] = field(default_factory=dict)

    def document(self) -> Any:
        """Returns the value of the only document in the text, or None if the text is empty."""
        next(self.events)
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return None
        value = self.value(next(self.events))
        next(self.events)
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _Refused("a second document begins", after)
        return value

    def value(self, event: Any) -> Any:
        """Returns the value whose first YAML event is ``event``. Reads all further events of this value."""
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        self.count(1, event)
        before = self.left
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
            self.anchors |= {event.anchor: _Anchor(value, 1, True)} if event.anchor else {}
            return value
        is_list = isinstance(event, yaml.SequenceStartEvent)
        if event.tag not in (None, "!", _TAG + ("seq" if is_list else "map")):
            raise _unknown_tag(event)
        self.depth += 1
        if self.depth > DEEPEST_YAML:
            raise _Refused(f"more than {DEEPEST_YAML} lists and mappings inside each other", event)
        made: Any = [] if is_list else {}
        anchor = _Anchor(made, 0, False)
        self.anchors |= {event.anchor: anchor} if event.anchor else {}
        for first in iter(lambda: next(self.events), None):
            if isinstance(first, yaml.CollectionEndEvent):
                break
            if is_list:
                made.append(self.value(first))
                continue
            key = self.value(first)
            if not isinstance(key, str):
                given = shown(first.value) if isinstance(first, yaml.ScalarEvent) else f"that is a {type(key).__name__}"
                raise _Refused(f"the key {given} is not text; quote what looks like a number", first)
            if key in made:
                raise _Refused(f"key {shown(key)} occurs twice", first)
            made[key] = self.value(next(self.events))
        self.depth -= 1
        anchor.values, anchor.done = 1 + before - self.left, True
        return made

    def alias(self, event: Any) -> Any:
        """Returns the value that a YAML alias, such as ``*name``, stands for."""
        if event.anchor not in self.anchors:
            raise _Refused(f"there is no anchor {shown(event.anchor)}", event)
        anchor = self.anchors[event.anchor]
        if not anchor.done:
            raise _Refused(f"the value of the anchor {shown(event.anchor)} contains itself", event)
        self.count(anchor.values, event)
        return anchor.value

    def count(self, values: int, event: yaml.Event) -> None:
        """Adds ``values`` to the number of values read so far. Raises an error if there are too many now."""
        self.left -= values
        if self.left < 0:
            raise _Refused(f"more than {MOST_VALUES:,} values", event)


def _unknown_tag(event: Any) -> _Refused:
    return _Refused(f"the tag {shown(event.tag.replace(_TAG, '!!'))} is not supported", event)


def _scalar(event: Any) -> Any:
    """Returns the value of a YAML scalar: a text, a number, a truth value or None."""
    text = _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), event.value)
    if _NO_CHARACTER.search(text):
        raise _Refused(f"{shown(text)} contains something that is not a character", event)
    if event.tag in ("!", _TAG + "str") or (event.tag is None and not event.implicit[0]):
        return text
    fitting = [name for name, (pattern, _) in _PLAIN.items() if pattern.fullmatch(text)]
    if event.tag is not None:
        name = event.tag.removeprefix(_TAG)
        if name not in _PLAIN:
            raise _unknown_tag(event)
        if name not in fitting:
            raise _Refused(f"{shown(text)} is not a valid {name}", event)
        fitting = [name]
    if not fitting:
        return text
    if fitting[0] == "int":
        if len(text) > LONGEST_INTEGER:
            raise _Refused(f"a number of {len(text)} digits", event)
        return int(text)
    if fitting[0] == "float":
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    return text == "true" if fitting[0] == "bool" else None
