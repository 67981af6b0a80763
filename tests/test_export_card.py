"""The command ``export`` with stock libraries, and the files that every exported folder contains."""

import importlib.machinery
import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from commands import Mtbert
from torch import nn

import mtbert
from mtbert.model import download
from mtbert.model.download import Origin, origin
from mtbert.use.export import stock

MARK = re.compile(r"\d\.\de-\d\d")


def test_a_folder_says_what_it_is_how_to_use_it_and_what_it_lacks(toy: Path, mtbert: Mtbert, tmp_path: Path):
    done = mtbert("export", toy / "run", "--to", "transformers", "--out", tmp_path / "out")
    assert done.code == 0
    warned, *said = sorted((done.out + done.err).splitlines(), key=lambda line: not line.startswith("warning"))
    assert warned == (
        "warning: quora is left out: head 'mlp' is not that of BertForSequenceClassification. "
        "Use head: native, or --to sentence-transformers."
    )
    assert [MARK.sub("X", line) for line in said] == [
        "transformers: sst",
        "transformers: sts",
        "sst: 4 answers compared, largest difference X",
        "sts: 44 answers compared, largest difference X",
        f"done: the export is in {tmp_path}/out; its README.md says how to use it",
    ]
    assert (
        MARK.sub("X", (tmp_path / "out/README.md").read_text())
        == f"""\
# sst, sts

Exported by mtbert {version("mtbert")} in the format `transformers`. The encoder was fine-tuned from `encoder`; \
see there for its licence. `export.json` says for programs what this file says.

| task | answers | compared | largest difference |
|---|---|---|---|
| `sst` | ordinal, single: 0, 1, 2, 3, 4 | 4 answers | X |
| `sts` | regression, packed: 0 to 5 | 44 answers | X |

Not in this format:

- `sts`: Scores are not clamped: clamp them to 0 and 5.

## Use

`pip install transformers torch`. Replace `FOLDER` with the path of this folder. Give texts without white space at \
their ends, as `text.strip()`: with some tokenizers it would change the answer.

### sst

```python
from transformers import pipeline

ask = pipeline("text-classification", "FOLDER/sst", top_k=None, truncation=True)
print(ask("A text."))
```

### sts

```python
from transformers import pipeline

ask = pipeline("text-classification", "FOLDER/sts", top_k=None, truncation=True)
print(ask({{"text": "A text.", "text_pair": "Another text."}}))
```
"""
    )
    about = json.loads((tmp_path / "out/export.json").read_text())
    assert (about["to"], about["base"]) == ("transformers", {"name": "encoder", "licence": None})
    assert {name: task["folder"] for name, task in about["tasks"].items()} == {"sst": "sst", "sts": "sts"}
    assert about["tasks"]["sts"]["lost"] == ["Scores are not clamped: clamp them to 0 and 5."]
    assert str(tmp_path.parent) not in (tmp_path / "out/export.json").read_text()


CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("to", ["transformers", "sentence-transformers"])
def test_the_python_of_a_folder_runs_as_it_stands(to: str, toy: Path, tmp_path: Path, capsys):
    done = mtbert.export(toy / "run", to, tmp_path / "out", ["sst"])
    assert done.largest < 1e-5
    (code,) = CODE.findall((tmp_path / "out/README.md").read_text())
    exec(code.replace("FOLDER", str(tmp_path / "out")), {})
    predictor = mtbert.load(toy / "run")
    predictor.model.compute = torch.float32
    (answer,) = predictor.predict("sst", "A text.")
    printed = [float(number) for number in re.findall(r"\d\.\d+", capsys.readouterr().out)]
    expected = [p for key, p in answer.items() if key.startswith("p(")]
    assert sorted(printed) == pytest.approx(sorted(expected), abs=1e-4)


def test_a_named_task_that_a_format_does_not_hold_is_a_mistake(toy: Path, mtbert: Mtbert, tmp_path: Path):
    done = mtbert("export", toy / "run", "--to", "transformers", "--task", "quora", "--out", tmp_path / "out")
    assert done.mistake == (
        "task quora, --to transformers: head 'mlp' is not that of BertForSequenceClassification. "
        "Use head: native, or --to sentence-transformers."
    )
    assert not (tmp_path / "out").exists()


def test_tasks_whose_folders_a_file_system_takes_for_one_do_not_overwrite_each_other(tmp_path: Path):
    assert stock.subfolder(tmp_path, "") == tmp_path
    assert stock.subfolder(tmp_path, "a") == tmp_path / "a"
    with pytest.raises(FileExistsError, match=re.escape(f"{tmp_path}/a")):
        stock.subfolder(tmp_path, "a")


def test_an_export_whose_answers_differ_fails_with_both_numbers_and_writes_nothing(
    toy: Path, mtbert: Mtbert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    right = stock.affines

    def wrong(*arguments):
        *hidden, last = right(*arguments)
        return [*hidden, stock.Affine(last.weight_KF, nn.functional.pad(last.bias_K[1:], (1, 0), value=3.0), None)]

    monkeypatch.setattr("mtbert.use.export.sentence_transformers.affines", wrong)
    done = mtbert("export", toy / "run", "--to", "sentence-transformers", "--task", "sst", "--out", tmp_path / "out")
    assert done.code == 1
    assert re.search(
        r"task sst, id '\w+': the exported model answers probabilities 0\.8\d+, .*, ours 0\.\d+, ", done.err
    )
    assert list(tmp_path.iterdir()) == []


# Where the encoder comes from ---------------------------------------------------------------------------------------

CARD = "---\nlanguage: en\nlicense: mit\n---\n# A model\nlicense: other\n"


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        (CARD, "mit"),
        (CARD.replace("\n", "\r\n"), "mit"),
        ("# A model\nlicense: mit\n", None),
        ("---\nlicense: |\n  long\n---\n", None),
        ("---\nlicense: a b `c`\n---\n", None),
        ("", None),
        (None, None),
    ],
)
def test_the_licence_is_that_of_the_metadata_in_a_local_folder(text: str | None, licence: str | None, tmp_path: Path):
    (tmp_path / "base").mkdir()
    if text is not None:
        (tmp_path / "base/README.md").write_bytes(text.encode())
    assert origin(str(tmp_path / "base")) == Origin("base", licence)


def test_a_file_that_is_no_text_names_no_licence(tmp_path: Path):
    (tmp_path / "README.md").symlink_to("/dev/zero")
    assert origin(str(tmp_path)).licence is None


def test_the_licence_of_a_hub_model_is_that_of_the_fetched_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "README.md").write_text(CARD)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: str(tmp_path / file))
    assert origin("org/name") == Origin("org/name", "mit")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: None)
    assert origin("org/name") == Origin("org/name", None)
    assert origin("/gone/with/its folder") == Origin("its folder", None)


def test_demo_is_named_by_the_model_in_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/README.md").write_text(CARD)
    spec = importlib.machinery.ModuleSpec(download.DEMO_PACKAGE, None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(download.importlib.util, "find_spec", lambda name: spec)
    assert origin("demo") == Origin("sentence-transformers/all-MiniLM-L6-v2", "mit")
    monkeypatch.setattr(download.importlib.util, "find_spec", lambda name: None)
    assert origin("demo") == Origin("sentence-transformers/all-MiniLM-L6-v2", None)
