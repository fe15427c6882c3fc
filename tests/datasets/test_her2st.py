from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import bleep_sc as bl


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """Two sections in the layout of the public repository."""
    rng = np.random.default_rng(0)
    for section, genes in (("A1", ["g1", "g2", "g3"]), ("B2", ["g2", "g3", "g4"])):
        x, y = (m.ravel() for m in np.meshgrid(range(2, 8), range(3, 7)))
        counts = pd.DataFrame(
            rng.poisson(3, size=(len(x), 3)), index=[f"{a}x{b}" for a, b in zip(x, y, strict=True)], columns=genes
        )
        for folder in ("ST-cnts", "ST-spotfiles", f"ST-imgs/{section[0]}/{section}"):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
        counts.iloc[1:].to_csv(tmp_path / "data" / "ST-cnts" / f"{section}.tsv.gz", sep="\t")
        pd.DataFrame(
            {
                "x": x,
                "y": y,
                "new_x": x + 0.02,
                "new_y": y - 0.01,
                "pixel_x": 80 * x + 1.6,
                "pixel_y": 80 * y - 0.8,
                "selected": [1] * (len(x) - 1) + [0],
            }
        ).to_csv(tmp_path / "data" / "ST-spotfiles" / f"{section}_selection.tsv", sep="\t", index=False)
        pixels = rng.integers(0, 255, size=(700, 900, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"ST-imgs/{section[0]}/{section}" / "HE.jpg")
    return tmp_path


@pytest.mark.parametrize("inside", [False, True])
def test_public_layout(public: Path, inside: bool) -> None:  # noqa: FBT001
    adata, images = bl.datasets.her2st(public / "data" if inside else public)
    assert set(images) == {"A1", "B2"}
    assert list(adata.var_names) == ["g2", "g3"]
    # 24 spots less one without counts and one that is not selected
    assert adata.obs["section"].value_counts().to_dict() == {"A1": 22, "B2": 22}
    assert adata.obs["patient"].unique().tolist() == ["A", "B"]
    spot = adata["4x5-A1"]
    assert spot.obsm["spatial"].tolist() == [[321.6, 399.2]]
    counts = pd.read_csv(public / "data" / "ST-cnts" / "A1.tsv.gz", sep="\t", index_col=0)
    assert spot.X.toarray().tolist() == [counts.loc["4x5", ["g2", "g3"]].tolist()]
    factors = adata.uns["spatial"]["A1"]["scalefactors"]
    assert factors["spot_diameter_fullres"] == pytest.approx(40)
    assert factors["microns_per_pixel"] == pytest.approx(2.5)
    assert adata.uns["spatial"]["A1"]["images"]["hires"].shape[1] == 800


def test_outer_join_fills_with_zero(public: Path) -> None:
    adata, _ = bl.datasets.her2st(public, join="outer")
    assert list(adata.var_names) == ["g1", "g2", "g3", "g4"]
    assert adata[adata.obs["section"] == "A1", "g4"].X.sum() == 0
    assert not np.isnan(adata.X.data).any()


def test_one_section_can_be_cut(public: Path) -> None:
    adata, images = bl.datasets.her2st(public, sections=["B2"])
    bl.pp.crops(adata, images, size=32, um=100, library_key="section")
    assert adata.uns["crops"]["B2"]["size_um"] == pytest.approx(100)


@pytest.mark.odd
def test_missing_parts_are_named(public: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no section \['Z9'\].*'A1', 'B2'"):
        bl.datasets.her2st(public, sections=["Z9"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"neither the folder ST-cnts"):
        bl.datasets.her2st(tmp_path / "empty")
    (public / "data" / "ST-spotfiles" / "A1_selection.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"'A1' has no spot file"):
        bl.datasets.her2st(public)


def test_one_section_by_name(public: Path) -> None:
    adata, images = bl.datasets.her2st(public, sections="B2")
    assert set(images) == {"B2"}
    assert adata.obs["section"].unique().tolist() == ["B2"]


def test_the_image_is_found_from_anywhere(
    public: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(public)
    adata, _ = bl.datasets.her2st("data", sections="A1")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    bl.pp.crops(adata, size=32)
    assert adata.uns["crops"]["A1"]["source"] == "HE.jpg"


def rename_genes(section: Path) -> None:
    counts = pd.read_csv(section, sep="\t", index_col=0)
    counts.columns = ["h1", "h2", "h3"]
    counts.to_csv(section, sep="\t")


def rename_spots(section: Path) -> None:
    counts = pd.read_csv(section, sep="\t", index_col=0)
    counts.index = [f"spot{i}" for i in range(len(counts))]
    counts.to_csv(section, sep="\t")


def drop_columns(section: Path) -> None:
    spots = section.parents[1] / "ST-spotfiles" / "A1_selection.tsv"
    pd.read_csv(spots, sep="\t").drop(columns=["pixel_x", "pixel_y"]).to_csv(spots, sep="\t", index=False)


@pytest.mark.odd
@pytest.mark.parametrize(
    ("damage", "arguments", "message"),
    [
        (lambda section: None, {"sections": []}, r"`sections` names none.*'A1', 'B2'"),
        (lambda section: None, {"join": "left"}, r"`join`.*'inner', 'outer'"),
        (rename_genes, {}, r"no gene is in all.*'A1', 'B2'.*join='outer'"),
        (rename_spots, {}, r"'A1': no spot under the tissue has counts.*'2x3'.*'spot0'"),
        (drop_columns, {}, r"'A1' lacks the columns \['pixel_x', 'pixel_y'\]"),
    ],
    ids=["no sections", "join", "no shared genes", "no shared spots", "no coordinates"],
)
def test_what_cannot_be_read_is_named(
    public: Path, damage: Callable[[Path], None], arguments: dict[str, Any], message: str
) -> None:
    damage(public / "data" / "ST-cnts" / "A1.tsv.gz")
    with pytest.raises(ValueError, match=message):
        bl.datasets.her2st(public, **arguments)


def test_prepared_layout(real_data: Path) -> None:
    adata, images = bl.datasets.her2st(real_data / "her2st", sections=["C5", "C6"])
    library = adata.uns["spatial"]["C6"]
    assert library["metadata"]["source_image_path"] == str(images["C6"].resolve())
    assert library["scalefactors"]["microns_per_pixel"] == pytest.approx(0.69, abs=0.01)
    assert adata.obs["section"].value_counts().to_dict() == {"C5": 181, "C6": 178}
    assert adata.obs["patient"].unique().tolist() == ["C"]
    assert images["C6"].name == "C6.jpg"
    assert set(adata.uns["spatial"]) == {"C5", "C6"}
