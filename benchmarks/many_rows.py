"""Generates a table of many short texts, and measures how it is read, checked and tokenised: seconds and memory.

    python -m benchmarks.many_rows --rows 10000000 --folder /tmp/many
    python -m benchmarks.many_rows --rows 1000000 --folder /tmp/shares --labels shares --stages read

The table is a CSV file with a text of 12 words in each row, and one of four labels. With ``--labels shares``, each row
has four shares and a weight instead of the label, each in a column of its own. A word is 2 to 5 random letters, and a
text has about 28 tokens. There are four stages. The first only reads the file, without the cache. The second starts
with an empty cache and ends at the first batch. The third does the same with the cache that the second has left. The
fourth computes the figures of ``mtbert data check``. Each stage is a process of its own, because the peak of a process
never goes down. The file and the cache stay in the folder, so that a second call repeats the cached stages.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WORDS, LABELS = 12, ("bad", "good", "poor", "rich")
VOCABULARY = 30_000
STAGES = ("read", "start", "cached start", "check")
PART = 50_000  # rows that are generated at once


def generate(file: Path, rows: int, labels: str) -> None:
    """Writes the table: the same bytes for the same number of rows and kind of labels."""
    import numpy as np

    draws = np.random.default_rng(0)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
    words = [draws.choice(letters, size).tobytes().decode() for size in draws.integers(2, 6, size=VOCABULARY)]
    with file.open("w", encoding="utf-8") as out:
        out.write("text,label\n" if labels == "classes" else f"text,{','.join(LABELS)},weight\n")
        for start in range(0, rows, PART):
            size = min(PART, rows - start)
            texts = draws.integers(VOCABULARY, size=(size, WORDS)).tolist()
            if labels == "classes":
                cells = [LABELS[label] for label in draws.integers(len(LABELS), size=size).tolist()]
            else:
                numbers = np.hstack([draws.dirichlet(np.ones(len(LABELS)), size), draws.random((size, 1))])
                cells = [",".join(f"{number:.6f}" for number in row) for row in numbers.tolist()]
            out.writelines(
                f"{' '.join(words[i] for i in text)},{cell}\n" for text, cell in zip(texts, cells, strict=True)
            )


def stage(name: str, folder: Path, labels: str) -> dict[str, float]:
    """Runs a stage in this process; returns seconds, without imports, and peak memory in GB."""
    import torch

    from mtbert.collate import collate
    from mtbert.data import sources
    from mtbert.data.labels import complete, labelled_examples
    from mtbert.data.measure import TaskData, count_tokens, measure, unknown_id
    from mtbert.data.tokenizer import load_tokenizer
    from mtbert.model.download import find_encoder
    from mtbert.prepare import prepare
    from mtbert.recipe.settings import validate_recipe
    from mtbert.sampling.stream import Stream

    task = {"type": "classification", "inputs": "single", "train": "many.csv", "dev_fraction": 0.01, "batch_size": 32}
    if labels == "shares":
        task |= {"labels": LABELS, "columns": {"shares": LABELS, "weight": "weight"}}
    recipe = validate_recipe(
        {"data": {"root": str(folder)}, "model": {"path": "demo", "max_length": 64}, "tasks": {"many": task}}, "many"
    )
    found: dict[str, float] = {}
    began, cpu = time.perf_counter(), time.process_time()
    if name == "read":
        of_recipe = recipe.tasks["many"]
        table = sources.read(of_recipe.train, of_recipe.columns, folder, texts=1)
        examples = labelled_examples(table, complete(of_recipe.task, [table]))
        return found | {"rows": len(examples), "read": time.perf_counter() - began} | _used(cpu)
    tokenizer = load_tokenizer(find_encoder("demo"))
    began, cpu = time.perf_counter(), time.process_time()
    data = prepare(recipe, tokenizer)["many"]
    found["prepare"] = time.perf_counter() - began
    if name == "check":
        tokens = [count_tokens(tokenizer, part, 64, unknown_id(tokenizer)) for part in (data.train, data.dev)]
        figures = measure(TaskData(data.task, data.train, data.dev, 32, 1.0, (tokens[0], tokens[1])))
        found |= {"rows": figures.train.size + figures.dev.size, "check": time.perf_counter() - began}
    else:
        rows = Stream("many", len(data.train), 32, 0).rows(0)
        collate([(data.train, rows)], torch.device("cpu"))
        found |= {"rows": len(data.train) + len(data.dev), "first batch": time.perf_counter() - began}
    return found | _used(cpu)


def _used(cpu: float) -> dict[str, float]:
    """Returns the CPU seconds since ``cpu``, and the peak memory of this process in GB."""
    return {
        "CPU": time.process_time() - cpu,
        "GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    """Prints one line for each stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--labels", choices=["classes", "shares"], default="classes")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, metavar="STAGE")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.stage is not None:
        print(json.dumps(stage(chosen.stage, chosen.folder, chosen.labels)))
        return
    file = chosen.folder / "many.csv"
    if not file.exists():
        chosen.folder.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        generate(file, chosen.rows, chosen.labels)
        print(f"generated {file}: {file.stat().st_size:,} bytes, {time.perf_counter() - began:.1f} s", flush=True)
    environment = {**os.environ, "MTBERT_CACHE": str(chosen.folder / "cache")}
    for name in chosen.stages:
        command = [sys.executable, "-m", "benchmarks.many_rows", "--folder", str(chosen.folder)]
        command += ["--labels", chosen.labels, "--stage", name]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        found: dict[str, Any] = json.loads(said)
        millions = found["rows"] / 1e6
        seconds = ", ".join(
            f"{key} {value:.2f} s ({value / millions:.2f} s per million rows)"
            for key, value in found.items()
            if key not in ("rows", "GB")
        )
        print(f"{name}: {found['rows']:,} rows, {seconds}, peak {found['GB']:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
