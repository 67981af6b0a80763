"""Freezing: a part of the encoder keeps its pre-trained weights."""

from typing import Literal

from mtbert.model.encoder import Encoder


def freeze(encoder: Encoder, layers: int | Literal["all"]) -> None:
    """Stops training of the embeddings and the lowest ``layers`` layers, or of the whole encoder."""
    if layers == "all":
        encoder.requires_grad_(False)
        return
    for parameter, depth in encoder.depths().items():
        if depth <= layers:
            parameter.requires_grad_(False)
