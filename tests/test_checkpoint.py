import contextlib
import json
import os
from pathlib import Path

import pytest
import torch
import toy_run
import transformers

from mtbert import files
from mtbert.data.tokenizer import load_tokenizer
from mtbert.model.model import Model
from mtbert.model.settings import Pal
from mtbert.model.weights import load_encoder
from mtbert.storage.model_folder import find_model_folder, load_model, save_model
from mtbert.task import Head, Task

TASKS = {
    "sst": Task(name="sst", type="ordinal", inputs="single", labels=("bad", "fair", "good")),
    "twins": Task(name="twins", type="binary", inputs="separate", head=Head(kind="cosine"), labels=("no", "yes")),
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_run.encoder_folder(tmp_path_factory.mktemp("toy") / "encoder")


def model(encoder: Path, seed: int = 3) -> Model:
    return Model(load_encoder(str(encoder)).encoder, TASKS, pooling="mean", max_length=20, seed=seed)


@pytest.fixture
def saved(encoder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    made = model(encoder)
    made.head("twins").threshold.fill_(0.25)
    files.write_folder(folder, lambda to: save_model(made, load_tokenizer(encoder), to))
    return folder


def test_a_saved_model_comes_back_whole(encoder: Path, saved: Path):
    found = load_model(saved)
    loaded, tokenizer = found.model, found.tokenizer
    assert (found.folder, found.step) == (saved, None)
    for name, tensor in model(encoder).state_dict().items():
        expected = torch.tensor(0.25) if name.endswith("threshold") else tensor
        assert torch.equal(loaded.state_dict()[name], expected), name
    assert loaded.tasks == TASKS
    assert (loaded.pooling, loaded.max_length) == ("mean", 20)
    assert tokenizer.encode("the dog").tokens == ["[CLS]", "the", "dog", "[SEP]"]


def test_plain_transformers_reads_the_encoder_of_a_saved_model(encoder: Path, saved: Path):
    theirs = transformers.AutoModel.from_pretrained(saved)
    assert torch.equal(
        theirs.embeddings.word_embeddings.weight, load_encoder(str(encoder)).encoder.word_embedding.weight
    )


def test_nothing_in_a_model_folder_can_be_executed(saved: Path):
    assert {path.suffix for path in saved.iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("name", ["heads.safetensors", "model.safetensors"])
def test_a_truncated_file_is_named(saved: Path, name: str):
    file = saved / name
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{name}.*") as error:
        load_model(saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "not JSON"),
        ("\xff", "mtbert.json"),
        ('{"format": 1}', "pooling"),
        ('{"format": 7, "pooling": "cls", "max_length": 9, "tasks": {}}', "format 7"),
    ],
)
def test_a_damaged_card_is_named(saved: Path, text: str, found: str):
    (saved / "mtbert.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=found):
        load_model(saved)


def test_a_head_of_another_shape_is_refused(saved: Path):
    card = json.loads((saved / "mtbert.json").read_text())
    card["tasks"]["sst"]["labels"] = ["bad", "good"]
    (saved / "mtbert.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"the head of task sst must have .*\[2, 16\].*found .*\[3, 16\]"):
        load_model(saved)


def test_a_card_without_the_adapters_that_were_saved_is_refused(encoder: Path, tmp_path: Path):
    adapted = Model(
        load_encoder(str(encoder)).encoder, TASKS, pooling="mean", max_length=20, seed=3, adapters=Pal(width=4, heads=2)
    )
    save_model(adapted, load_tokenizer(encoder), tmp_path)
    load_model(tmp_path)
    card = json.loads((tmp_path / "mtbert.json").read_text())
    for pal, said in (
        (None, r"mtbert\.json: no task reads the saved for_sst\."),
        (card["pal"] | {"tasks": ["sst"]}, r"mtbert\.json: no task reads the saved for_twins\."),
        (card["pal"] | {"tasks": ["sts"]}, r"mtbert\.json: .*there is no task 'sts'"),
    ):
        (tmp_path / "mtbert.json").write_text(json.dumps(card | {"pal": pal}))
        with pytest.raises(ValueError, match=said):
            load_model(tmp_path)


def test_a_folder_in_place_of_a_file_is_one_clear_line(saved: Path):
    (saved / "heads.safetensors").unlink()
    (saved / "heads.safetensors").mkdir()
    with pytest.raises(ValueError, match=r"heads\.safetensors: a folder, not a file\. Train or copy"):
        load_model(saved)


def test_no_model_is_one_clear_line(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no trained model here"):
        load_model(tmp_path)


def test_a_run_gives_its_best_model_else_its_last(saved: Path, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    assert find_model_folder(run) is None
    (run / "last").symlink_to(saved)
    assert find_model_folder(run) == run / "last"
    (run / "best").symlink_to(saved)
    assert find_model_folder(run) == run / "best"
    assert find_model_folder(saved) == saved


class Killed(BaseException):
    """Imitates a kill: no handler in the code under test catches it."""


@pytest.mark.parametrize("calls", range(40))
def test_a_kill_at_any_moment_of_saving_leaves_old_or_new(calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "last"

    def content(text: str) -> None:
        def write(to: Path) -> None:
            (to / "a").write_text(text)
            (to / "b").write_text(text)

        files.write_folder(folder, write)

    content("old")
    left = calls

    def counted(real):
        def call(*arguments, **options):
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for owner, name in (
            (Path, "rename"),
            (Path, "mkdir"),
            (Path, "write_text"),
            (os, "fsync"),
            (os, "unlink"),
            (os, "rmdir"),
        ):
            patch.setattr(owner, name, counted(getattr(owner, name)))
        with contextlib.suppress(Killed):
            content("new")
    found = files.find_folder(folder)
    assert found is not None
    texts = {(found / name).read_text() for name in ("a", "b")}
    assert texts in ({"old"}, {"new"})
    content("newer")
    assert (folder / "a").read_text() == "newer"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last"]


def test_files_are_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    events = []
    real_fsync, real_rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), real_fsync(fd))[1])
    monkeypatch.setattr(Path, "rename", lambda self, to: (events.append(f"rename {to.name}"), real_rename(self, to))[1])
    files.write_folder(tmp_path / "last", lambda to: (to / "a").write_text("x"))
    assert [Path(e).name for e in events] == ["a", ".last.new", "rename last", tmp_path.name]


def test_a_kill_while_a_text_is_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def killed(*_: object, **__: object) -> None:
        raise Killed

    file = tmp_path / "a.txt"
    files.write_text(file, "old\n")
    for call in ("write_bytes", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(Path, call, killed)
            with pytest.raises(Killed):
                files.write_text(file, "new\n")
        assert file.read_text() == "old\n"
    files.write_text(file, "new\n")
    assert file.read_bytes() == b"new\n"
