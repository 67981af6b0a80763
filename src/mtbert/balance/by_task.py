"""Separate gradients of the encoder's weights for each task, from one forward pass.

A batch consists of spans, and each span holds rows of one table. The gradient of a weight is a sum over tokens. Tokens
of different rows never meet inside the encoder, so the sum splits exactly into one sum for each span. If every task has
a span of its own, a single backward pass yields the gradients of all tasks.

Tasks of one table share a span, so their gradients come from several backward passes through the same graph. Each of
these backward passes is called a wave. In each wave, at most one task of each span takes part.

Dimension key: R vectors in a module's input (one per token or, in the pooler, one per sequence), I inputs, O outputs.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mtbert.model.model import Model, SpanSlices

Owners = Mapping[str, str | None]
"""The task that each span of a batch belongs to in one backward pass; None if no task of the span takes part."""


def waves(readers: Mapping[str, Sequence[str]]) -> list[Owners]:
    """Returns the backward passes that compute a separate gradient for each task of a batch.

    A batch consists of spans. A span holds the rows of one table, which several tasks may read. ``readers`` is a dict
    from span to the tasks that read the rows of the span. Each pass is a dict from span to the task whose gradient the
    pass computes. The value is None if earlier passes have computed the gradients of all tasks of the span.

    >>> waves({"reviews": ("mood", "topic"), "pairs": ("same",)})
    [{'reviews': 'mood', 'pairs': 'same'}, {'reviews': 'topic', 'pairs': None}]
    """
    return [
        {span: tasks[i] if i < len(tasks) else None for span, tasks in readers.items()}
        for i in range(max(map(len, readers.values())))
    ]


Weighted = nn.Linear | nn.LayerNorm | nn.Embedding  # the modules whose gradients _gradients knows
_FORWARDS = (
    nn.Linear.forward,
    nn.LayerNorm.forward,
    nn.Embedding.forward,
)  # not of a subclass that computes something else


class ByTask:
    """Collects a separate gradient per task for the encoder's weights.

    ``weights`` must be all trained weights of ``model.encoder``. Inside the context :meth:`watching`, they get no
    ``grad``. All other weights get their ``grad`` as usual.
    """

    def __init__(self, model: Model, weights: Sequence[nn.Parameter]) -> None:
        self.model = model
        self.weights = weights
        self._found: dict[tuple[str, nn.Module, str], Tensor] = {}
        self._owners: Mapping[str, str | None] | None = None  # None outside collecting
        self._rows: SpanSlices = {}

    def watch(self, rows: SpanSlices) -> None:
        """Stores which rows of the encoder's tensors belong to which data table, for the next forward pass.

        Inside :meth:`watching`, call this method before each forward pass.
        """
        self._rows = rows

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Returns a context manager that records the forward passes inside it.

        Their backward passes must be run inside :meth:`collecting`.

        Raises:
            TypeError: If a module with encoder weights is not a linear layer, a LayerNorm or an embedding, or if its
                class overrides ``forward``. The message names the module.
        """
        handles = [module.register_forward_hook(self._watch) for module in self._modules()]
        for weight in self.weights:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in self.weights:
                weight.requires_grad_(True)
            for handle in handles:
                handle.remove()

    @contextmanager
    def collecting(self, owners: Owners) -> Iterator[None]:
        """Returns a context manager that collects the gradients of the backward pass in its ``with`` block.

        The gradients are collected for each task separately. ``owners`` is a dict from span to the task that gets the
        gradients of the span. A span is the part of a batch that holds the rows of one table. Some losses make backward
        passes of their own, as SMART does for its noise. These passes must be made outside the block.
        """
        self._owners = owners
        try:
            yield
        finally:
            self._owners = None

    def gradients(self, task: str) -> list[Tensor | None]:
        """Returns the gradient of one task: for each weight a tensor, or None if the task does not use the weight."""
        by_weight: dict[nn.Parameter, Tensor] = {}
        for (name, module, key), gradient in self._found.items():
            if name != task:
                continue
            if not parametrize.is_parametrized(module, key):
                by_weight[getattr(module, key)] = gradient
                continue
            parts = [p for p in module.get_submodule(f"parametrizations.{key}").parameters() if p.requires_grad]
            by_weight |= zip(parts, torch.autograd.grad(getattr(module, key), parts, gradient), strict=True)
        return [by_weight.get(weight) for weight in self.weights]

    def _modules(self) -> list[Weighted]:
        known = [m for m in self.model.encoder.modules() if isinstance(m, Weighted) and type(m).forward in _FORWARDS]
        trained = [m for m in known if any(p.requires_grad for p in m.parameters())]
        missed = set(self.weights).difference(*(m.parameters() for m in trained))
        for name, module in self.model.encoder.named_modules():
            if not missed.isdisjoint(module.parameters(recurse=False)):
                raise TypeError(
                    f"encoder.{name}: gradients are kept apart by task in Linear, LayerNorm and Embedding, found "
                    f"{type(module).__name__}. Freeze it, or teach _gradients what its gradients are."
                )
        return trained

    def _watch(self, module: Weighted, inputs: Sequence[Tensor], out_RO: Tensor) -> None:
        if not torch.is_grad_enabled():
            return
        x_RI, rows = inputs[0].detach(), self._rows[len(out_RO)]

        def collect(gradient_RO: Tensor) -> None:
            if self._owners is None:
                return
            for span, at in rows.items():
                task = self._owners.get(span, span)  # a further pass of one task has a span of its own
                if task is None:
                    continue
                for key, gradient in _gradients(module, x_RI[at], gradient_RO[at]).items():
                    before = self._found.get((task, module, key))
                    self._found[task, module, key] = gradient if before is None else before + gradient

        out_RO.requires_grad_()  # needed for embeddings, whose inputs have no gradient
        out_RO.register_hook(collect)  # type: ignore[no-untyped-call]


def _gradients(module: Weighted, x_RI: Tensor, gradient_RO: Tensor) -> dict[str, Tensor]:
    """Returns the gradients of a module's parameters: of its ``weight``, and of its ``bias`` if there is a bias.

    ``x_RI`` is the input of the module, and ``gradient_RO`` is the gradient with respect to its output.
    """
    if isinstance(module, nn.Embedding):
        # Autograd itself calls this function. It gives sparse or dense gradients, and on a GPU it does not wait for the
        # number of rows.
        gradient: Tensor = torch.ops.aten.embedding_backward(
            gradient_RO.to(module.weight.dtype), x_RI, len(module.weight), -1, False, module.sparse
        )
        return {"weight": gradient.coalesce() if module.sparse else gradient}
    if isinstance(module, nn.LayerNorm):
        normed_RO = F.layer_norm(x_RI, module.normalized_shape, eps=module.eps)
        weight = (gradient_RO * normed_RO).sum(0)
    else:
        weight = gradient_RO.T @ x_RI.to(gradient_RO.dtype)
    found = {"weight": weight} if module.bias is None else {"weight": weight, "bias": gradient_RO.sum(0)}
    return {key: gradient.to(module.weight.dtype) for key, gradient in found.items()}
