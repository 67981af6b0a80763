"""SMART: predictions should hardly change when adversarial noise is added to the embeddings.

Source: Jiang et al., "SMART: Robust and Efficient Fine-Tuning for Pre-trained Natural Language Models through
Principled Regularized Optimization", ACL 2020. For each example, the paper maximises ``l(f(x), f(x'))`` over all ``x'``
with ``|x' - x| <= radius``. Here ``x`` are the embeddings, ``f(x)`` is the prediction for them, and ``l`` is a
divergence. The mean of these maxima is added to the task's loss with a weight ``lambda_s``. The package smart-pytorch
computes something else. Both versions are implemented here, see :class:`Smart`.

Dimension key: M tokens of the task, S sequences, D width, B examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mtbert.answers.divergence import at_least_float32
from mtbert.losses import LossWeight, Needs, Pass
from mtbert.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Mode = Literal["reference", "paper"]


def adversary(
    f: Callable[[Tensor], Tensor],
    x_MD: Tensor,
    clean: Tensor,
    apart: Callable[[Tensor, Tensor], Tensor],
    generator: torch.Generator,
    *,
    mode: Mode,
    offsets: Sequence[int],
    steps: int,
    step_size: float,
    noise_std: float,
    radius: float,
) -> Tensor:
    """Returns noise, ``[M, D]``, that moves ``f(x_MD + noise)`` away from ``clean``. It has no autograd graph.

    The noise starts as Gaussian noise and is then changed in a few steps. Each step computes ``g``, the gradient of the
    sum of ``apart`` over all examples, with respect to the noise. In the following formulas, ``|g|_inf`` is the largest
    absolute value in ``g``. The change depends on ``mode``:

    - ``reference``: ``noise <- n / (|n|_inf + 1e-6)`` with ``n = noise + step_size * g``, separately for each token.
      The largest element of a token's noise is therefore about 1, whatever the settings are.
    - ``paper``: ``noise <- noise + step_size * g / |g|_inf``, where the norm is taken over all tokens of a sequence.
      Each element is then clamped to ``[-radius, radius]``. If ``g`` is 0 for a whole sequence, the noise of this
      sequence is clamped without being moved.

    Args:
        f: A function from embeddings, ``[M, D]``, to predictions.
        x_MD: The embeddings of all M tokens, without noise.
        clean: The predictions for ``x_MD``.
        apart: A function ``(prediction, clean) -> [B]``, which returns the divergence for each example.
        generator: Draws the noise at the start, and nothing else.
        mode: The kind of step, see above.
        offsets: The boundaries of the sequences. Sequence ``s`` is ``x_MD[offsets[s] : offsets[s + 1]]``, and no
            sequence is empty.
        steps: The number of steps. Each costs a forward pass, and a backward pass down to the embeddings.
        step_size: The factor of the gradient, see above.
        noise_std: The standard deviation of the Gaussian noise at the start.
        radius: The largest absolute value of an element of the noise; only for mode ``paper``.
    """
    import torch

    from mtbert.batch import send

    x_MD, clean = x_MD.detach(), clean.detach()
    offsets_S = send(torch.tensor(offsets), x_MD.device)
    noise_MD = noise_std * torch.randn(x_MD.shape, generator=generator, dtype=x_MD.dtype, device=x_MD.device)
    for _ in range(steps):
        noise_MD.requires_grad_()
        (gradient_MD,) = torch.autograd.grad(apart(f(x_MD + noise_MD), clean).sum(), noise_MD)
        noise_MD = noise_MD.detach()
        if mode == "reference":
            moved_MD = noise_MD + step_size * gradient_MD
            noise_MD = moved_MD / (moved_MD.abs().amax(-1, keepdim=True) + 1e-6)
        else:
            direction_MD = gradient_MD / _largest(gradient_MD, offsets_S)[:, None]
            noise_MD = (noise_MD + step_size * direction_MD).clamp(-radius, radius)
    return noise_MD


def _largest(gradient_MD: Tensor, offsets_S: Tensor) -> Tensor:
    """Returns a number for each token, ``[M]``: the largest absolute value of the gradient within the token's sequence.

    If the whole gradient of a sequence is 0, the number is 1.
    """
    import torch

    most_S = torch.segment_reduce(gradient_MD.abs().amax(-1), "max", offsets=offsets_S, unsafe=True)
    most_S = most_S.masked_fill(most_S == 0, 1.0)
    return most_S.repeat_interleave(offsets_S.diff(), output_size=len(gradient_MD))


class Smart(Settings):
    """The mean divergence between the predictions with and without adversarial noise on the embeddings.

    The noise is added to the input of the first layer. This input is the sum of the embeddings after normalisation and
    dropout (for ELECTRA, also after the projection to the encoder's width). The published code instead feeds the output
    of the embedding layer back in as word embeddings, so that positions and segments are added twice.

    The setting ``mode`` has two values:

    - ``reference`` is smart-pytorch 0.0.4 with its ``sym_kl_loss``. The noise is large and nearly random, see
      :func:`adversary`. No gradient flows through the targets of the two KL divergences in the final loss. Unlike in
      smart-pytorch, the final loss is a mean over the batch and not a sum.
    - ``paper`` is the method of Jiang et al.: the noise stays within ``radius``, and the final loss has its full
      gradient. All passes of this mode are in float32, because bfloat16 is too coarse for noise as small as ``radius``.
      This mode hardly changes what a model learns.

    For a task that predicts scores, the squared difference of the two predictions replaces the KL divergences. In mode
    ``reference``, the gradient of this squared difference is multiplied by 0.5. The default weight ``lambda_s`` is
    0.02, as in the README of smart-pytorch; MT-DNN uses 1.

    By default, the passes with and without noise have the same dropout masks, because different masks would change the
    predictions more than the noise does. With ``shared_masks: false``, each pass has masks of its own, as in the
    published code.
    """

    needs: ClassVar = Needs(because="a prediction", labels=False)
    kind: Literal["smart"] = "smart"
    weight: LossWeight = Field(default=0.02, description="lambda_s")
    mode: Mode = Field(default="reference", description="as smart-pytorch does it, or as Jiang et al. write it")
    steps: int = Field(default=1, ge=1, le=1000, description="steps of the inner maximisation")
    step_size: float = Field(default=1e-3, gt=0, le=1e6, description="length of a step of the inner maximisation")
    noise_std: float = Field(default=1e-5, gt=0, le=1e6, description="standard deviation of the noise at the start")
    radius: float = Field(default=1e-5, gt=0, le=1e6, description="paper only: the largest change of an element")
    shared_masks: bool = Field(default=True, description="the same dropout masks in the clean and the noisy pass")

    def __call__(self, p: Pass) -> Tensor:
        import torch

        exact = self.mode == "paper"
        x_MD = at_least_float32(p.out.embeddings_MD) if exact else p.out.embeddings_MD

        def f(x_MD: Tensor) -> Tensor:
            return p.finish(x_MD, p.twin() if self.shared_masks else p.generator, exact=exact).prediction

        def apart(prediction: Tensor, clean: Tensor) -> Tensor:
            return p.task.predicts.divergence(prediction, clean, detached=self.mode == "reference")

        too_coarse = exact and p.model.compute != torch.float32
        other_masks = self.shared_masks and not p.repeats
        clean = f(x_MD) if too_coarse or other_masks else p.out.prediction
        noise_MD = adversary(
            f,
            x_MD,
            clean,
            apart,
            p.generator,
            mode=self.mode,
            offsets=p.alone.layout.offsets,
            steps=self.steps,
            step_size=self.step_size,
            noise_std=self.noise_std,
            radius=self.radius,
        )
        return p.mean(apart(f(x_MD + noise_MD), clean))
