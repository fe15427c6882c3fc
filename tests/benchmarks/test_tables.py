from tables import PAGE, RESULTS, page


def test_the_page_is_that_of_the_figures() -> None:
    """BENCHMARKS.md says what the stored figures say; `python benchmarks/tables.py` writes it anew."""
    assert list(RESULTS.glob("*.json"))
    assert PAGE.read_text() == page()
