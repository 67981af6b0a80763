"""The command ``mtbert export``: what it refuses, what it prints, and that a folder appears whole or not at all."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import toy_exports
from commands import Mtbert
from full_disk import files_of_at_most

from mtbert import export, load, scoring
from mtbert.batch import Dataset
from mtbert.locks import alone
from mtbert.model.model import Model
from mtbert.task import Task
from mtbert.use.export import Answering, OptionName, Wanted
from mtbert.use.export.check import answer_tensors
from mtbert.use.export.known import EXPORTERS

CTRL_C = "stopped. What was finished is kept, and nothing is half written. Go on with the same command."


@dataclass(frozen=True)
class Copying:
    """A format that holds a copy of the weights, and answers with the model itself, so that exporting takes no time."""

    name: str = "copy"
    packages: tuple[str, ...] = ("json",)
    install: str = "mtbert[copy]"
    options: frozenset[OptionName] = frozenset()
    wrong: float = 0.0  # is added to all answers; with int8, the share of another row in each prediction
    during: Callable[[Path], None] = lambda folder: None  # is called after a part of the folder has been written

    def refusal(self, model: Model, task: Task) -> str | None:
        return "no copy of ordered classes is known. Use --to onnx." if task.name == "sst" else None

    def lost(self, model: Model, task: Task) -> tuple[str, ...]:
        return ("a score may leave its range",) if task.range else ()

    def facts(self, wanted: Wanted) -> Mapping[str, Mapping[str, object]]:
        graph = "all" if "together" in wanted.options else None
        return {name: {"weights": "weights.bin", "graph": graph or name} for name in wanted.tasks}

    def usage(self, wanted: Wanted) -> str:
        return "## Use\n\nRead it."

    def write(self, wanted: Wanted, folder: Path) -> Mapping[str, Answering]:
        (folder / "part").mkdir()
        (folder / "part/weights.bin").write_bytes(bytes(20_000))
        self.during(folder)

        def answer(data: Dataset) -> dict[str, torch.Tensor]:
            model = wanted.predictor.model
            raw = scoring.predict_examples(model, data)
            if "int8" in wanted.options:
                raw = raw * (1 - self.wrong) + raw.flip(0) * self.wrong
                follow = answer_tensors(data.task, raw, model.fitted(data.task.name), clamped=True)
                return follow | {"prediction": raw}
            found = answer_tensors(data.task, raw, model.fitted(data.task.name), clamped=False)
            return {name: x + self.wrong if x.is_floating_point() else x for name, x in found.items()}

        return dict.fromkeys(wanted.tasks, answer)


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a format called ``copy`` known; arguments are those of :class:`Copying`."""

    def register(**changes: object) -> None:
        monkeypatch.setitem(EXPORTERS, "copy", Copying(**changes))  # type: ignore[arg-type]

    register()
    return register


def entries(folder: Path) -> list[str]:
    """Returns the names of everything in a folder, hidden files included."""
    return sorted(os.listdir(folder))


def test_a_folder_says_for_people_and_programs_what_it_holds(toy: Path, tmp_path: Path, mtbert: Mtbert, copying):
    out = tmp_path / "out"
    done = mtbert("export", toy / "run", "--to", "copy", "--out", out)
    assert done.out.splitlines()[-1] == f"done: the export is in {out}; its README.md says how to use it"
    assert done.code == 0, done
    assert "warning: sst is left out: no copy of ordered classes is known. Use --to onnx." in done.err
    assert "quora: 6 answers compared, largest difference 0.0e+00" in done.out
    assert entries(tmp_path) == ["out"]
    assert entries(out) == ["README.md", "export.json", "part"]
    about = json.loads((out / "export.json").read_text())
    assert (about["format"], about["to"], about["step"], about["max_length"]) == (1, "copy", 2, 24)
    assert list(about["tasks"]) == ["quora", "sts"]
    sts = about["tasks"]["sts"]
    assert (sts["type"], sts["inputs"], sts["texts"], sts["range"]) == ("regression", "packed", 2, [0.0, 5.0])
    assert (sts["weights"], sts["lost"]) == ("weights.bin", ["a score may leave its range"])
    assert sts["compared"] == {"answers": 44, "largest_difference": 0.0}
    card = (out / "README.md").read_text()
    assert "| `sts` | regression, packed: 0 to 5 | 44 answers | 0.0e+00 |" in card
    assert "- `sts`: a score may leave its range" in card
    assert card.endswith("## Use\n\nRead it.\n")


def test_python_gets_what_the_command_prints(toy: Path, tmp_path: Path, copying, capsys):
    found = export(toy / "run", "copy", tmp_path / "out", ["sts"])
    assert (found.path, found.files) == (tmp_path / "out", ("README.md", "export.json", "part/weights.bin"))
    assert (found.largest, found.compared["sts"].answers, found.left_out) == (0.0, 44, {})
    assert found.notes == {"sts": ("a score may leave its range",)}
    assert repr(found) == f"{tmp_path / 'out'}: sts, largest difference 0.0e+00"
    assert capsys.readouterr().out == ""
    again = export(load(toy / "run"), to="copy", out=tmp_path / "again", tasks=["sts"])
    assert again.compared == found.compared


def test_answers_to_the_rows_of_a_file_are_compared_instead(toy: Path, tmp_path: Path, mtbert: Mtbert, copying):
    file = tmp_path / "rows.csv"
    file.write_text("id,sentence1,sentence2\n1,a dog,the cat\n2,a film,the plot\n")
    done = mtbert("export", toy / "run", "--to", "copy", "--task", "sts", "--out", tmp_path / "out", "--input", file)
    assert done.code == 0, done
    assert "sts: 2 answers compared" in done.out
    file.write_text("one,two\na dog,the cat\n")
    done = mtbert("export", toy / "run", "--to", "copy", "--task", "sts", "--out", tmp_path / "new", "--input", file)
    assert done.mistake.endswith("Task sts reads it. Rename the column in the file.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "cpy"], "--to 'cpy': no such format. Did you mean 'copy'? There are "),
        (["--to", "copy", "--task", "quoraa"], "task quoraa: this model has no such task. Use sst or quora or sts."),
        (["--to", "copy", "--task", "sst"], "task sst, --to copy: no copy of ordered classes is known. Use --to onnx."),
        (["--to", "copy", "--int8"], "--int8: is not for --to copy. Use --to onnx, or drop --int8."),
        (["--to", "copy", "--together"], "--together: is not for --to copy. Use --to onnx, or drop --together."),
        (["--to", "copy", "--task", "sts", "--input", "no.csv"], "no.csv: there is no such file. Check the path."),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    arguments: list[str], message: str, toy: Path, tmp_path: Path, mtbert: Mtbert, copying
):
    done = mtbert("export", toy / "run", "--out", tmp_path / "out", *arguments)
    assert message in done.mistake
    assert entries(tmp_path) == []


def test_a_missing_package_is_named_with_the_extra_that_has_it(toy: Path, tmp_path: Path, mtbert: Mtbert, copying):
    copying(packages=("json", "no_such_package"))
    done = mtbert("export", toy / "run", "--to", "copy", "--out", tmp_path / "out")
    assert (
        done.mistake
        == '--to copy: no_such_package not installed. Run: pip install "mtbert[copy]" (mtbert docs install)'
    )


def test_an_existing_folder_is_replaced_only_if_it_is_an_export_and_the_user_says_so(
    toy: Path, tmp_path: Path, mtbert: Mtbert, copying
):
    out = tmp_path / "out"
    copying(options=frozenset(["together"]))
    command = ("export", toy / "run", "--to", "copy", "--task", "sts", "--out", out)
    assert mtbert(*command).out.endswith("its README.md says how to use it\n")
    assert "exists. Give another folder, or replace it (--overwrite)." in mtbert(*command).mistake
    (out / "mine.txt").write_text("older")
    done = mtbert(*command, "--task", "quora", "--overwrite").out
    assert done.startswith(  # before the work, which may take long
        "sts, quora: a graph each, with the whole encoder in each. With --together, tasks that take the same inputs "
        "share a graph, and one pass.\n"
    )
    assert mtbert(*command, "--task", "quora", "--overwrite", "--together").out.startswith("sts: ")
    assert entries(out) == ["README.md", "export.json", "part"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    for more in ([], ["--overwrite"]):
        done = mtbert("export", toy / "run", "--to", "copy", "--task", "sts", "--out", other, *more)
        assert done.mistake == f"{other}: exists, and is no export. Give another folder."
        assert entries(other) == ["mine.txt"]


def test_a_run_is_never_overwritten_by_its_own_export(mtbert: Mtbert, run_copy: Path, copying):
    before = {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()}
    for out in (run_copy, run_copy / "best"):
        done = mtbert("export", run_copy, "--to", "copy", "--task", "sts", "--out", out, "--overwrite")
        assert done.mistake == f"{out}: exists, and is no export. Give another folder."
    assert {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()} == before


def test_answers_that_differ_are_told_and_leave_nothing(toy: Path, tmp_path: Path, mtbert: Mtbert, copying):
    copying(wrong=0.01)
    done = mtbert("export", toy / "run", "--to", "copy", "--task", "sts", "--out", tmp_path / "out")
    assert done.code == 1
    assert "task sts, id 't" in done.err
    assert "They differ by 2.0e-03, at most 0.0001 is allowed" in done.err
    assert entries(tmp_path) == []


def test_an_export_that_fails_keeps_the_one_before(toy: Path, tmp_path: Path, mtbert: Mtbert, copying):
    out = tmp_path / "out"
    copying(options=frozenset(["together"]))
    command = ("export", toy / "run", "--to", "copy", "--task", "sts", "--out", out)
    assert mtbert(*command).out.endswith("its README.md says how to use it\n")
    before = (out / "export.json").read_bytes()
    copying(wrong=0.01)
    assert mtbert(*command, "--overwrite").code == 1
    assert (out / "export.json").read_bytes() == before
    assert (entries(tmp_path), entries(out)) == (["out"], ["README.md", "export.json", "part"])


def test_int8_prints_both_scores_and_fails_if_too_much_is_lost(toy: Path, tmp_path: Path, mtbert: Mtbert, copying):
    command = ("export", toy / "run", "--to", "copy", "--task", "sts", "--out", tmp_path / "out", "--int8")
    rows = tmp_path / "rows.csv"
    texts = ["a dog", "the cat", "a film", "the plot"]
    scores = our_scores(toy, texts)
    rows.write_text(
        "id,sentence1,sentence2,similarity\n"
        + "".join(f"{i},{t},why,{y}\n" for i, (t, y) in enumerate(zip(texts, scores, strict=True)))
    )
    copying(options=frozenset(("int8",)), wrong=1.0)  # the answers in the opposite order
    done = mtbert(*command, "--input", rows)
    assert done.code == 1
    assert re.search(
        r"task sts: int8 loses [\d.]+ of pearson, which falls from 1.0000 to -?[\d.]+ on 4 rows; at most 0.005 ",
        done.err,
    )
    assert entries(tmp_path) == ["rows.csv"]
    done = mtbert(*command, "--input", rows, "--tolerance", "1")
    assert done.code == 1  # a loss of more than 1
    copying(options=frozenset(("int8",)), wrong=0.0)
    done = mtbert(*command, "--input", rows)
    assert done.code == 0, done
    assert "sts: 4 answers compared, largest difference 0.0e+00, pearson 1.0000 becomes 1.0000" in done.out
    card = (tmp_path / "out/README.md").read_text()
    assert "- `sts`, int8: 4 answers compared, largest difference 0.0e+00, pearson 1.0000 becomes 1.0000\n" in card
    compared = json.loads((tmp_path / "out/export.json").read_text())["tasks"]["sts"]["compared"]
    assert (compared["metric"], compared["dev"], compared["dev_of_export"]) == (
        "pearson",
        pytest.approx(1.0),
        pytest.approx(1.0),
    )


def our_scores(toy: Path, texts: list[str]) -> list[float]:
    """Returns our answers of sts to pairs of each text and "why"."""
    predictor = load(toy / "run")
    predictor.model.compute = torch.float32
    return [float(answer["score"]) for answer in predictor.predict("sts", [(text, "why") for text in texts])]


def test_a_full_disk_is_one_line_and_leaves_nothing(toy: Path, tmp_path: Path, mtbert: Mtbert, copying):
    with files_of_at_most(5_000):
        done = mtbert("export", toy / "run", "--to", "copy", "--task", "sts", "--out", tmp_path / "out")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert f"mtbert: {tmp_path / 'out'}: File too large. Make room, and go on." in done.err
    assert entries(tmp_path) == []


def test_two_exports_into_one_folder_do_not_meet(toy: Path, tmp_path: Path, mtbert: Mtbert, copying):
    out = tmp_path / "out"
    with alone(out, "export"):
        done = mtbert("export", toy / "run", "--to", "copy", "--task", "sts", "--out", out)
    assert done.mistake == f"{out}: another mtbert export is at work there. Wait for it, or give another folder."


def test_a_run_without_a_best_model_exports_its_newest_with_a_warning(
    run_copy: Path, tmp_path: Path, mtbert: Mtbert, copying
):
    shutil.rmtree(run_copy / "best")
    done = mtbert("export", run_copy, "--to", "copy", "--task", "sts", "--out", tmp_path / "out")
    assert done.code == 0, done
    assert "the run stopped before its first evaluation, so its newest model answers" in done.err


def test_a_folder_without_a_model_or_a_recipe_is_refused(run_copy: Path, tmp_path: Path, mtbert: Mtbert, copying):
    done = mtbert("export", tmp_path / "nothing", "--to", "copy", "--out", tmp_path / "out")
    assert "no trained model here" in done.mistake
    alone_model = shutil.copytree(run_copy / "best", tmp_path / "model")
    done = mtbert("export", alone_model, "--to", "copy", "--out", tmp_path / "out")
    assert "no recipe.yaml here or one folder up" in done.mistake
    with pytest.raises(ValueError, match="a model in memory has no dev rows"):
        export(toy_exports.predictor("bert", ["classes"]), "copy", tmp_path / "out")


STOPPED = """
import sys, time
from pathlib import Path
from test_export_command import Copying
from mtbert.use.export.known import EXPORTERS
from mtbert import cli

def wait(folder):
    print("waiting", flush=True)
    time.sleep(60)

EXPORTERS["copy"] = Copying(during=wait)
sys.argv = ["mtbert", *sys.argv[1:]]
cli.main()
"""


@pytest.fixture
def stopped_export(toy: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """An export in a process of its own that has written a part of its folder, and waits."""
    arguments = ["export", toy / "run", "--to", "copy", "--task", "sts", "--out", tmp_path / "out"]
    environment = os.environ | {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{Path(__file__).parent}"}
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    yield process
    process.kill()
    process.communicate()


def test_control_c_leaves_nothing(stopped_export: subprocess.Popen[str], tmp_path: Path):
    assert entries(tmp_path) == [".out.new", "out"]
    stopped_export.send_signal(signal.SIGINT)
    _, said = stopped_export.communicate(timeout=30)
    assert (stopped_export.returncode, said) == (130, f"mtbert: {CTRL_C}\n")
    assert entries(tmp_path) == []


def test_what_a_killed_export_left_is_removed_by_the_next(
    stopped_export: subprocess.Popen[str], toy: Path, tmp_path: Path, mtbert: Mtbert, copying
):
    stopped_export.kill()
    stopped_export.wait()
    time.sleep(0.01)
    assert ".out.new" in entries(tmp_path)
    assert mtbert("export", toy / "run", "--to", "copy", "--task", "sts", "--out", tmp_path / "out").code == 0
    assert entries(tmp_path) == ["out"]
    assert "lock" not in entries(tmp_path / "out")
