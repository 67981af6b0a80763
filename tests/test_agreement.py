"""Processes of a run get encoder, tokenizer and weights of the first one, and end if they compute differently."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_run
from test_processes import contents, steps, train
from toy_processes import in_processes

from mtbert import environment
from mtbert.processes import ALONE, Processes
from mtbert.recipe.settings import validate_recipe
from mtbert.training import agreement, assemble
from mtbert.training.agreement import check_same_start, check_same_weights
from mtbert.training.join import share_state
from mtbert.training.run import Run
from mtbert.yaml_files import merge

folder = toy_run.folder


def run_of(folder: Path, together: Processes, **train: Any) -> Run:
    raw = merge(toy_run.raw_recipe(folder, shards=2, **train), {"model": {"dropout": 0.3}})
    return assemble.assemble(validate_recipe(raw, "toy"), processes=together).run(together)


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_only_the_first_process_loads_the_encoder_and_the_tokenizer(folder: Path, family: str):
    shutil.rmtree(folder / "encoder")
    toy_run.encoder_folder(folder / "encoder", model_type=family)

    def work(together: Processes) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            if not together.first:
                patch.delattr(assemble, "load_encoder")
                patch.delattr(assemble, "matching_tokenizer")
            run = run_of(folder, together)
            share_state(run, {})
            return steps(run)

    (alone,) = in_processes(1, work)
    assert in_processes(2, work) == [alone] * 2


def test_a_run_is_resumed_by_several_processes_where_its_encoder_has_another_vocabulary_now(
    folder: Path, tmp_path: Path
):
    raw, out, whole = toy_run.raw_recipe(folder, shards=2, checkpoint_every=2), tmp_path / "run", tmp_path / "whole"
    train(raw, whole, ALONE)
    with pytest.MonkeyPatch.context() as patch:
        real = Run.step
        patch.setattr(Run, "step", lambda run: real(run) if run.done < 5 else run.plan.none)
        with pytest.raises(AttributeError, match="none"):
            train(raw, out, ALONE)
    vocabulary = folder / "encoder/vocab.txt"
    vocabulary.write_text("\n".join([*vocabulary.read_text().split()[:5], *reversed(toy_run.WORDS)]) + "\n")
    assert in_processes(2, lambda together: train(raw, out, together)) == ["done"] * 2
    assert contents(out) == contents(whole)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("tokenizers", "rank 1, tokenizers: 0.1, but 9.9 in the first process. Install the same on all machines."),
        ("scipy", "rank 1, scipy: missing, but 1.0 in the first process. Install the same on all machines."),
        ("precision", "rank 1, train.precision: float32, but bfloat16 in the first process. Use machines of one kind."),
    ],
)
def test_a_process_that_would_compute_differently_is_refused(folder: Path, name: str, line: str):
    def work(together: Processes) -> str:
        with pytest.MonkeyPatch.context() as patch:
            versions = {"tokenizers": "9.9", "scipy": "1.0"} if together.first else {}
            if not together.first:
                versions = {"tokenizers": {"tokenizers": "0.1", "scipy": "1.0"}, "scipy": {"tokenizers": "9.9"}}.get(
                    name, {"tokenizers": "9.9", "scipy": "1.0"}
                )
            patch.setattr(environment, "package_versions", lambda: versions)
            run = run_of(folder, together)
            if name == "precision" and together.first:
                run.model.compute = torch.bfloat16
            try:
                check_same_start(run, {})
            except ValueError as error:
                return str(error)
            return "same"

    assert in_processes(2, work) == ["same", line]


def test_weights_that_differ_in_one_bit_end_all_processes(folder: Path, tmp_path: Path):
    def work(together: Processes) -> str:
        real = Run.step

        def step(run: Run) -> Any:
            made = real(run)
            if together.rank == 1 and run.done == 2:
                next(iter(run.trained)).data.view(-1).view(torch.int32)[0] += 1
            return made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Run, "step", step)
            return train(toy_run.raw_recipe(folder, shards=2), tmp_path / "run", together)

    first, second = in_processes(2, work)
    assert first == second
    assert first.startswith("Lost: step ")
    assert ": rank 1 came to other weights than the first process, because it computes differently." in first
    assert first.endswith(f"Go on with: mtbert.train(resume='{tmp_path / 'run'}')")


def test_one_process_compares_its_weights_with_none(folder: Path, monkeypatch: pytest.MonkeyPatch):
    run = run_of(folder, ALONE)
    monkeypatch.delattr(agreement, "_checksum")
    check_same_weights(run)


def test_a_checksum_is_the_sum_of_the_bits(folder: Path):
    run = run_of(folder, ALONE)
    run.trained = {torch.nn.Parameter(torch.tensor([1.0, -2.0])): 1.0, torch.nn.Parameter(torch.ones(1)): 1.0}
    assert agreement._checksum(run) == 0x3F800000 * 2 + 0xC0000000 - 2**32
