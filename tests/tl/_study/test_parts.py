"""The folder of a study: what it keeps, whose it is, and that each study goes on from it with the same result."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from conftest import make_sections

import bleep_sc as bl
from bleep_sc.tl._cv import run as cv_run
from bleep_sc.tl._study._tissues import cells, strata
from bleep_sc.tl._study.parts import Parts

pytestmark = pytest.mark.filterwarnings(
    "ignore:near-empty spots:UserWarning", "ignore:this learning curve leaves open:UserWarning"
)
READY: dict[str, Any] = {"image_key": "X_made", "alpha": 1.0}
COMMON: dict[str, Any] = {"min_fraction": 0.0, "n_bootstrap": 0, "library_key": "section", "progress_bar": False}


def tissue(seed: int = 0, first: str = "a") -> AnnData:
    adata = make_sections(30, sections=tuple(f"{first}{number}" for number in range(3)), seed=seed)
    crops = adata.obsm.pop("crops").astype(np.float32)
    del adata.uns["crops"]
    adata.obsm["X_made"] = np.hstack([crops.mean(axis=(1, 2)), np.abs(np.diff(crops, axis=2)).mean(axis=(1, 2))])
    adata.obs["patient"] = adata.obs["section"]
    return adata


def transfer(adata: AnnData, **arguments: Any) -> pd.DataFrame:
    other = tissue(1, "b")[:60].copy()
    arguments = {"method_kwargs": READY} | COMMON | arguments
    return bl.tl.transfer_matrix({"one": adata, "other": other}, **arguments)


def genes(adata: AnnData, **arguments: Any) -> pd.DataFrame:
    sets = {"first": list(adata.var_names[:12]), "last": list(adata.var_names[-12:])}
    arguments = {"use_rep": "X_made", "n_draws": 20, "gene_sets": sets, "n_strata": 2} | COMMON | arguments
    return bl.tl.gene_strata(adata, **({"method_kwargs": READY} | arguments))


def curve(adata: AnnData, **arguments: Any) -> pd.DataFrame:
    return bl.tl.learning_curve(adata, sizes=[30, 60], draws=1, **({"method_kwargs": READY} | COMMON | arguments))


def sweep(adata: AnnData, **arguments: Any) -> pd.DataFrame:
    knn = {"method": "knn", "method_kwargs": {"image_key": "X_made"}}
    return bl.tl.sweep(adata, {"k": [2, 10]}, **(knn | COMMON | arguments))


STUDIES: list[Callable[..., pd.DataFrame]] = [transfer, genes, curve, sweep]


@pytest.mark.slow
@pytest.mark.parametrize(("study", "module"), [(transfer, cells), (genes, strata)])
def test_what_is_done_is_not_done_again(
    study: Callable[..., pd.DataFrame], module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other two studies are ended and resumed by their own tests, which count their trainings."""
    whole = study(tissue())
    real, calls = cv_run.train, []

    def stops_at_third(*given: Any, **others: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given, **others)

    monkeypatch.setattr(cv_run, "train", stops_at_third)
    adata = tissue()
    with pytest.raises(KeyboardInterrupt):
        study(adata, checkpoint_dir=tmp_path / "new" / "parts")
    assert not adata.uns
    pd.testing.assert_frame_equal(study(adata, checkpoint_dir=tmp_path / "new" / "parts"), whole)
    n_parts = len(list((tmp_path / "new" / "parts").iterdir())) - 1
    assert len(calls) == 3 + n_parts - 2
    pd.testing.assert_frame_equal(study(adata, checkpoint_dir=tmp_path / "new" / "parts"), whole)
    assert len(calls) == 3 + n_parts - 2


@pytest.mark.odd
@pytest.mark.parametrize("study", STUDIES)
def test_the_folder_of_another_call_is_refused(study: Callable[..., pd.DataFrame], tmp_path: Path) -> None:
    adata = tissue()
    study(adata, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match=r"of another call: `random_state` was 0 and is 1\. Pass what was"):
        study(adata, checkpoint_dir=tmp_path, random_state=1)
    changed = adata.copy()
    changed.obsm["X_made"] = changed.obsm["X_made"] + 1
    with pytest.raises(ValueError, match=r"another call: `obsm\['X_made'\]` changed"):
        study(changed, checkpoint_dir=tmp_path)
    changed = adata.copy()
    changed.layers["counts"] = changed.layers["counts"] * 2
    with pytest.raises(ValueError, match="another call: their expression changed"):
        study(changed, checkpoint_dir=tmp_path)
    other = STUDIES[STUDIES.index(study) - 1]
    with pytest.raises(ValueError, match="another call: `study` was"):
        other(adata, checkpoint_dir=tmp_path)


@pytest.mark.odd
def test_gene_sets_belong_to_the_call(tmp_path: Path) -> None:
    adata = tissue()
    genes(adata, checkpoint_dir=tmp_path)
    other = {"first": list(adata.var_names[:12]), "last": list(adata.var_names[-11:])}
    with pytest.raises(ValueError, match="another call: the gene sets changed"):
        genes(adata, checkpoint_dir=tmp_path, gene_sets=other)


@pytest.mark.odd
def test_genes_of_a_set_may_come_in_any_order(tmp_path: Path) -> None:
    """Those of a Python set come in another order in each process."""
    adata = tissue()
    members = list(adata.var_names[:12])
    first = genes(adata, checkpoint_dir=tmp_path, gene_sets={"first": members})
    pd.testing.assert_frame_equal(genes(adata, checkpoint_dir=tmp_path, gene_sets={"first": members[::-1]}), first)


@pytest.mark.odd
def test_a_call_goes_on_with_tissue_that_was_read_from_a_file(tmp_path: Path) -> None:
    """A file keeps the records of crops in another order, and their numbers as NumPy's."""
    adata = make_sections(30, sections=("a0", "a1", "a2"))
    adata.obs["patient"] = adata.obs["section"]
    arguments = COMMON | {"method": "knn", "checkpoint_dir": tmp_path / "parts", "metrics": ["pearson"]}
    scores = bl.tl.sweep(adata, {"k": [2, 10]}, **arguments)
    del adata.uns["sweep"]
    adata.write_h5ad(tmp_path / "tissue.h5ad")
    back = ad.read_h5ad(tmp_path / "tissue.h5ad")
    pd.testing.assert_frame_equal(bl.tl.sweep(back, {"k": [2, 10]}, **arguments), scores)
    back.uns["crops"]["a0"]["um_per_px"] += 1e-3
    with pytest.raises(ValueError, match=r"another call: `obsm\['crops'\]` changed"):
        bl.tl.sweep(back, {"k": [2, 10]}, **arguments)


@pytest.mark.odd
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"thesis.txt": ""}, "holds other files: name a new folder"),
        ({"call.json": "["}, "'call.json' is damaged"),
        ({"call.json": '{"settings": {}}'}, "'call.json' is damaged"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path: Path, content: dict[str, str], message: str) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        Parts.of(tmp_path, "sweep", {}, {})


@pytest.mark.odd
def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, message in ((tmp_path / "file", "is a file: name a folder"), ("a\0b", "is no path of a folder")):
        with pytest.raises(ValueError, match=message):
            Parts.of(path, "sweep", {}, {})
    number: Any = 3
    with pytest.raises(TypeError, match="`checkpoint_dir` must be the path of a folder, found 3"):
        Parts.of(number, "sweep", {}, {})


@pytest.mark.odd
@pytest.mark.parametrize("content", ["{", "[]", '{"part": "one", "sha256": "0", "result": 3}', "\x00"])
def test_a_damaged_part_is_done_anew(tmp_path: Path, content: str) -> None:
    parts = Parts.of(tmp_path, "sweep", {}, {})
    parts.keep("one", {"scores": [1.5]})
    (file,) = (path for path in tmp_path.iterdir() if path.name != "call.json")
    assert parts.read("one") == {"scores": [1.5]}
    file.write_text(content)
    with pytest.warns(UserWarning, match=rf"{file.name}' is damaged: one is done again"):
        assert parts.read("one") is None


def test_what_is_kept_is_read_as_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    result = {"draws": np.array([0.1, np.nan]), "value": np.float32(0.1), "n": np.int64(3), "by": {"a": "ä\n"}}
    kept = Parts.of(tmp_path, "sweep", {"k": np.int64(3)}, {}).keep("one", result)
    with caplog.at_level(logging.INFO, logger="bleep_sc"):
        parts = Parts.of(tmp_path, "sweep", {"k": 3}, {})
    assert "Going on from the results in" in caplog.text
    read = parts.read("one")
    np.testing.assert_array_equal(read["draws"], kept["draws"])
    assert read["value"] == kept["value"] == float(np.float32(0.1))
    assert (read["n"], read["by"], parts.read("two")) == (3, {"a": "ä\n"}, None)


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = Parts.of(None, "sweep", {}, {})
    assert parts.keep("one", (1, np.float64(2))) == [1, 2.0]
    assert parts.read("one") is None
    assert not list(tmp_path.iterdir())


@pytest.mark.odd
@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method_kwargs": ["alpha", 1]}, TypeError, r"`method_kwargs` must be a mapping"),
        ({"method_kwargs": {"method": "ridge"}}, ValueError, r"name the method by `method`"),
        ({"method_kwargs": {"alhpa": 1}}, ValueError, r"`method_kwargs\['alhpa'\]` is no argument"),
        ({"method": "rigde"}, ValueError, r"`method` must be one of"),
        ({"random_state": 2**40}, ValueError, r"`random_state` must be an integer of at least 0 and at most"),
    ],
)
def test_one_wrong_argument_is_named_before_any_training(
    study: Callable[..., pd.DataFrame], arguments: dict[str, Any], error: type[Exception], message: str, trains: None
) -> None:
    with pytest.raises(error, match=message):
        study(tissue(), **arguments)


@pytest.fixture
def trains(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        pytest.fail("a model was trained")

    monkeypatch.setattr(cv_run, "fit", never)
