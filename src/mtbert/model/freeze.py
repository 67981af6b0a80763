"""Freezing: chosen parts of the encoder keep their pre-trained weights during training."""

from typing import Literal

from mtbert.model.encoder import Encoder


def freeze(encoder: Encoder, layers: int | Literal["all"]) -> None:
    """Freezes the embeddings and the lowest ``layers`` layers of the encoder; ``"all"`` freezes the whole encoder."""
    if layers == "all":
        encoder.requires_grad_(False)
        return
    for parameter, depth in encoder.depths().items():
        if depth <= layers:
            parameter.requires_grad_(False)
