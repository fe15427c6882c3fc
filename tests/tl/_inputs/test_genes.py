"""Few shared genes are said, with the spelling under which more would be shared; the code of the advice mends it."""

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import bleep_sc as bl

N = 60
SYMBOLS = [f"GENE{i}" for i in range(N)]
IDS = [f"ENSG{i:011d}" for i in range(N)]
VERSIONS = [f"{name}.{i % 9 + 1}" for i, name in enumerate(IDS)]


def spots(names: list[str], seed: int, **columns: list[str]) -> AnnData:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(30, 4)).astype(np.float32)
    values = np.log1p(rng.poisson(2, size=(30, len(names)))).astype(np.float32)
    var = pd.DataFrame(columns, index=names)
    obs = pd.DataFrame(index=[f"{seed}-{i}" for i in range(30)])
    return AnnData(values, obs=obs, var=var, obsm={"feat": features})


def fitted(names: list[str], method: str, **columns: list[str]) -> AnnData:
    ref = spots(names, 0, **columns)
    bl.tl.fit(ref, method=method, image_key="feat")
    return ref


Genes = tuple[list[str], dict[str, list[str]]]
ALIKE: dict[str, tuple[Genes, Genes, str]] = {
    "upper case": ((SYMBOLS, {}), ([s.title() for s in SYMBOLS], {}), "60 would be shared in upper case: "),
    "lower case in the reference": (([s.lower() for s in SYMBOLS], {}), (SYMBOLS, {}), "60 would be shared in upper "),
    "a version in the query": ((IDS, {}), (VERSIONS, {}), "60 would be shared without version suffix: "),
    "a version in the reference": ((VERSIONS, {}), (IDS, {}), "60 would be shared without version suffix: "),
    "other versions": ((VERSIONS, {}), ([f"{name}.31" for name in IDS], {}), "60 would be shared without version "),
    "upper case and a version": (
        (VERSIONS, {}),
        ([s.lower() for s in IDS], {}),
        "60 would be shared in upper case and without version suffix: ",
    ),
    "symbols in a column of the query": (
        (SYMBOLS, {}),
        (IDS, {"symbol": SYMBOLS, "kind": ["Gene Expression"] * N}),
        "60 would be shared by `query.var['symbol'].astype(str)`: ",
    ),
    "ids in a column of the reference": (
        (SYMBOLS, {"gene_ids": IDS}),
        (IDS, {}),
        "60 would be shared by `ref.var['gene_ids'].astype(str)`: ",
    ),
    "ids in columns of both": (
        (SYMBOLS, {"gene_ids": IDS}),
        ([f"probe{i}" for i in range(N)], {"ensembl": VERSIONS}),
        "60 would be shared without version suffix and by `query.var['ensembl'].astype(str)` and by "
        "`ref.var['gene_ids'].astype(str)`: ",
    ),
    "a few names alike": (
        ([*SYMBOLS[:-2], "ERCC-00002", "GFP"], {}),
        ([s.title() for s in SYMBOLS[:-2]] + ["ERCC-00002", "GFP"], {}),
        "60 would be shared in upper case: ",
    ),
    "two of the query's that mean one": (
        (SYMBOLS, {}),
        ([s.title() for s in SYMBOLS] + SYMBOLS[:2], {}),
        "60 would be shared in upper case: ",
    ),
}


def follow(message: str, query: AnnData, ref: AnnData) -> None:
    """Run the lines of the advice."""
    advice = message.partition(" would be shared ")[2].partition(": ")[2]
    names = {"query": query, "ref": ref}
    for line in advice.split("`")[1::2]:
        exec(line, names)  # noqa: S102 - what the user is told to run


def impute(query: AnnData, ref: AnnData) -> str:
    """Impute, and return what was said of the genes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            bl.tl.impute(query, ref, image_key="feat")
        except ValueError as err:
            return str(err)
    assert len(caught) <= 1
    return str(caught[0].message) if caught else ""


@pytest.mark.odd
@pytest.mark.parametrize("method", ["knn", "ridge"])
@pytest.mark.parametrize("case", ALIKE)
def test_the_code_of_the_advice_mends_it(case: str, method: str) -> None:
    (ref_names, ref_columns), (query_names, query_columns), words = ALIKE[case]
    ref, query = fitted(ref_names, method, **ref_columns), spots(query_names, 1, **query_columns)
    message = impute(query, ref)
    assert message.startswith(("`query` and `ref` share no gene: ", "`query` and `ref` share few genes: "))
    assert words in message
    follow(message, query, ref)
    assert impute(query, ref) == ""
    named_alike = spots(ref_names, 1)
    assert impute(named_alike, ref) == ""
    np.testing.assert_array_equal(query[:, ref_names].layers["bleep"], named_alike.layers["bleep"])


def test_half_the_genes_are_enough() -> None:
    ref = fitted(SYMBOLS, "mean")
    strangers = [f"other{i}" for i in range(N)]
    assert impute(spots(SYMBOLS[:30] + strangers[:30], 1), ref) == ""
    assert impute(spots(SYMBOLS[:10] + strangers[:10], 1), ref) == "", "a panel is judged by its own genes"
    assert impute(spots(SYMBOLS + [f"more{i}" for i in range(500)], 1), ref) == "", "a small model by the model's"


@pytest.mark.odd
def test_below_one_half_is_said_without_advice_where_none_helps() -> None:
    ref = fitted(SYMBOLS, "mean")
    message = impute(spots(SYMBOLS[:29] + [f"other{i}" for i in range(31)], 1), ref)
    assert "share few genes: 29 of the query's 60 are among the 60 of the model, and the layer is NaN for" in message
    assert "would be shared" not in message


@pytest.mark.odd
@pytest.mark.parametrize("name", ["RP11-34P{}.7", "HLA.{}.2"])
def test_a_dot_in_a_symbol_is_no_version(name: str) -> None:
    ref = fitted([name.format(i) for i in range(N)], "mean")
    query = spots([name.format(i)[:-1] + "3" for i in range(N)], 1)
    assert "would be shared" not in impute(query, ref)


@pytest.mark.odd
@pytest.mark.parametrize(
    "column",
    [
        pd.Categorical(SYMBOLS),
        np.array([*SYMBOLS[:-5], *[np.nan] * 5], dtype=object),
        pd.array(SYMBOLS, dtype="string"),
    ],
    ids=["categorical", "some are missing", "strings"],
)
def test_columns_of_any_kind(column: object) -> None:
    ref, query = fitted(SYMBOLS, "mean"), spots(IDS, 1)
    query.var["length"], query.var["exons"] = np.arange(N), [[1, i] for i in range(N)]
    query.var["kind"], query.var["symbol"] = "Gene Expression", column
    follow(impute(query, ref), query, ref)
    assert impute(query, ref) == ""
    assert list(query.var_names[:-5]) == SYMBOLS[:-5]


@pytest.mark.odd
def test_numbers_for_names() -> None:
    ref, query = fitted(SYMBOLS, "mean"), spots(IDS, 1)
    query.var.index = pd.RangeIndex(N)
    assert "share no gene" in impute(query, ref)


def test_a_query_without_a_table_of_names_is_quick(unchanged: Callable[..., None]) -> None:
    """Nothing is spelt again where enough genes are shared."""
    ref, query = fitted(SYMBOLS, "mean"), spots(SYMBOLS, 1, ids=IDS)
    unchanged(ref)
    assert impute(query, ref) == ""
