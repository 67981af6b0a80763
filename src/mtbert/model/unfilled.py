"""Encoders whose weights have shapes but no values, so that they cost no memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from mtbert.model.encoder import Encoder, EncoderConfig


def unfilled(config: EncoderConfig) -> Encoder:
    """Returns an encoder whose weights have shapes but no values."""
    with torch.device("meta"), _NoDraw():
        return Encoder(config)


class _NoDraw(TorchFunctionMode):
    """Makes ``nn.init.normal_`` do nothing. Tensors on the device "meta" have shapes but no values to draw.

    For these tensors, ``normal_`` would make torch import its compiler. The import takes about a second.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return None if func is nn.init.normal_ else func(*args, **(kwargs or {}))
