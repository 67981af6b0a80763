"""Weights that are nan or infinite are refused wherever a model is loaded; the message names file and tensor."""

import re
import shutil
from pathlib import Path

import pytest
import torch
import toy_run
from safetensors.torch import load_file, save_file

from mtbert.data.tokenizer import load_tokenizer
from mtbert.model.model import Model
from mtbert.model.settings import Pal
from mtbert.model.stored import check_finite
from mtbert.model.weights import load_encoder
from mtbert.storage.model_folder import load_model, save_model
from mtbert.task import Head, Task

TASKS = {
    "sst": Task(name="sst", type="ordinal", inputs="single", labels=("bad", "fair", "good")),
    "twins": Task(name="twins", type="binary", inputs="separate", head=Head(kind="cosine"), labels=("no", "yes")),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finite")
    encoder = toy_run.encoder_folder(folder / "encoder")
    pal = Pal(width=4, heads=2)
    model = Model(load_encoder(str(encoder)).encoder, TASKS, pooling="mean", max_length=20, seed=3, adapters=pal)
    (folder / "model").mkdir()
    save_model(model, load_tokenizer(encoder), folder / "model")
    return folder / "model"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["model", "heads", "adapters"])
def test_a_number_that_is_not_finite_is_refused_in_every_tensor(saved: Path, tmp_path: Path, name: str, number: float):
    folder = Path(shutil.copytree(saved, tmp_path / "model"))
    file = folder / f"{name}.safetensors"
    whole = load_file(file)
    for key, tensor in whole.items():
        broken = tensor.clone()
        broken.view(-1)[-1] = number
        save_file(whole | {key: broken}, file)
        said = re.escape(f"{file}: {key} has numbers that are nan or infinite. ")
        with pytest.raises(ValueError, match=f"^{said}"):
            load_model(folder)
    save_file(whole, file)
    load_model(folder)


def test_a_weight_too_large_for_float32_is_named_in_its_shard_or_pickle(saved: Path, tmp_path: Path):
    folder = Path(shutil.copytree(saved, tmp_path / "model"))
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    whole["pooler.dense.bias"] = torch.full((16,), 1e300, dtype=torch.float64)
    torch.save({f"bert.{name}": tensor for name, tensor in whole.items()}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: pooler\.dense\.bias has numbers that are nan or inf"):
        load_encoder(str(folder))


def test_large_numbers_whose_sum_is_too_large_are_finite(tmp_path: Path):
    check_finite(tmp_path, {"a": torch.full((100,), 3e38), "b": torch.zeros(0), "c": torch.tensor([2**62] * 9)}, "")
    with pytest.raises(ValueError, match="b has numbers"):
        check_finite(tmp_path, {"a": torch.ones(2), "b": torch.tensor([float("inf"), float("-inf")])}, "")
