"""The main job as a user runs it, on toy tissue and on real sections."""

import re
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
import squidpy as sq
import tifffile
from anndata import AnnData
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
    score, mean, shuffled = printed.split("genes the image knows")[1].split()[:3]
    assert float(score) > 0.5
    assert mean == "constant", "one value for all spots has no correlation, and not one of 0"
    assert "constant: one value for all spots" in printed
    assert abs(float(shuffled)) < 0.1
    assert printed.rstrip().endswith('bl.pl.imputed(slide, ["ERBB2", "COL1A1"])')


def test_the_demo_shows_genes_that_the_image_tells_and_others() -> None:
    from bleep_sc import demo

    query = AnnData(np.zeros((2, 12), dtype=np.float32))
    query.var_names = [f"g{n}" for n in range(12)]
    names = query.var_names.to_numpy().astype(object)
    query.uns["bleep"] = {
        "panels": {"HVG-200": names[::-1], "HVG-50": np.array([*names[:9], "not here"], dtype=object)}
    }
    query.var["bleep_pearson"] = [0.3, 0.9, -0.1, 0.5, 0.4, 0.7, np.nan, 0.1, 0.2, 1, 1, 1]
    genes, title = demo._genes_to_show(query)
    assert genes == ["g1", "g5", "g3", "g8", "g7", "g2"]
    assert "Of the 8 most variable genes" in title
    query.var["image_linked"] = [n % 4 != 0 for n in range(12)]
    genes, title = demo._genes_to_show(query)
    assert genes == ["g11", "g10", "g9", "g8", "g4", "g0"]
    assert title == "Left: three genes that the image knows. Right: three that it cannot know."


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the scale of the image", "ignore:no full-resolution", "ignore:near-empty")
def test_the_lines_that_the_demo_ends_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copied as they are, but for a section of painted tissue in place of Space Ranger's folder, and its gene names."""
    from bleep_sc import demo

    tissue, images = bl.datasets.toy(n_patients=1, n_sections=1, n_spots=60, return_images=True)
    ((name, image),) = images.items()
    pixels = np.asarray(image["image"]).squeeze()
    for file in ("A1.tif", "slide.tif"):
        resolution = (1e4 * 64 / 100, 1e4 * 64 / 100)  # pixels per centimetre
        tifffile.imwrite(tmp_path / file, pixels, photometric="rgb", resolution=resolution, resolutionunit="CENTIMETER")

    def read(folder: str, *, library_id: str) -> AnnData:
        assert folder == "A1/outs"
        measured = AnnData(tissue.layers["counts"].copy(), obs=tissue.obs[[]], var=tissue.var[[]])
        measured.obsm["spatial"] = tissue.obsm["spatial"]
        measured.uns["spatial"] = {library_id: tissue.uns["spatial"][name]}
        return measured

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sq.read, "visium", read)
    monkeypatch.setattr(plt, "show", lambda: None)
    lines = demo._NEXT.partition("Copy these lines:\n")[2].replace("slide.svs", "slide.tif")
    for gene, painted in zip(("ERBB2", "COL1A1"), tissue.var_names, strict=False):
        lines = lines.replace(gene, painted)
    result: dict[str, AnnData] = {}
    exec(lines, result)  # noqa: S102
    assert result["slide"].n_obs > 20
    assert np.isfinite(result["slide"].layers["bleep"]).all()
    plt.close("all")


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
    sections = {s: ad.read_h5ad(f"{data}/{s}.h5ad")[:40].copy() for s in ("C4", "C5", "C6")}  # their left edges
    for a in sections.values():
        a.layers["counts"] = a.X.copy()
        sc.pp.normalize_total(a, target_sum=1e4)
        sc.pp.log1p(a)
    query = sections.pop("C6")
    ref = ad.concat(sections, uns_merge="unique", index_unique="-")

    image = sq.im.ImageContainer(f"{data}/C6.jpg")  # read once: a slide takes seconds

    bl.pp.crops(ref, {s: sq.im.ImageContainer(f"{data}/{s}.jpg") for s in sections}, library_key="section")
    bl.pp.select_genes(ref, batch_key="section", n_top_genes=1000)
    bl.tl.fit(ref, preset="paper", encoder="resnet18", weights=None, max_epochs=1, random_state=0)
    ref.write_h5ad(tmp_path / "ref.h5ad")
    ref = sc.read_h5ad(tmp_path / "ref.h5ad")
    bl.pp.crops(query, image)
    bl.tl.impute(query, ref, k=50)
    assert np.isfinite(query[:, "ERBB2"].layers["bleep"]).all()
    sc.pl.spatial(query, color="ERBB2", layer="bleep", show=False)
    sq.pl.spatial_scatter(query, color="ERBB2", layer="bleep")
    bl.tl.evaluate(query, layer="bleep")
    assert np.isfinite(query.var.loc["ERBB2", "bleep_pearson"])

    bl.pp.harmonize(ref, batch_key="section")
    bl.tl.fit(ref, use_rep="X_harmony", encoder="resnet18", weights=None, max_epochs=1, key_added="hm")
    slide = bl.pp.blank(ref, spatial=query.obsm["spatial"], library_id="C6", image=image)
    bl.pp.crops(slide, image)
    bl.tl.impute(slide, ref)
    sc.pl.spatial(slide, color="ERBB2", layer="bleep", show=False)
    plt.close("all")
    shared = slide.var_names.intersection(query.var_names)
    np.testing.assert_array_equal(slide[:, shared].layers["bleep"], query[:, shared].layers["bleep"])
