"""Pushing a trained model to the Hugging Face Hub, in mtbert's own form or in that of another library."""

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mtbert import environment, files, yaml_text
from mtbert.advice import option, worded
from mtbert.hub_client import asked, bars_shown
from mtbert.messages import caller_console, few, reason, shown, warn
from mtbert.model.download import LICENCE, READ_ME, Origin, hub_id, origin
from mtbert.progress_bar import followed, progress_of
from mtbert.recipe.files import RECIPE_FILE, dump_recipe
from mtbert.recipe.identity import shortened
from mtbert.recipe.parts import TaskRecipe
from mtbert.recipe.settings import Recipe
from mtbert.recipe.tables import TableRecipe
from mtbert.storage.model_folder import find_model_folder
from mtbert.training import history
from mtbert.use.export import Exported
from mtbert.use.export.exporting import export
from mtbert.use.export.hub_card import OverSeeds, ScoreLine, Training, hub_card
from mtbert.use.hub_runs import MODEL_FILES, find_run, is_hub_name
from mtbert.use.hub_upload import Pushed, upload
from mtbert.use.predictor import Predictor, load
from mtbert.use.trained import early_model, find_recipe, recipe_of, while_unchanged

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def push(
    run: str | Path | Predictor,
    name: str,
    to: str | None = None,
    *,
    tasks: Sequence[str] | None = None,
    rows: str | Path | None = None,
    together: bool = False,
    int8: bool = False,
    tolerance: float = 0.005,
    public: bool = False,
    progress: bool | None = None,
) -> Pushed:
    """Pushes a trained model to the Hugging Face Hub, as one commit with a model card.

    The token is that of ``hf auth login`` or of the variable ``HF_TOKEN``. Only the files of the model are pushed: no
    data, logs or answers. A later push replaces the files of an earlier one.

    Args:
        run: The folder of a run, or its subfolder ``best/`` or ``last/``; or a predictor that was loaded from one.
        name: The model's name on the Hub, ``user/name``. A new model is private unless ``public`` is true.
        to: The format of an export: ``onnx``, ``transformers`` or ``sentence-transformers``. The default is mtbert's
            own form, which ``mtbert.load("user/name")`` loads.
        tasks: Only if ``to`` is given: the names of the tasks to export. The default is all tasks that the format can
            hold.
        rows, together, int8, tolerance: Only if ``to`` is given: passed on to :func:`mtbert.export` under these names.
        public: Whether everybody may read a new model. To replace a model that is already public, ``public`` must be
            true. A model that is already private stays private.
        progress: Whether to show a progress bar and print what the command prints. None: only in a notebook.

    Raises:
        ValueError, FileNotFoundError: If the model cannot be read or exported, or the Hub refuses the model.
        ConnectionError: If the network or the Hub fails.
        FloatingPointError: If the exported model's answers differ too much from those of the original.

    >>> mtbert.push("runs/mine", "me/mine").url  # doctest: +SKIP
    'https://huggingface.co/me/mine'
    """
    from huggingface_hub import HfApi, get_token

    if not is_hub_name(name):
        raise ValueError(
            f"{shown(name)}: must be user/name, of letters, digits and single '-', '_' or '.' between them."
        )
    if tasks and to is None:
        raise ValueError(
            f"{worded('--task', 'tasks')} is for {option('to')}: mtbert's own form holds all tasks. Drop it, or give "
            f"{option('to', 'FORMAT')}."
        )
    own = {worded("--input", "rows"): rows, option("together"): together, option("int8"): int8}
    given = [name for name, on in own.items() if on]
    if given and to is None:
        raise ValueError(
            f"{given[0]} is for {option('to')}: mtbert's own form is not exported. Drop it, or give "
            f"{option('to', 'FORMAT')}."
        )
    if asked(name, get_token) is None:
        raise ValueError(f"{name}: pushing needs a token of the Hub. Run: hf auth login (or set HF_TOKEN).")
    console = caller_console(progress, stderr=True)
    with tempfile.TemporaryDirectory(prefix="mtbert-push-") as made:
        folder = Path(made) / "model"
        api = HfApi(library_name="mtbert", library_version=version("mtbert"))

        def written(predictor: Predictor) -> Exported | None:
            if to is None:
                return None
            options = {"rows": rows, "together": together, "int8": int8, "tolerance": tolerance}
            return export(predictor, to, folder, tasks, progress=progress, **options)  # type: ignore[arg-type]

        message = _write(api, run, name, to, written, folder, console)
        with bars_shown(not console.quiet):
            return upload(api, name, folder, message, public, console)


# What is pushed ------------------------------------------------------------------------------------------------


def _write(
    api: "HfApi",
    given: str | Path | Predictor,
    name: str,
    to: str | None,
    written: Callable[[Predictor], Exported | None],
    folder: Path,
    console: Console,
) -> str:
    """Fills ``folder`` with the files that will be pushed, and returns the message of the commit.

    If ``to`` is None, these files are the model's own files, its recipe and a README. If ``to`` is the name of an
    export format, ``folder`` gets the files of an export instead. The callback ``written`` makes the export.
    """
    run = given.folder if isinstance(given, Predictor) else find_run(given)
    if run is None:
        raise ValueError("a model in memory has no recipe. Give the folder of its run.")
    predictor = _linked(run, folder)
    if isinstance(given, Predictor):
        if given.step != predictor.step:
            raise ValueError(f"{given.name}: its folder holds another model now ({predictor.name}). Load it again.")
        predictor = given
    for line in early_model(predictor, run):
        warn(console, line)
    found = recipe_of(run, ())
    recipe = without_places(found)
    with followed(console), progress_of("collecting facts for the card"):
        told = _training(api, run, predictor, recipe, found.model.path, console)
    if to is None:
        (folder / RECIPE_FILE).write_text(dump_recipe(recipe), encoding="utf-8")
        pushed = list(predictor.tasks)
        card = hub_card(name, predictor, pushed, told)
    else:
        shutil.rmtree(folder)  # the links served to read one model, which training may replace at any moment
        done = written(predictor)
        assert done is not None
        pushed = list(done.compared)
        exported = (folder / READ_ME).read_text(encoding="utf-8")
        card = hub_card(name, predictor, pushed, told, to=to, exported=exported)
    (folder / READ_ME).write_text(card, encoding="utf-8")
    form = "" if to is None else f", exported as {to}"
    step = "" if predictor.step is None else f" after step {predictor.step:,}"
    return f"Model with {few(pushed)}{step}{form}"


def _linked(run: Path, folder: Path) -> Predictor:
    """Returns a predictor for the model of a run, and links the files of this model into ``folder``."""

    def read(source: Path) -> Predictor:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        predictor = load(source)
        for file in MODEL_FILES:
            if (source / file).is_file():
                files.link((source / file).resolve(), folder / file)
        return predictor

    predictor, _ = while_unchanged(run, read)
    return predictor


def without_places(recipe: Recipe) -> Recipe:
    """Returns the recipe with each absolute path cut to its last part."""

    def change(_: str, holder: TableRecipe | TaskRecipe) -> dict[str, Any]:
        found = {}
        for split in ("train", "dev", "test"):
            source = getattr(holder, split)
            if source is None:
                continue
            names = [_named(file) for file in source.files]
            if len(set(names)) < len(names):
                names = [f"{i}-{file}" for i, file in enumerate(names, 1)]
            path = names[0] if isinstance(source.path, str) else tuple(names) or None
            hub = None if source.hub is None else _named(source.hub)
            found[split] = source.model_copy(update={"path": path, "hub": hub})
        return found

    model = recipe.model.model_copy(update={"path": origin(recipe.model.path).name})
    return recipe.with_sources(change).placeless().model_copy(update={"model": model})


def _named(path: str) -> str:
    return Path(path).name if Path(path).is_absolute() or path.startswith("~") else path


def _training(
    api: "HfApi", run: Path, predictor: Predictor, recipe: Recipe, encoder: str, console: Console
) -> Training:
    """Returns the facts for the model card about the training of a model that was fine-tuned from ``encoder``.

    If a fact for the card is unknown, such as the hashes of the data, prints a warning.
    """
    file = find_recipe(run)
    assert file is not None  # the recipe has been read
    home = file.parent
    try:
        record = environment.read_record(home / environment.ENVIRONMENT_FILE)
        data, packages = record.data, record.packages
    except (FileNotFoundError, ValueError) as error:
        warn(console, f"the card has no hashes of the data: {reason(error)}")
        data, packages = {}, {}
    return Training(
        recipe=yaml_text.dump(shortened(recipe)),
        scores=_scores(home, predictor, recipe, console),
        data=[(_named(source), digest) for source, digest in data.items()],
        packages=packages,
        origin=_with_licence(api, origin(encoder), hub_id(encoder), console),
        hub_id=hub_id(encoder),
    )


def _with_licence(api: "HfApi", base: Origin, on_hub: str | None, console: Console) -> Origin:
    """Returns a copy of ``base``, the origin of an encoder, with the licence that the Hub names for the encoder.

    ``on_hub`` is the Hub id of the encoder. Returns ``base`` itself if the licence of ``base`` is known, if ``on_hub``
    is None, or if the Hub names no valid licence.
    """
    if base.licence is not None or on_hub is None:
        return base
    try:
        card = asked(on_hub, lambda: api.model_info(on_hub)).card_data
    except (OSError, ValueError) as error:
        warn(console, f"the card has no licence of the base model: {reason(error)}")
        return base
    named = None if card is None else card.get("license")
    return replace(base, licence=named) if isinstance(named, str) and re.fullmatch(LICENCE, named) else base


def _scores(home: Path, predictor: Predictor, recipe: Recipe, console: Console) -> list[ScoreLine]:
    try:
        lines = history.read_log(home / history.METRICS)
    except (FileNotFoundError, ValueError) as error:
        warn(console, f"the card has no scores: {reason(error)}")
        return []
    evaluations = [line for line in lines if "evaluation" in line]
    own = [line for line in evaluations if line["step"] == predictor.step]
    found = own[-1] if own else history.best(lines, recipe) if predictor.step is None else None
    if found is None:
        warn(console, "the card has no scores: the model that is pushed was never scored on dev.")
        return []
    best = find_model_folder(home) == predictor.folder  # the model whose answers a report reads
    intervals = _intervals(home, console) if best else {}
    seeds = _over_seeds(home, console) if best else {}
    return [
        ScoreLine(
            task,
            metric,
            value,
            one.baseline[metric],
            one.examples,
            *((intervals.get(task), seeds.get(task)) if metric == recipe.tasks[task].metric else ()),
        )
        for task, one in history.task_scores(found).items()
        for metric, value in one.metrics.items()
    ]


def _intervals(run: Path, console: Console) -> Mapping[str, tuple[float, float] | None]:
    """Returns the 95% interval of the main metric of each task, from the answers that the run saved.

    The interval is None if it is not known.
    """
    from mtbert.studying.results import read_run
    from mtbert.studying.summary import summarise

    try:
        rows = summarise(read_run(run)).rows
    except (FileNotFoundError, ValueError) as error:
        warn(console, f"the card has no intervals: {reason(error)}")
        return {}
    (row,) = rows.values()
    return {task: one.interval for task, one in row.scores.items()}


def _over_seeds(run: Path, console: Console) -> Mapping[str, OverSeeds]:
    """Returns for each task the mean of its main metric over seeds.

    The mean is over all runs of a study that have the same recipe as ``run`` and differ only in the seed. The dict is
    empty if ``run`` is not in a study, or if no other run has the same recipe.
    """
    from mtbert.studying.results import OUTLINE_FILE, read_study
    from mtbert.studying.runs import run_place
    from mtbert.studying.summary import summarise

    home = files.resolved(run)
    study = home.parents[2] if len(home.parents) > 2 else home
    if not (study / OUTLINE_FILE).is_file():
        return {}
    try:
        results = read_study(study)
        rows = [
            row for row, by_seed in results.runs.items() for seed in by_seed if run_place(study, row, seed).run == home
        ]
        scores = summarise(results).rows[rows[0]].scores if rows else {}
    except (FileNotFoundError, ValueError) as error:
        warn(console, f"the card has no mean over seeds: {reason(error)}")
        return {}
    return {task: OverSeeds(one.seeds, one.mean, one.interval) for task, one in scores.items() if one.seeds > 1}
