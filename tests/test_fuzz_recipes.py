"""Any content of a recipe or a --set gives a recipe, or one error whose lines name the place, in bounded time.

``MTBERT_FUZZ=100000 pytest tests/test_fuzz_recipes.py`` tries more.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mtbert import yaml_text
from mtbert.messages import clean
from mtbert.recipe.files import dump_recipe, load_recipe, shipped_recipes
from mtbert.recipe.schema import recipe_schema
from mtbert.recipe.settings import Recipe, as_plain, validate_recipe
from mtbert.settings import HUGGING_FACE
from mtbert.yaml_files import merge

MOST_SECONDS = 30.0  # on a busy machine; refusals take milliseconds, and the largest text 5 s
EXAMPLES = settings(
    max_examples=int(os.environ.get("MTBERT_FUZZ", "300")),
    deadline=None,
    derandomize="MTBERT_FUZZ" not in os.environ,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # no shrinking: failing examples are small enough to read
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

WHOLE: dict[str, Any] = merge(
    as_plain(load_recipe("paper/surgery")),
    {
        "model": {"pal": {"kind": "attention"}, "lora": {"rank": 8}, "freeze": 2},
        "train": {"calibrate": "isotonic", "ema": {"decay": 0.9}, "sampler": {"kind": "temperature", "temperature": 2}},
        "tables": {"more": {"train": "m.csv", "test": {"hub": "h", "split": "test"}, "columns": {"text": ["a", "b"]}}},
        "tasks": {
            "extra": {
                "type": "binary",
                "inputs": "packed",
                "table": "more",
                "columns": {"label": "spam", "weight": "w"},
            },
            "sets": {"type": "multilabel", "inputs": "packed", "table": "more", "label": ["x", "y"], "losses": ["asl"]},
            "soft": {
                "type": "ordinal",
                "inputs": "packed",
                "table": "more",
                "columns": {"votes": "v", "separator": ","},
            },
            "shares": {"type": "binary", "inputs": "packed", "table": "more", "columns": {"shares": ["no", "yes"]}},
            "tags": {"type": "tokens", "inputs": "single", "train": "t.conll", "splitter": "unicode-joined"},
            "ranks": {
                "type": "ranking",
                "inputs": "separate",
                "head": "cosine",
                "train": "r.csv",
                "columns": {"text": ["q", "a", "b"]},
            },
        },
        "tune": {"train.lr": {"low": 1e-5, "high": 1e-3, "log": True}, "model.pooling": ["cls", "mean"]},
    },
)
WORDS = sorted({word for part in recipe_schema()["$defs"].values() for word in part.get("properties", {})})
KINDS = ["ce", "bce", "oll", "mse", "smart", "mnrl", "cosine", "mlp", "pcgrad", "annealed", "balanced", "demo", "base"]
texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from([*WORDS, *KINDS, *HUGGING_FACE, "", "..", "/", "~", "null", "a" * 5000, "\x1b[2J\r\n"]),
    st.text(alphabet="\0\x07\x1b\x85\u2028\u202e\udcff\ud800\U0001f600'\"{}[]:#&*!|>%@`,- \t\n", max_size=12),
)
numbers = st.one_of(
    st.integers(-(10**45), 10**45),
    st.sampled_from([0, 1, -1, 2**31, 2**63, 2**64, 10**12, 10**40]),
    st.floats(),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Yields the path of every value inside ``value``."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [deeper for key, item in inside for deeper in paths(item, (*path, key))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Returns ``value`` with ``new`` at ``path``, whose last key may be a new one."""
    if not path:
        return new
    key, *rest = path
    inside = dict(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else {}
    old = inside[key] if isinstance(inside, list) or key in inside else None
    inside[key] = put(old, tuple(rest), new)
    return inside


def is_recipe_or_one_clear_error(act: Any, *names: str) -> None:
    begun = time.monotonic()
    try:
        made = act()
        assert isinstance(made, Recipe)
        assert validate_recipe(yaml_text.parse(dump_recipe(made), "r"), "r") == made
    except (ValueError, FileNotFoundError) as error:
        kind, said = type(error), str(error)
        assert kind in (ValueError, FileNotFoundError), (kind, said)
        assert len(said) < 20_000
        for line in said.split("\n"):
            assert line.startswith(names), line
            assert clean(line) == line, ascii(line)
            assert len(line) < 2_000, line
            assert line.endswith((".", "?")), line
    assert time.monotonic() - begun < MOST_SECONDS


@EXAMPLES
@given(data=st.data())
def test_any_value_at_any_place_of_a_recipe_is_read_or_refused(data: st.DataObject):
    raw = WHOLE
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(paths(raw)))
        place += (
            data.draw(st.just(()) | texts.map(lambda key: (key,)), label="a key more")
            if isinstance(at(raw, place), dict)
            else ()
        )
        raw = put(raw, place, data.draw(values))
    if isinstance(raw, dict):
        is_recipe_or_one_clear_error(lambda: validate_recipe(raw, "r"), "recipe r, ")


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@EXAMPLES
@given(
    base=st.sampled_from(shipped_recipes()),
    changes=st.lists(
        st.one_of(
            st.tuples(
                st.sampled_from([".".join(map(str, path)) for path in paths(WHOLE)[1:]]) | texts,
                values.map(yaml_text.dump) | texts,
            ).map("=".join),
            texts,
        ),
        max_size=3,
    ),
)
def test_any_change_on_the_command_line_is_read_or_refused(base: str, changes: list[str]):
    is_recipe_or_one_clear_error(lambda: load_recipe(base, changes), f"recipe {base}, ", "changes=[", "recipe ")


@EXAMPLES
@given(
    content=st.one_of(
        st.binary(max_size=300),
        texts.map(lambda text: text.encode("utf-8", "surrogatepass")),
        values.map(lambda value: yaml_text.dump(value).encode("utf-8", "surrogatepass")),
        st.lists(
            st.sampled_from(
                "tasks: |train: |a: |{|}|[|]|&x |*x|!!|!!binary |!!timestamp |!!merge <<: |- |? |\n|  |,|'|\"|\\"
                "|%YAML |---\n|...\n|extends: base\n|extends: mine.yaml\n|\x00|\x07|#|1|null|~|<<: |>\n|:|@|\t".split(
                    "|"
                )
            ),
            max_size=40,
        ).map(lambda parts: "".join(parts).encode()),
        st.tuples(
            st.sampled_from(["[", "{a: ", "- ", "? ", "a: &x [*x, ", "!!a ", "'", "%"]), st.integers(1, 20_000)
        ).map(lambda pair: (pair[0] * pair[1]).encode()),
    )
)
def test_any_bytes_as_a_recipe_are_read_or_refused(content: bytes, tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    is_recipe_or_one_clear_error(lambda: load_recipe(str(file)), "recipe ")


@pytest.mark.parametrize("unit", ["k%d: x\n", "[", "{", "- ", "a: [x]\n", "x, ", "'", "&a%d x\n", "? ", "!!str ", "\\"])
def test_a_text_of_the_largest_size_is_read_or_refused_in_time(unit: str):
    begun = time.process_time()
    text = "".join(unit % i if "%d" in unit else unit for i in range(yaml_text.LARGEST_YAML // len(unit)))
    with suppress(ValueError):
        yaml_text.parse(text, "r")
    assert time.process_time() - begun < MOST_SECONDS
