"""Answering with a saved model imports none of the packages that only training, studies and data sets need."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import toy_exports
from toy_server import near

import mtbert
from mtbert.storage.model_folder import save_model

# Packages that come with mtbert, and that a server does without. Importing sympy and huggingface_hub takes a second.
NOT_NEEDED = (
    "datasets",
    "huggingface_hub",
    "jinja2",
    "matplotlib",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "statsmodels",
    "sympy",
    "tabulate",
)

# Importing a package in NOT_NEEDED raises ImportError here. The program prints the answers of a predictor, then those
# of a server that it starts and ends.
PROGRAM = f"""
import json, os, signal, socket, sys, threading, time
from urllib.request import ProxyHandler, Request, build_opener

sys.modules.update(dict.fromkeys({NOT_NEEDED}))
import mtbert
from mtbert import cli

folder, forms = sys.argv[1], json.loads(sys.argv[2])
answer = mtbert.load(folder)
print(json.dumps([answer(rows) for rows in forms]), flush=True)

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]

def served(rows):
    body, head = json.dumps({{"texts": rows}}).encode(), {{"Content-Type": "application/json"}}
    request = Request(f"http://127.0.0.1:{{port}}/v1/predict", body, head)
    with build_opener(ProxyHandler({{}})).open(request, timeout=30) as response:
        return json.load(response)["answers"]

def ask():
    try:
        while True:
            time.sleep(0.05)
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                pass
        print(json.dumps([served(rows) for rows in forms]), flush=True)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=ask, daemon=True).start()
sys.argv[1:] = ["serve", folder, "--port", str(port), "--precision", "auto"]
cli.main()
"""


def test_a_saved_model_answers_without_what_only_training_needs(tmp_path: Path):
    made = toy_exports.predictor()  # tasks of every type, with calibrations of every kind
    source = {"model_type": "bert"} | toy_exports.BERT.model_dump()
    made.model.encoder.config = replace(made.model.encoder.config, source=source)
    save_model(made.model, made.tokenizer, tmp_path / "model")
    forms = {task.texts: toy_exports.rows_of(task) for task, _ in toy_exports.TASKS.values()}
    rows = [list(map(list, of_form)) if size != 1 else of_form for size, of_form in forms.items()]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "model"), json.dumps(rows)],
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answer = mtbert.load(tmp_path / "model")
    wanted = [answer(of_form) for of_form in rows]
    assert [len(of_form[0]) for of_form in wanted] == [12, 7, 1]  # tasks of single texts, of pairs, and a ranking
    for line in done.stdout.splitlines():
        assert near(json.loads(line), wanted)
    assert len(done.stdout.splitlines()) == 2
