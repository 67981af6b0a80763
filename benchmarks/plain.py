"""The loops that mtbert is compared with: plain training over padded batches, with transformers and related packages.

Every loop makes the same steps as :class:`mtbert.training.run.Run`: the same rows in the same order, the same initial
weights, losses, optimizer and clipping, so that losses and gradient norms of both sides can be compared.

Dimension key: B examples, L longest sequence, D width, K classes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mtbert.batch import Dataset
from mtbert.collate import collate
from mtbert.losses import Pass
from mtbert.losses.smart import Smart
from mtbert.model.encoder import EncoderConfig
from mtbert.model.heads import LinearHead
from mtbert.model.weights import save_encoder
from mtbert.prepare import Prepared
from mtbert.recipe.settings import Recipe
from mtbert.sampling.stream import Stream
from mtbert.training.run import Run

LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ce": lambda logits_BK, labels_B: F.cross_entropy(logits_BK, labels_B.long()),
    "bce": F.binary_cross_entropy_with_logits,
    "mse": F.mse_loss,
}
Inputs = dict[str, Tensor]
# The keys of all families in a config.json of transformers.
HIDDEN_DROPOUT = ("hidden_dropout_prob", "dropout", "mlp_dropout", "embedding_dropout")
ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")


@dataclass(frozen=True)
class Done:
    """The losses and the gradient norm of one optimizer step, as in :class:`mtbert.training.run.Step`."""

    losses: Mapping[str, float]
    grad_norm: float


class Plain(nn.Module):
    """An ``AutoModel`` with heads that have mtbert's shapes, weights and dropout; for single and packed inputs."""

    def __init__(self, folder: Path, config: EncoderConfig, recipe: Recipe, heads: Mapping[str, LinearHead]) -> None:
        super().__init__()
        if recipe.model.pooling != "cls":
            raise ValueError("the plain model reads first tokens. Use model.pooling: cls.")
        self.recipe, self.config = recipe, config
        rates = dict.fromkeys(HIDDEN_DROPOUT, config.hidden_dropout)
        rates |= dict.fromkeys(ATTENTION_DROPOUT, config.attention_dropout)
        if config.embedding_dropout is not None:
            rates["embedding_dropout"] = config.embedding_dropout
        theirs = transformers.AutoConfig.from_pretrained(folder, **rates)  # ignores keys that the family lacks
        self.encoder = transformers.AutoModel.from_pretrained(folder, config=theirs, dtype=torch.float32)
        self.heads = nn.ModuleDict({f"for_{name}": _head(head) for name, head in heads.items()})

    @classmethod
    def of(cls, run: Run) -> "Plain":
        """Returns a model with the weights that ``run`` has now."""
        with TemporaryDirectory() as folder:
            save_encoder(run.model.encoder, Path(folder))
            heads = {name: run.model.head(name) for name in run.data}
            return cls(Path(folder), run.model.encoder.config, run.recipe, heads).to(run.device)

    def forward(self, task: str, labels: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """Returns the weighted ``loss`` of a task's batch, and each of its losses by ``task.kind``."""
        return self.losses(task, self.predict(task, self.vectors(**inputs)), labels)

    def vectors(self, **inputs: Tensor) -> Tensor:
        """Returns a vector for each example, ``[B, D]``: that of the pooler, or of the first token without one."""
        if self.config.segment_types < 2:
            del inputs["token_type_ids"]
        found = self.encoder(**inputs)
        vectors_BD: Tensor = found.pooler_output if self.config.pooler else found.last_hidden_state[:, 0]
        return vectors_BD

    def predict(self, task: str, pooled_BD: Tensor) -> Tensor:
        """Returns the predictions of a task's batch, as in :class:`mtbert.batch.Output`."""
        prediction: Tensor = self.heads[f"for_{task}"](pooled_BD).squeeze(-1).float()
        return prediction

    def losses(self, task: str, prediction: Tensor, labels_B: Tensor) -> dict[str, Tensor]:
        """Returns the weighted ``loss`` of predictions, and each of its losses by ``task.kind``, without SMART.

        :class:`SmartLoop` computes the loss of SMART.
        """
        settings = self.recipe.tasks[task]
        kept = [loss for loss in settings.losses if loss.kind != "smart"]
        found = {f"{task}.{loss.kind}": LOSSES[loss.kind](prediction, labels_B) for loss in kept}
        total = sum(loss.weight * value for loss, value in zip(kept, found.values(), strict=True))
        return {"loss": settings.weight * total, **found}


class Features:
    """Examples under the input names of transformers, as views of flat arrays, with mtbert's labels."""

    def __init__(self, data: Dataset) -> None:
        (flat,) = data.sequences
        self.ids, self.segments = (torch.tensor(x).long() for x in (flat.ids, flat.segments))
        self.offsets = flat.offsets.tolist()
        rows = np.arange(len(data))
        self.labels = collate([(data, rows)], torch.device("cpu")).labels[data.task.name]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Inputs:
        at = slice(self.offsets[row], self.offsets[row + 1])
        return {"input_ids": self.ids[at], "token_type_ids": self.segments[at], "labels": self.labels[row]}


class PlainLoop:
    """The obvious training loop: pad to the longest sequence, autocast, backward, clip, fused AdamW.

    Texts are tokenised beforehand, as in mtbert; padding them is part of a step, as it is for most collators.
    """

    def __init__(
        self, recipe: Recipe, data: Mapping[str, Prepared], model: Plain, device: torch.device, compute: torch.dtype
    ) -> None:
        settings = recipe.train
        if settings.schedule != "constant" or settings.warmup:
            raise ValueError("the plain loop has a constant rate and one batch of a task per step.")
        self.recipe, self.model, self.device, self.compute = recipe, model, device, compute
        self.features = {name: Features(d.train) for name, d in data.items()}
        self.streams = [
            Stream(name=name, size=len(d.train), batch_size=recipe.tasks[name].batch_size, seed=settings.seed)
            for name, d in data.items()
        ]
        self.done = 0
        self.parameters = list(model.parameters())
        groups = [
            {"params": [p for p in self.parameters if (p.ndim > 1) is decays], "weight_decay": decay}
            for decays, decay in ((True, settings.weight_decay), (False, 0.0))
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)
        self.model.train()

    @classmethod
    def of(cls, run: Run) -> "PlainLoop":
        """Returns a loop with the weights that ``run`` has now."""
        return cls(run.recipe, run.data, Plain.of(run), run.device, run.model.compute)

    def step(self) -> Done:
        """Makes one optimizer step: on the task whose turn it is, or on all tasks if the recipe's mode is joint."""
        joint, tasks = self.recipe.train.mode == "joint", len(self.streams)
        turn = self.done if joint else self.done // tasks
        losses: dict[str, float] = {}
        self.optimizer.zero_grad(set_to_none=True)
        for stream in self.streams if joint else [self.streams[self.done % tasks]]:
            found = self.backward(stream.name, stream.rows(turn).tolist())
            losses |= {key: float(value) for key, value in found.items()}
        norm = self.clip()
        self.optimizer.step()
        self.done += 1
        return Done(losses, norm)

    def backward(self, task: str, rows: list[int]) -> dict[str, Tensor]:
        """Adds the gradient of a task's batch; returns its losses by ``task.kind``."""
        with self.autocast():
            found = self.model(task, **self.batch(task, rows))
        found.pop("loss").backward()
        return {key: value.detach() for key, value in found.items()}

    def clip(self) -> float:
        """Clips the gradient; returns its norm before clipping."""
        return float(nn.utils.clip_grad_norm_(self.parameters, self.recipe.train.clip or math.inf))

    def batch(self, task: str, rows: list[int]) -> Inputs:
        """Returns the rows as a batch, padded to the longest of them."""
        chosen = [self.features[task][row] for row in rows]
        ids = [f["input_ids"] for f in chosen]
        lengths_B = torch.tensor([len(x) for x in ids])
        inputs = {
            "input_ids": pad_sequence(ids, batch_first=True),
            "token_type_ids": pad_sequence([f["token_type_ids"] for f in chosen], batch_first=True),
            "attention_mask": (torch.arange(int(lengths_B.max())) < lengths_B[:, None]).long(),
            "labels": torch.stack([f["labels"] for f in chosen]),
        }
        return {key: tensor.to(self.device) for key, tensor in inputs.items()}

    def autocast(self) -> torch.autocast:
        """Returns the context for bfloat16 products, if the machine is fast at them."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.compute == torch.bfloat16)


class TrainerLoop(PlainLoop):
    """``transformers.Trainer`` with its own collator, ``training_step``, optimizer and clipping, at their defaults.

    What ``Trainer.train`` does around a step (data loader, callbacks, schedule, logging) is left out, in its favour.
    """

    def __init__(self, run: Run, tokenizer_folder: Path, out: Path) -> None:
        super().__init__(run.recipe, run.data, Plain.of(run), run.device, torch.float32)
        settings = run.recipe.train
        self.trainer = transformers.Trainer(
            model=self.model,
            args=transformers.TrainingArguments(
                output_dir=str(out),
                learning_rate=settings.lr,
                adam_beta1=settings.betas[0],
                adam_beta2=settings.betas[1],
                adam_epsilon=settings.eps,
                weight_decay=settings.weight_decay,
                max_grad_norm=settings.clip or 0.0,
                use_cpu=run.device.type == "cpu",
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
            ),
            processing_class=transformers.AutoTokenizer.from_pretrained(tokenizer_folder),
        )
        self.trainer.current_gradient_accumulation_steps = 1  # as Trainer.train sets it
        self.optimizer = self.trainer.create_optimizer()
        self.lists = {
            name: [{key: value.tolist() for key, value in features[row].items()} for row in range(len(features))]
            for name, features in self.features.items()
        }

    def backward(self, task: str, rows: list[int]) -> dict[str, Tensor]:
        inputs = self.trainer.data_collator([self.lists[task][row] for row in rows])
        loss = self.trainer.training_step(self.model, {"task": task, **inputs})
        (main,) = self.recipe.tasks[task].losses
        return {f"{task}.{main.kind}": loss / main.weight / self.recipe.tasks[task].weight}

    def clip(self) -> float:
        limit = self.trainer.args.max_grad_norm
        return float(self.trainer.accelerator.clip_grad_norm_(self.model.parameters(), limit))


class SmartLoop(PlainLoop):
    """SMART by the package smart-pytorch, set up to compute the same as mtbert's mode ``reference``.

    The noise is added after the embedding layer, as in mtbert. The package sums over the batch where mtbert takes the
    mean. For scores, the loss is the squared error with a fixed target; the package has no function for it.
    """

    def backward(self, task: str, rows: list[int]) -> dict[str, Tensor]:
        import smart_pytorch

        settings = self.recipe.tasks[task]
        (smart,) = (loss for loss in settings.losses if isinstance(loss, Smart))
        inputs, encoder = self.batch(task, rows), self.model.encoder
        with self.autocast():
            x_BLD = encoder.embeddings(input_ids=inputs["input_ids"], token_type_ids=inputs["token_type_ids"])
            mask = transformers.masking_utils.create_bidirectional_mask(
                config=encoder.config, inputs_embeds=x_BLD, attention_mask=inputs["attention_mask"]
            )

            def predict(x_BLD: Tensor) -> Tensor:
                hidden_BLD = encoder.encoder(x_BLD, attention_mask=mask).last_hidden_state
                return self.model.predict(task, encoder.pooler(hidden_BLD))

            def as_state(prediction: Tensor) -> Tensor:
                is_logit = settings.type == "binary"
                return torch.stack([torch.zeros_like(prediction), prediction], -1) if is_logit else prediction

            prediction = predict(x_BLD)
            apart = _squared_error if settings.type == "regression" else smart_pytorch.sym_kl_loss
            regulariser = smart_pytorch.SMARTLoss(
                lambda x_BLD: as_state(predict(x_BLD)),
                apart,
                num_steps=smart.steps,
                step_size=smart.step_size,
                noise_var=smart.noise_std,
            )
            found = self.model.losses(task, prediction, inputs["labels"])
            found[f"{task}.smart"] = regulariser(x_BLD, as_state(prediction)) / len(rows)
        (found.pop("loss") + settings.weight * smart.weight * found[f"{task}.smart"]).backward()
        return {key: value.detach() for key, value in found.items()}


class TorchJDLoop:
    """mtbert's model and losses, with the gradients combined by torchjd: only the surgery itself differs.

    Args:
        run: The run whose weights and optimizer are used; its mode must be joint.
        aggregator: An aggregator of torchjd.
        chunk: The number of losses that are differentiated at once; all if None.
    """

    def __init__(self, run: Run, aggregator: Any, chunk: int | None) -> None:
        self.run, self.aggregator, self.chunk, self.done = run, aggregator, chunk, 0
        run.model.encoder.word_embedding.sparse = False  # torchjd's gradients are dense

    def step(self) -> Done:
        """Makes one joint step."""
        from torchjd.autojac import jac_to_grad, mtl_backward

        run = self.run
        batch = collate([(run.data[s.name].train, s.rows(self.done)) for s in run.streams], run.device)
        run.optimizer.zero_grad(set_to_none=True)
        masks = run.generator.get_state()
        outputs = run.model(batch, run.generator)
        losses, told = [], {}
        for name, out in outputs.items():
            settings = run.recipe.tasks[name]
            made = Pass(run.model, batch, run.model.tasks[name], out, batch.labels[name], run.generator, masks)
            values = {f"{name}.{loss.kind}": loss(made) for loss in settings.losses}
            told |= {key: float(value.detach()) for key, value in values.items()}
            weighted = [loss.weight * value for loss, value in zip(settings.losses, values.values(), strict=True)]
            losses.append(settings.weight * torch.stack(weighted).sum())
        mtl_backward(
            losses,
            features=[vector for out in outputs.values() for vector in out.vectors],
            tasks_params=[list(run.model.head(name).parameters()) for name in outputs],
            shared_params=run.shared,
            parallel_chunk_size=self.chunk,
        )
        jac_to_grad(run.shared, self.aggregator)
        norm = float(nn.utils.clip_grad_norm_(run.trained, run.recipe.train.clip or math.inf))
        run.optimizer.step()
        self.done += 1
        return Done(told, norm)


def _squared_error(scores_B: Tensor, other_B: Tensor) -> Tensor:
    return ((scores_B - other_B).detach() * (scores_B - other_B)).sum()


def _head(head: LinearHead) -> nn.Sequential:
    """Returns a plain module with the weights of ``head``."""
    layers: list[nn.Module] = []
    for linear in head.layers:
        copy = nn.Linear(linear.in_features, linear.out_features)
        copy.load_state_dict(linear.state_dict())
        layers += [nn.ReLU()] * bool(layers) + [nn.Dropout(head.p), copy]
    return nn.Sequential(*layers)
