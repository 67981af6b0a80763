"""Whole-batch losses over several forward passes: a loss that compares the examples of a batch must see all of them.

All passes of a step therefore run twice. The first run builds no autograd graph and only gathers the tensors that the
loss compares. The loss and its gradient with respect to these tensors are then computed. The second run uses the same
random numbers, and its backward pass continues from this gradient to the weights.

Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (GradCache), 2021.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtbert.losses import Pass, WholeBatch
from mtbert.processes import Processes


@dataclass(frozen=True)
class Fed:
    """The part of a whole-batch loss that belongs to one forward pass of a step.

    ``value`` is the share of this pass in the loss; the shares of all passes add up to the loss. ``gradients`` are the
    gradients of the whole loss with respect to the tensors that were gathered from this pass.
    """

    value: Tensor
    gradients: tuple[Tensor | None, ...]


@dataclass(frozen=True)
class FirstRun:
    """The result of running a shard's forward passes for the first time, without an autograd graph.

    The same passes run a second time, with a graph. Only whole-batch losses need two runs.

    Attributes:
        states: For each pass, the state of the random generator before the pass.
        fed: For each pass, a dict from the key of a whole-batch loss to a :class:`Fed`, which holds the pass's share of
            the loss value, and the gradients that the second run needs.
        after: The state of the random generator after the last pass.
    """

    states: Sequence[Tensor]
    fed: Sequence[Mapping[str, Fed]]
    after: Tensor


def fed_by_pass(
    gathered: Sequence[Mapping[str, Sequence[Tensor]]], losses: Mapping[str, WholeBatch]
) -> list[dict[str, Fed]]:
    """Computes whole-batch losses, and returns which part of each loss belongs to which forward pass of the step.

    Args:
        gathered: For each pass, a dict from the key of a loss to the tensors that the loss has gathered from the pass.
            If the task of a loss has no examples in a pass, the dict of the pass lacks the key of the loss.
        losses: A dict from key to loss.

    Returns:
        For each pass, a dict from the key of a loss to the part of the loss that belongs to the pass.
    """
    fed: list[dict[str, Fed]] = [{} for _ in gathered]
    for key, loss in losses.items():
        holders = [i for i, found in enumerate(gathered) if key in found]
        joined = [torch.cat(tensors) for tensors in zip(*(gathered[i][key] for i in holders), strict=True)]
        leaves = [t.requires_grad_() if t.is_floating_point() else t for t in joined]
        value = loss.compare(*leaves)
        wanted = [t for t in leaves if t.requires_grad]
        found = iter(torch.autograd.grad(value, wanted, materialize_grads=True))
        gradients = [next(found) if t.requires_grad else None for t in leaves]
        first = 0
        for i in holders:
            rows = len(gathered[i][key][0])
            cut = tuple(None if g is None else g[first : first + rows] for g in gradients)
            fed[i][key] = Fed(value.detach() / len(holders), cut)
            first += rows
    return fed


def fed_in_processes(
    gathered: Sequence[Mapping[str, Sequence[Tensor]]],
    losses: Mapping[str, WholeBatch],
    processes: Processes,
    device: torch.device,
) -> list[dict[str, Fed]]:
    """Computes whole-batch losses over the forward passes of all processes. Each process calls this function.

    The processes exchange their tensors ``gathered``.

    Args:
        gathered: For each pass of this process, a dict of tensors as in :func:`fed_by_pass`.
        losses: A dict from key to loss.
        processes: The processes that make the passes.
        device: The device on which the losses are computed.

    Returns:
        For each pass of this process, a dict from the key of a loss to a :class:`Fed`: the pass's share of the loss
        value, and the gradients of the loss with respect to the tensors of the pass.
    """
    of_ranks = processes.all(gathered)
    everything = [
        {key: [tensor.to(device) for tensor in tensors] for key, tensors in one_pass.items()}
        for of_rank in of_ranks
        for one_pass in of_rank
    ]
    first = sum(map(len, of_ranks[: processes.rank]))
    return fed_by_pass(everything, losses)[first : first + len(gathered)]


def surrogate(loss: WholeBatch, one_pass: Pass, fed: Fed) -> Tensor:
    """Returns a scalar to backpropagate through one forward pass, in place of a whole-batch loss.

    The value of the scalar is ``fed.value``. Its gradients with respect to the tensors that ``loss.gather(one_pass)``
    returns are ``fed.gradients``.
    """
    pairs = zip(loss.gather(one_pass), fed.gradients, strict=True)
    through = torch.stack([(tensor * gradient).sum() for tensor, gradient in pairs if gradient is not None]).sum()
    return fed.value + through - through.detach()
