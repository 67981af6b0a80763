"""Random JSON in random places of a file, for tests that fuzz the readers of the file.

``MTBERT_FUZZ=10000 pytest tests/test_fuzz_models.py`` tries more examples.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foreign import one_line
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

fuzzed = settings(
    max_examples=int(os.environ.get("MTBERT_FUZZ", "100")),
    deadline=None,
    derandomize="MTBERT_FUZZ" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)

ODD = [
    0,
    1,
    2,
    -1,
    24,
    2**31,
    2**63,
    2**64,
    10**400,
    0.0,
    -0.0,
    1e18,
    1e30,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "\0",
]
ODD += [
    "\n",
    "..",
    "/",
    "a.b",
    "bert",
    "distilbert",
    "\ud800",
    "\x1b[2J",
    "gelu",
    True,
    False,
    None,
    [],
    {},
    [[]],
    "A" * 3000,
]
VALUES = st.recursive(
    st.sampled_from(ODD) | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the paths of all values in a JSON value. The first path is empty: that of the JSON value itself."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


def put(value: Any, place: tuple[Any, ...], change: Callable[[Any, Any], None] | None, new: Any) -> Any:
    """Returns a copy of ``value`` whose item at ``place`` is changed by ``change``, or removed if that is None."""
    if not place:
        return new
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    if change is None:
        del inner[place[-1]]
    else:
        change(inner, place[-1])
    return copy


@st.composite
def mutated(draw: st.DrawFn, original: Any, keys: tuple[str, ...] = ()) -> Any:
    """Draws ``original`` with one to three values replaced, removed or repeated; some of ``keys`` may be added."""
    value = original
    for _ in range(draw(st.integers(1, 3))):
        if keys and isinstance(value, dict) and draw(st.booleans()):
            value = value | {draw(st.sampled_from(keys)): draw(VALUES)}
            continue
        found = places(value)
        place = draw(st.sampled_from(found[1:] or found))
        kind = draw(st.sampled_from(["replace", "remove", "borrow", "repeat"]))
        new = draw(VALUES)
        if kind == "borrow":  # a value from elsewhere in the file
            new = value
            for key in draw(st.sampled_from(found)):
                new = new[key]
        if kind == "remove" and place:
            value = put(value, place, None, None)
        elif kind == "repeat":
            times = draw(st.integers(2, 50))

            def more(inner: Any, key: Any, times: int = times) -> None:
                inner[key] = inner[key] * times if isinstance(inner[key], list | str) else [inner[key]] * times

            value = put(value, place, more, [value] * 2)
        else:

            def other(inner: Any, key: Any, new: Any = new) -> None:
                inner[key] = new

            value = put(value, place, other, new)
    return value


def outcome(folder: Path, names: tuple[str, ...], use: Callable[[], object]) -> None:
    """Checks that ``use`` either works or raises an error of one line that names one of the files ``names``."""
    try:
        use()
    except (ValueError, FileNotFoundError) as error:
        one_line(error)
        assert any(str(folder / name) in str(error) for name in names), error  # noqa: PT017
