"""The file of a study: its rows (the recipes that it compares), their controls and changes, and what is refused."""

import copy
import re
from pathlib import Path

import pytest
import toy_run
import toy_study
from toy_study import STUDY

from mtbert.recipe.files import load_recipe
from mtbert.studying import plan

folder = toy_study.folder


def refusal(folder: Path, text: str) -> str:
    (folder / "study.yaml").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        plan.load_study(str(folder / "study.yaml"))
    return str(error.value).replace(str(folder), "")


@pytest.mark.parametrize("name", plan.shipped_studies())
def test_shipped_studies_load_and_compare_each_row_with_a_control(name: str):
    found = plan.load_study(name)
    assert found.rows[found.reference].control is None
    for planned in found.rows.values():
        assert planned.control is None or planned.control in found.rows


def test_quick_is_the_papers_table_4_with_its_controls():
    found = plan.load_study("quick")
    controls = {row: v.control for row, v in found.rows.items()}
    assert controls == {
        "base": None,
        "smart": "base",
        "smart-ceoll": "smart",
        "pal": "base",
        "annealed": "base",
        "pal-annealed": "pal",
        "base-joint": "base",
        "surgery": "base-joint",
        "se-base": "base",
        "se-cosine": "se-base",
        "se-mnrl": "se-base",
        "se-simcse": "se-base",
    }
    for planned in found.rows.values():
        train = planned.recipe.train
        assert (train.rounds, train.epochs, train.evaluate_every) == (151, 5, 755)
    assert len(found.seeds) >= 3


def test_best_is_given_as_many_examples_as_each_row_of_quick():
    rows = plan.load_study("best").rows
    assert list(rows) == [*plan.load_study("quick").rows, "best"]
    recipe = rows["best"].recipe
    assert recipe == plan.load_study("best-parts").rows["best"].recipe
    assert recipe.train.rounds * recipe.train.epochs == 755
    assert {name: task.batch_size for name, task in recipe.tasks.items()} == {"sst": 8, "quora": 16, "sts": 8}


def test_a_study_extends_another(folder: Path):
    (folder / "more.yaml").write_text(
        "extends: study.yaml\nrows:\n  slow: {recipe: toy.yaml, set: [train.lr=1e-6], control: sum}\nreference: slow\n"
    )
    found = plan.load_study(str(folder / "more.yaml"))
    assert {row: v.control for row, v in found.rows.items()} == {"sum": None, "pcgrad": "sum", "slow": "sum"}
    assert (found.seeds, found.reference) == ((0, 1), "slow")
    assert found.rows["slow"].recipe.train.lr == 1e-6
    (folder / "study.yaml").write_text(STUDY + "extends: more.yaml\n")
    with pytest.raises(
        ValueError, match=r"study .*/more\.yaml: extends itself through more\.yaml -> study\.yaml -> more\.yaml\."
    ):
        plan.load_study(str(folder / "more.yaml"))
    (folder / "more.yaml").write_text("extends: [study.yaml]\n")
    with pytest.raises(ValueError, match=r"more\.yaml, extends: a name or a path, found \['study\.yaml'\]\."):
        plan.load_study(str(folder / "more.yaml"))
    (folder / "more.yaml").write_text("extends: not-there.yaml\n")
    with pytest.raises(FileNotFoundError, match=r"not-there\.yaml: no such file"):
        plan.load_study(str(folder / "more.yaml"))


def test_every_paper_row_differs_from_its_control_in_the_technique_alone():
    """The settings of a recipe and of its control may differ only in the keys that are named here."""
    allowed = {
        "smart": r"tasks\.\w+\.losses",
        "smart-ceoll": r"tasks\.sst\.losses",
        "pal": r"model\.pal",
        "annealed": r"train\.sampler",
        "pal-annealed": r"train\.sampler",
        "base-joint": r"train\.mode",
        "surgery": r"train\.(aggregation|conflicts)",
        "se-base": r"tasks\.(quora|sts)\.(inputs|head)",
        "se-cosine": r"tasks\.(quora|sts)\.(head|losses)|train\.held_out",  # its control has no threshold to fit
        "se-mnrl": r"tasks\.quora\.losses",
        "se-simcse": r"tasks\.quora\.losses",
        "loss-oll": r"tasks\.sst\.losses",
        "loss-ceoll": r"tasks\.sst\.losses",
        "single-sst": r"tasks\.(quora|sts)|train\.rounds",
        "single-quora": r"tasks\.(sst|sts)|train\.rounds",
        "single-sts": r"tasks\.(sst|quora)|train\.rounds",
    }
    rows = plan.load_study("paper").rows
    assert {row for row, v in rows.items() if v.control} == set(allowed)
    for row, pattern in allowed.items():
        control = rows[row].control
        assert control is not None
        mine, theirs = (v.recipe.model_dump() for v in (rows[row], rows[control]))
        differing = [
            f"{part}.{key}" + (f".{field}" if part == "tasks" and mine[part].get(key) and theirs[part].get(key) else "")
            for part in ("tasks", "model", "train")
            for key in mine[part].keys() | theirs[part].keys()
            for field in ((mine[part].get(key) or {}).keys() if part == "tasks" and mine[part].get(key) else [""])
            if mine[part].get(key) != theirs[part].get(key)
            if not field or not theirs[part].get(key) or mine[part][key][field] != theirs[part][key][field]
        ]
        assert differing
        assert [d for d in differing if not re.fullmatch(pattern, d)] == []


def test_changes_come_in_order_study_row_grid_command(folder: Path):
    (folder / "study.yaml").write_text(
        "rows: {a: {recipe: toy.yaml, set: [train.lr=2, train.clip=2]}}\n"
        "set: [train.lr=1, train.eps=1]\ngrid: {train.clip: [3, 4], train.warmup: [0.5]}\n"
    )
    found = plan.load_study(str(folder / "study.yaml"), ["train.warmup=0.25"])
    trains = {name: v.recipe.train for name, v in found.rows.items()}
    assert {n: (t.lr, t.eps, t.clip, t.warmup) for n, t in trains.items()} == {
        "a,clip=3,warmup=0.5": (2, 1, 3, 0.25),
        "a,clip=4,warmup=0.5": (2, 1, 4, 0.25),
    }


def test_a_grid_keeps_controls_at_the_same_point(folder: Path):
    (folder / "study.yaml").write_text(STUDY + "grid: {train.lr: [1e-4, 1e-3]}\n")
    found = plan.load_study(str(folder / "study.yaml"))
    assert [(v.name, v.control) for v in found.rows.values() if v.control] == [
        ("pcgrad,lr=0.0001", "sum,lr=0.0001"),
        ("pcgrad,lr=0.001", "sum,lr=0.001"),
    ]


def test_the_recipe_names_the_control_and_extends_does_not_pass_it_on(folder: Path):
    (folder / "tried.yaml").write_text("extends: toy.yaml\ncontrol: toy.yaml\ntrain: {lr: 1}\n")
    (folder / "more.yaml").write_text("extends: tried.yaml\n")
    (folder / "study.yaml").write_text("rows: {more: more.yaml, tried: tried.yaml, toy: toy.yaml}")
    found = plan.load_study(str(folder / "study.yaml"))
    assert {v.name: v.control for v in found.rows.values()} == {"more": None, "tried": "toy", "toy": None}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rows: {}", "study /study.yaml, rows: must not be empty"),
        ("row: {a: b}", "unknown key 'row'. Did you mean 'rows'?"),
        ("- a", "study /study.yaml: a study is a mapping with the key 'rows', found a list."),
        ("rows: {a/b: toy.yaml}", "rows.a/b"),
        ("rows: {a: nope.yaml}", "study /study.yaml, rows.a: recipe nope.yaml: no such file"),
        ("rows: {a: toy.yaml}\nset: [train.lrr=1]", "rows.a: recipe toy.yaml, train: unknown key 'lrr'"),
        ("rows: {a: toy.yaml}\nreference: b", "reference: there is no row 'b'. Known: a."),
        ("rows: {a: {recipe: toy.yaml, control: a}, b: toy.yaml}", "control 'a' is no other row. Known: b."),
        ("rows: {a: paper/surgery}", "names paper/base-joint as its control, and no row has that"),
        ("rows: {a: toy.yaml}\nseeds: [1, 1]", "names one twice"),
        ("rows: {a: toy.yaml}\nseeds: []", "seeds: must not be empty"),
        ("rows: {a: toy.yaml}\nseeds: [0.5]", "study /study.yaml, seeds.0: must be a valid integer, found 0.5."),
        ("rows: {a: toy.yaml}\ngrid: {train.lr: []}", "grid.train.lr: has no values"),
        (
            "rows: {a: toy.yaml}\ngrid: {model.path: [../b]}",
            "its name with the values of the grid is 'a,path=../b', which cannot be",
        ),
    ],
)
def test_a_wrong_file_is_one_line_that_says_where(folder: Path, text: str, said: str):
    found = refusal(folder, text)
    assert said in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("change", "task"),
    [
        ("tasks.sst.dev_seed=1", "sst"),
        ("tasks.quora.dev_fraction=0.2", "quora"),
        ("tasks.quora.dev_split=rows", "quora"),
        ("tasks.sst.train=quora.csv", "sst"),
        ("tasks.sts.dev=sst.csv", "sts"),
        ("tasks.sts.metric=spearman", "sts"),
        ("data.root=elsewhere", "sst"),
    ],
)
def test_rows_with_other_dev_data_are_refused_before_anything_is_run(folder: Path, change: str, task: str):
    text = f"rows: {{a: toy.yaml, b: {{recipe: toy.yaml, set: [{change}], control: a}}}}"
    assert f"rows.b: task {task} has other dev examples than in row a, or another metric." in refusal(folder, text)


def test_rows_may_differ_in_what_they_train_on(folder: Path):
    (folder / "study.yaml").write_text(
        "rows: {a: toy.yaml, b: {recipe: toy.yaml, set: [tasks.sts.train=other.csv, tasks.sts.inputs=separate]}}"
    )
    assert len(plan.load_study(str(folder / "study.yaml")).rows) == 2


def test_a_study_may_be_a_dict_whose_recipes_are_dicts_or_files(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    raw = toy_run.raw_recipe(folder)
    changed = {"recipe": raw, "set": ("train.lr=0.5",), "control": "plain"}
    rows = {"plain": raw, "changed": changed, "file": folder / "toy.yaml"}
    before = copy.deepcopy(rows)
    found = plan.load_study({"rows": rows, "seeds": (0, 7)}, ["train.epochs=3"])
    assert rows == before
    assert found.seeds == (0, 7)
    recipes = {name: row.recipe for name, row in found.rows.items()}
    assert recipes["plain"] == recipes["file"] == load_recipe("toy.yaml", ["train.epochs=3"])
    assert (recipes["changed"].train.lr, recipes["changed"].train.epochs) == (0.5, 3)
    assert (found.rows["changed"].control, found.rows["plain"].control) == ("plain", None)
    assert plan.study_folder({"rows": rows}) == Path("studies/study")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rows": {"a": {"tasks": {}}}}, "study given as a dict, rows.a: recipe given as a dict, tasks"),
        ({"rows": {"a": "demo"}, "seed": [1]}, "study given as a dict, unknown key 'seed'. Did you mean 'seeds'?"),
        ({"rows": {"a": {"recipe": "gone"}}}, "study given as a dict, rows.a: recipe gone: no such file"),
        ({"rows": [1]}, "study given as a dict, rows: "),
    ],
)
def test_a_mistake_in_a_study_that_is_a_dict_names_its_place(given: dict[str, object], said: str):
    with pytest.raises((ValueError, FileNotFoundError), match=f"^{re.escape(said)}"):
        plan.load_study(given)
