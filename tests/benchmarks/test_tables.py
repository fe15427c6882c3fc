from tables import ATLAS, PAGE, RESULTS, TRUST, atlas, page, trust


def test_the_page_is_that_of_the_figures() -> None:
    """The tables say what the stored figures say; `python benchmarks/tables.py` writes them anew."""
    assert list(RESULTS.glob("*.json"))
    assert PAGE.read_text() == page()
    assert ATLAS.read_text() == atlas()
    assert TRUST.read_text() == trust()
