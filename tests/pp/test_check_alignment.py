"""The check that colours under the spots go with their expression."""

import re
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import squidpy as sq
from anndata import AnnData
from conftest import snapshot
from painted_lattice import FRAME, MARGIN, PITCH, SIDE, fine_tissue, tissue, undone
from PIL import Image
from scipy import sparse

import bleep_sc as bl
from bleep_sc.pp._alignment import compared
from bleep_sc.pp._alignment.compared import compared_places, pitch_of
from bleep_sc.pp._alignment.ways import Way, ways


def record(adata: AnnData, **how: Any) -> dict[str, Any]:
    bl.pp.check_alignment(adata, **how)
    return adata.uns["alignment_check"]["a"]


WAYS = ways(tissue().obsm["spatial"], PITCH, FRAME)


def test_a_good_section_fits_and_nothing_else_changes(tmp_path: Path) -> None:
    adata = tissue()
    before = snapshot(adata)
    found = record(adata)
    assert found["verdict"] == "fits"
    assert found["remedy"] == ""
    assert found["by"] == "expression"
    assert found["source"] == "the hires image"
    table = found["table"]
    assert table["way"].iloc[0] == "as given"
    assert table["score"].iloc[0] > table["score"].iloc[1:].max() + 0.1
    assert (table["n_spots"] == SIDE**2).all()
    # in the width, the spots stand in the middle of the picture: three turns within it are those about their centre
    assert len(table) == 1 + 7 + 7 + 24 - 3
    assert len(found["chance"]) == 24
    after = snapshot(adata)
    assert {slot: after[slot] for slot in ("X", "obs", "obsm", "layers")} == {
        slot: before[slot] for slot in ("X", "obs", "obsm", "layers")
    }
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = ad.read_h5ad(tmp_path / "a.h5ad").uns["alignment_check"]["a"]
    pd.testing.assert_frame_equal(read["table"], table, check_dtype=False)
    assert read["verdict"] == "fits"


def test_the_score_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import Ridge

    adata = tissue()
    found = record(adata)["table"].iloc[0]
    counts = adata.X.toarray().astype(float)
    totals = counts.sum(axis=1, keepdims=True)
    expression = np.log1p(counts / totals * np.median(totals))
    xy, hires = adata.obsm["spatial"], adata.uns["spatial"]["a"]["images"]["hires"].astype(float)
    row, column = (np.floor(xy[:, axis] / PITCH).astype(int) for axis in (1, 0))
    red_green_blue = hires[row * PITCH // 2 + 5, column * PITCH // 2 + 5]
    dark = -np.log((red_green_blue + 1) / 256).sum(axis=1)
    terms = np.column_stack([red_green_blue, dark])  # one colour a spot: no spread
    terms = (terms - terms.mean(axis=0)) / terms.std(axis=0)
    # the section is a square: stripes are of its columns
    stripe = np.argsort(np.argsort(xy[:, 0], kind="stable"), kind="stable") * 10 // len(xy)
    left, nothing = 0.0, 0.0
    for each in range(10):
        test = stripe == each
        model = Ridge(alpha=10).fit(terms[~test], expression[~test])
        left += np.square(expression[test] - model.predict(terms[test])).sum()
        nothing += np.square(expression[test] - expression[~test].mean(axis=0)).sum()
    assert found["score"] == pytest.approx(1 - left / nothing, abs=1e-3)


@pytest.mark.parametrize("way", WAYS[1:15], ids=lambda way: way.name)
def test_every_turn_is_named_and_its_line_mends_it(way: Way) -> None:
    adata = tissue()
    right = adata.obsm["spatial"]
    adata.obsm["spatial"] = undone(way, right)
    with pytest.warns(UserWarning, match="does not fit the spots as given.*\n'a': another way fits better"):
        found = record(adata)
    assert way.name in found["verdict"] or way.kind == "image turn"  # of a square section both frames may be one
    (line,) = re.findall("`(.*)`", found["remedy"])
    exec(line, {"adata": adata})  # noqa: S102 - the line that users are told to run
    np.testing.assert_allclose(adata.obsm["spatial"], right, atol=1)
    assert record(adata)["verdict"] == "fits"


@pytest.mark.parametrize("way", WAYS[15::5], ids=lambda way: way.name)
def test_a_shift_is_named(way: Way) -> None:
    adata = tissue()
    adata.obsm["spatial"] = undone(way, adata.obsm["spatial"])
    with pytest.warns(UserWarning, match=way.name):
        found = record(adata)
    assert found["best"] == way.name


@pytest.mark.parametrize("seed", range(6))
def test_unlinked_expression_cannot_tell(seed: int) -> None:
    """No warning either: those are errors here."""
    found = record(tissue(seed, linked=False))
    assert found["verdict"] == "cannot tell"
    assert found["table"]["score"].iloc[0] < 0.05


@pytest.mark.parametrize("of", ["crops", "lazy crops", "features"])
def test_without_a_picture_a_place_looks_like_the_nearest_spot(of: str) -> None:
    adata = tissue()
    hires = np.kron(adata.uns["spatial"]["a"]["images"]["hires"], np.ones((2, 2, 1), dtype=np.uint8))
    bl.pp.crops(adata, sq.im.ImageContainer(hires), size=8, mpp=1, check="off", lazy=of == "lazy crops")
    del adata.uns["spatial"]
    if of == "features":
        adata.obsm["crops"] = np.asarray(adata.obsm["crops"]).mean(axis=(1, 2)).astype(np.float32)
    bl.pp.check_alignment(adata)
    (found,) = adata.uns["alignment_check"].values()
    assert found["verdict"] == "fits"
    assert found["source"] == "`obsm['crops']`"
    table = found["table"].set_index("way")
    assert table.loc["shifted by 3 pitches to the right", "n_spots"] == SIDE * (SIDE - 3)
    adata.obsm["spatial"] = adata.obsm["spatial"] * [-1, 1] + [1000, 0]
    adata.obsm["crops"] = np.asarray(adata.obsm["crops"])
    mirrored = adata.obsm["crops"].reshape(SIDE, SIDE, *adata.obsm["crops"].shape[1:])[:, ::-1]
    adata.obsm["crops"] = np.ascontiguousarray(mirrored.reshape(adata.obsm["crops"].shape))
    with pytest.warns(UserWarning, match="mirrored left to right about their centre"):
        bl.pp.check_alignment(adata)


def test_ways_are_compared_on_the_same_spots() -> None:
    """Where a way knows some places only, the given score is that of these spots."""
    adata = tissue()
    hires = np.kron(adata.uns["spatial"]["a"]["images"]["hires"], np.ones((2, 2, 1), dtype=np.uint8))
    bl.pp.crops(adata, sq.im.ImageContainer(hires), size=8, mpp=1, check="off")
    del adata.uns["spatial"]
    whole = adata[adata.obsm["spatial"][:, 0] < (MARGIN + SIDE - 3) * PITCH].copy()
    bl.pp.check_alignment(adata)
    table = next(iter(adata.uns["alignment_check"].values()))["table"].set_index("way")
    row = table.loc["shifted by 3 pitches to the right"]
    assert row["n_spots"] == whole.n_obs
    assert row["score_given"] != table.loc["as given", "score"]
    assert row["gain"] == pytest.approx(row["score"] - row["score_given"])


def disc() -> AnnData:
    """A slide without counts whose spots lie on tissue in one corner of it."""
    pixels = np.full((400, 400, 3), 240, dtype=np.uint8)
    y, x = np.mgrid[:400, :400]
    pixels[np.hypot(x - 110, y - 140) < 90] = (190, 90, 170)
    places = np.column_stack([grid.ravel() for grid in np.meshgrid(np.arange(0, 400, 10), np.arange(0, 400, 10))])
    places = places[np.hypot(places[:, 0] - 110, places[:, 1] - 140) < 80].astype(float)
    library = {"images": {"hires": pixels}, "scalefactors": {"tissue_hires_scalef": 1.0}}
    return AnnData(
        obs=pd.DataFrame(index=[f"s{i}" for i in range(len(places))]),
        obsm={"spatial": places},
        uns={"spatial": {"a": library}},
    )


def test_without_expression_the_tissue_tells() -> None:
    adata = disc()
    found = record(adata)
    assert found["by"] == "tissue"
    assert found["verdict"] == "cannot tell", "turned about its centre a disc covers itself"
    assert found["table"]["score"].iloc[0] == pytest.approx(1, abs=0.02)
    adata.obsm["spatial"] = [399, 0] + [-1, 1] * adata.obsm["spatial"]
    with pytest.warns(UserWarning, match=r"mirrored left to right within the image.*of 1\d\d spots lie on tissue"):
        found = record(adata)
    table = found["table"].set_index("way")
    given, best = table.iloc[0], table.loc[found["best"]]
    assert given["score"] < 0.5
    # spots lie on tissue or not: where all do in the other way, the gain is that of the spots that did not
    assert best["score"] == 1
    off = 1 - given["score"]
    assert best["standard_error"] == pytest.approx(np.sqrt(max(off * (1 - off), 0.01) / adata.n_obs))
    assert best["gain_in_errors"] == pytest.approx(off / best["standard_error"])


def test_where_nothing_is_compared_the_table_has_its_columns() -> None:
    table = record(tissue())["table"]
    few = record(tissue()[:20].copy())
    assert set(few["table"].columns) == set(table.columns)
    assert len(few["table"]) == len(few["chance"]) == 0
    assert few["found"] == "20 spots were compared, and at least 60 are needed."
    genes = record(tissue()[:, :10].copy())
    assert genes["found"] == "10 genes were compared, and at least 20 are needed."


@pytest.mark.parametrize("lost", [{"series": 1}, {"image_layer": "here"}])
def test_what_chooses_within_an_image_needs_one(lost: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(lost))}=.*chooses within an `image`"):
        bl.pp.check_alignment(tissue(), **lost)


def test_no_bar_where_none_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    """Not even of the small picture, which is made of many bands where there is little memory."""
    with bl.settings.override(memory=1, progress_bar=True):
        bl.pp.check_alignment(tissue(), progress_bar=False)
        assert "small picture" not in capsys.readouterr().err
        bl.pp.check_alignment(tissue())
        assert "small picture" in capsys.readouterr().err


def test_counts_and_their_logarithms_give_the_same() -> None:
    adata = tissue()
    of_counts = record(adata)["table"]["score"]
    totals = np.asarray(adata.X.sum(axis=1)).ravel()
    adata.layers["log"] = sparse.csr_matrix(sparse.diags(np.median(totals) / totals) @ adata.X).log1p()
    np.testing.assert_allclose(record(adata, layer="log")["table"]["score"], of_counts, atol=1e-6)


def test_a_draw_of_spots_is_the_seeds_alone() -> None:
    adata = tissue()
    found = [record(adata, max_spots=100, random_state=seed) for seed in (0, 0, 1)]
    assert [len(each["rows"]) for each in found] == [100] * 3
    assert np.array_equal(found[0]["rows"], found[1]["rows"])
    assert not np.array_equal(found[0]["rows"], found[2]["rows"])
    pd.testing.assert_frame_equal(found[0]["table"], found[1]["table"])


@pytest.mark.parametrize("by", ["the hires image", "`obsm['X_colors']`"])
def test_bins_are_judged_by_blocks_of_neighbours(by: str) -> None:
    """One bin tells nothing; the blocks are as wide as the tiles of the picture."""
    adata = fine_tissue()
    if by != "the hires image":
        hires, xy = adata.uns.pop("spatial")["a"]["images"]["hires"], adata.obsm["spatial"].astype(int) // 2
        adata.obsm["X_colors"] = hires[xy[:, 1], xy[:, 0]].astype(np.float32)
    find = {"max_spots": SIDE**2, "library_key": "section"} | ({} if "hires" in by else {"image_key": "X_colors"})
    found = record(adata, **find)
    assert (found["verdict"], found["source"]) == ("fits", by)
    assert f"the expression of {SIDE**2} blocks of neighbouring spots as given" in found["found"]
    assert len(found["rows"]) == adata.n_obs
    if by != "the hires image":  # places and colours moved together: nothing tells
        return
    adata.obsm["spatial"] = adata.obsm["spatial"] + [0, 2 * PITCH]
    rough = rf"whole blocks, so this one is known to about {PITCH // 2} pixels.*`max_spots={4 * SIDE**2}`"
    with pytest.warns(UserWarning, match=rf"shifted by 2 blocks to the top.*\[0, -40\] \+ xy.*{rough}"):
        record(adata, **find)


def test_blocks_hold_sums_of_counts_and_means_of_logarithms() -> None:
    rng = np.random.default_rng(0)
    xy = np.stack(np.meshgrid(np.arange(4), np.arange(4)), axis=-1).reshape(-1, 2) * 10.0
    rows = rng.permutation(20)[:16]  # the section is a part of an object
    counts = sparse.csr_matrix(rng.poisson(2, size=(20, 3)).astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compared, "MOST_SPOTS", 15)
        blocks = compared_places(xy, np.arange(16), 4, seed=0)
        without = compared_places(xy, np.arange(1, 16), 2000, seed=0)
    quarter = (xy[:, 1] >= 20) * 2 + (xy[:, 0] >= 20)
    expected = np.stack([counts[rows][quarter == each].toarray().sum(axis=0) for each in range(4)])
    np.testing.assert_array_equal(blocks.expression(counts, rows).toarray(), expected)
    np.testing.assert_allclose(
        blocks.expression(counts.log1p(), rows).toarray() * 4,
        np.stack([counts[rows][quarter == each].log1p().toarray().sum(axis=0) for each in range(4)]),
        rtol=1e-6,
    )
    of_all = np.zeros((20, 2))
    of_all[rows] = xy
    np.testing.assert_allclose(blocks.means(of_all, rows), blocks.xy)
    np.testing.assert_allclose(blocks.xy, [[5, 5], [25, 5], [5, 25], [25, 25]])
    assert (blocks.pitch, blocks.width, blocks.unit) == (20, 20, "blocks of neighbouring spots")
    assert without.unit == "spots"
    np.testing.assert_array_equal(without.rows, np.arange(1, 16))


def test_blocks_of_cells_are_no_more_than_asked_for_and_none_is_mostly_empty() -> None:
    rng = np.random.default_rng(1)
    xy = rng.uniform(-1, 1, size=(3 * compared.MOST_SPOTS, 2)) * [3000, 1000]
    xy = xy[(xy[:, 0] / 3000) ** 2 + (xy[:, 1] / 1000) ** 2 < 1]
    blocks = compared_places(xy, np.arange(len(xy)), 500, seed=0)
    sizes = np.diff(blocks.members.indptr)
    assert 300 < len(sizes) <= 500
    assert sizes.min() >= np.median(sizes) / 4
    assert len(blocks.rows) == sizes.sum() > 0.9 * len(xy)


def test_sections_are_judged_apart_and_spots_off_the_tissue_left_out() -> None:
    parts = [tissue(0), tissue(1)]
    parts[1].obsm["spatial"] = undone(WAYS[3], parts[1].obsm["spatial"])
    adata = ad.concat(parts, label="slide", keys=["one", "two"], index_unique="-")
    adata.uns["spatial"] = {name: part.uns["spatial"]["a"] for name, part in zip(("one", "two"), parts, strict=True)}
    adata.obs["in_tissue"] = (np.arange(adata.n_obs) % 3 > 0).astype(int)
    with pytest.warns(UserWarning, match="^the image does not fit.*\n'two': another way") as caught:
        copied = bl.pp.check_alignment(adata, library_key="slide", key_added="how", copy=True)
    # newer versions of other packages may warn of their own
    caught = [warning for warning in caught if warning.category is UserWarning]
    assert len(caught) == 1
    assert "rows = (adata.obs['slide'] == 'two').to_numpy()" in str(caught[0].message)
    assert "how" not in adata.uns
    assert copied.uns["how"]["one"]["verdict"] == "fits"
    assert len(copied.uns["how"]["two"]["rows"]) == 150


def test_an_image_that_is_given_stands_before_the_picture(tmp_path: Path) -> None:
    from PIL import Image

    adata = tissue()
    pixels = adata.uns["spatial"]["a"]["images"]["hires"].repeat(2, axis=0).repeat(2, axis=1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    mirrored = sq.im.ImageContainer(np.ascontiguousarray(pixels[:, ::-1]))
    assert record(adata, image=tmp_path / "a.png")["verdict"] == "fits"
    with pytest.warns(UserWarning, match="mirrored left to right"):
        record(adata, image={"a": mirrored})
    # a part of a larger image knows where it lies
    part = sq.im.ImageContainer(pixels).crop_corner(40, 30, size=(380, 390))
    scores = [record(adata, image=image)["table"]["score"].iloc[0] for image in (part, None)]
    np.testing.assert_allclose(*scores, atol=0.01)


@pytest.mark.odd
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda a: a[:50].copy(), "50 spots"),
        (lambda a: a[:1].copy(), "one spot"),
        (lambda a: _with(a, "spatial", np.tile([100.0, 100.0], (a.n_obs, 1))), "share their places"),
        (lambda a: _with(a, "spatial", a.obsm["spatial"] * 1e6), ""),
    ],
    ids=["few", "one", "one place", "far away"],
)
def test_what_tells_nothing(change: Any, why: str) -> None:
    adata = change(tissue())
    found = record(adata)
    assert found["verdict"] == "cannot tell"
    assert why in found["found"]


@pytest.mark.odd
@pytest.mark.parametrize("value", [0, 255])
def test_a_picture_of_one_colour_tells_nothing(value: int) -> None:
    adata = tissue()
    adata.uns["spatial"]["a"]["images"]["hires"][:] = value
    assert record(adata)["verdict"] == "cannot tell"
    del adata.X
    assert record(adata)["verdict"] == "cannot tell"


def test_a_few_genes_tell_nothing() -> None:
    """Two smooth maps fit each other in some place by accident."""
    adata = tissue(0)
    adata.obsm["spatial"] = undone(WAYS[3], adata.obsm["spatial"])
    varying = np.argsort(-np.asarray(adata.X.todense()).var(axis=0)).ravel()
    with pytest.warns(UserWarning, match="another way fits better"):
        record(adata[:, varying[:20]].copy())
    assert record(adata[:, varying[:19]].copy())["verdict"] == "cannot tell"


@pytest.mark.odd
def test_features_that_are_nan_are_refused() -> None:
    """They would make all spots look alike, and the verdict "cannot tell"."""
    adata = tissue()
    del adata.uns["spatial"]
    adata.obsm["X_f"] = np.random.default_rng(0).normal(size=(adata.n_obs, 3)).astype(np.float32)
    adata.obsm["X_f"][7, 1] = np.nan
    before = snapshot(adata)
    with pytest.raises(
        ValueError, match=r"obsm\['X_f'\]` is NaN or infinite for 1 of \d+ spots, such as 's7'"
    ) as error:
        bl.pp.check_alignment(adata, image_key="X_f")
    assert snapshot(adata) == before
    (line,) = re.findall(r"`(adata = .*?\(\))`", str(error.value))
    names = {"adata": adata, "np": np}
    exec(line, names)  # noqa: S102 - as a user would
    bl.pp.check_alignment(names["adata"], image_key="X_f")
    adata.obsm["X_f"] = np.full((adata.n_obs, 2), "a")
    with pytest.raises(ValueError, match=r"obsm\['X_f'\]` must hold numbers"):
        bl.pp.check_alignment(adata, image_key="X_f")


@pytest.mark.odd
def test_neither_picture_nor_crops_is_an_error_that_says_so() -> None:
    adata = tissue()
    del adata.uns["spatial"]
    before = snapshot(adata)
    with pytest.raises(KeyError, match=r"`adata\.obsm\['crops'\]` does not exist.*no hires picture.*pass `image=`"):
        bl.pp.check_alignment(adata)
    assert snapshot(adata) == before


@pytest.mark.slow
def test_real_sections_fit_and_turned_ones_do_not(real_data: Path) -> None:
    """All of them are in `benchmarks/alignment_check.py`."""
    for pack, name in (("her2st", "C3"), ("mob2k", "MOB1"), ("mob1k_layers", "Rep12")):
        adata = ad.read_h5ad(real_data / pack / f"{name}.h5ad")
        bl.pp.check_alignment(adata)
        assert adata.uns["alignment_check"][name]["verdict"] == "fits"
        xy = adata.obsm["spatial"].astype(float)
        turned = next(way for way in ways(xy, pitch_of(xy), None) if "180°" in way.name)
        adata.obsm["spatial"] = turned.places(xy)
        with pytest.warns(UserWarning, match=f"'{name}': another way fits better: turned by 180° about"):
            bl.pp.check_alignment(adata)


@pytest.mark.slow
def test_no_false_alarm_of_toy_tissue() -> None:
    adata = bl.datasets.toy(n_patients=1, n_sections=2, random_state=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bl.pp.check_alignment(adata)
    assert [each["verdict"] for each in adata.uns["alignment_check"].values()] == ["fits", "fits"]


def _with(adata: AnnData, key: str, values: np.ndarray) -> AnnData:
    adata.obsm[key] = values
    return adata


@pytest.mark.slow
def test_a_verdict_on_the_picture_does_not_vouch_for_another_image(tmp_path: Path) -> None:
    """The crops are of another section: the picture fits, and the verdict says that it speaks of the picture alone."""
    adata = tissue()
    other = np.kron(tissue(seed=1).uns["spatial"]["a"]["images"]["hires"], np.ones((2, 2, 1), dtype=np.uint8))
    Image.fromarray(other).save(tmp_path / "other.png")
    with pytest.warns(UserWarning, match="the crops do not look like the hires picture"):
        bl.pp.crops(adata, tmp_path / "other.png", size=16, mpp=1)
    said = "this speaks of the hires picture, not of 'other.png', from which the crops were cut"
    found = record(adata)
    assert found["verdict"] == f"fits, but {said}"
    assert found["found"].endswith("Pass that image as `image=` to check it.")
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert record(ad.read_h5ad(tmp_path / "a.h5ad"))["verdict"] == found["verdict"]
    few = adata[:40].copy()
    assert record(few)["verdict"] == "cannot tell"
    assert f"But {said}. Pass" in few.uns["alignment_check"]["a"]["found"]
    assert said not in str(record(adata, image=tmp_path / "other.png")), "that image was checked itself"
    del adata.uns["spatial"]["a"]["images"]
    assert said not in str(record(adata)), "the crops were checked"
    right = tissue()
    whole = np.kron(right.uns["spatial"]["a"]["images"]["hires"], np.ones((2, 2, 1), dtype=np.uint8))
    bl.pp.crops(right, sq.im.ImageContainer(whole), size=16, mpp=1)
    assert record(right)["verdict"] == "fits"
