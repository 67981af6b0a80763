"""The settings of PAL and LoRA, two techniques that add modules to the model.

They are not in ``pal.py`` and ``lora.py``, because these import torch, and recipes must be readable without it.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from mtbert.settings import Settings


class Pal(Settings):
    """Projected attention layers (PAL): for each task, a small network in parallel with every encoder layer."""

    kind: Literal["attention", "low_rank"] = Field(
        default="attention", description="low_rank: the two projections alone, no attention between them"
    )
    width: int | None = Field(
        default=None,
        gt=0,
        le=2**13,
        description="width between the projections; null: 204 for attention, 100 for low_rank",
    )
    heads: int = Field(default=6, gt=0, le=2**13, description="attention only; must divide the width")
    shared: bool | None = Field(
        default=None,
        description="projections shared by all layers; null: as in the source, true for attention, false for low_rank",
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="attention only: dropout rate of its probabilities")
    tasks: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="the tasks with such networks; null: all"
    )

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        width, heads = self.resolved_width, self.heads
        if self.attends and width % heads:
            fitting = max(n for n in range(1, heads) if width % n == 0)
            raise ValueError(
                f"heads must divide the width, found {heads} heads and width {width}. "
                f"Use heads: {fitting}, or width: {width + -width % heads}."
            )
        return self

    def adapts(self, task: str) -> bool:
        """Returns whether the task called ``task`` has networks for projected attention layers (PAL).

        If the setting ``tasks`` is None, every task has such networks.

        >>> Pal(tasks=("sst",)).adapts("sts"), Pal().adapts("sts")
        (False, True)
        """
        return self.tasks is None or task in self.tasks

    def dropout_of(self, task: str) -> float:
        """Returns the dropout rate in the PAL networks of the task called ``task``.

        The rate is 0 if the task has no PAL networks, or if its PAL networks have no attention.
        """
        return self.dropout if self.attends and self.adapts(task) else 0.0

    @property
    def attends(self) -> bool:
        """Whether the small networks that PAL adds to the encoder have attention between their two projections."""
        return self.kind == "attention"

    @property
    def resolved_width(self) -> int:
        """The width between the two projections of a PAL network; by default, the width in the PAL paper."""
        return self.width or (204 if self.attends else 100)

    @property
    def resolved_shared(self) -> bool:
        """Whether the PAL networks of all layers use the same two projections.

        This is the setting ``shared`` if it is given. Otherwise, it is what the paper does: networks with attention
        share the projections, others do not.
        """
        return self.attends if self.shared is None else self.shared


class Lora(Settings):
    """Low-rank changes of the encoder's weight matrices. The changes are trained, and the encoder itself is frozen."""

    rank: int = Field(default=8, gt=0, le=2**13, description="width between the two factors of a change")
    alpha: float = Field(default=16.0, gt=0, le=1e6, description="the change is multiplied by alpha / rank")
