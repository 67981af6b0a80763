"""Freezing: a part of the encoder that stays as it was pre-trained."""

from typing import Literal

from mtbert.model.encoder import Encoder


def freeze(encoder: Encoder, layers: int | Literal["all"]) -> None:
    """Stops training of the embeddings and the lowest ``layers`` layers, or of the whole encoder.

    Raises:
        ValueError: If the encoder has fewer layers.
    """
    if layers == "all":
        encoder.requires_grad_(False)
        return
    if layers > len(encoder.layers):
        raise ValueError(
            f"model.freeze: {layers} is more than the encoder's {len(encoder.layers)} layers. Use fewer, or all."
        )
    for parameter, depth in encoder.depths().items():
        if depth <= layers:
            parameter.requires_grad_(False)
