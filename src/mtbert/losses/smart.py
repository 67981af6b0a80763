"""SMART: predictions should not move when the embeddings are disturbed in the worst direction.

Source: Jiang et al., "SMART: Robust and Efficient Fine-Tuning for Pre-trained Natural Language Models through
Principled Regularized Optimization", ACL 2020: ``R = mean over examples of max over |x' - x| <= radius of l(f(x),
f(x'))``, added to the task's loss with a weight ``lambda_s``. The package smart-pytorch does something else; both are
here, see :class:`Smart`.

Dimension key: M tokens of the task, S sequences, D width, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mtbert.answers.divergence import at_least_float32
from mtbert.losses import Needs, Pass
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
    """Returns noise that moves ``f(x + noise)`` away from ``clean``, ``[M, D]``, without a graph.

    It starts as Gaussian noise. ``g`` is the gradient, with respect to the noise, of the sum of ``apart`` over the
    examples, so that an example's noise does not depend on how many others there are. A step is

    - ``reference``: ``noise <- n / (|n|_inf + 1e-6)`` with ``n = noise + step_size * g``, for each token. So the
      largest element of a token's noise is about 1, whatever the settings are;
    - ``paper``: ``noise <- noise + step_size * g / |g|_inf``, with the norm over the sequence; then each element
      is clamped to the radius. If ``g`` is 0 for a whole sequence, its noise is only clamped.

    Args:
        f: A function from embeddings, ``[M, D]``, to predictions.
        x_MD: The undisturbed embeddings.
        clean: The predictions for ``x_MD``.
        apart: The divergence between two predictions, ``(prediction, clean) -> [B]``.
        generator: Draws the noise at the start, and nothing else.
        mode: The kind of step, see above.
        offsets: Sequence ``s`` is ``x_MD[offsets[s] : offsets[s + 1]]``; none is empty.
        steps: The number of steps; each costs a forward pass, and a backward pass to the embeddings.
        step_size: The factor of the gradient, see above.
        noise_std: Standard deviation of each element at the start.
        radius: The largest absolute element of the noise; for mode ``paper`` only.
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
    """Returns for each token the largest absolute element in its sequence, ``[M]``, or 1 if that is 0."""
    import torch

    most_S = torch.segment_reduce(gradient_MD.abs().amax(-1), "max", offsets=offsets_S, unsafe=True)
    most_S = most_S.masked_fill(most_S == 0, 1.0)
    return most_S.repeat_interleave(offsets_S.diff(), output_size=len(gradient_MD))


class Smart(Settings):
    """The mean divergence between the predictions for undisturbed and for adversarially disturbed embeddings.

    The noise is added to what the first layer reads: after the embeddings' sum, normalisation and dropout (for ELECTRA
    after its projection too). The published code passes the output of the embedding layer back in as word
    embeddings, so that positions and segments are added twice.

    - ``reference`` is smart-pytorch 0.0.4 with its ``sym_kl_loss``: large, nearly random noise (see
      :func:`adversary`), and a divergence whose targets are detached, in both halves of the final one. One
      difference: the final loss is a mean over the batch, theirs a sum. The loss of the inner maximisation is a sum
      as theirs; with their ``kl_loss`` in its place, as often used, it is that sum divided by the batch size.
    - ``paper`` is Jiang et al.: the noise stays within ``radius``, and the final loss has all its gradients. So small
      a change is lost in bfloat16, so all passes of this mode are in float32; even so it has hardly any effect.

    For scores the squared error takes the place of the KL; in ``reference`` its targets are detached too, which halves
    its gradient. The default ``lambda_s`` of 0.02 is the one in smart-pytorch's README; MT-DNN uses 1.

    Different dropout masks would move the noisy pass more than the noise does, so by default both passes have the same
    masks. If the masks of the pass already made cannot be drawn again, because another task was in the batch, this
    takes one more clean pass. ``shared_masks: false`` gives each pass its own masks, as published.
    """

    needs: ClassVar = Needs(because="a prediction", labels=False)
    kind: Literal["smart"] = "smart"
    weight: float = Field(default=0.02, ge=0, description="lambda_s")
    mode: Mode = Field(default="reference", description="as smart-pytorch does it, or as Jiang et al. write it")
    steps: int = Field(default=1, ge=1, description="steps of the inner maximisation")
    step_size: float = Field(default=1e-3, gt=0, le=1e6)
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
        return apart(f(x_MD + noise_MD), clean).mean()
