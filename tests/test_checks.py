"""What an error says of a name that does not exist."""

import time

import numpy as np
import pytest

from bleep_sc._checks import MissingKeyError, check_listed, meant

GENES = ["mt-Rnr2", "Penk", "Pdyn", "PENK2", *(f"Gm{i}" for i in range(996))]


def names_the(wanted: object, *alike: str, names: list[str] = GENES) -> None:
    """The names that may have been meant come first, then how many there are."""
    count = f"There are {len(names):,} genes, written like {names[0]!r}."
    like = f"Did you mean {' or '.join(map(repr, alike))}? " if alike else ""
    assert meant(wanted, names, noun="gene") == like + count


def test_a_name_of_another_case_is_meant_before_a_near_one() -> None:
    names_the("PENK", "Penk")
    names_the("penk2", "PENK2")
    names_the("Pekn", "Penk")
    names_the("ERBB2")
    names_the("Abc", "abc", "ABC", names=["abc", "ABC", "Abcd"])


def test_barcodes_with_and_without_their_ending() -> None:
    names_the("AAACAAGTATCTCCCA", "AAACAAGTATCTCCCA-1", names=["AAACAAGTATCTCCCA-1", "GGGTTTGGGTTTGGGT-1"])
    names_the("x" * 101, names=["x" * 102, "y"])


@pytest.mark.odd
def test_names_that_are_no_text_and_none_at_all() -> None:
    assert meant("a", [], noun="spot") == "There are no spots."
    assert meant("a", [7], noun="spot") == "There is 1 spot, written like '7'."
    names_the(7)
    names_the("")


def test_the_error_names_argument_and_place() -> None:
    check_listed("adata.var_names", "Penk", GENES, argument="genes", noun="gene")
    with pytest.raises(
        MissingKeyError, match=r"^`genes`: `adata.var_names\['PENK'\]` does not exist. Did you mean 'Penk'"
    ):
        check_listed("adata.var_names", "PENK", GENES, argument="genes", noun="gene")


def test_it_is_quick_for_as_many_names_as_there_are_genes() -> None:
    letters = np.random.default_rng(0).choice(list("ACGT"), size=(60_000, 16))
    barcodes = ["".join(row) + "-1" for row in letters]
    ensembl = [f"ENSMUSG{i:011}" for i in range(60_000)]
    begin = time.process_time()
    names_the("ENSMUSG00000099999", names=ensembl)  # a near number would be another gene
    names_the(f"{barcodes[9][:15]}N-1", barcodes[9], names=barcodes)
    names_the("PENKL", names=[f"gene{i}" for i in range(60_000)])
    assert time.process_time() - begin < 2
