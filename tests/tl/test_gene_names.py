"""Genes are matched by name alone, whatever their order and number, and a model's names can always be read back."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from conftest import HALF_CHARACTERS, PUBLISHED, make_sections, never_read

import bleep_sc as bl
from bleep_sc.io import _stored

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

pytestmark = [
    pytest.mark.odd,
    pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning"),
    pytest.mark.filterwarnings("ignore:image features are standardised within each section:UserWarning"),
    pytest.mark.filterwarnings("ignore:`query` and `ref` share few genes:UserWarning"),
]

FEW = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
FIT: dict[str, dict[str, Any]] = {
    "default": {"max_epochs": 1, "members": 1, "context": 0},
    "paper": {**PUBLISHED, "max_epochs": 1},
    "ridge": {"method": "ridge", "alpha": 1.0},
}
# What reads alike is not the same: composed and not, upper and lower case, spaces, numbers, words that mean nothing
NAMES = [
    *("é", "e\u0301", "É", "ERBB2", "erbb2", "ERBB2 ", " ERBB2", "HLA-A", "HLA/A", "HLA.A", "1", "01", "1.0", "nan"),
    *(
        "None",
        "True",
        "β-actin",
        "🧬",
        "遺伝子",
        "a\nb",
        "a\tb",
        "'",
        '"',
        "\\",
        "%s",
        "{}",
        "[0]",
        "ß",
        "ss",
        "x" * 1000,
    ),
]
STRANGERS = ["", "ERBB", "ERBB2-1", "e", "NaN", "1.", "X" * 1000, "gene\0", *HALF_CHARACTERS]


@cache
def _fitted(kind: str) -> AnnData:
    ref = make_sections(20, size=8)
    ref.var_names = NAMES
    ref.obsm["X_made"] = ref.obsm["crops"].mean(axis=(1, 2)).astype(np.float32)
    ref.var["highly_variable"] = np.arange(ref.n_vars) % 3 > 0
    given = {name: value for name, value in FIT[kind].items() if name != "encoder"}
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        bl.tl.fit(ref, **given, image_key="X_made", library_key="section")
    return ref


def slide(genes: list[str]) -> AnnData:
    """Six spots that have these genes, and nothing measured."""
    whole = make_sections(6, sections=("q",), size=8, seed=1)
    features = whole.obsm["crops"].mean(axis=(1, 2)).astype(np.float32)
    query = AnnData(obs=whole.obs, var=pd.DataFrame(index=genes), obsm={"X_made": features})
    query.obs_names = [f"query{i}" for i in range(6)]
    return query


@cache
def _by_name(kind: str) -> dict[str, np.ndarray]:
    """The prediction of each gene, from a query that has them in the model's own order."""
    query = slide(NAMES)
    bl.tl.impute(query, _fitted(kind), k=5 if kind != "ridge" else None)
    layer = query.layers["bleep"]
    assert len({column.tobytes() for column in layer.T}) == len(NAMES), "no two genes may be predicted alike"
    return dict(zip(NAMES, layer.T, strict=True))


gene_lists = st.lists(st.sampled_from(NAMES + STRANGERS), unique=True, min_size=1).filter(
    lambda genes: set(genes) & set(NAMES)
)


@pytest.mark.parametrize("kind", FIT)
@FEW
@given(genes=gene_lists)
def test_each_column_is_its_gene(kind: str, genes: list[str]) -> None:
    query = slide(genes)
    bl.tl.impute(query, _fitted(kind), k=5 if kind != "ridge" else None)
    known = _by_name(kind)
    for gene, column in zip(genes, query.layers["bleep"].T, strict=True):
        np.testing.assert_array_equal(column, known.get(gene, np.full(6, np.nan, dtype=np.float32)))


@FEW
@given(genes=gene_lists, order=st.permutations(NAMES), kept=st.integers(20, 30))
def test_an_average_is_of_the_genes_of_that_name(genes: list[str], order: list[str], kept: int) -> None:
    """A reference whose genes were put in another order, or left out, since the model was trained."""
    ref = _fitted("paper")[:, order[:kept]].copy()
    query = slide(genes)
    if not set(genes) & set(ref.var_names):
        with pytest.raises(ValueError, match=r"share no gene"):
            bl.tl.impute(query, ref, k=3)
        return
    bl.tl.impute(query, ref, k=3)
    measured = _fitted("paper").to_df()
    for gene, column in zip(genes, query.layers["bleep"].T, strict=True):
        for spot in range(query.n_obs):
            rows = query.obsm["bleep_neighbors"][spot]
            expected = np.mean([measured[gene].iloc[row] for row in rows]) if gene in ref.var_names else np.nan
            np.testing.assert_allclose(column[spot], expected, rtol=1e-5)


@FEW
@given(genes=gene_lists)
def test_expression_is_embedded_by_name(genes: list[str]) -> None:
    ref = _fitted("paper")
    read = set(ref.var_names[ref.var["highly_variable"]])
    everything = pd.DataFrame(0.0, index=ref.obs_names, columns=[*NAMES, *STRANGERS], dtype=np.float32)
    everything[NAMES] = ref.to_df()
    query = AnnData(everything[genes], obsm={"X_made": ref.obsm["X_made"]})
    bl.tl.embed(query, ref)
    if read <= set(genes):
        np.testing.assert_allclose(query.obsm["X_bleep_expression"], ref.obsm["X_bleep_expression"], atol=1e-5)
    else:
        assert "X_bleep_expression" not in query.obsm


def test_all_genes_in_another_order_with_strangers_between() -> None:
    """What the search above may miss: every gene that the model reads, none where it was."""
    ref = _fitted("paper")
    genes = [gene for pair in zip(NAMES[::-1], [f"other{i}" for i in range(30)], strict=True) for gene in pair]
    query = AnnData(
        ref.to_df().reindex(columns=genes, fill_value=1.0).astype(np.float32), obsm={"X_made": ref.obsm["X_made"]}
    )
    bl.tl.embed(query, ref)
    np.testing.assert_allclose(query.obsm["X_bleep_expression"], ref.obsm["X_bleep_expression"], atol=1e-5)


@FEW
@given(order=st.permutations(range(30)), kept=st.integers(1, 30), spots=st.permutations(range(6)))
def test_a_prediction_from_elsewhere_is_scored_by_name(order: list[int], kept: int, spots: list[int]) -> None:
    query = slide(NAMES)
    rng = np.random.default_rng(0)
    query.X = rng.normal(size=(6, 30)).astype(np.float32)
    made = pd.DataFrame(rng.normal(size=(6, 30)), index=query.obs_names, columns=NAMES)
    prediction = AnnData(made.iloc[spots, order[:kept]])
    bl.tl.evaluate(query, layer="other", prediction=prediction, metrics=["pearson"], n_bootstrap=0)
    for gene in NAMES:
        expected = np.corrcoef(query.to_df()[gene], made[gene])[0, 1] if gene in prediction.var_names else np.nan
        np.testing.assert_allclose(query.var.loc[gene, "other_pearson"], expected, atol=1e-5)


def test_numbers_match_the_same_numbers_as_text() -> None:
    """A table whose genes are 0, 1, 2 ... has text for names once it was written to a file."""
    ref = _fitted("ridge").copy()
    ref.var_names = [str(i) for i in range(30)]
    bl.tl.fit(ref, **FIT["ridge"], image_key="X_made")
    query = slide(NAMES)
    query.var.index = pd.RangeIndex(30)
    bl.tl.impute(query, ref)
    as_text = slide([str(i) for i in range(30)])
    bl.tl.impute(as_text, ref)
    np.testing.assert_array_equal(query.layers["bleep"], as_text.layers["bleep"])
    query.X = query.layers["bleep"] + 1
    bl.tl.evaluate(query, n_bootstrap=0, metrics=["mae"])
    summary = query.uns["bleep_scores"]["summary"].set_index("panel")
    assert summary.loc["HVG-50", "n_missing"] == 0
    np.testing.assert_allclose(summary.loc["HVG-50", "value"], 1, rtol=1e-5)


def test_a_number_and_its_text_are_the_same_name(unchanged: Callable[..., None]) -> None:
    query = slide(NAMES[:2])
    query.var.index = pd.Index([1, "1"], dtype=object)
    unchanged(query)
    with pytest.raises(ValueError, match=r"`query\.var_names` are not unique.*'1'.*var_names_make_unique"):
        bl.tl.impute(query, _fitted("ridge"))


# what is stored must be read back, which is known before a model is trained


@pytest.mark.parametrize("kind", FIT)
def test_names_of_every_kind_are_read_back(kind: str, tmp_path: Path) -> None:
    ref = _fitted(kind).copy()
    wanted = NAMES if kind == "ridge" else list(ref.var_names[ref.var["highly_variable"]])
    bl.io.write_model(ref, tmp_path / "model")
    ref.write_h5ad(tmp_path / "ref.h5ad")
    other = ad.read_h5ad(tmp_path / "ref.h5ad")
    bl.io.read_model(other, tmp_path / "model", key_added="again")
    for key in ("bleep", "again"):
        assert list(other.uns[key]["genes"]) == wanted
    other.obsm.update({n.replace("bleep", "again"): v for n, v in ref.obsm.items() if "bleep" in n})
    query = slide(NAMES)
    bl.tl.impute(query, other, key="again", k=5 if kind != "ridge" else None)
    for gene, column in zip(NAMES, query.layers["again"].T, strict=True):
        np.testing.assert_array_equal(column, _by_name(kind)[gene])


UNREADABLE: dict[str, tuple[str, str]] = {
    "empty": ("", r"is '', an empty name"),
    "a zero character": ("a\0b", r"is 'a\\x00b', with a zero character"),
    "a zero character at the end": ("g0\0", r"is 'g0\\x00', with a zero character"),
    "half a character": ("a\ud800", r"is 'a\\ud800', with half a character"),
    "absurdly long": ("x" * 1001, r"is 'x{50}', 1001 letters long, more than 1000"),
}
if not HALF_CHARACTERS:
    del UNREADABLE["half a character"]


@pytest.mark.parametrize("kind", FIT)
@pytest.mark.parametrize("case", UNREADABLE)
def test_names_that_could_not_be_read_are_refused_before_training(
    case: str, kind: str, unchanged: Callable[..., None]
) -> None:
    name, message = UNREADABLE[case]
    ref = make_sections(8, size=8)
    ref.var_names = [f"g{i}" for i in range(29)] + [name]
    ref.obsm["crops"] = never_read(ref.obsm["crops"])
    unchanged(ref)
    with pytest.raises(ValueError, match=rf"`adata\.var_names\[29\]` {message}.*another name, or leave it out"):
        bl.tl.fit(ref, **FIT[kind])


@pytest.mark.parametrize(
    ("genes", "message"), [(["g0", ""], r"\[1\]` is '', an empty name"), (["a", "a"], r"` are not unique")]
)
def test_names_of_a_representation_are_looked_at_too(
    genes: list[str], message: str, unchanged: Callable[..., None]
) -> None:
    ref = make_sections(8, size=8)
    ref.obsm["X_harmony"] = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
    ref.uns["harmony"] = {"genes": np.array(genes, dtype=object)}
    unchanged(ref)
    with pytest.raises(ValueError, match=rf"`adata\.uns\['harmony'\]\['genes'\]{message}"):
        bl.tl.fit(ref, use_rep="X_harmony")


@pytest.mark.parametrize("limit", ["_MAX_NAMES", "_MAX_TABLE"])
def test_more_names_than_can_be_read_are_refused_before_training(
    limit: str, unchanged: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the genes that are stored: a retrieval's chosen ones, all of a model in closed form."""
    ref = make_sections(8, size=8)
    ref.var["highly_variable"] = np.arange(30) < 10
    monkeypatch.setattr(_stored, limit, 20 if limit == "_MAX_NAMES" else 20 * len("g29"))
    bl.tl.fit(ref, **FIT["paper"], copy=True)
    unchanged(ref)
    with pytest.raises(ValueError, match=r"a model of 30 genes with names of up to 3 letters.*'g10'.*leave genes out"):
        bl.tl.fit(ref, **FIT["ridge"])


def test_a_section_for_every_spot_is_refused_where_it_would_not_be_read(
    unchanged: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = make_sections(20, size=8)
    ref.obs["barcode"] = ref.obs_names
    monkeypatch.setattr(_stored, "MAX_CONFIG", 60_000)
    unchanged(ref)
    with pytest.raises(
        ValueError, match=r"`adata\.obs\['barcode'\]` tells 40 sections apart, such as 'spot0'.*library_key"
    ):
        bl.tl.fit(ref, max_epochs=1, library_key="barcode")
    kept = bl.tl.fit(ref, **FIT["default"], library_key="section", copy=True)
    assert len(json.loads(kept.uns["bleep"]["config"])["centers"]) == 2
