"""Every screen is about the model that predicts; a run says how it ended, and can be made longer."""

import copy
import io
import json
import re
import shutil
from pathlib import Path

import pytest
import toy_run
from rich.console import Console
from typer.testing import CliRunner

from mtbert import cli, files, yaml_text
from mtbert.recipe.files import load_recipe
from mtbert.recipe.identity import digest_with_epochs
from mtbert.storage.card import read_card
from mtbert.studying import commands, results
from mtbert.training import history
from mtbert.training.resume import resume_run
from mtbert.training.start import start_run
from mtbert.use import predictor

# With this rate the first of four evaluations is the best.
CHANGES = ["train.epochs=4", "train.rounds=2", "train.lr=1e-1"]
SILENT = Console(quiet=True)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run whose best model is not its last, and its output."""
    folder = tmp_path_factory.mktemp("one")
    toy_run.set_up(folder)
    file = io.StringIO()
    start_run(load_recipe(str(folder / "toy.yaml"), CHANGES), folder / "run", Console(file=file, width=100))
    return folder / "run", file.getvalue()


def printed(action: object, width: int = 200) -> str:
    file = io.StringIO()
    action(Console(file=file, width=width))  # type: ignore[operator]
    return file.getvalue()


def evaluations(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["aggregates"]["overall"] for line in lines if "evaluation" in line}


def test_the_last_screen_shows_the_model_that_predicts_and_the_other_beside_it(ended: tuple[Path, str]):
    run, screen = ended
    overall = evaluations(run)
    assert max(overall, key=lambda step: overall[step]) == 2
    assert "dev: the model that predicts, best/, of step 2" in screen
    row = next(line for line in screen.splitlines() if "overall " in line and "│" in line)
    assert [cell.strip() for cell in row.split("│")[3:6:2]] == [f"{overall[2]:.4f}", f"{overall[8]:.4f}"]
    assert "best/, of step 2 (best by overall)" in screen
    assert "last/, of step 8, is there to go on with training" in screen
    assert "ends early" not in screen
    ctrl_c = "An interrupt (Ctrl-C) keeps the best model so far: you can evaluate or serve it, or go on with"
    assert screen.count(f"{ctrl_c} mtbert.train(resume='{run}')\n") == 1


def test_the_returned_scores_are_those_of_the_model_that_predicts(ended: tuple[Path, str], tmp_path: Path):
    run, _ = ended
    shutil.copytree(run, tmp_path / "run")
    scores = resume_run(tmp_path / "run", SILENT)  # it had ended
    found = load_recipe(str(run / "recipe.yaml"))
    overall = found.aggregate("overall", scores)
    assert overall == evaluations(run)[2]


def test_if_the_last_model_is_the_best_there_is_one_column(tmp_path: Path):
    toy_run.set_up(tmp_path)
    settings = load_recipe(str(tmp_path / "toy.yaml"), ["train.epochs=1", "train.rounds=2"])
    screen = printed(lambda console: start_run(settings, tmp_path / "run", console))
    assert "best/, of step 2" in screen
    assert "last/" not in screen
    assert "2 steps (joint), 1 epoch, on cpu with " in screen


def test_both_model_folders_know_their_step(ended: tuple[Path, str]):
    run, _ = ended
    assert [read_card(run / name).step for name in ("best", "last")] == [2, 8]


def test_the_report_of_a_run_describes_the_model_that_predicts_and_names_the_other(
    ended: tuple[Path, str], tmp_path: Path
):
    run, _ = ended
    shutil.copytree(run, tmp_path / "run")
    overall = evaluations(run)
    found = results.read_run(tmp_path / "run")
    one = found.runs["run"][0]
    assert one.step == 2
    commands.report_on(tmp_path / "run", SILENT)
    page = (tmp_path / "run/report.html").read_text()
    assert f"&#39;run&#39; scores {overall[2]:.3f} out of 1 on the dev examples" in page
    assert "The model is the best of 4 on these same examples, so its scores are a little too high." in page
    assert "The scores are those of best/, the model after step 2, which predicts." in page
    assert f"The newest model, last/ after step 8, has overall {overall[8]:.4f}." in page


def test_a_run_of_an_older_version_is_scored_with_the_model_that_it_has(ended: tuple[Path, str], tmp_path: Path):
    shutil.copytree(ended[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run/best")
    card = json.loads((tmp_path / "run/last/mtbert.json").read_text())
    del card["step"]
    (tmp_path / "run/last/mtbert.json").write_text(json.dumps(card))
    one = results.read_run(tmp_path / "run").runs["run"][0]
    assert (one.step, one.evaluation["step"], one.newest) == (None, 8, None)


def test_early_stopping_says_when_and_why(tmp_path: Path):
    toy_run.set_up(tmp_path)
    settings = load_recipe(str(tmp_path / "toy.yaml"), [*CHANGES, "train.patience=2"])
    screen = printed(lambda console: start_run(settings, tmp_path / "run", console))
    assert "ends early once 2 evaluations in a row brought no higher score (train.patience)\n" in screen
    assert "stopped early at step 6 of 8: the last 2 evaluations brought no higher score (train.patience: 2)" in screen


def test_after_an_early_stop_predict_and_evaluate_say_at_what_step_the_model_is(
    ended: tuple[Path, str], tmp_path: Path
):
    run = tmp_path / "run"
    shutil.copytree(ended[0], run)
    said = "warning: {}/last, step 8: the run stopped before its first evaluation, so its newest model answers."
    predict = ["predict", str(run), "--task", "sst", "--text", "a good film"]
    assert "stopped before" not in CliRunner().invoke(cli.app, predict).output
    shutil.rmtree(run / "best")
    for command in (predict, ["evaluate", str(run)]):
        done = CliRunner().invoke(cli.app, command)
        assert done.exit_code == 0, done.output
        assert said.format(run) in done.stderr
    assert "stopped before" not in CliRunner().invoke(cli.app, ["evaluate", str(run / "last")]).stderr


def test_the_report_of_a_stopped_run_says_first_that_it_was_stopped_and_how_to_go_on(
    ended: tuple[Path, str], tmp_path: Path
):
    run = tmp_path / "run"
    shutil.copytree(ended[0], run)
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("epochs: 4", "epochs: 7"))  # as if the run had stopped in the middle
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"step": 9, "losses": {}}\n')  # it was stopped after its last evaluation
    screen = printed(lambda console: commands.report_on(run, console), 500)
    said = "The run was stopped after 4 of 7 epochs (step 8 of 14)."
    assert f"{said} 'run' scores " in screen
    assert screen.endswith(f"done: the report is {run / 'report.html'}\nnext: mtbert.train(resume='{run}')\n")
    page = (run / "report.html").read_text()
    assert f'<p class="answer">{said}' in page
    assert f"<ol><li>Go on with the run: mtbert.train(resume=&#39;{run}&#39;)</li>" in page
    assert "The newest model that was scored, the one after step 8, has overall " in page
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    with pytest.raises(ValueError, match=re.escape(f"{run}: stopped at step 2 of 14, before dev was scored")):
        results.read_run(run)


def test_a_run_that_ran_out_of_patience_has_ended(ended: tuple[Path, str], tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(ended[0], run)
    text = (run / "recipe.yaml").read_text()
    # Three evaluations were no better than the first.
    for patience, over in ((3, True), (4, False)):
        changed = text.replace("epochs: 4", "epochs: 7").replace("patience: null", f"patience: {patience}")
        (run / "recipe.yaml").write_text(changed)
        stopped = results.read_run(run).stopped
        assert (stopped is None) is over


def test_screens_use_the_usual_name_of_a_model_that_a_kill_left_aside(ended: tuple[Path, str], tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(ended[0], run)
    (run / "best").rename(run / ".best.old")
    assert predictor.load(run).name == f"{run}/best, step 2"
    shutil.rmtree(run / ".best.old")
    (run / "last").rename(run / ".last.old")
    predict = ["predict", str(run), "--task", "sst", "--text", "a good film"]
    said = f"warning: {run}/last, step 8: the run stopped before its first evaluation, so its newest model answers."
    assert said in CliRunner().invoke(cli.app, predict).stderr


# Longer --------------------------------------------------------------------------------------------


def test_a_finished_run_can_be_made_longer_and_says_what_the_rate_does(ended: tuple[Path, str], tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(ended[0], run)
    before = (run / "metrics.jsonl").read_bytes()
    screen = printed(lambda console: resume_run(run, console, epochs=6))
    # 12 steps, of which one warms up: 4 of 11 are left. At the old end the rate was 0.
    assert "6 epochs in place of 4: the learning rate follows the linear schedule of 12 steps" in screen
    assert "so here it is 0.036, where it was 0" in screen
    assert (run / "metrics.jsonl").read_bytes().startswith(before)
    assert list(evaluations(run)) == [2, 4, 6, 8, 10, 12]
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert next(s["lr"] for s in steps if s["step"] == 9) == pytest.approx(0.1 * 4 / 11)
    assert load_recipe(str(run / "recipe.yaml")).train.epochs == 6
    resume_run(run, SILENT)  # afterwards it is a whole run again


def test_a_run_that_stopped_early_resumes_if_it_is_made_longer(tmp_path: Path):
    toy_run.set_up(tmp_path)
    settings = load_recipe(str(tmp_path / "toy.yaml"), [*CHANGES, "train.patience=1"])
    start_run(settings, tmp_path / "run", SILENT)
    assert list(evaluations(tmp_path / "run")) == [2, 4]
    again = CliRunner().invoke(cli.app, ["train", "--resume", str(tmp_path / "run")]).output
    assert "the run had ended early at step 4 of 8" in again
    assert "next: mtbert predict" in again
    assert "--epochs" not in again  # which hardly helps a run that got no better
    with pytest.raises(ValueError, match=r"^epochs 2: these are 4 steps, and the run has made 4\. Give more\.$"):
        resume_run(tmp_path / "run", SILENT, epochs=2)
    assert list(evaluations(tmp_path / "run")) == [2, 4]
    resume_run(tmp_path / "run", SILENT, epochs=3)  # fewer than planned, more than made
    assert list(evaluations(tmp_path / "run")) == [2, 4, 6]
    assert load_recipe(str(tmp_path / "run/recipe.yaml")).train.epochs == 3
    resume_run(tmp_path / "run", SILENT, epochs=5)
    assert list(evaluations(tmp_path / "run"))[:4] == [2, 4, 6, 8]


@pytest.mark.parametrize("epochs", [1, 4])
def test_fewer_epochs_are_refused(ended: tuple[Path, str], epochs: int):
    with pytest.raises(ValueError, match=rf"^epochs {epochs}: the run is planned for 4\. Give more"):
        resume_run(ended[0], SILENT, epochs=epochs)


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize(("again", "steps"), [(5, [2, 4, 6, 8, 10]), (None, [2, 4, 6, 8])])
def test_a_kill_between_the_two_files_is_repaired_by_the_same_command_or_undone_by_a_plain_one(
    ended: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: int | None, steps: list[int], older
):
    class Killed(BaseException):
        pass

    run = tmp_path / "run"
    shutil.copytree(ended[0], run)
    if older:  # the digest in its record includes the epochs
        record = json.loads((run / "environment.json").read_text())
        kept = yaml_text.read_yaml(run / "recipe.yaml", "recipe", "tasks")
        (run / "environment.json").write_text(json.dumps(record | {"recipe": digest_with_epochs(kept)}))
    real = files.write_text

    def killed(file: Path, text: str) -> None:
        if file.name == "recipe.yaml":
            raise Killed
        real(file, text)

    monkeypatch.setattr("mtbert.training.resume.files.write_text", killed)
    with pytest.raises(Killed):
        resume_run(run, SILENT, epochs=5)
    monkeypatch.undo()
    resume_run(run, SILENT, epochs=again)
    assert list(evaluations(run)) == steps


def test_the_command_accepts_epochs_only_with_resume(ended: tuple[Path, str]):
    done = CliRunner().invoke(cli.app, ["train", "demo", "--epochs", "5"])
    assert re.search(r"--epochs is for --resume\. For a new run give --set train\.epochs=N", str(done.exception))
    done = CliRunner().invoke(cli.app, ["train", "--resume", str(ended[0]), "--epochs", "2"])
    assert "epochs 2: the run is planned for 4" in str(done.exception)


# What was logged -----------------------------------------------------------------------------------


def test_of_equal_evaluations_the_later_is_the_best_unless_its_answers_are_less_sure(ended: tuple[Path, str]):
    found = load_recipe(str(ended[0] / "recipe.yaml"))
    lines = history.read_log(ended[0] / "metrics.jsonl")
    first = next(line for line in lines if "evaluation" in line)
    again = [first, {**first, "step": 99}]
    assert history.best(again, found)["step"] == 99
    less = copy.deepcopy(again[1])
    less["evaluation"]["sst"]["metrics"]["nll"] += 0.01
    assert history.best([first, less], found)["step"] == 2
    assert history.last(again)["step"] == 99
    assert history.best([], found) is None


def test_a_report_of_one_run_reads_its_log_once(ended: tuple[Path, str], monkeypatch: pytest.MonkeyPatch):
    asked, read = [], history.read_log
    monkeypatch.setattr(history, "read_log", lambda *given: asked.append(given) or read(*given))
    found = results.read_run(ended[0])
    assert asked == [(ended[0] / "metrics.jsonl",)]
    (result,) = found.runs["run"].values()
    assert result.steps == read(ended[0] / "metrics.jsonl")
