from _hd_table import HD, hd
from _measured_table import MEASURED, measured_spots
from _slim_table import SLIM, slim_model
from _trust_tables import COVERAGE, LISTS, coverage, lists
from tables import ATLAS, PAGE, RESULTS, STUDY_PAGES, atlas, page


def test_the_page_is_that_of_the_figures() -> None:
    """The tables say what the stored figures say; `python benchmarks/tables.py` writes them anew."""
    assert list(RESULTS.glob("*.json"))
    assert PAGE.read_text() == page()
    assert ATLAS.read_text() == atlas()
    assert COVERAGE.read_text() == coverage()
    assert LISTS.read_text() == lists()
    assert MEASURED.read_text() == measured_spots()
    assert SLIM.read_text() == slim_model()
    assert HD.read_text() == hd()
    assert all(path.read_text() == text() for path, text in STUDY_PAGES.items())
