"""The pictures of docs/gallery.md: one of each function of `bl.pl`, by the line that the page shows.

    python benchmarks/gallery.py                 # all pictures, some ten minutes on two cores
    python benchmarks/gallery.py imputed sweep   # some of them

Bulb: a model of two sections of animal 1 predicts a section of animal 2 (`_bulb.py`). Painted: `bl.datasets.toy`. With
`report` it also writes a report of that section and takes a picture of it in Chromium.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from _bulb import STATIC, joined, predicted, save, sections
from anndata import AnnData

import bleep_sc as bl

mpl.use("agg")
GALLERY = STATIC / "gallery"
GENES = ("Penk", "S100a5", "Doc2g")
REPORT_WIDTH, REPORT_HEIGHT = 1100, 1500


@dataclass(frozen=True)
class Drawn:
    """A picture: what is drawn by name, the arguments that the line shows, and who makes what is drawn."""

    given: tuple[str, ...]
    make: Callable[[], tuple[Any, ...]]
    args: tuple[Any, ...] = ()
    how: dict[str, Any] = field(default_factory=dict)

    def line(self, name: str) -> str:
        """The line of Python that draws it."""
        shown = [*self.given, *map(repr, self.args), *(f"{key}={value!r}" for key, value in self.how.items())]
        return f"bl.pl.{name}({', '.join(shown)})".replace("'", '"')


@cache
def _bulb() -> tuple[AnnData, AnnData]:
    """Reference and query with all that the plots of `fit`, `impute` and `calibrate` read."""
    ref, query = predicted()
    bl.tl.calibrate(ref)
    bl.tl.intervals(query, ref, key_added="bleep")
    return ref, query


def _both() -> tuple[AnnData, AnnData]:
    return _bulb()[1], _bulb()[0]


def _reference() -> tuple[AnnData]:
    return (_bulb()[0],)


def _query() -> tuple[AnnData]:
    return (_bulb()[1],)


def _embedded() -> tuple[AnnData]:
    """The query with its own profiles beside its crops: held-out pairs."""
    ref, query = _bulb()
    placed = query.copy()
    bl.tl.embed(placed, ref)
    bl.tl.alignment(placed)
    return (placed,)


def _checked() -> tuple[AnnData]:
    query = _bulb()[1].copy()
    bl.pp.check_alignment(query)
    return (query,)


@cache
def _all_sections() -> AnnData:
    adata = joined(sections())
    bl.tl.encode(adata, encoder="color")
    return adata


def _compared() -> tuple[AnnData]:
    adata = _all_sections().copy()
    methods = ["mean", "counts", "coordinates", "ridge", "knn", "bleep"]
    read = {name: {"image_key": "X_color"} for name in ("ridge", "knn", "bleep")}
    bl.tl.cross_validate(adata, methods=methods, method_kwargs=read, library_key="section")
    return (adata,)


def _transferred() -> tuple[pd.DataFrame]:
    adata = _all_sections()
    tissues = {f"animal {animal}": adata[adata.obs["patient"] == animal].copy() for animal in ("1", "2")}
    how = {"image_key": "X_color"}
    return (bl.tl.transfer_matrix(tissues, method_kwargs=how, library_key="section", group_key="section"),)


@cache
def _painted() -> AnnData:
    tissue = bl.datasets.toy(n_spots=120)
    bl.tl.encode(tissue, encoder="color")
    return tissue


def _swept() -> tuple[AnnData]:
    tissue = _painted().copy()
    how = {"image_key": "X_color"}
    bl.tl.sweep(tissue, {"k": [1, 5, 20, 50, 100]}, method="knn", method_kwargs=how, library_key="section")
    return (tissue,)


def _learnt() -> tuple[AnnData]:
    tissue = _painted().copy()
    bl.tl.learning_curve(tissue, method_kwargs={"image_key": "X_color"}, library_key="section")
    return (tissue,)


def _by_region() -> tuple[AnnData]:
    """The third patient of painted tissue; the markers of its regions are chosen on the other two."""
    import scanpy as sc

    tissue = _painted()
    held_out = (tissue.obs["patient"] == "P3").to_numpy()
    ref, query = tissue[~held_out].copy(), tissue[held_out].copy()
    sc.tl.rank_genes_groups(ref, "region", method="t-test")
    names = ref.uns["rank_genes_groups"]["names"]
    markers = {region: list(names[region][:5]) for region in names.dtype.names}
    bl.tl.fit(ref, image_key="X_color", method="ridge", library_key="section")
    bl.tl.impute(query, ref, image_key="X_color")
    bl.tl.evaluate_regions(query, labels="region", markers=markers, library_key="section")
    return (query,)


PICTURES = {
    "imputed": Drawn(("query",), _query, (list(GENES),)),
    "reliability": Drawn(("query",), _query),
    "neighbors": Drawn(("query", "ref"), _both, how={"spot": "25x19-MOB4", "genes": list(GENES)}),
    "calibration": Drawn(("ref",), _reference),
    "predictable_genes": Drawn(("ref",), _reference),
    "gene_scores": Drawn(("query",), _query),
    "gene_correlation": Drawn(("query",), _query, ("HVG-50",)),
    "scores": Drawn(("adata",), _compared, how={"panels": ["HEG-50", "HVG-50"]}),
    "alignment_check": Drawn(("query",), _checked),
    "alignment": Drawn(("query",), _embedded),
    "history": Drawn(("ref",), _reference),
    "transfer_matrix": Drawn(("table",), _transferred),
    "regions": Drawn(("query",), _by_region),
    "sweep": Drawn(("adata",), _swept, how={"panels": ["all", "HVG-50"]}),
    "learning_curve": Drawn(("adata",), _learnt, how={"panels": ["all", "HVG-50"]}),
}


def main() -> None:
    asked = sys.argv[1:] or [*PICTURES, "report"]
    GALLERY.mkdir(exist_ok=True)
    bl.settings.verbosity = "warning"
    bl.settings.progress_bar = sys.stderr.isatty()
    for name in asked:
        if name == "report":
            picture_of_report(GALLERY / "report.webp")
            continue
        drawn = PICTURES[name]
        figure = getattr(bl.pl, name)(*drawn.make(), *drawn.args, **drawn.how, return_fig=True)
        save(figure, GALLERY / f"{name}.webp")


def picture_of_report(path: Path) -> None:
    """Write a report of the bulb, and the top of its page as Chromium shows it."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    ref, query = _bulb()
    with tempfile.TemporaryDirectory() as folder:
        page_file = bl.report(query, ref, path=Path(folder) / "bulb.html", genes=list(GENES))
        shot = Path(folder) / "shot.png"
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"))
            page = browser.new_page(viewport={"width": REPORT_WIDTH, "height": REPORT_HEIGHT})
            page.goto(page_file.as_uri())
            page.screenshot(path=shot)
            browser.close()
        with Image.open(shot) as image:
            image.convert("RGB").save(path, quality=85, method=6)
    print(f"wrote {path.name}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
