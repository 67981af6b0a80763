"""A padded twin of the model: the same modules and weights, for batches in which all sequences have one length.

The model itself reads sequences without padding, and their number and lengths decide which operations a pass consists
of. A graph for other programs needs inputs of a fixed form instead: token ids ``[B, L]`` and a mask.

Dimension key: B examples, C candidates of an example, L length of the padded sequences, N = B * L, D encoder width.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mtbert.model import heads
from mtbert.model.attention import Padded
from mtbert.model.encoder import Adapter, Encoder, Top
from mtbert.model.model import Model
from mtbert.model.relative import ByDistance

PaddedText = tuple[Tensor, Tensor, Tensor | None]
"""Token ids, a mask (1 for tokens, 0 for padding), and segment ids (None for zeros), each ``[B, L]``.

The candidates of a ranking are ``[B, C, L]``.
"""


class PaddedModel(nn.Module):
    """The forward pass of a :class:`~mtbert.model.model.Model` for padded sequences, without dropout.

    Args:
        model: The model, whose modules and weights are used.
        tasks: The names of the tasks to answer. All of them take the same inputs.
    """

    def __init__(self, model: Model, tasks: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(tasks)

    def forward(self, *texts: PaddedText) -> dict[str, tuple[Tensor, tuple[Tensor, ...]]]:
        """Returns a dict from task to a tuple: the raw prediction, and the vectors that the task's head has read.

        All tasks take the same ``texts``. If the tasks encode two parts of an example separately (first and second
        text, or query and candidates), ``texts`` has two elements, otherwise one. A task that assigns a label to each
        word has a prediction for every token, ``[B, L, K]``, and no vectors. The vectors of candidates are
        ``[B, C, D]``. All other vectors are ``[B, D]``.
        """
        by_text = [self.vectors(*text) for text in texts]
        found: dict[str, tuple[Tensor, tuple[Tensor, ...]]] = {}
        for name in self.names:
            vectors = tuple(of_text[name] for of_text in by_text)
            head = self.model.head(name)
            if self.model.pooling_of(self.model.tasks[name]) == "words":
                states_BLD = vectors[0]
                prediction_NK: Tensor = head((states_BLD.flatten(0, 1),), None)
                found[name] = (prediction_NK.view(*states_BLD.shape[:2], -1), ())
            elif vectors[-1].dim() == 3:
                query_BD, candidates_BCD = vectors
                query_BCD = query_BD.unsqueeze(1).expand_as(candidates_BCD)
                cosines: Tensor = head((query_BCD.flatten(0, 1), candidates_BCD.flatten(0, 1)), None)
                found[name] = (cosines.view(candidates_BCD.shape[:2]), vectors)
            else:
                found[name] = (head(vectors, None), vectors)
        return found

    def vectors(self, ids: Tensor, mask: Tensor, segments: Tensor | None) -> dict[str, Tensor]:
        """Returns a dict from the name of each task to the vectors that the task's head reads.

        The arguments are the three parts of a :data:`PaddedText`. If ``ids`` is ``[B, L]``, the vectors are ``[B, D]``,
        one for each sequence. If ``ids`` is ``[B, C, L]`` (candidates of a ranking), the vectors are ``[B, C, D]``.
        For a task that assigns a label to each word, the last layer's output for each token is returned, ``[B, L, D]``.
        """
        model = self.model
        flat_BL, mask_BL = ids.flatten(0, -2), mask.flatten(0, -2).bool()
        groups = Padded(mask_BL=mask_BL)
        segments_N = torch.zeros_like(flat_BL).flatten() if segments is None else segments.flatten()
        x_ND = model.encoder.embed(flat_BL.flatten(), segments_N, groups.positions_N, None)
        distant = model.encoder.by_distance(model.encoder.distances(groups))
        shared_ND: Tensor | None = None
        found = {}
        for name in self.names:
            if shared_ND is None or model.adapted(name):
                hidden_ND = self._lower(name, x_ND, groups, distant)
                shared_ND = shared_ND if model.adapted(name) else hidden_ND
            else:
                hidden_ND = shared_ND
            top: Encoder | Top = model.encoder
            if model.unshare:
                top = model.top(name)
                hidden_ND = top.encode(hidden_ND, groups, None, self._adapter(name, groups), distant)
            pooled = self._pooled(name, top, hidden_ND.view(*flat_BL.shape, -1), mask_BL)
            found[name] = pooled if ids.dim() == 2 else pooled.view(*ids.shape[:2], -1)
        return found

    def _lower(self, name: str, x_ND: Tensor, groups: Padded, distant: ByDistance | None) -> Tensor:
        """Returns the output of the encoder's shared layers, with the adapter of the task ``name`` if there is one."""
        encoder, adapter = self.model.encoder, self._adapter(name, groups)
        if self.model.unshare:
            return encoder.encode_lower(x_ND, groups, None, adapter, distant, self.model.shared_layers)
        return encoder.encode(x_ND, groups, None, adapter, distant)

    def _adapter(self, name: str, groups: Padded) -> Adapter | None:
        if not self.model.adapted(name):
            return None
        return partial(_added, self.model.adapters[f"for_{name}"], groups)

    def _pooled(self, name: str, top: Encoder | Top, hidden_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        task, model = self.model.tasks[name], self.model
        pooling = model.pooling_of(task)
        if pooling == "words":
            return hidden_BLD
        if pooling == "mean":
            weights_BL1 = mask_BL.unsqueeze(-1).to(hidden_BLD.dtype)
            return (hidden_BLD * weights_BL1).sum(1) / weights_BL1.sum(1)
        first_BD = hidden_BLD[:, 0]
        return top.pooled(first_BD) if heads.reads_pooler(task, model.pooling, model.encoder.config) else first_BD


def _added(module: nn.Module, groups: Padded, layer: int, x_ND: Tensor) -> Tensor:
    added: Tensor = module(layer, x_ND, groups, None)
    return added
