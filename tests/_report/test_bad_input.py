"""Bad input gives one error before any work, and leaves an earlier report as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from odd_inputs import EVERY
from scipy import sparse

import bleep_sc as bl
from bleep_sc._report import _write, choice

pytestmark = [pytest.mark.odd, pytest.mark.usefixtures("quick")]
Pair = tuple[AnnData, AnnData]
Damage = Callable[[AnnData, AnnData], object]


def nothing(ref: AnnData, query: AnnData) -> None:
    """Leave the objects as they are."""


def of_another_model(ref: AnnData, query: AnnData) -> None:
    query.uns["bleep"]["model_sha256"] = "0" * 64


def without_model(ref: AnnData, query: AnnData) -> None:
    del ref.uns["bleep"]


def without_record(ref: AnnData, query: AnnData) -> None:
    query.layers["other"] = query.layers["bleep"]


def several_sections(ref: AnnData, query: AnnData) -> None:
    query.uns["spatial"]["E2"] = query.uns["spatial"]["D1"]
    del query.uns["crops"]


def without_values(ref: AnnData, query: AnnData) -> None:
    query.layers["bleep"][:, query.var_names.get_loc("g3")] = np.nan


def without_any_values(ref: AnnData, query: AnnData) -> None:
    query.layers["bleep"][:] = np.nan


def set_uns(query: AnnData, **entries: Any) -> None:
    query.uns.update(entries)


BAD: dict[str, tuple[Damage, dict[str, Any], type[Exception], str]] = {
    "query": (nothing, {"query": 5}, TypeError, r"`query` must be an AnnData, found int"),
    "ref": (nothing, {"ref": "ref.h5ad"}, TypeError, r"`ref` must be an AnnData, found str"),
    "a folder": (nothing, {"path": "."}, IsADirectoryError, r"is a folder. Name the file in it"),
    "no folder": (nothing, {"path": "none/report.html"}, FileNotFoundError, r"there is no folder .*none.*Make it"),
    "no page": (nothing, {"path": "report.pdf"}, ValueError, r"must end in '.html'.*found .*report.pdf"),
    "no path": (nothing, {"path": 3}, TypeError, r"`path` must be the path of a file.*found 3"),
    "no gene": (nothing, {"genes": "ERBB2"}, KeyError, r"query.var_names\['ERBB2'\]` does not exist"),
    "genes of none": (nothing, {"genes": []}, ValueError, r"must name 1 to 12 genes, found 0"),
    "many genes": (nothing, {"genes": [f"g{i}" for i in range(13)]}, ValueError, r"must name 1 to 12 genes, found 13"),
    "genes": (nothing, {"genes": 5}, TypeError, r"`genes` must be a list of names, found 5"),
    "no spot": (nothing, {"spots": ["here"]}, KeyError, r"query.obs_names\['here'\]` does not exist"),
    "no layer": (nothing, {"layer": "none"}, KeyError, r"query.layers\['none'\]` does not exist.*tl.impute"),
    "layer": (nothing, {"layer": 7}, TypeError, r"`layer` must be a name, found 7"),
    "no truth": (nothing, {"truth": "none"}, KeyError, r"query.layers\['none'\]` does not exist.*`truth=None`"),
    "title": (nothing, {"title": 7}, TypeError, r"`title` must be a name, found 7"),
    "no column": (nothing, {"library_key": "none"}, KeyError, r"obs\['none'\]` does not exist"),
    "no section": (nothing, {"library_id": "none"}, KeyError, r"'none'\]` does not exist.*`library_id` names"),
    "no picture": (nothing, {"img_key": "none"}, KeyError, r"'none'\]` does not exist.*`img_key=None`"),
    "another model": (of_another_model, {}, ValueError, r"imputed by another model than `ref.uns\['bleep'\]`"),
    "no model": (without_model, {}, KeyError, r"`ref.uns\['bleep'\]` holds no model"),
    "no record": (without_record, {"layer": "other"}, ValueError, r"no record of what imputed it.*Leave `ref` out"),
    "sections": (several_sections, {}, ValueError, r"no column says which spot is of which.*`library_key`"),
    "no values": (without_values, {"genes": ["g3"]}, ValueError, r"no value of 'g3'.*Leave it out of `genes`"),
    "no values at all": (without_any_values, {}, ValueError, r"holds no values to show.*tl.impute"),
    "no scale": (
        lambda ref, query: query.uns["spatial"]["D1"]["scalefactors"].clear(),
        {}, KeyError, r"tissue_hires_scalef'\]` does not exist",
    ),
    "places": (
        lambda ref, query: query.obsm["spatial"].fill(np.nan), {}, ValueError, r"obsm\['spatial'\]` is NaN",
    ),
    "scores": (
        lambda ref, query: query.var.__setitem__("bleep_pearson", "good"),
        {}, ValueError, r"var\['bleep_pearson'\]` is damaged.*tl.evaluate",
    ),
    "verdicts": (
        lambda ref, query: query.uns["bleep"].update(reliability=pd.DataFrame({"a": [1]})),
        {}, ValueError, r"uns\['bleep'\]\['reliability'\]` is damaged.*tl.impute",
    ),
    "findings": (
        lambda ref, query: query.uns["crops"]["D1"].update(findings=pd.DataFrame({"a": [1]})),
        {}, ValueError, r"\['findings'\]` is damaged.*pp.crops",
    ),
    "distances": (
        lambda ref, query: query.obsm.update(bleep_distances=query.obsm["bleep_distances"][:, :3]),
        {}, ValueError, r"must have the shape of `adata.obsm\['bleep_neighbors'\]`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_one_error_before_any_work(
    name: str, full: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unchanged: Callable[..., None]
) -> None:
    ref, query = full
    damage, arguments, error, message = BAD[name]
    damage(ref, query)
    unchanged(ref, query)
    monkeypatch.chdir(tmp_path)
    earlier = tmp_path / "report.html"
    earlier.write_text("earlier")
    objects = {"query": query, "ref": ref, "path": earlier}
    with pytest.raises(error, match=message):
        bl.report(**(objects | arguments))
    assert earlier.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_that_may_not_be_written_to(full: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_write, "read_asked", lambda *_, **__: pytest.fail("it was looked at too late"))
    monkeypatch.setattr("bleep_sc._report.asked.os.access", lambda *_: False)
    with pytest.raises(PermissionError, match="nothing may be written into the folder"):
        bl.report(full[1], path=tmp_path / "report.html")


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.slow
def test_odd_objects(name: str, full: Pair, write: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report that the sound object gives, or one error in words."""
    monkeypatch.setattr(choice, "_N_GENES", 1)
    ref, query = full
    odd = EVERY[name](query)
    try:
        page = write(odd, ref)
    except (KeyError, TypeError, ValueError) as err:
        assert len(str(err)) > 30
    else:
        assert page.all("main")


@pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning")
@pytest.mark.slow
def test_what_lies_on_disk(full: Pair, write: Callable, tmp_path: Path) -> None:
    """Backed, lazy and sparse objects give the page that those in memory give."""
    ref, query = full
    expected = write(query, ref, genes=["g3"]).html
    sparse_query = query.copy()
    sparse_query.layers["bleep"] = sparse.csr_matrix(query.layers["bleep"])
    assert write(sparse_query, ref, genes=["g3"]).html == expected
    dask_query = query.copy()
    dask_query.layers["bleep"] = da.from_array(query.layers["bleep"], chunks=(20, -1))
    dask_query.obsm["crops"] = da.from_array(query.obsm["crops"], chunks=(20, -1, -1, -1))
    assert write(dask_query, ref, genes=["g3"]).html == expected
    query.write_h5ad(tmp_path / "query.h5ad")
    ref.write_h5ad(tmp_path / "ref.h5ad")
    read = ad.read_h5ad(tmp_path / "query.h5ad"), ad.read_h5ad(tmp_path / "ref.h5ad")
    assert write(*read, genes=["g3"]).html == expected
    backed = ad.read_h5ad(tmp_path / "query.h5ad", backed="r")
    assert write(backed, ref, genes=["g3"]).html == expected
    backed.file.close()
    query.write_zarr(tmp_path / "query.zarr")
    assert write(ad.experimental.read_lazy(tmp_path / "query.zarr"), ref, genes=["g3"]).html == expected


@pytest.mark.slow
def test_names_of_any_length(full: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plots of all genes are drawn too: their names leave no room."""
    monkeypatch.undo()
    ref, query = full
    for adata in full:
        adata.var_names = [name * 100 for name in adata.var_names]
    path = bl.report(query, ref, path=tmp_path / "report.html", genes="g3" * 100)
    assert "g3" * 100 in path.read_text()


def test_names_in_any_script(full: Pair, write: Callable) -> None:
    """Fonts lack them, and the page has them."""
    ref, query = full
    for adata in full:
        adata.var_names = [{"g3": "基因三", "g7": "$x_{1}^$"}.get(name, name) for name in adata.var_names]
    page = write(query, ref, genes=["基因三", "$x_{1}^$"], note="\ud800 half a character")
    assert "基因三" in page.text("#genes")
    assert "$x_{1}^$" in page.text("#genes")
