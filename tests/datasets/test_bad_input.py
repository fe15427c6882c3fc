"""What the data sets make of odd arguments and damaged files: the right result, or one error with its remedy."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from PIL import Image
from squidpy.im import ImageContainer

import bleep_sc as bl

pytestmark = pytest.mark.odd

TINY = {"n_patients": 1, "n_sections": 1, "n_spots": 9, "n_genes": 6}
NO_INTEGERS = (None, np.nan, np.inf, -1, 1.5, 10**30, True, np.True_, np.float64(9.0), np.array(9), "9", b"9", [9], {})


@pytest.mark.parametrize("argument", [*TINY, "random_state"])
def test_toy_takes_integers_within_bounds(argument: str) -> None:
    for value in NO_INTEGERS:
        if argument == "random_state" and type(value) is int and value > 0:  # any seed will do
            continue
        with pytest.raises(ValueError, match=rf"`{argument}` must be an integer of at least \d.*, found"):
            bl.datasets.toy(**{**TINY, argument: value})


def test_toy_takes_numbers_of_numpy() -> None:
    tissue = bl.datasets.toy(**{name: np.int64(value) for name, value in TINY.items()}, random_state=np.uint8(3))
    assert tissue.n_vars == 6
    assert (tissue.X != bl.datasets.toy(**TINY, random_state=3).X).nnz == 0


@pytest.mark.parametrize("argument", TINY)
def test_toy_has_least_numbers(argument: str) -> None:
    with pytest.raises(ValueError, match=rf"`{argument}` must be an integer of at least {TINY[argument]} and at most"):
        bl.datasets.toy(**{**TINY, argument: TINY[argument] - 1})


def test_sections_have_letters() -> None:
    with pytest.raises(ValueError, match="`n_sections` must be an integer of at least 1 and at most 26, found 27"):
        bl.datasets.toy(**{**TINY, "n_sections": 27})


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """One section in the layout of the public repository."""
    x, y = (m.ravel() for m in np.meshgrid(range(2, 5), range(3, 6)))
    names = [f"{a}x{b}" for a, b in zip(x, y, strict=True)]
    for folder in ("ST-cnts", "ST-spotfiles", "ST-imgs/A/A1"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    counts = np.random.default_rng(0).poisson(3, size=(9, 2))
    pd.DataFrame(counts, index=names, columns=["g1", "g2"]).to_csv(tmp_path / "data/ST-cnts/A1.tsv.gz", sep="\t")
    places = {"x": x, "y": y, "new_x": x + 0.01, "new_y": y, "pixel_x": 8 * x + 1, "pixel_y": 8 * y}
    pd.DataFrame(places).to_csv(tmp_path / "data/ST-spotfiles/A1_selection.tsv", sep="\t", index=False)
    Image.fromarray(np.full((60, 70, 3), 200, dtype=np.uint8)).save(tmp_path / "data/ST-imgs/A/A1/HE.jpg")
    return tmp_path


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """One section as an object beside its image."""
    adata = AnnData(
        np.ones((3, 2), dtype=np.float32),
        obsm={"spatial": np.ones((3, 2))},
        uns={"spatial": {"C1": {"scalefactors": {"spot_diameter_fullres": 10.0}}}, "source": {"um_per_px": 2.0}},
    )
    adata.write_h5ad(tmp_path / "C1.h5ad")
    Image.fromarray(np.full((60, 70, 3), 200, dtype=np.uint8)).save(tmp_path / "C1.jpg")
    return tmp_path


ARGUMENTS: list[tuple[str, Any, type[Exception], str]] = [
    *[("path", value, TypeError, "`path` must be the path of a folder, found") for value in (None, 3, b"a", [], {})],
    *[
        ("path", value, FileNotFoundError, "`path`: there is no folder")
        for value in ("", "gone", "a\0b", "x" * 5000, "~nobody-of-that-name/x")
    ],
    *[("sections", value, TypeError, "`sections` must be a list of names, found") for value in (3, np.nan, True)],
    *[
        ("sections", value, ValueError, r"has no section \[.*\]; there are \['A1'\]")
        for value in ("", "a/b", [3], ["A1", None], b"A1", "A*")
    ],
    *[("sections", value, ValueError, r"`sections` names none.*'A1'") for value in ([], (), {})],
    *[("join", value, ValueError, "`join` must be one of 'inner', 'outer', found") for value in (None, "", 1, "left")],
]


@pytest.mark.parametrize(("name", "value", "error", "message"), ARGUMENTS)
def test_arguments_of_her2st(name: str, value: Any, error: type[Exception], message: str, public: Path) -> None:
    with pytest.raises(error, match=message):
        bl.datasets.her2st(**{"path": public, name: value})


def test_paths_and_sections_of_any_kind(public: Path) -> None:
    wanted, images = bl.datasets.her2st(public)
    assert ImageContainer(str(images["A1"])).shape == (60, 70)
    for path, sections in ((str(public), ("A1",)), (public / "data", np.array(["A1"])), (public, "A1")):
        found, images = bl.datasets.her2st(path, sections=sections)
        assert (found.X != wanted.X).nnz == 0
        assert [image.name for image in images.values()] == ["HE.jpg"]


def rewritten(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A file of the public layout, whose bytes are changed; the counts are packed again."""

    def damage(root: Path) -> None:
        path = root / "data" / name
        content = path.read_bytes()
        path.write_bytes(gzip.compress(change(gzip.decompress(content))) if path.suffix == ".gz" else change(content))

    return damage


def cut_short(name: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / "data" / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return damage


COUNTS, SPOTS, PICTURE = "ST-cnts/A1.tsv.gz", "ST-spotfiles/A1_selection.tsv", "ST-imgs/A/A1/HE.jpg"
BROKEN = "could not be read, it may be cut short or damaged: {}.*Get a new copy of it"
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "counts cut short": (cut_short(COUNTS), "A1.tsv.gz' " + BROKEN.format(".*")),
    "counts not packed": (lambda root: (root / "data" / COUNTS).write_bytes(b"abc"), "A1.tsv.gz' " + BROKEN.format("")),
    "no counts": (rewritten(COUNTS, lambda _: b""), "A1.tsv.gz' " + BROKEN.format("No columns")),
    "counts of words": (
        rewritten(COUNTS, lambda text: text.replace(b"2x3\t", b"2x3\tmany", 1)),
        "A1.tsv.gz' " + BROKEN.format("could not convert"),
    ),
    "counts below 0": (
        rewritten(COUNTS, lambda text: text.replace(b"2x3\t", b"2x3\t-1", 1)),
        "A1.tsv.gz' " + BROKEN.format("counts are missing, negative"),
    ),
    "a spot twice": (
        rewritten(COUNTS, lambda text: text.replace(b"3x3\t", b"2x3\t", 1)),
        "A1.tsv.gz' " + BROKEN.format("the spot '2x3' is there twice"),
    ),
    "bytes for spots": (rewritten(SPOTS, lambda _: bytes(range(256))), "A1_selection.tsv' " + BROKEN.format("")),
    "no spots": (rewritten(SPOTS, lambda _: b""), "A1_selection.tsv' " + BROKEN.format("No columns")),
    "places of words": (
        rewritten(SPOTS, lambda text: text.replace(b"\t24\n", b"\tleft\n", 1)),
        "A1_selection.tsv' " + BROKEN.format("Unable to parse"),
    ),
    "places missing": (
        rewritten(SPOTS, lambda text: text.replace(b"\t24\n", b"\t\n", 1)),
        "A1_selection.tsv' " + BROKEN.format("places of spots are missing"),
    ),
    "one row of spots": (
        rewritten(SPOTS, lambda text: b"\n".join(text.split(b"\n")[:4]) + b"\n"),
        "A1_selection.tsv' " + BROKEN.format("all spots lie in one row"),
    ),
    "an image cut short": (cut_short(PICTURE), "`HE.jpg`.* could not be read"),
    "text for an image": (rewritten(PICTURE, lambda _: b"<html>"), "`HE.jpg`.*could not be read as an image"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_files(what: str, public: Path) -> None:
    damage, message = DAMAGES[what]
    damage(public)
    with pytest.raises(ValueError, match=message):
        bl.datasets.her2st(public)


def test_damaged_objects(prepared: Path) -> None:
    found, images = bl.datasets.her2st(prepared)
    assert found.uns["spatial"]["C1"]["scalefactors"]["microns_per_pixel"] == 2
    assert list(images) == ["C1"]
    path = prepared / "C1.h5ad"
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"<html>"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="C1.h5ad' " + BROKEN.format("")):
            bl.datasets.her2st(prepared)
    AnnData(obs=pd.DataFrame(index=["a", "b"]), uns={"spatial": "none", "source": 3}).write_h5ad(path)
    with pytest.raises(ValueError, match="C1.h5ad' " + BROKEN.format("it holds no counts")):
        bl.datasets.her2st(prepared)
    AnnData(np.ones((2, 2), dtype=np.float32), uns={"spatial": "none", "source": 3}).write_h5ad(path)
    assert bl.datasets.her2st(prepared)[0].shape == (2, 2)
    assert ad.read_h5ad(path).uns["source"] == 3, "the file was changed"
