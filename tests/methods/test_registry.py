import inspect
import re
from dataclasses import replace
from typing import Any

import pytest

import bleep_sc as bl
from bleep_sc.methods.bleep import BleepRecipe
from bleep_sc.methods.hybrid.method import FusedRecipe, HybridRecipe
from bleep_sc.methods.recipe import values_of
from bleep_sc.methods.registry import choose, settable


@pytest.mark.parametrize(
    ("preset", "encoder", "kind"),
    [
        ("default", None, HybridRecipe),
        ("default", "color", HybridRecipe),
        ("default", len, HybridRecipe),
        ("default", "resnet18", HybridRecipe),
        ("default", ("color", "resnet18"), HybridRecipe),
        ("best", None, FusedRecipe),
        ("best", ("color", "resnet18"), FusedRecipe),
        ("paper", None, BleepRecipe),
        ("paper", "color", BleepRecipe),
        ("paper", "resnet18", BleepRecipe),
    ],
)
def test_preset_and_encoder_choose_the_recipe(preset: Any, encoder: Any, kind: type) -> None:
    assert type(choose("bleep", preset, {"encoder": encoder})[1]) is kind


def test_what_naming_a_network_meant_before_can_be_asked_for() -> None:
    _, network = choose("bleep", "paper", {"encoder": "resnet18", "accumulate": 1, "patience": 10})
    assert isinstance(network, BleepRecipe)
    assert (network.encoder, network.accumulate, network.patience) == ("resnet18", 1, 10)


def test_the_presets_of_bleeps_recipe_differ_by_their_encoders_alone() -> None:
    default, best = (choose("bleep", preset, {})[1] for preset in ("default", "best"))
    assert isinstance(default, HybridRecipe)
    assert default.encoder == "color"
    assert vars(best) == vars(replace(default, encoder=("color", "efficientnet_lite0")))


def test_presets_that_a_method_lacks_are_refused() -> None:
    for preset in ("best", "paper"):
        with pytest.raises(
            ValueError, match=rf"`preset='{preset}'` is of 'bleep'.*`method='knn'` has none. Leave it out"
        ):
            choose("knn", preset, {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`preset` must be one of 'default', 'best', 'paper', found 'better'"):
        choose("bleep", "better", {})  # type: ignore[arg-type]


def _presets_of_the_docstring() -> dict[str, list[str]]:
    """The cells of each row of the table of presets in the docstring of `fit`, by the name of the argument."""
    after = (inspect.getdoc(bl.tl.fit) or "").split("**Values of the presets.**", 1)[1]
    _, head, body, _ = re.split(r"^=+(?: =+)+\n?", after, maxsplit=3, flags=re.M)
    rows = [line.split() for line in body.splitlines()]
    return {"": re.split(r"(?<!,) +", head.strip()), **{row[0].strip("`"): row[1:] for row in rows}}


TABLE_COLUMNS = {
    "bleep": ("bleep", "default"),
    "bleep, paper": ("bleep", "paper"),
    **{name: (name, "default") for name in ("regressor", "stnet", "histogene", "ridge")},
}


def test_the_table_of_presets_in_the_docstring_is_that_of_the_recipes() -> None:
    table = _presets_of_the_docstring()
    assert table.pop("") == ["argument", *TABLE_COLUMNS]
    assert set(table) == settable()
    for number, (column, (method, preset)) in enumerate(TABLE_COLUMNS.items()):
        values = values_of(choose(method, preset, {})[1])  # type: ignore[arg-type]
        for argument, cells in table.items():
            expected = "--" if argument not in values else "own" if values[argument] is None else str(values[argument])
            if (method, argument) == ("histogene", "batch_size"):  # its batches are windows
                expected = "unused"
            assert cells[number] == expected, f"{argument} of {column}"
    # of the others there is a sentence
    ridge, others = choose("ridge", "default", {})[1], ("coordinates", "knn", "mean", "counts")
    coordinates, knn, *without = (values_of(choose(method, "default", {})[1]) for method in others)  # type: ignore[arg-type]
    assert coordinates | {"encoder": ridge.encoder} == values_of(ridge)
    assert knn == {"encoder": "color"}
    assert without == [{}, {}]


def test_paper_trains_the_published_regressions_to_the_end_and_changes_nothing_else() -> None:
    for method in ("stnet", "histogene"):
        default, paper = (choose(method, preset, {})[1] for preset in ("default", "paper"))  # type: ignore[arg-type]
        assert paper == replace(default, patience=0)
        assert default.patience > 0
