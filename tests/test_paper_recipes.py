"""The recipes of the paper: each keeps the paper's protocol and differs from its control in one technique."""

import pytest

from mtbert.recipe.files import load_recipe, shipped_recipes

PAPER = [name for name in shipped_recipes() if name.startswith("paper/")]


def test_every_row_of_the_paper_and_the_controls_it_lacks_are_there():
    rows = "base base-joint surgery annealed pal pal-annealed smart smart-ceoll loss-ce loss-oll loss-ceoll".split()
    rows += "se-base se-mnrl se-cosine se-simcse single-sst single-quora single-sts".split()
    assert sorted(PAPER) == sorted(f"paper/{row}" for row in rows)


@pytest.mark.parametrize("name", PAPER)
def test_a_row_of_the_paper_keeps_its_protocol_on_any_encoder(name):
    recipe = load_recipe(name, ["model.path=bert-base-uncased"])
    train = recipe.train
    assert (train.lr, train.epochs, train.weight_decay, train.betas) == (1e-5, 10, 1e-3, (0.9, 0.999))
    assert (train.schedule, train.warmup, train.clip) == ("constant", 0, None)
    assert {n: t.batch_size for n, t in recipe.tasks.items()}.items() <= {"sst": 8, "quora": 16, "sts": 8}.items()
    assert recipe.model.path == "bert-base-uncased"


def test_a_control_differs_in_its_technique_alone():
    def changed(name, control):
        a, b = (flat(load_recipe(n).model_dump(mode="json")) for n in (f"paper/{name}", f"paper/{control}"))
        return {k for k in a.keys() | b.keys() if a.get(k) != b.get(k)} - {"control"}

    assert changed("base-joint", "base") == {"train.mode"}
    assert changed("surgery", "base-joint") == {"train.aggregation.kind", "train.conflicts"}
    assert changed("annealed", "base") == {"train.sampler.kind"}
    assert {k.split(".")[1] for k in changed("pal", "base")} == {"pal"}
    assert changed("pal-annealed", "pal") == changed("annealed", "base")
    assert {k.split(".")[2] for k in changed("smart", "base")} == {"losses"}
    assert {tuple(k.split(".")[1:3]) for k in changed("smart-ceoll", "smart")} == {("sst", "losses")}
    assert {tuple(k.split(".")[1:3]) for k in changed("se-mnrl", "se-base")} == {("quora", "losses")}
    assert {tuple(k.split(".")[1:3]) for k in changed("se-simcse", "se-base")} == {("quora", "losses")}
    assert changed("loss-ce", "single-sst") == set()


def flat(value, path=""):
    if isinstance(value, dict) and value:
        return {k: v for key, item in value.items() for k, v in flat(item, f"{path}.{key}".lstrip(".")).items()}
    return {path: value}
