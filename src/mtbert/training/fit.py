"""The training loop of a run: steps, evaluations and checkpoints, until the run ends."""

import math
import time
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path

from tokenizers import Tokenizer

from mtbert import files, scoring
from mtbert.advice import call, command_line, worded
from mtbert.display import Display
from mtbert.processes import Lost
from mtbert.recipe.identity import identity
from mtbert.storage import run_state
from mtbert.storage.model_folder import save_model
from mtbert.storage.predictions import save_predictions
from mtbert.training import history, trackers
from mtbert.training.agreement import check_same_weights
from mtbert.training.inert import inert_losses
from mtbert.training.profile import Profile
from mtbert.training.run import Run
from mtbert.training.signals import Stopped, signals
from mtbert.training.snapshot import snapshot
from mtbert.training.timings import StepTime, peak_memory


def fit(
    run: Run,
    tokenizer: Tokenizer,
    out: Path,
    display: Display,
    profile: Profile | None = None,
    track: trackers.LogStep | None = None,
) -> list[str]:
    """Trains ``run`` from its current step to its end, and returns the warnings that were shown.

    The folder ``out`` gets ``metrics.jsonl``, ``timings.jsonl``, ``last/`` and ``best/``. On a CPU, a run that is
    stopped and resumed writes exactly the same ``metrics.jsonl`` as an uninterrupted run.

    Args:
        run: The run, new or restored from a checkpoint.
        tokenizer: The tokenizer that is saved with the model.
        out: The folder of the run.
        display: Shows the progress.
        profile: Measures the time that some steps take; None for no such measurement.
        track: A function that also receives the numbers in each line of ``metrics.jsonl``. It may be None.

    Several processes may train the run together, see :attr:`Run.processes`. Only the first of them writes.

    Raises:
        Lost: If another process of the run has ended, or has other weights than this process.
        Stopped: After SIGINT or SIGTERM to any process, once ``last/`` has been written.
        FloatingPointError: If a loss or a gradient is not finite. ``last/`` then still holds the last good checkpoint.
    """
    settings, processes = run.recipe.train, run.processes
    evaluations = run.plan.evaluations(settings.evaluate_every)
    every = settings.checkpoint_every * run.plan.steps_per_round
    warned: list[str] = []
    saved = run.done > 0  # whether there is a last/, which only the first process may be able to see

    def save(folder: Path) -> None:
        save_model(run.predictor, tokenizer, folder, run.done)
        if run.predicted and run.evaluated == run.done:
            save_predictions(run.predicted, folder)

    def save_last() -> None:
        nonlocal saved
        saved = True
        if not processes.first:
            return
        written = log.sync()

        def write(folder: Path) -> None:
            state = snapshot(run)
            save(folder)
            run_state.save_state(
                replace(state, values=state.values.model_copy(update={"metrics_bytes": written})), folder
            )
            run_state.seal(folder, identity(run.recipe))

        files.write_folder(out / "last", write)

    def warn(lines: Iterable[str]) -> None:
        for line in lines:
            if line not in warned:
                display.warn(line)
                warned.append(line)

    def lost(sentence: str) -> str:
        return f"step {run.done + 1}: {sentence} Go on with: {call('train', resume=out)}"

    processes.any(False)  # only now is it certain that the first process has begun the run in its folder
    log: history.NoLog = history.RunLog(out, track) if processes.first else history.NoLog()
    with log, signals(processes.size > 1) as asked, display, processes.telling(lost):

        def stopping() -> bool:
            return processes.any(asked())

        dev, dev_tokens = scoring.encoded(run.predictor, [data.dev for data in run.scored.values()])
        display.begin(
            run.plan.steps,
            run.done,
            epoch=run.plan.epoch(run.done),
            epochs=len(run.plan.rounds),
            evaluations=evaluations,
            dev=dev,
            dev_tokens=dev_tokens,
            may_end_early=run.plan.may_end_early(run.recipe),
        )

        def tick(rows: int) -> None:
            display.tick(rows)
            if stopping():
                raise Stopped

        try:
            while True:
                if run.done in evaluations and run.evaluated < run.done:
                    check_same_weights(run)
                    display.evaluating()
                    if run.evaluated == 0:
                        warn(inert_losses(run))
                    scores = run.evaluate(tick)
                    warn(run.undefined())
                    aggregates = {
                        name: run.recipe.aggregate(name, {task: s.metrics for task, s in scores.items()})
                        for name in ("overall", "mean")
                    }
                    log.evaluation(run.done, scores, aggregates)
                    display.evaluated(run.done, scores, run.recipe, aggregates, best=run.improved, tied=run.tied)
                    with display.saving():
                        if run.improved and processes.first:
                            files.write_folder(out / "best", save)
                        save_last()
                elif run.done % every == 0 and run.evaluated < run.done:  # an evaluated state is saved already
                    with display.saving():
                        save_last()
                if run.over:
                    return warned
                if stopping():
                    raise Stopped
                begun = time.perf_counter()
                with profile or nullcontext():
                    step = run.step()
                seconds = time.perf_counter() - begun
                if profile is not None:
                    profile.count(step.tokens)
                log.step(
                    asdict(step),
                    StepTime(
                        step=step.step,
                        seconds=round(seconds, 6),
                        of=run.plan.steps,
                        at=round(time.time(), 3),
                        memory=peak_memory(run.device),
                    ),
                )
                display.step(step.epoch, step.step, step.losses, step.tokens, step.diagnostics.get("conflicting"))
        except Stopped:
            with display.saving():
                save_last()
            with suppress(Lost):  # one that is lost now had nothing more to do
                processes.any(False)  # torchrun ends all processes as soon as one has ended, so the others wait here
            said = f"stopped at step {run.done}, and saved. Go on with: {call('train', resume=out)}"
            if run.best.score > -math.inf:
                using = worded(f"{command_line('report', out)}; {command_line('serve', out)}", call("load", out))
                said += f"\nThe best model so far is ready: {using}"
            raise Stopped(said) from None
        except FloatingPointError as error:
            left = f"The last good checkpoint is {out / 'last'}." if saved else "There is no checkpoint yet."
            raise FloatingPointError(f"{error} {left}") from None
        finally:
            if profile is not None:
                profile.finish()
