"""The main job as a user runs it, on toy tissue and on real sections."""

import re
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
import squidpy as sq
from toy_linkage import measure, standard_error

import bleep_sc as bl


def test_toy_tissue_across_patients() -> None:
    tissue = bl.datasets.toy(n_spots=50)
    held_out = (tissue.obs["patient"] == "P3").to_numpy()
    ref, query = tissue[~held_out].copy(), tissue[held_out].copy()
    bl.tl.fit(ref, max_epochs=20)  # a fifth of the default recipe's, to be quick
    bl.tl.impute(query, ref)
    bl.tl.evaluate(query)
    pearson, linked = query.var["bleep_pearson"].to_numpy(), query.var["image_linked"].to_numpy()
    assert pearson[linked].mean() > 0.5
    assert abs(pearson[~linked].mean()) < 0.05
    assert query.uns["bleep_scores"]["n_sections"] == 2


@pytest.mark.slow
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bleep_sc.demo import main

    main(["--out", str(tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"imputed.png", "query.h5ad", "ref.h5ad"}
    printed = capsys.readouterr().out
    score, mean, shuffled = (float(word) for word in printed.split("genes the image knows")[1].split()[:3])
    assert score > 0.5
    assert mean == 0
    assert abs(shuffled) < 0.1


@pytest.mark.odd
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], r"--data nowhere: there is no such folder"),
        (["--out", "file"], r"--out file: this is a file"),
        (["--section", "C6"], r"unrecognized arguments: --section"),
    ],
)
def test_demo_refuses_before_it_works(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from bleep_sc.demo import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        main(arguments)
    assert re.search(message, capsys.readouterr().err)
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


@pytest.mark.slow
def test_what_is_learned_and_what_must_not_be() -> None:
    """Five toy tissues: linked genes predicted, hidden genes and shuffled images not.

    A short form of `benchmarks/toy_linkage.py`, which trains as many heads and as long as the default recipe does.
    """
    rows = [measure(seed, max_epochs=30, members=2) for seed in range(5)]
    for row in rows:
        assert row["linked"] > 0.5
        assert row["linked"] > np.quantile(row["shuffled"], 0.95)
    hidden = [row["hidden"] for row in rows]
    assert abs(np.mean(hidden)) < 2 * standard_error(hidden)
    pooled = [value for row in rows for value in row["shuffled"]]
    assert abs(np.mean(pooled)) < 2 * standard_error(pooled)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
@pytest.mark.filterwarnings(
    "ignore:the scale of the image is unknown", "ignore:near-empty", "ignore:the model has nearly"
)
@pytest.mark.filterwarnings("ignore:no full-resolution", "ignore:training will take")
def test_the_lines_of_the_readme_on_real_sections(real_data: Path, tmp_path: Path) -> None:
    data = real_data / "her2st"
    sections = {s: ad.read_h5ad(f"{data}/{s}.h5ad")[:80].copy() for s in ("C4", "C5", "C6")}  # their left halves
    for a in sections.values():
        a.layers["counts"] = a.X.copy()
        sc.pp.normalize_total(a, target_sum=1e4)
        sc.pp.log1p(a)
    query = sections.pop("C6")
    ref = ad.concat(sections, uns_merge="unique", index_unique="-")

    bl.pp.crops(ref, {s: sq.im.ImageContainer(f"{data}/{s}.jpg") for s in sections}, library_key="section")
    bl.pp.select_genes(ref, batch_key="section", n_top_genes=1000)
    bl.tl.fit(ref, preset="paper", encoder="resnet18", weights=None, max_epochs=1, random_state=0)
    ref.write_h5ad(tmp_path / "ref.h5ad")
    ref = sc.read_h5ad(tmp_path / "ref.h5ad")
    bl.pp.crops(query, sq.im.ImageContainer(f"{data}/C6.jpg"))
    bl.tl.impute(query, ref, k=50)
    assert np.isfinite(query[:, "ERBB2"].layers["bleep"]).all()
    sc.pl.spatial(query, color="ERBB2", layer="bleep", show=False)
    sq.pl.spatial_scatter(query, color="ERBB2", layer="bleep")
    bl.tl.evaluate(query, layer="bleep")
    assert np.isfinite(query.var.loc["ERBB2", "bleep_pearson"])

    bl.pp.harmonize(ref, batch_key="section")
    bl.tl.fit(ref, use_rep="X_harmony", encoder="resnet18", weights=None, max_epochs=1, key_added="hm")
    image = sq.im.ImageContainer(f"{data}/C6.jpg")
    slide = bl.pp.blank(ref, spatial=query.obsm["spatial"], library_id="C6", image=image)
    bl.pp.crops(slide, sq.im.ImageContainer(f"{data}/C6.jpg"))
    bl.tl.impute(slide, ref)
    sc.pl.spatial(slide, color="ERBB2", layer="bleep", show=False)
    plt.close("all")
    shared = slide.var_names.intersection(query.var_names)
    np.testing.assert_array_equal(slide[:, shared].layers["bleep"], query[:, shared].layers["bleep"])
