"""Functions for the exports to the two stock libraries, transformers and sentence-transformers.

These functions write the files that both libraries read, and find the linear layers of a task. Neither library is
imported here.

Dimension key: B examples, F input features of a linear layer, K output features of a linear layer.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mtbert import files
from mtbert.answers.regression import ends, width
from mtbert.batch import Dataset
from mtbert.data.words import as_read
from mtbert.messages import clean, few
from mtbert.model.encoder import Encoder, EncoderConfig
from mtbert.model.families.known import FAMILIES
from mtbert.model.heads import LinearHead, reads_pooler
from mtbert.model.layer import Activation
from mtbert.model.lora import merged
from mtbert.model.model import Model
from mtbert.model.native import NativeHead
from mtbert.model.weights import encoder_state
from mtbert.storage.tokenizer_settings import TOKENIZER_SETTINGS, tokenizer_settings
from mtbert.task import Task
from mtbert.use.export import Wanted

Form = Literal["classes", "yes or no", "labels", "score", "tags"]
"""The meaning of the numbers that the head of a task gives.

- ``classes``: a logit for each class.
- ``yes or no``: one logit, for yes.
- ``labels``: a logit for each label of a set.
- ``score``: a score.
- ``tags``: for each word, a logit for each tag.
"""
FORMS: Mapping[str, Form] = {"logits": "classes", "logit": "yes or no", "logits of labels": "labels", "score": "score"}
# Keys of config.json that are kept beside those that the family reads. Others could change what a library does.
KEPT_KEYS = ("model_type", "initializer_range", "pad_token_id")
# The largest score, and the largest share of the range that it may be, if the weights of a head in float32 give scores.
LARGEST_SCORE, FARTHEST = 1e30, 500
ASKED_TOGETHER = 32  # examples that a library answers together while answers are compared


# Layers ------------------------------------------------------------------------------------------------------


def form_of(task: Task) -> Form | None:
    """Returns the meaning of the numbers that the task's head gives, as a :data:`Form`.

    For example, ``classes`` means that each number is the logit of a class.

    Returns None if no head in transformers or sentence-transformers gives numbers with the same meaning.
    """
    form = FORMS.get(task.predicts.feeds[0])
    if task.pooled("cls") == "words":
        return "tags" if form == "classes" else None
    return None if form == "score" and task.predicts.shape(task) else form


def own_encoder(model: Model, task: Task) -> Encoder:
    """Returns the encoder of a task, with LoRA's changes merged into the weights.

    If the task has its own copies of the top layers, they replace those of the shared encoder.
    """
    encoder = merged(model.encoder)
    if not model.unshare:
        return encoder
    top, made = model.top(task.name), copy.copy(encoder)
    layers = nn.ModuleList([*encoder.layers[: top.first], *top.layers])
    # The copy is shallow, and gets a table of modules of its own, so the shared encoder keeps its layers.
    made._modules = encoder._modules | {"layers": layers, "final_norm": top.final_norm, "pooler": top.pooler}
    return made


def has_pooler(config: EncoderConfig) -> bool:
    """Returns whether transformers builds a pooler for this encoder, even if the checkpoint has no weights for one."""
    family = FAMILIES[config.family]
    return family.encoder(family.config.model_validate(dict(config.source))).pooler


@dataclass(frozen=True)
class Affine:
    """A linear layer with the activation function and the norm that follow it.

    The bias, the activation function and the norm may be None.
    """

    weight_KF: Tensor
    bias_K: Tensor | None
    activation: Activation | None = None
    norm: nn.LayerNorm | None = None

    def as_tensors(self, name: str) -> dict[str, Tensor]:
        """Returns a dict with the keys ``NAME.weight`` and, if there is a bias, ``NAME.bias``; NAME is ``name``."""
        found = {f"{name}.weight": self.weight_KF}
        return found if self.bias_K is None else found | {f"{name}.bias": self.bias_K}


def affines(model: Model, task: Task) -> list[Affine]:
    """Returns the linear layers of a task's head, in order. If the head reads the pooler, the pooler comes first.

    The steps after the last layer (a temperature, Platt scaling, or the mapping to the range of scores) are merged into
    the weight and the bias of this layer. The head must be a :class:`LinearHead`.
    """
    head = model.head(task.name)
    assert isinstance(head, LinearHead)
    *hidden, last = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    fitted = model.fitted(task.name)
    scale, shift = (float(fitted[name]) if name in fitted else none for name, none in (("scale", 1.0), ("bias", 0.0)))
    if form_of(task) == "score":
        scale, shift = width(task), ends(task)[0]
    found = [
        Affine(layer.weight.detach(), None if layer.bias is None else layer.bias.detach(), head.activation, head.norm)
        for layer in hidden
    ]
    weight_KF, bias_K = last.weight.detach().double() * scale, last.bias.detach().double() * scale + shift
    found.append(Affine(weight_KF.float(), bias_K.float()))
    if reads_pooler(task, model.pooling, model.encoder.config):
        pooler = own_encoder(model, task).pooler
        assert pooler is not None
        found.insert(0, Affine(pooler.weight.detach(), pooler.bias.detach(), torch.tanh))
    return found


def has_layers_of(head: NativeHead, layers: Sequence[Affine], width: int) -> bool:
    """Returns whether ``layers`` have the structure of a classification head of the transformers library.

    The structure is the number of layers, their widths, their activation functions, and which of them have a bias or a
    norm. ``head`` describes the library's head. ``layers`` is a result of :func:`affines`, and ``width`` is the width
    of the encoder.
    """
    hidden: list[tuple[Activation | None, bool, bool]] = [(torch.tanh, True, False)] * head.pooler
    hidden += [(head.activation, head.bias, head.norm is not None)] * (len(head.names) - 1)
    found = [(each.activation, each.bias_K is not None, each.norm is not None) for each in layers[:-1]]
    return found == hidden and all(len(each.weight_KF) == width for each in layers[:-1])


def head_for_words(config: EncoderConfig) -> NativeHead:
    """Returns the form of the head in the transformers class for token classification, for the encoder's family.

    For BERT, for example, this class is ``BertForTokenClassification``.
    """
    return config.native if config.native is not None and config.native.words else NativeHead(names=("classifier",))


# Refusals and notes ------------------------------------------------------------------------------------------


def not_stock(model: Model, task: Task, library: str) -> str | None:
    """Returns one line that says why ``library`` cannot load an export of a task, and what to do instead.

    Returns None if no reason is known.
    """
    if model.adapted(task.name):
        return f"{library} has no projected attention layers (PAL), and this task has some. Use --to onnx."
    if not task.head_kind.gives_cosine and form_of(task) is None:
        return f"{library} has no answers of type '{task.type}'. Use --to onnx."
    far, cosine = max(map(abs, ends(task))), task.head_kind.gives_cosine
    if not cosine and (far > LARGEST_SCORE or far > FARTHEST * width(task)):
        low, high = ends(task)
        return f"scores from {low:.9g} to {high:.9g} have more digits than weights in float32 give. Use --to onnx."
    return None


def left_to_user(model: Model, task: Task, logit: str) -> tuple[str, ...]:
    """Returns notes that tell users of an export how to turn the output of the exported model into mtbert's answers.

    A note is, for example, ``Scores are not clamped: clamp them to 0 and 5.`` The argument ``logit`` is a phrase for
    the logit of a yes/no task, such as ``what the model gives``. The note about isotonic calibration contains the
    phrase.
    """
    fitted, notes = model.fitted(task.name), []
    low, high = ends(task)
    cosine = task.head_kind.gives_cosine
    if task.predicts.feeds[0] in ("score", "cosine") and task.labels is None and task.texts is not None:
        if cosine:
            notes.append(f"The score is {low:g} + {high - low:g} * cosine, clamped to {low:g} and {high:g}.")
        else:
            notes.append(f"Scores are not clamped: clamp them to {low:g} and {high:g}.")
    if cosine and task.labels is not None:
        no, yes = map(clean, task.labels)
        notes.append(f"The answer is {yes} if the cosine is above {float(fitted['threshold']):.6g}, and {no} if not.")
    if "knots" in fitted:
        notes.append(
            "Probabilities are not calibrated, because the calibration is no part of a linear layer. A calibrated "
            f"one is `numpy.interp(logit, *knots)`, where the logit is {logit}, and `export.json` has `knots` under "
            f'`["tasks"]["{task.name}"]["fitted"]`.'
        )
    if form_of(task) == "labels" and "threshold" in fitted and bool(fitted["threshold"].any()):
        p_K = fitted["threshold"].sigmoid().tolist()
        limits = few([f"{clean(label)} {p:.4g}" for label, p in zip(task.labels or (), p_K, strict=True)], most=20)
        notes.append(f"A label is chosen if its probability is above its threshold: {limits}.")
    if form_of(task) == "tags":
        notes.append("A word has the tag of its first token; tokens after it have tags that nobody trained.")
        if task.splitter == "unicode-joined":
            notes.append("The model was trained on words with single spaces between them, also before a full stop.")
    return tuple(notes)


# Files ---------------------------------------------------------------------------------------------------------


def places(wanted: Wanted) -> dict[str, str]:
    """Returns a dict from task name to the subfolder with the task's exported files.

    If only one task is exported, the files are in the export's folder itself, and the subfolder is an empty string.
    """
    return {name: "" if len(wanted.tasks) == 1 else name for name in wanted.tasks}


def subfolder(folder: Path, place: str) -> Path:
    """Returns the folder of a task, after making it. ``place`` comes from :func:`places`.

    Raises:
        FileExistsError: If the folder exists already. This happens if two tasks are called ``A`` and ``a`` and the
            file system ignores case.
    """
    if place:
        (folder / place).mkdir()
    return folder / place


def write_encoder(
    encoder: Encoder,
    folder: Path,
    config: Mapping[str, object],
    *,
    beside: Mapping[str, Tensor] = {},
    prefix: str = "",
    pooler: bool = True,
) -> None:
    """Writes an encoder as ``config.json`` and ``model.safetensors``.

    A model class of the ``transformers`` library can load these files.

    Args:
        encoder: The encoder.
        folder: The folder to write into.
        config: Further keys of ``config.json``.
        beside: Further weights, by name.
        prefix: A prefix for the names of the encoder's weights.
        pooler: Whether the model class has a pooler. If false, the encoder's pooler is left out.
    """
    kept = {name: weight for name, weight in encoder_state(encoder).items() if pooler or not name.startswith("pooler.")}
    state = {**{prefix + name: weight for name, weight in kept.items()}, **beside}
    file = folder / "model.safetensors"
    with files.naming(file):
        save_file({name: weight.contiguous() for name, weight in state.items()}, file, metadata={"format": "pt"})
    known = FAMILIES[encoder.config.family].config.model_fields
    source = {key: value for key, value in encoder.config.source.items() if key in known or key in KEPT_KEYS}
    write_json(folder / "config.json", {**source, "dtype": "float32", **config})


def write_tokenizer_files(wanted: Wanted, task: Task, folder: Path) -> None:
    """Writes ``tokenizer.json`` and ``tokenizer_config.json``, so that transformers makes the same tokens as mtbert.

    Raises:
        ValueError: If the tokenizer has no special token for padding.
    """
    model, tokenizer = wanted.predictor.model, wanted.predictor.tokenizer
    segments = task.segments and model.encoder.config.segment_types > 1
    settings = tokenizer_settings(tokenizer, model.encoder.config, model.max_length, segments)
    if "pad_token" not in settings:
        raise ValueError(
            "the tokenizer has no special token for padding, such as [PAD], so a stock library cannot make batches. "
            "Use --to onnx."
        )
    write_json(folder / TOKENIZER_SETTINGS, settings)
    truncation = {"direction": "Right", "max_length": model.max_length, "strategy": "LongestFirst", "stride": 0}
    write_json(folder / "tokenizer.json", json.loads(tokenizer.to_str()) | {"truncation": truncation})


def write_json(file: Path, value: object) -> None:
    """Writes a value as JSON."""
    with files.naming(file):
        file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def first_lines(packages: str) -> list[str]:
    """Returns the lines that begin the section "Use" in the ``README.md`` of an exported model."""
    return [
        "## Use",
        "",
        f"`pip install {packages}`. Replace `FOLDER` with the path of this folder. Give texts without white space at "
        "their ends, as `text.strip()`: with some tokenizers it would change the answer.",
        "",
    ]


# Asking --------------------------------------------------------------------------------------------------------


@contextmanager
def quiet() -> Iterator[None]:
    """Returns a context manager in which transformers prints no progress bars and no warnings."""
    from transformers.utils import logging

    control: Any = logging  # some of its functions have no types
    shown, level = control.is_progress_bar_enabled(), control.get_verbosity()
    control.disable_progress_bar()
    control.set_verbosity_error()
    try:
        yield
    finally:
        control.set_verbosity(level)
        if shown:
            control.enable_progress_bar()


def texts_of(data: Dataset) -> list[list[str]]:
    """Returns the text columns of a data set, in the form that the tokenizer takes as input."""
    return [[text.strip() for text in column] for column in as_read(data.examples.texts, data.task.splitter)]
