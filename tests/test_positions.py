"""Which row of the position table a token reads."""

import copy
from pathlib import Path

import pytest
import tiny
import torch

from mtbert.model.attention import Groups
from mtbert.model.weights import load_encoder


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_positions_of_roberta_start_after_the_row_of_its_padding_id(
    padding: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = copy.deepcopy(tiny.CONFIGS["roberta"])
    config.pad_token_id, config.max_position_embeddings = padding, padding + 13
    monkeypatch.setattr(tiny, "CONFIGS", {"roberta": config})
    model = tiny.hf_model("roberta").float().double()  # weights that float32 can represent
    model.save_pretrained(tmp_path)
    ours = load_encoder(str(tmp_path)).encoder.double()
    assert ours.config.max_length == 12
    batch = tiny.ragged({"t": [12]})  # uses every row of the table after the padding's
    x_ND = ours.embed(batch.ids_N, batch.segments_N, batch.positions_N, None)
    found_ND = ours.encode(x_ND, Groups(batch.layout, tiny.CPU), None)
    with torch.no_grad():
        expected = model(batch.ids_N[None], attention_mask=torch.ones(1, 12)).last_hidden_state[0]
    torch.testing.assert_close(found_ND, expected, rtol=1e-8, atol=1e-8)
