"""The settings of training in a recipe: the optimizer, the schedule, and the order in which tasks take steps."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from mtbert.answers.fitting import Calibrate
from mtbert.balance import BalanceSettings
from mtbert.balance.known import BALANCING
from mtbert.balance.sum import Sum
from mtbert.model.ema import Ema
from mtbert.sampling.known import SAMPLERS
from mtbert.sampling.round_robin import RoundRobin
from mtbert.sampling.temperature import by_temperature
from mtbert.sampling.turn import SamplerSettings
from mtbert.settings import Dropped, Settings

Share = Annotated[float, Field(ge=0, lt=1)]


def _paper_as_list(value: Any) -> Any:
    """Returns ``value`` unchanged, or raises a ValueError if it is ``paper``.

    Earlier versions accepted this name in place of a list of rounds. The message gives the list to write instead.
    """
    if value == "paper":
        raise ValueError(f"'paper' is no name any more. Write rounds: [{', '.join(PAPER_ROUNDS)}].")
    return value


Rounds = Literal["min", "max"] | Annotated[int, Field(gt=0, le=10**7)]
RoundsOrCycle = Annotated[
    Annotated[Rounds, Tag("[one]")] | Annotated[tuple[Rounds, ...], Field(min_length=1), Tag("[list]")],
    Discriminator(lambda value: "[list]" if isinstance(value, tuple) else "[one]"),
    BeforeValidator(_paper_as_list),
]
PAPER_ROUNDS = ("min", "min", "min", "max")  # "rounds: paper" in recipes of earlier versions


class TrainRecipe(Settings):
    """The settings of training: the optimizer, the schedule, and the order in which tasks take steps."""

    dropped: ClassVar = {
        "accumulate": Dropped(
            ignored=(1,),
            instead="Multiply each task's batch_size by {value}; where memory is short, set train.token_budget.",
        )
    }
    mode: Literal["alternate", "joint"] = Field(
        default="joint", description="alternate: one task per optimizer step; joint: all in each step"
    )
    sampler: Annotated[SamplerSettings, SAMPLERS, BeforeValidator(by_temperature)] = Field(
        default=RoundRobin(), description="alternate mode: chooses the task of each step"
    )
    aggregation: Annotated[BalanceSettings, BALANCING] = Field(
        default=Sum(), description="joint mode: how the tasks' gradients become one"
    )
    conflicts: bool = Field(default=False, description="joint mode: log the cosines between the tasks' gradients")
    weighting: Literal["fixed", "uncertainty"] = Field(
        default="fixed", description="weights of the tasks' losses; uncertainty: they are learned"
    )
    rounds: RoundsOrCycle = Field(
        default="min",
        description="batches of each task per epoch: as many as the smallest or the largest task has, or a number; a "
        "list holds one of these for each epoch, and starts over at its end",
    )
    epochs: int = Field(default=3, gt=0, le=10**4, description="number of epochs; rounds says how long one is")
    lr: float = Field(default=5e-5, gt=0, description="highest learning rate of AdamW")
    betas: tuple[Share, Share] = Field(default=(0.9, 0.999), description="the decay rates of AdamW's averages")
    layer_decay: float | None = Field(
        default=None, gt=0, le=1, description="learning rate of each layer divided by that of the layer above it"
    )
    # Far below 1e-15, float32 divides 0 by 0.
    eps: float = Field(default=1e-8, ge=1e-15, le=1, description="what AdamW adds to its divisor")
    weight_decay: float = Field(
        default=1e-3, ge=0, le=1e3, description="weight decay of AdamW; biases and norms have none"
    )
    schedule: Literal["linear", "constant"] = Field(
        default="linear", description="linear: the rate falls to 0 after the warm-up; constant: it stays"
    )
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of all steps")
    clip: float | None = Field(default=1.0, gt=0, description="largest gradient norm")
    ema: Ema | None = Field(default=None, description="also keep averaged weights")
    token_budget: int | None = Field(default=None, gt=0, description="most tokens of one forward pass in training")
    shards: int = Field(
        default=1,
        gt=0,
        le=1024,
        description="parts of each step whose gradients are added in a fixed order; several processes share them; a "
        "power of two",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="numbers that are multiplied; auto: bf16 where the hardware has it"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="auto: CUDA if there is a GPU, else MPS, else the CPU"
    )
    threads: int | None = Field(
        default=None, gt=0, le=4096, description="threads of the CPU; null: PyTorch's choice, which is recorded"
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="seed of every draw in training")
    evaluate_every: Literal["epoch"] | Annotated[int, Field(gt=0)] = Field(
        default="epoch", description="epoch, or a number of rounds"
    )
    checkpoint_every: int = Field(default=200, gt=0, description="rounds between saves, beside each evaluation")
    calibrate: Calibrate = Field(
        default=False,
        description="true: temperature for classes and sets, Platt's method for yes/no; isotonic: isotonic for yes/no",
    )
    held_out: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="share of train, at most 2,000 rows, that is not trained on but used to fit thresholds and "
        "calibration; it is taken from sources with a task that fits any; 0: none",
    )
    patience: int | None = Field(
        default=None, gt=0, description="stop after this many evaluations without a better one"
    )
    select: str = Field(default="overall", description="what 'best' means: overall, mean, or a task's name")

    @property
    def read_gradients(self) -> tuple[str, ...]:
        """The names of those settings of this recipe that need a separate gradient for each task.

        If there are none, the losses of all tasks are simply added.
        """
        needed = {"aggregation": not isinstance(self.aggregation, Sum), "conflicts": self.conflicts}
        return tuple(name for name, wanted in needed.items() if wanted)

    @property
    def chooses_tasks(self) -> bool:
        """Whether the sampler chooses which task to train. It is false if all tasks simply take turns."""
        return not isinstance(self.sampler, RoundRobin)

    @field_validator("shards")
    @classmethod
    def _power_of_two(cls, shards: int) -> int:
        below = 1 << (shards.bit_length() - 1)
        if shards != below:
            raise ValueError(f"must be a power of two, found {shards}. Use {below} or {2 * below}.")
        return shards

    @model_validator(mode="after")
    def _fits_the_mode(self) -> Self:
        if self.mode == "alternate":
            for name in self.read_gradients:
                raise ValueError(
                    f"{name} compares the gradients of all tasks in a step, and mode 'alternate' has one task in "
                    f"each. Use mode: joint, or drop {name}."
                )
        elif self.chooses_tasks:
            raise ValueError(
                f"sampler '{self.sampler.kind}' chooses the one task of a step, and mode 'joint' has all tasks in "
                "each, so it would change nothing. Use mode: alternate, or drop sampler."
            )
        return self
