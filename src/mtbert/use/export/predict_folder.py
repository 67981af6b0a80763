"""Runs the models in this folder on texts, and prints the answers.

The only packages needed are onnxruntime, tokenizers and numpy.

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
from tokenizers import Encoding, Regex, Tokenizer, pre_tokenizers

PASS_ROWS = 32  # most rows of a pass
# Letters, digits and joiners make words; every other character that is not white space is a word of its own.
WORD_PATTERN = r"[\w\u200c\u200d]+|[^\s\w\u200c\u200d]"


class Folder:
    """The models in an exported folder. ``about`` is the content of ``export.json``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.splitter = pre_tokenizers.Split(Regex(WORD_PATTERN), "removed", invert=True)
        self.sessions: dict[str, Any] = {}

    def answers(self, task: str, rows: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        """Returns an answer for each row. A row consists of one text, of two texts, or of a query and its candidates.

        If the rows consist of queries and candidates, all rows must have the same number of candidates.
        """
        names, joined = self.about["tasks"][task].get("labels", []), self._joins(task)
        read = [[" ".join(text[a:b] for a, b in self._words(text)) if joined else text for text in row] for row in rows]
        found = self.tensors(task, read)
        each = [{name: tensor[i] for name, tensor in found.items()} for i in range(len(rows))]
        if "tag" in found:
            return [self._of_words(task, row[0], one) for row, one in zip(rows, each, strict=True)]
        return [answer_of(names, one) for one in each]

    def tensors(self, task: str, rows: Sequence[Sequence[str]]) -> dict[str, list[Any]]:
        """Returns the outputs of the task's graph by name, each as a list with an array for each row."""
        facts = self.about["tasks"][task]
        return self._run(facts["graph"], facts, rows)

    def vectors(self, task: str, texts: Sequence[str]) -> Any:
        """Returns the vector of each text, as an array with a row for each text.

        The task must encode each text separately. Only such tasks have a ``vector_graph``.
        """
        facts = self.about["tasks"][task]
        found = self._run(facts["vector_graph"], facts | {"inputs": "single"}, [[text] for text in texts])
        return np.stack(found["vector"])

    def _run(self, file: str, facts: dict[str, Any], rows: Sequence[Sequence[str]]) -> dict[str, list[Any]]:
        """Returns the outputs of the graph in ``file`` by name, each as a list with an array for each row."""
        session, prefix = self._session(file), facts["prefix"]
        taken = {each.name for each in session.get_inputs()}
        outputs = [each.name for each in session.get_outputs() if each.name.startswith(prefix)]
        found: dict[str, list[Any]] = {name.removeprefix(prefix): [] for name in outputs}
        for first in range(0, len(rows), PASS_ROWS):
            inputs = self._inputs(facts, rows[first : first + PASS_ROWS])
            arrays = session.run(outputs, {name: ids for name, ids in inputs.items() if name in taken})
            for name, array in zip(outputs, arrays, strict=True):
                found[name.removeprefix(prefix)].extend(array)
        return found

    def _session(self, file: str) -> Any:
        if file not in self.sessions:
            self.sessions[file] = onnxruntime.InferenceSession(str(self.folder / file))
        return self.sessions[file]

    def _inputs(self, facts: dict[str, Any], rows: Sequence[Sequence[str]]) -> dict[str, Any]:
        texts = [[text.strip() for text in row] for row in rows]
        if facts["inputs"] != "separate":
            return self._encoded([row[0] if len(row) == 1 else tuple(row) for row in texts], "")
        others = self._encoded([text for row in texts for text in row[1:]], "_2")
        if facts["texts"] is None:  # a query and its candidates
            others = {name: ids.reshape(len(rows), -1, ids.shape[-1]) for name, ids in others.items()}
        return self._encoded([row[0] for row in texts], "") | others

    def _encoded(self, texts: list[Any], suffix: str) -> dict[str, Any]:
        encodings = self.tokenizer.encode_batch(texts)
        kinds = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
        return {
            name + suffix: np.array([getattr(each, kind) for each in encodings], np.int64)
            for name, kind in kinds.items()
        }

    # Words ---------------------------------------------------------------------------------------------------

    def _joins(self, task: str) -> bool:
        splitter: str | None = self.about["tasks"][task].get("splitter")
        return splitter == "unicode-joined"

    def _words(self, text: str) -> list[tuple[int, int]]:
        return [place for _, place in self.splitter.pre_tokenize_str(text)]

    def _of_words(self, task: str, text: str, found: dict[str, Any]) -> dict[str, Any]:
        """Returns the answer for a text: its entities, or its words with their tags.

        ``found`` holds the outputs of the graph for this text by name. Each output is an array with a row for each
        token.
        """
        names, words = self.about["tasks"][task]["labels"], self._words(text)
        if self._joins(task):
            read, ends = " ".join(text[a:b] for a, b in words), np.cumsum([b - a + 1 for a, b in words]) - 1
            places = [(end - b + a, end) for end, (a, b) in zip(ends.tolist(), words, strict=True)]
        else:
            read, before = text.strip(), len(text) - len(text.lstrip())
            places = [(a - before, b - before) for a, b in words]
        at = first_tokens(self.tokenizer.encode(read), places)
        tags = [None if i < 0 else names[int(found["tag"][i])] for i in at]
        p = [None if i < 0 else float(found["probabilities"][i].max()) for i in at]
        if set(names) != {"O"} and all(name == "O" or name[:2] in ("B-", "I-") for name in names):
            return {"spans": spans_of(text, words, tags, p)}
        return {"words": [text[a:b] for a, b in words], "tags": tags, "p": p}


def first_tokens(encoding: Encoding, places: Sequence[tuple[int, int]]) -> list[int]:
    """Returns the index of the first token of each word; -1 for a word without a token.

    ``places`` says where each word begins and ends in the encoded text, in characters.
    """
    tokens = [(i, *encoding.offsets[i]) for i, of in enumerate(encoding.sequence_ids) if of is not None]
    return [next((i for i, a, b in tokens if b > start and a < stop), -1) for start, stop in places]


def spans_of(text: str, words: list[tuple[int, int]], tags: list[Any], p: list[Any]) -> list[dict[str, Any]]:
    """Returns the entities in a text, from the BIO tags of its words and their probabilities."""
    spans: list[dict[str, Any]] = []
    before = None
    for (start, end), tag, p_tag in zip(words, tags, p, strict=True):
        kind = None if tag in (None, "O") else tag[2:]
        if kind is not None and kind == before and tag[0] == "I":
            start, p_tag = spans[-1]["start"], spans.pop()["p"] * p_tag
        if kind is not None:
            spans.append({"start": start, "end": end, "label": kind, "text": text[start:end], "p": p_tag})
        before = kind
    return spans


def answer_of(names: list[str], found: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer to one row, as a dict with the keys that ``mtbert predict`` writes.

    ``names`` holds the names of the task's labels. ``found`` holds the outputs of the exported graph for the row.
    """
    if "probabilities" in found:
        p = {f"p({name})": float(p) for name, p in zip(names, found["probabilities"], strict=True)}
        if "labels" in found:
            return {"labels": [name for name, chosen in zip(names, found["labels"], strict=True) if chosen]} | p
        return {"label": names[int(found["label"])]} | p
    if "cosine" in found:
        return {"label": names[int(found["label"])], "cosine": float(found["cosine"])}
    if "cosines" in found:
        order = np.argsort(-found["cosines"], kind="stable")
        ranks = np.argsort(order) + 1
        return {"first": int(order[0]) + 1, "ranks": ranks.tolist(), "cosines": found["cosines"].tolist()}
    return {name: found[name].tolist() for name in found if name != "prediction" and not name.startswith("vector")}


def main() -> None:
    parser = argparse.ArgumentParser(description="Answers one text, a pair of texts, or a query with its candidates.")
    parser.add_argument("--task", help="the task to answer; default: all that take such texts")
    parser.add_argument("--text", required=True)
    parser.add_argument("--text-pair", action="append", default=[], help="may be repeated, for candidates")
    given = parser.parse_args()
    folder, row = Folder(Path(__file__).resolve().parent), [given.text, *given.text_pair]
    sizes = {name: facts["texts"] for name, facts in folder.about["tasks"].items()}
    tasks = [name for name, size in sizes.items() if len(row) == size or (size is None and len(row) > 1)]
    if given.task is not None and given.task not in tasks:
        parser.error(f"no task {given.task!r} takes {len(row)} texts here; these do: {', '.join(tasks) or 'none'}")
    answers = {name: folder.answers(name, [row])[0] for name in ([given.task] if given.task else tasks)}
    text = json.dumps(answers[given.task] if given.task else answers)
    # Six digits, as in the files of mtbert predict.
    print(json.dumps(json.loads(text, parse_float=lambda number: float(f"{float(number):.6g}")), ensure_ascii=False))


if __name__ == "__main__":
    main()
