"""Answers texts with the models in this folder. Needs only the packages onnxruntime, tokenizers and numpy.

python predict.py --text "not bad at all"
python predict.py --task sts --text "A dog runs." --text-pair "A dog is running."
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tokenizers

PASS_ROWS = 32  # rows of a pass
WORD_PATTERN = (
    r"[\w\u200c\u200d]+|[^\s\w\u200c\u200d]"  # letters, digits and joiners make a word; other signs are one each
)


class Folder:
    """The models of a folder. ``about`` is the content of ``export.json``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        split = tokenizers.Regex(WORD_PATTERN)
        self.splitter = tokenizers.pre_tokenizers.Split(split, "removed", invert=True)
        self.sessions: dict[str, onnxruntime.InferenceSession] = {}

    def answers(self, task: str, rows: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        """Returns an answer for each row, which has one text, two texts, or a query and its candidates."""
        facts = self.about["tasks"][task]
        rows = [[text.strip() for text in row] for row in rows]
        if facts.get("splitter") == "unicode-joined":
            rows = [
                [" ".join(word for word, _ in self.splitter.pre_tokenize_str(text)) for text in row] for row in rows
            ]
        names, found = facts.get("labels", []), self.tensors(task, rows)
        if "tag" in found:
            return [self._of_words(names, row[0], found["probabilities"][i]) for i, row in enumerate(rows)]
        return [_answer(names, {key: tensor[i] for key, tensor in found.items()}) for i in range(len(rows))]

    def tensors(self, task: str, rows: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Returns the outputs of the model by name, each with one entry per row."""
        facts = self.about["tasks"][task]
        if facts["graph"] not in self.sessions:
            self.sessions[facts["graph"]] = onnxruntime.InferenceSession(str(self.folder / facts["graph"]))
        session, prefix = self.sessions[facts["graph"]], facts["prefix"]
        taken = {each.name for each in session.get_inputs()}
        outputs = [each.name for each in session.get_outputs() if each.name.startswith(prefix)]
        parts = []
        for first in range(0, len(rows), PASS_ROWS):
            inputs = self._inputs(facts["inputs"], rows[first : first + PASS_ROWS])
            found = session.run(outputs, {name: ids for name, ids in inputs.items() if name in taken})
            parts.append({name.removeprefix(prefix): each for name, each in zip(outputs, found, strict=True)})
        return {name: [row for part in parts for row in part[name]] for name in parts[0]}

    def _inputs(self, form: str, rows: Sequence[Sequence[str]]) -> dict[str, Any]:
        if form != "separate":
            return self._encoded([row[0] if len(row) == 1 else tuple(row) for row in rows], "")
        others = self._encoded([text for row in rows for text in row[1:]], "_2")
        if len(rows[0]) > 2:
            others = {name: ids.reshape(len(rows), -1, ids.shape[-1]) for name, ids in others.items()}
        return self._encoded([row[0] for row in rows], "") | others

    def _encoded(self, texts: list[Any], suffix: str) -> dict[str, Any]:
        encodings = self.tokenizer.encode_batch(texts)
        parts = {
            "input_ids": [each.ids for each in encodings],
            "attention_mask": [each.attention_mask for each in encodings],
            "token_type_ids": [each.type_ids for each in encodings],
        }
        return {name + suffix: np.array(ids, np.int64) for name, ids in parts.items()}

    def _of_words(self, names: list[str], text: str, p: Any) -> dict[str, Any]:
        raise NotImplementedError


def _answer(names: list[str], found: dict[str, Any]) -> dict[str, Any]:
    if "score" in found:
        return {"score": float(found["score"])}
    if "cosines" in found:
        order = np.argsort(-found["cosines"], kind="stable")
        ranks = np.argsort(order) + 1
        return {"first": int(order[0]) + 1, "ranks": ranks.tolist(), "cosines": found["cosines"].tolist()}
    if "cosine" in found:
        return {"label": names[int(found["label"])], "cosine": float(found["cosine"])}
    p = {f"p({name})": float(p) for name, p in zip(names, found["probabilities"], strict=True)}
    if "labels" in found:
        return {"labels": [name for name, chosen in zip(names, found["labels"], strict=True) if chosen]} | p
    return {"label": names[int(found["label"])]} | p


def main() -> None:
    parser = argparse.ArgumentParser(description="Answers one text, or a pair of texts.")
    parser.add_argument("--task", help="the task to answer; default: all that take such texts")
    parser.add_argument("--text", required=True)
    parser.add_argument("--text-pair", action="append", default=[], help="may be repeated for candidates")
    given = parser.parse_args()
    folder, row = Folder(Path(__file__).resolve().parent), [given.text, *given.text_pair]
    takes = {"single": len(row) == 1, "packed": len(row) == 2, "separate": len(row) >= 2}
    tasks = [name for name, facts in folder.about["tasks"].items() if takes[facts["inputs"]]]
    if given.task is not None and given.task not in tasks:
        parser.error(f"no task {given.task!r} takes {len(row)} texts here; there are {', '.join(tasks) or 'none'}")
    answers = {name: folder.answers(name, [row])[0] for name in ([given.task] if given.task else tasks)}
    print(json.dumps(answers[given.task] if given.task else answers, ensure_ascii=False))


if __name__ == "__main__":
    main()
