"""The export for sentence-transformers: folders that contain only modules of sentence-transformers.

A task that reads two texts in one sequence becomes a CrossEncoder. Any other task becomes a SentenceTransformer. If the
task compares texts, its SentenceTransformer returns vectors, and the cosine of two vectors is the answer. If the task
reads single texts, its SentenceTransformer has the linear layers of the task's head after the pooling, and returns
logits or a score.

Dimension key: B examples, C candidates, D width of the encoder, K numbers of an answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, gelu

from mtbert.answers.regression import ends, width
from mtbert.batch import Dataset
from mtbert.model.families.known import FAMILIES
from mtbert.model.layer import Activation
from mtbert.model.model import Model
from mtbert.storage.tensors import save_tensors
from mtbert.task import Task
from mtbert.use.export import Answering, OptionName, Wanted
from mtbert.use.export.stock import (
    ASKED_TOGETHER,
    Form,
    affines,
    first_lines,
    form_of,
    has_layers_of,
    has_pooler,
    head_for_words,
    left_to_user,
    not_stock,
    own_encoder,
    places,
    quiet,
    subfolder,
    texts_of,
    write_encoder,
    write_json,
    write_tokenizer_files,
)

TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
POOLING = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
DENSE = "sentence_transformers.base.modules.dense.Dense"
NOTHING = "torch.nn.modules.linear.Identity"
SIGMOID = "torch.nn.modules.activation.Sigmoid"
# The class of each function that may follow a linear layer. The library trusts classes of torch alone.
FOLLOWING: Mapping[Activation | None, str] = {
    None: NOTHING,
    torch.tanh: "torch.nn.modules.activation.Tanh",
    torch.relu: "torch.nn.modules.activation.ReLU",
    gelu: "torch.nn.modules.activation.GELU",
}
SETTINGS = "config_sentence_transformers.json"
# The meaning of what the loaded model gives, for README.md.
MEANINGS: Mapping[Form, str] = {
    "classes": "a probability for each label",
    "yes or no": "the probability of the second label",
    "labels": "a probability for each label",
    "score": "the score",
}


@dataclass(frozen=True)
class SentenceTransformers:
    """The format ``sentence-transformers``: a folder for each task, with the modules of the library."""

    name: str = "sentence-transformers"
    packages: tuple[str, ...] = ("sentence_transformers",)
    install: str = "sentence-transformers"
    options: frozenset[OptionName] = frozenset()

    def refusal(self, model: Model, task: Task) -> str | None:
        why = not_stock(model, task, "sentence-transformers")
        if why is not None:
            return why
        if form_of(task) == "tags":
            config = model.encoder.config
            fits = has_layers_of(head_for_words(config), affines(model, task), config.width)
            where = "transformers" if fits else "onnx"
            return f"no module of sentence-transformers answers about words. Use --to {where}."
        if task.head_kind.gives_cosine:
            return None
        if task.inputs == "separate":
            return (
                f"no module of sentence-transformers makes {task.head.features} of two vectors, which head "
                f"'{task.head.kind}' reads. Use head: cosine, inputs: packed, or --to onnx."
            )
        if any(layer.activation not in FOLLOWING or layer.norm is not None for layer in affines(model, task)):
            return f"sentence-transformers has no layer as in head '{task.head.kind}'. Use --to onnx."
        return None

    def lost(self, model: Model, task: Task) -> tuple[str, ...]:
        return left_to_user(model, task, "what the model gives")

    def facts(self, wanted: Wanted) -> dict[str, dict[str, object]]:
        return {name: {"folder": place} for name, place in places(wanted).items()}

    def usage(self, wanted: Wanted) -> str:
        parts = first_lines("sentence-transformers")
        for name, place in places(wanted).items():
            task = wanted.predictor.task(name)
            kind = "CrossEncoder" if crossed(task) else "SentenceTransformer"
            parts += [
                *([f"### {name}", ""] * (place != "")),
                "```python",
                f"from sentence_transformers import {kind}",
                "",
                f'model = {kind}("FOLDER{place and "/" + place}")',
                *_question(wanted.predictor.model, task),
                "```",
                "",
            ]
        return "\n".join(parts)

    def write(self, wanted: Wanted, folder: Path) -> Mapping[str, Answering]:
        asked = {}
        for name, place in places(wanted).items():
            wanted.tell(f"{self.name}: {name}")
            asked[name] = _write_modules(wanted, wanted.predictor.task(name), subfolder(folder, place))
        return asked


SENTENCE_TRANSFORMERS = SentenceTransformers()


def crossed(task: Task) -> bool:
    """Returns whether a task becomes a CrossEncoder, which reads two texts in one sequence."""
    return task.inputs == "packed"


def _question(model: Model, task: Task) -> list[str]:
    """Returns lines of Python for the ``README.md``, which get an answer from the loaded model and print it."""
    form, raw = form_of(task), "knots" in model.fitted(task.name)
    if form is None:
        return [
            'one, other = model.encode(["A text.", "Another text."])',
            "print(model.similarity(one, other))  # the cosine",
        ]
    what = "the logit of the second label" if raw else MEANINGS[form]
    if crossed(task):
        softmax = ", apply_softmax=True" if form == "classes" else ""
        return [f'print(model.predict([("A text.", "Another text.")]{softmax}))  # {what}']
    function = "" if form == "score" or raw else ".softmax(-1)" if form == "classes" else ".sigmoid()"
    return [f'print(model.encode(["A text."], convert_to_tensor=True){function})  # {what}']


def _write_modules(wanted: Wanted, task: Task, folder: Path) -> Answering:
    model = wanted.predictor.model
    encoder, width_D = own_encoder(model, task), model.encoder.config.width
    base = FAMILIES[encoder.config.family].types[encoder.config.source["model_type"]]
    write_encoder(encoder, folder, {"architectures": [base]})
    write_tokenizer_files(wanted, task, folder)
    settings: dict[str, object] = {"max_seq_length": model.max_length}
    if encoder.pooler is None and has_pooler(encoder.config):
        settings["model_kwargs"] = {"add_pooling_layer": False}
    write_json(folder / "sentence_bert_config.json", settings)
    pooling = {"embedding_dimension": width_D, "pooling_mode": model.pooling_of(task), "include_prompt": True}
    modules = [("", TRANSFORMER), (_module(folder, 1, "Pooling", pooling), POOLING)]
    layers = [] if task.head_kind.gives_cosine else affines(model, task)
    for index, layer in enumerate(layers, len(modules)):
        out, into = layer.weight_KF.shape
        dense: dict[str, object] = {"in_features": into, "out_features": out, "bias": layer.bias_K is not None}
        dense |= {"activation_function": FOLLOWING[layer.activation], "module_input_name": "sentence_embedding"}
        if crossed(task) and layer is layers[-1]:
            dense["module_output_name"] = "scores"
        place = _module(folder, index, "Dense", dense)
        save_tensors(layer.as_tensors("linear"), folder / place / "model.safetensors")
        modules.append((place, DENSE))
    listed = [{"idx": i, "name": str(i), "path": place, "type": kind} for i, (place, kind) in enumerate(modules)]
    write_json(folder / "modules.json", listed)
    raw = "knots" in model.fitted(task.name)
    if crossed(task):
        following = SIGMOID if form_of(task) in ("yes or no", "labels") and not raw else NOTHING
        write_json(folder / SETTINGS, {"model_type": "CrossEncoder", "activation_fn": following})
    else:
        write_json(folder / SETTINGS, {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine"})
    return partial(_answers, folder, raw)


def _module(folder: Path, index: int, name: str, config: Mapping[str, object]) -> str:
    """Makes the subfolder of a module, writes its ``config.json``, and returns the name of the subfolder."""
    place = folder / f"{index}_{name}"
    place.mkdir()
    write_json(place / "config.json", config)
    return place.name


# Asking --------------------------------------------------------------------------------------------------------


def _answers(folder: Path, raw: bool, data: Dataset) -> dict[str, Tensor]:
    """Runs the exported model in ``folder`` on the examples of ``data``, and returns its answers as tensors.

    ``raw`` says whether a CrossEncoder that answers yes or no gives logits (true) or probabilities (false). Logits are
    converted to probabilities here. For all other models, ``raw`` is ignored.
    """
    from sentence_transformers import CrossEncoder, SentenceTransformer

    task, form = data.task, form_of(data.task)
    columns = texts_of(data)
    asking: Any = {"batch_size": ASKED_TOGETHER, "convert_to_tensor": True, "show_progress_bar": False}
    others: list[Tensor] = []
    with quiet():
        if crossed(task):
            pairs: Any = list(zip(*columns, strict=True))
            found = CrossEncoder(str(folder), device="cpu").predict(pairs, apply_softmax=form == "classes", **asking)
        else:
            model = SentenceTransformer(str(folder), device="cpu")
            found, *others = [model.encode(column, **asking) for column in columns]
    if form is None:
        return _compared(task, torch.stack([cosine_similarity(found, other) for other in others], 1))
    if form == "score":
        return {"score": found.reshape(len(data))}
    if form == "yes or no":
        p_B = found.reshape(len(data))
        if raw or not crossed(task):
            p_B = p_B.sigmoid()
        return {"probabilities": torch.stack([1 - p_B, p_B], -1)}
    if crossed(task):
        return {"probabilities": found}
    return {"probabilities": found.softmax(-1) if form == "classes" else found.sigmoid()}


def _compared(task: Task, cosines_BC: Tensor) -> dict[str, Tensor]:
    """Returns the answers that follow from the cosines between the first text of each row and its other texts."""
    if task.texts is None:
        return {"cosines": cosines_BC}
    if task.labels is not None:
        return {"cosine": cosines_BC[:, 0]}
    return {"score": ends(task)[0] + width(task) * cosines_BC[:, 0].double()}
