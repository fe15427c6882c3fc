"""The command for the paper's own data, on a miniature of its folder."""

import json
from pathlib import Path

import _liver as liver
import numpy as np
import pytest
import scanpy as sc
import tifffile
from anndata import AnnData
from gse240429 import harmony_space, main, measured_space, table
from scipy import sparse
from scipy.io import mmwrite

METHODS = ["bleep", "stnet", "histogene"]

ROWS, COLUMNS, PITCH, SIZE = 6, 16, 40, 32
HEIGHT, WIDTH = 300, 400
SYMBOLS = [*(f"G{i}" for i in range(30)), *reversed(liver.MARKERS), "TWICE", *(f"G{i}" for i in range(30, 54)), "TWICE"]
# the paper's genes are some of all genes, in the order of features.tsv
UNION = np.array([symbol not in ("G3", "G40", "TWICE") for symbol in SYMBOLS])


class Mini:
    """A miniature of GSE240429_data, and what was put into it, by number of the section."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.barcodes: dict[str, list[str]] = {}
        self.counts: dict[str, np.ndarray] = {}
        self.images: dict[str, np.ndarray] = {}
        self.pixels: dict[str, dict[str, tuple[int, int]]] = {}
        for name, number in liver.SECTIONS.items():
            self._write(name, number)
        self.log = self.log_expression()

    def _write(self, name: str, number: str) -> None:
        rng = np.random.default_rng(int(number))
        # all slides have the same barcodes at the same places, in an order that is not the alphabet's
        naming = np.random.default_rng(0)
        barcode = ["".join(naming.choice(list("ACGT"), 16)) + "-1" for _ in range(ROWS * COLUMNS // 2)]
        place = [(r, c) for r in range(ROWS) for c in range(r % 2, COLUMNS, 2)]
        in_tissue = rng.permutation(len(place)) < 40 + int(number)
        # sections lie at different places of their images, which are wider than high
        pixel = [(45 + 3 * int(number) + round(r * PITCH * 0.75**0.5), 40 + c * PITCH // 2) for r, c in place]
        self.pixels[number] = dict(zip(barcode, pixel, strict=True))
        hue = rng.uniform(size=len(place))
        image = np.full((HEIGHT, WIDTH, 3), 240, dtype=np.uint8)
        for (y, x), h in zip(pixel, hue, strict=True):
            image[y - 16 : y + 16, x - 16 : x + 16] = [230 - 160 * h, 120, 70 + 160 * h]
        self.images[number] = np.clip(image + rng.integers(-8, 8, image.shape), 0, 255).astype(np.uint8)
        slopes = np.linspace(-2, 2, len(SYMBOLS))
        depth = rng.uniform(0.8, 1.2, size=(len(place), 1))
        counts = rng.poisson(10 * depth * np.exp((hue[:, None] - 0.5) * slopes))
        order = sorted(np.flatnonzero(in_tissue), key=lambda i: barcode[i])
        self.barcodes[number] = [barcode[i] for i in order]
        self.counts[number] = counts[order]

        folder = self.root / "data" / "filtered_expression_matrices" / number
        folder.mkdir(parents=True)
        (folder / "barcodes.tsv").write_text("".join(f"{b}\n" for b in self.barcodes[number]))
        lines = [f"ENSG{i:011}\t{symbol}\tGene Expression\n" for i, symbol in enumerate(SYMBOLS)]
        (folder / "features.tsv").write_text("".join(lines))
        mmwrite(folder / "matrix.mtx", sparse.coo_matrix(self.counts[number].T), field="integer")
        positions = self.root / "data" / "tissue_pos_matrices"
        positions.mkdir(exist_ok=True)
        rows = zip(barcode, in_tissue, place, pixel, strict=True)
        text = "".join(f"{b},{int(there)},{r},{c},{y},{x}\n" for b, there, (r, c), (y, x) in rows)
        (positions / f"tissue_positions_list_{number}.csv").write_text(text)
        (self.root / "image").mkdir(exist_ok=True)
        path = self.root / "image" / f"GEX_C73_{name}_Merged.tif"
        tifffile.imwrite(path, self.images[number], photometric="rgb")

    def log_expression(self) -> dict[str, np.ndarray]:
        """Each section scaled to its own median of counts, spots × genes."""
        totals = {n: counts.sum(axis=1, keepdims=True) for n, counts in self.counts.items()}
        return {n: np.log1p(counts / totals[n] * np.median(totals[n])) for n, counts in self.counts.items()}

    def release(self, *, harmony: bool = True) -> dict[str, np.ndarray]:
        """Add the paper's own matrices: made up, so that nothing computed can be taken for them."""
        matrices = self.root / "data" / "filtered_expression_matrices"
        np.save(matrices / "hvg_union.npy", UNION)
        made_up = {n: self.log[n][:, UNION] * 0.5 - 0.25 for n in self.log}
        if harmony:
            for n, matrix in made_up.items():
                np.save(matrices / n / "harmony_matrix.npy", matrix.T)
        return made_up


@pytest.fixture
def mini(tmp_path: Path) -> Mini:
    return Mini(tmp_path / "GSE240429_data")


@pytest.fixture
def sections(mini: Mini) -> dict[str, AnnData]:
    return liver.read_sections(mini.root)


def test_spots_counts_and_expression(mini: Mini, sections: dict[str, AnnData]) -> None:
    assert list(sections) == ["A1", "B1", "C1", "D1"]
    for name, adata in sections.items():
        number = liver.SECTIONS[name]
        assert list(adata.obs_names) == [f"{name}_{b}" for b in mini.barcodes[number]]
        assert set(adata.obs["section"]) == {name}
        np.testing.assert_array_equal(adata.layers["counts"].toarray(), mini.counts[number])
        np.testing.assert_allclose(adata.X.toarray(), mini.log[number], rtol=1e-5)
        assert adata.var_names.is_unique
        assert list(adata.var_names[30:40]) == [*reversed(liver.MARKERS), "TWICE", "G30"]
        assert adata.var_names[-1] == "TWICE-1"


def test_crops_lie_where_the_paper_s_code_cuts_them(mini: Mini, sections: dict[str, AnnData]) -> None:
    liver.cut_crops(sections, mini.root, size=SIZE)
    for name, adata in sections.items():
        number = liver.SECTIONS[name]
        for i, barcode in enumerate(mini.barcodes[number]):
            # columns 4 and 5 of the positions are the pixel's row and column: v1 and v2 of CLIPDataset.__getitem__
            v1, v2 = mini.pixels[number][barcode]
            assert adata.obsm["spatial"][i].tolist() == [v2, v1], "x is the column, y the row"
            cut = mini.images[number][v1 - SIZE // 2 : v1 + SIZE // 2, v2 - SIZE // 2 : v2 + SIZE // 2]
            np.testing.assert_array_equal(adata.obsm["crops"][i], cut)
        assert adata.uns["crops"][name]["um_per_px"] == pytest.approx(100 / PITCH, rel=0.02)


def test_released_harmony(mini: Mini, sections: dict[str, AnnData]) -> None:
    made_up = mini.release()
    corrected, genes, source = liver.paper_harmony(mini.root, sections)
    assert source == "released"
    assert list(genes) == [s for s, chosen in zip(SYMBOLS, UNION, strict=True) if chosen]
    for name, number in liver.SECTIONS.items():
        np.testing.assert_allclose(corrected[name], made_up[number], rtol=1e-6)
    (mini.root / "data/filtered_expression_matrices/4/harmony_matrix.npy").unlink()
    _, genes, source = liver.paper_harmony(mini.root, sections)
    assert source == "computed on the released genes"
    assert len(genes) == UNION.sum()


def test_harmony_computed_here_covers_all_four_sections(mini: Mini, sections: dict[str, AnnData]) -> None:
    sections["C1"].X = sections["C1"].X + 1.0 * (sections["C1"].X > 0)
    corrected, genes, source = liver.paper_harmony(mini.root, sections)
    assert source == "computed"
    assert len(genes) == len(SYMBOLS), "fewer than 1000 genes: all"
    shift = corrected["C1"].mean() - corrected["A1"].mean()
    assert abs(shift) < 0.5 < sections["C1"].X.mean() - sections["A1"].X.mean()
    for name, adata in sections.items():
        assert corrected[name].shape == adata.shape
        # rows stay with their spots
        before, after = (values[:, 0] - values[:, -1] for values in (adata.X.toarray(), corrected[name]))
        assert np.corrcoef(before, after)[0, 1] > 0.9


@pytest.mark.odd
def test_damaged_matrices(mini: Mini, sections: dict[str, AnnData]) -> None:
    mini.release()
    matrices = mini.root / "data" / "filtered_expression_matrices"
    np.save(matrices / "2" / "harmony_matrix.npy", np.load(matrices / "2" / "harmony_matrix.npy").T)
    with pytest.raises(ValueError, match=r"2/harmony_matrix\.npy must be genes × spots"):
        liver.paper_harmony(mini.root, sections)
    np.save(matrices / "hvg_union.npy", UNION[:-1])
    with pytest.raises(ValueError, match=r"hvg_union\.npy must hold one truth value for each line"):
        liver.paper_harmony(mini.root, sections)
    lines = (matrices / "3" / "barcodes.tsv").read_text().splitlines()
    (matrices / "3" / "barcodes.tsv").write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"3/matrix\.mtx must be genes × spots"):
        liver.read_sections(mini.root)
    (matrices / "3" / "barcodes.tsv").write_text("\n".join([*lines[:-1], "NOWHERE-1"]))
    with pytest.raises(ValueError, match=r"tissue_positions_list_3\.csv lacks 1 of .* 'NOWHERE-1'"):
        liver.read_sections(mini.root)


def test_the_folder_is_found(mini: Mini) -> None:
    for named in (mini.root, mini.root / "data", mini.root.parent):
        assert liver.find_root(named) == mini.root.resolve()


@pytest.mark.odd
def test_all_that_is_missing_is_listed(mini: Mini, capsys: pytest.CaptureFixture[str]) -> None:
    image = mini.root / "image"
    (image / "GEX_C73_A1_Merged.tif").rename(image / "GSM7697868_GEX_C73_A1_Merged.tiff")  # as GEO names it
    (image / "GEX_C73_B1_Merged.tif").rename(image / "GSM7697869_GEX_C73_B1_Merged.tiff.gz")
    (image / "GEX_C73_C1_Merged.tif").unlink()
    cut = image / "GEX_C73_D1_Merged.tif"
    cut.write_bytes(cut.read_bytes()[:-1000])
    (mini.root / "data/filtered_expression_matrices/2/matrix.mtx").unlink()
    (mini.root / "data/tissue_pos_matrices/tissue_positions_list_4.csv").unlink()
    with pytest.raises(SystemExit) as stopped:
        main([str(mini.root)])
    message = str(stopped.value)
    for expected in (
        "filtered_expression_matrices/2/matrix.mtx is missing",
        "tissue_positions_list_4.csv is missing",
        "GEX_C73_B1_Merged.tif is missing (there is GSM7697869_GEX_C73_B1_Merged.tiff.gz: unpack it)",
        "GEX_C73_C1_Merged.tif is missing\n",
        "GEX_C73_D1_Merged.tif is truncated",
        "GEO GSE240429",
        "bowang-lab/BLEEP",
    ):
        assert expected in message
    assert "A1_Merged" not in message
    assert message.count("is missing") == 4
    cut.write_bytes(b"II")
    with pytest.raises(SystemExit, match=r"GEX_C73_D1_Merged\.tif cannot be read as TIFF"):
        liver.check_files(mini.root)
    with pytest.raises(SystemExit, match=r"4/barcodes\.tsv is missing"):
        liver.check_files(mini.root / "image")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the model has nearly collapsed")
def test_colours_that_genes_follow_are_learned(mini: Mini, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Spots, crops and the paper's matrices belong together: with a row or an axis mistaken nothing is learned."""
    mini.release()
    out = tmp_path / "out.json"
    quick = ["--encoder", "color", "--weights", "none", "--size", str(SIZE), "--epochs", "12"]
    main([str(mini.root / "data"), "--methods", "bleep", "--seeds", "0", *quick, "--json", str(out)])
    record = json.loads(out.read_text())
    assert record["harmony"] == "released"
    assert record["n_genes"] == {"Harmony space": int(UNION.sum()), "measured log-expression": len(SYMBOLS)}
    assert record["n_spots"] == {name: 40 + int(number) for name, number in liver.SECTIONS.items()}
    assert record["arguments"]["folder"] == "GSE240429_data", "no path of this machine"
    assert len(record["rows"]) == 2
    for row in record["rows"]:
        assert row["HVG"] > 0.3
    printed = capsys.readouterr().out
    harmony, measured = printed.split("Table 1 in Harmony space")[1].split("The same in measured log-expression")
    assert table(record["rows"], "Harmony space") in harmony
    assert table(record["rows"], "measured log-expression") in measured
    assert "Harmony's matrix is the released one" in measured
    assert "32 pixels wide" in measured


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the model has nearly collapsed")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs(method: str, mini: Mini, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    network = ["--encoder", "resnet18", "--weights", "none", "--size", str(SIZE), "--epochs", "1"]
    main([str(mini.root), "--methods", method, "--seeds", "5", *network, "--json", str(out)])
    record = json.loads(out.read_text())
    assert record["harmony"] == "computed"
    assert [(row["space"], row["method"], row["seed"]) for row in record["rows"]] == [
        ("Harmony space", method, 5),
        ("measured log-expression", method, 5),
    ]
    scores = np.array([[row[panel] for panel in ("MG", "HEG", "HVG")] for row in record["rows"]])
    assert (np.abs(scores) <= 1).all()
    assert (scores != 0).any(axis=1).all()


def test_table_has_the_paper_s_layout() -> None:
    rows = [
        {"space": "Harmony space", "method": "stnet", "seed": seed, "MG": mg, "HEG": 0.25, "HVG": -0.125}
        for seed, mg in enumerate((0.1, 0.2, 0.6))
    ]
    lines = [" ".join(line.split()) for line in table(rows, "Harmony space").splitlines()]
    assert lines == [
        "ours the paper's, quoted",
        "MG HEG HVG MG HEG HVG",
        "HisToGene not run not run not run 0.097 ± 0.015 0.072 ± 0.018 0.071 ± 0.011",
        "ST-Net 0.300 ± 0.300 0.250 ± 0.000 -0.125 ± 0.000 0.099 ± 0.020 0.126 ± 0.005 0.091 ± 0.007",
        "BLEEP not run not run not run 0.217 ± 0.002 0.175 ± 0.016 0.173 ± 0.011",
    ]
    assert "0.300" not in table(rows, "measured log-expression")
    assert "(in Harmony space!)" in table(rows, "measured log-expression")


def test_panels_of_both_spaces(mini: Mini, sections: dict[str, AnnData]) -> None:
    """The paper chooses on section 3, in Harmony space; we on the training sections."""
    made_up = mini.release()
    ref = sc.concat([adata for name, adata in sections.items() if name != "C1"], uns_merge="unique")
    harmony, _ = harmony_space(mini.root, sections, ref)
    genes, truth = np.array(SYMBOLS)[UNION], made_up["3"]
    np.testing.assert_allclose(harmony.truth, truth, rtol=1e-6)
    assert set(harmony.panels["HEG"]) == set(genes[np.argsort(truth.mean(axis=0))[-50:]])
    assert set(harmony.panels["HVG"]) == set(genes[np.argsort(truth.var(axis=0))[-50:]])
    np.testing.assert_allclose(
        harmony.ref.layers["harmony"], np.concatenate([made_up[n] for n in ("1", "2", "4")]), rtol=1e-6
    )

    before = measured_space(sections, ref)
    pooled = np.concatenate([mini.log[n] for n in ("1", "2", "4")])
    names = sections["A1"].var_names
    assert set(before.panels["HEG"]) == set(names[np.argsort(pooled.mean(axis=0))[-50:]])
    # the test section's expression has no say
    sections["C1"].X = sections["C1"].X[:, ::-1].copy()
    after = measured_space(sections, ref)
    for panel in ("MG", "HEG", "HVG"):
        np.testing.assert_array_equal(before.panels[panel], after.panels[panel])
    assert not np.array_equal(before.truth, after.truth)
