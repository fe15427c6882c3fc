import json
import re

import pytest
from _hd_table import HD, hd
from _measured_table import MEASURED, measured_spots
from _score_figures import METHODS, WITHIN, comparison, speed_rows
from _slim_table import SLIM, slim_model
from _trust_tables import COVERAGE, LISTS, coverage, lists
from tables import ATLAS, PAGE, RESULTS, STUDY_PAGES, atlas, page


def test_the_page_is_that_of_the_figures() -> None:
    """The tables say what the stored figures say; `python benchmarks/tables.py` writes them again."""
    assert list(RESULTS.glob("*.json"))
    assert PAGE.read_text() == page()
    assert ATLAS.read_text() == atlas()
    assert COVERAGE.read_text() == coverage()
    assert LISTS.read_text() == lists()
    assert MEASURED.read_text() == measured_spots()
    assert SLIM.read_text() == slim_model()
    assert HD.read_text() == hd()
    assert all(path.read_text() == text() for path, text in STUDY_PAGES.items())


def test_the_pictures_of_the_page_are_there() -> None:
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE.read_text())
    assert len(pictures) == 4
    assert all((PAGE.parent / picture).stat().st_size < 300_000 for picture in pictures)
    assert PAGE.read_text().count("<details>") == PAGE.read_text().count("</details>") > 5


def test_the_picture_of_methods_shows_the_stored_scores() -> None:
    table = comparison(WITHIN, METHODS, ("features", "networks", "presets")).set_index(["method", "panel"])
    assert len(table) == len(METHODS) * len(WITHIN)
    rows = [
        row["value"]
        for name in ("her2st-presets.json", "her2st-presets2.json")
        if (RESULTS / name).exists()
        for row in json.loads((RESULTS / name).read_text())["summary"]
        if (row["method"], row["panel"], row["metric"]) == ("best", "HVG-50", "pearson")
    ]
    assert table.loc[(METHODS["best"], WITHIN["her2st"]), "value"] == pytest.approx(sum(rows) / len(rows))


def test_a_bar_is_longer_than_its_goal_where_the_goal_is_missed() -> None:
    rows = speed_rows().set_index("what")["takes"]
    record = json.loads((RESULTS / "speed-embed.json").read_text())["rows"][0]
    assert record["goal"] == ">= 0.95"
    bar = rows[rows.index.str.startswith(record["what"])].iloc[0]
    assert (bar > 1) == (record["ratio"] < 0.95)
    assert bar == pytest.approx(0.95 / record["ratio"])
