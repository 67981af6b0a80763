"""The export for transformers: folders that the library loads with its own classes.

A task about texts becomes a model for sequence classification, and a task about words becomes one for token
classification. A task is refused if no class of transformers computes exactly what our model computes.

Dimension key: B examples, L tokens, W words, K labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtbert.batch import Dataset
from mtbert.model.encoder import EncoderConfig
from mtbert.model.families.known import FAMILIES
from mtbert.model.model import Model
from mtbert.model.native import NativeHead
from mtbert.task import Task
from mtbert.use.export import Answering, OptionName, Wanted
from mtbert.use.export.stock import (
    ASKED_TOGETHER,
    Affine,
    Form,
    affines,
    first_lines,
    form_of,
    has_layers_of,
    head_for_words,
    left_to_user,
    not_stock,
    own_encoder,
    places,
    quiet,
    subfolder,
    texts_of,
    write_encoder,
    write_tokenizer_files,
)

# What config.json says about the numbers that a class for whole texts gives.
PROBLEMS: Mapping[Form | None, str] = {
    "classes": "single_label_classification",
    "yes or no": "single_label_classification",
    "labels": "multi_label_classification",
    "score": "regression",
}


@dataclass(frozen=True)
class Transformers:
    """The format ``transformers``: a folder for each task, which ``transformers.pipeline`` loads."""

    name: str = "transformers"
    packages: tuple[str, ...] = ("transformers",)
    install: str = "transformers"
    options: frozenset[OptionName] = frozenset()

    def refusal(self, model: Model, task: Task) -> str | None:
        why = not_stock(model, task, "transformers")
        if why is not None:
            return why
        config = model.encoder.config
        if task.inputs == "separate":
            where = "sentence-transformers" if task.head_kind.gives_cosine else "onnx"
            return f"no class of transformers reads two texts separately. Use --to {where}."
        theirs, head = stock_class(config, task), config.native
        able = head is not None and (config.pooler or not head.pooler)
        repair = f"Use {'head: native, or ' * able}--to sentence-transformers."
        if form_of(task) == "tags":
            repair = f"Use head: {'linear' if len(head_for_words(config).names) == 1 else 'native'}, or --to onnx."
        elif model.pooling_of(task) != "cls" and (theirs.head is None or theirs.head.pooling_key is None):
            return f"{theirs.name} reads first tokens, and this task reads means over tokens. {repair}"
        if theirs.head is None or not has_layers_of(theirs.head, affines(model, task), config.width):
            return f"head '{task.head.kind}' is not that of {theirs.name}. {repair}"
        return None

    def lost(self, model: Model, task: Task) -> tuple[str, ...]:
        return left_to_user(model, task, "that of the second label minus that of the first, without softmax")

    def facts(self, wanted: Wanted) -> dict[str, dict[str, object]]:
        return {name: {"folder": place} for name, place in places(wanted).items()}

    def usage(self, wanted: Wanted) -> str:
        parts = first_lines("transformers torch")
        for name, place in places(wanted).items():
            task = wanted.predictor.task(name)
            kind, options = "text-classification", ", top_k=None, truncation=True"
            if "knots" in wanted.predictor.model.fitted(name):
                options += ', function_to_apply="none"'
            if form_of(task) == "tags":
                kind, options = "token-classification", ', aggregation_strategy="first"'
            question = '"A text."' if task.texts == 1 else '{"text": "A text.", "text_pair": "Another text."}'
            parts += [
                *([f"### {name}", ""] * (place != "")),
                "```python",
                "from transformers import pipeline",
                "",
                f'ask = pipeline("{kind}", "FOLDER{place and "/" + place}"{options})',
                f"print(ask({question}))",
                "```",
                "",
            ]
        return "\n".join(parts)

    def write(self, wanted: Wanted, folder: Path) -> Mapping[str, Answering]:
        asked = {}
        for name, place in places(wanted).items():
            wanted.tell(f"{self.name}: {name}")
            asked[name] = _write(wanted, wanted.predictor.task(name), subfolder(folder, place))
        return asked


TRANSFORMERS = Transformers()


@dataclass(frozen=True)
class StockClass:
    """A class of transformers, such as ``BertForSequenceClassification``.

    ``head`` describes the head of the class; None if mtbert does not know this head.
    """

    name: str
    head: NativeHead | None


def stock_class(config: EncoderConfig, task: Task) -> StockClass:
    """Returns the class in the transformers library that fits the encoder's family and the task."""
    base = FAMILIES[config.family].types[config.source["model_type"]].removesuffix("Model")
    if form_of(task) == "tags":
        return StockClass(f"{base}ForTokenClassification", head_for_words(config))
    return StockClass(f"{base}ForSequenceClassification", config.native)


def _write(wanted: Wanted, task: Task, folder: Path) -> Answering:
    model, form = wanted.predictor.model, form_of(task)
    encoder, layers = own_encoder(model, task), affines(model, task)
    theirs = stock_class(encoder.config, task)
    head = theirs.head
    assert head is not None
    labels = task.labels or (task.name,)
    config: dict[str, object] = {
        "architectures": [theirs.name],
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    if form in PROBLEMS:
        config["problem_type"] = PROBLEMS[form]
    if form == "yes or no":
        layers[-1] = _two_labels(layers[-1])
    if form != "tags" and head.pooling_key is not None:
        config[head.pooling_key] = model.pooling_of(task)
    beside: dict[str, Tensor] = {}
    for name, layer in zip(head.names, layers[-len(head.names) :], strict=True):
        beside |= layer.as_tensors(name)
        if layer.norm is not None and head.norm is not None:
            beside |= {f"{head.norm.name}.{part}": weight for part, weight in layer.norm.state_dict().items()}
    prefix = FAMILIES[encoder.config.family].prefixes[0]
    write_encoder(encoder, folder, config, beside=beside, prefix=prefix, pooler=head.pooler)
    write_tokenizer_files(wanted, task, folder)
    return partial(_answers, folder)


def _two_labels(layer: Affine) -> Affine:
    """Returns a layer that gives two logits: 0, and the logit of ``layer``.

    The second probability of their softmax equals the sigmoid of the logit of ``layer``.
    """
    assert layer.bias_K is not None
    weight_KF, bias_K = (torch.cat([torch.zeros_like(part), part]) for part in (layer.weight_KF, layer.bias_K))
    return Affine(weight_KF, bias_K)


# Asking --------------------------------------------------------------------------------------------------------


def _answers(folder: Path, data: Dataset) -> dict[str, Tensor]:
    """Returns the answers that transformers computes with the exported model in ``folder``, as tensors."""
    form, logits = form_of(data.task), _logits(folder, data)
    if form == "tags":
        return {"probabilities": _of_words(logits, data).softmax(-1)}
    logits_BK = torch.cat(logits)
    if form == "score":
        return {"score": logits_BK[:, 0]}
    if form == "labels":
        return {"probabilities": logits_BK.sigmoid()}
    return {"probabilities": logits_BK.softmax(-1)}


@torch.no_grad()
def _logits(folder: Path, data: Dataset) -> list[Tensor]:
    """Returns the logits of each batch, ``[B, K]``. For a task about words, a batch is a single text: ``[1, L, K]``."""
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

    words = form_of(data.task) == "tags"
    kind = AutoModelForTokenClassification if words else AutoModelForSequenceClassification
    with quiet():
        model, info = kind.from_pretrained(folder, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    assert not info["missing_keys"], info["missing_keys"]
    assert not info["unexpected_keys"], info["unexpected_keys"]
    model.eval()
    found, columns, together = [], texts_of(data), 1 if words else ASKED_TOGETHER
    for first in range(0, len(data), together):
        texts = [column[first : first + together] for column in columns]
        found.append(model(**tokenizer(*texts, padding=True, truncation=True, return_tensors="pt")).logits)
    return found


def _of_words(logits: list[Tensor], data: Dataset) -> Tensor:
    """Returns the logits of each word's first token, ``[W, K]``. The logits of a word without a token are ``nan``."""
    words = data.words(np.arange(len(data)))
    assert words is not None
    found_WK = torch.full((len(words.values), logits[0].shape[-1]), torch.nan)
    for word, (text, token) in enumerate(zip(words.owners.tolist(), words.values.tolist(), strict=True)):
        if token >= 0:
            found_WK[word] = logits[text][0, token]
    return found_WK
