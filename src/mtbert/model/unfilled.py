"""Encoders whose weights have no values yet. Drawing initial values that will be replaced anyway would take time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from mtbert.model.encoder import Encoder, EncoderConfig


def unfilled(config: EncoderConfig) -> Encoder:
    """Returns an encoder whose weights have shapes but no values, so that they cost no memory."""
    with torch.device("meta"), _NoDraw():
        return Encoder(config)


def unwritten(config: EncoderConfig) -> Encoder:
    """Returns an encoder on the CPU whose weights hold arbitrary numbers, until other weights are written over them."""
    with _NoDraw():
        return Encoder(config)


class _NoDraw(TorchFunctionMode):
    """Makes ``nn.init.normal_`` do nothing. This saves the time for initial weights that are replaced later anyway."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return None if func is nn.init.normal_ else func(*args, **(kwargs or {}))
