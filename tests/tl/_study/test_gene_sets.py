"""Sets of genes from a GMT file, from decoupler's table, and from what is neither."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bleep_sc.tl._study._tissues.gene_sets import read_gene_sets

SETS = {"HALLMARK_A": ["ERBB2", "KRT8"], "B": ["VIM"]}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_gmt_file(tmp_path: Path, end: str) -> None:
    path = tmp_path / "sets.gmt"
    lines = ["HALLMARK_A\thttp://x\tERBB2\tKRT8\tERBB2\t", "", "B\t\tVIM"]
    path.write_text("\ufeff" + end.join(lines), encoding="utf-8", newline="")
    assert read_gene_sets(path) == SETS
    assert read_gene_sets(str(path)) == SETS


def test_decouplers_table() -> None:
    table = pd.DataFrame(
        {
            "source": ["HALLMARK_A", "B", "HALLMARK_A", "HALLMARK_A", None],
            "target": ["ERBB2", "VIM", "KRT8", "KRT8", "X"],
            "weight": 1.0,
        }
    )
    assert read_gene_sets(table) == SETS


def test_genes_by_set() -> None:
    assert read_gene_sets({"HALLMARK_A": ("ERBB2", "KRT8"), "B": pd.Index(["VIM", "VIM"])}) == SETS


@pytest.mark.odd
@pytest.mark.parametrize("odd", ["\x0b", "\x85", "\u2028"])
def test_a_description_with_an_odd_break_in_it(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text(f"HALLMARK_A\tmade by{odd}hand\tERBB2\tKRT8\nB\t\tVIM\n", encoding="utf-8")
    assert read_gene_sets(path) == SETS


@pytest.mark.odd
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "it is empty"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "it is no text"),
        (b"gene,score\nERBB2,1\n", "line 1 has no name, or no genes: 'gene,score'"),
        (b"A\tx\tERBB2\nB\tonly a description\n", "line 2 has no name, or no genes"),
        (b"\tx\tERBB2\n", "line 1 has no name"),
        (b"A\tx\tERBB2\nA\tx\tKRT8\n", "line 2 names 'A' a second time"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "sets.gmt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"'sets.gmt' is no GMT file: {found}")):
        read_gene_sets(path)


@pytest.mark.odd
@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ("nowhere.gmt", FileNotFoundError, "there is no file 'nowhere.gmt'"),
        (
            pd.DataFrame({"set": ["A"], "gene": ["x"]}),
            ValueError,
            r"lacks the columns 'source' .* it has \['set', 'gene'\]",
        ),
        (pd.DataFrame({"source": [], "target": []}), ValueError, "without rows"),
        ({}, ValueError, "found dict"),
        (["A"], ValueError, "found list"),
        ({1: ["x"], "1": ["y"]}, ValueError, "`gene_sets` names '1' twice, once as str"),
        ({"A": "ERBB2"}, ValueError, r"`gene_sets\['A'\]` must be a list of genes, found 'ERBB2'"),
    ],
)
def test_what_holds_no_sets(given: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        read_gene_sets(given)
