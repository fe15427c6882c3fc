"""Objects that hold all that a report can show, and a reader of the page that was written."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import bleep_sc as bl
from bleep_sc._report import _write, figures

VOID = {"meta", "link", "img", "input", "br"}
Pair = tuple[AnnData, AnnData]


def add_picture(query: AnnData, library: str, seed: int = 3) -> None:
    """A picture of noise, half as large as the slide, with the scale factors that say so."""
    picture = np.random.default_rng(seed).integers(120, 255, size=(520, 520, 3), dtype=np.uint8)
    query.uns.setdefault("spatial", {})[library] = {
        "images": {"hires": picture},
        "scalefactors": {"tissue_hires_scalef": 0.5, "spot_diameter_fullres": 40.0},
    }


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps are small and the plots of `bl.pl` are left out: most of the time of a report."""
    monkeypatch.setattr(figures, "side_by_side", lambda asked: ())
    for name in ("of_predictable_genes", "of_calibration"):
        monkeypatch.setattr(figures, name, lambda asked: None)
    monkeypatch.setattr(_write, "_SIDES", (220, 160))


@pytest.fixture(scope="session")
def full_once(calibrated_once: Pair) -> Pair:
    """A calibrated reference, and a query with all that the functions write; take `full`."""
    ref, query = (adata.copy() for adata in calibrated_once)
    add_picture(query, "D1")
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        bl.tl.intervals(query, ref, key_added="bleep")
        bl.tl.evaluate(query, n_bootstrap=0, metrics=["pearson"])
        bl.pp.check_alignment(query)

    for record in query.uns["crops"].values():
        record["findings"] = pd.DataFrame(columns=["sign", "found", "remedy"])
    return ref, query


@pytest.fixture
def full(full_once: Pair) -> Pair:
    """A reference and its query with everything, free to change."""
    ref, query = full_once
    return ref.copy(), query.copy()


@pytest.fixture
def bare(full: Pair) -> AnnData:
    """A query that holds places and a prediction, and nothing else."""
    _, query = full
    return AnnData(
        obs=query.obs[[]].copy(),
        var=query.var[[]].copy(),
        obsm={"spatial": query.obsm["spatial"]},
        layers={"bleep": query.layers["bleep"]},
    )


class Page(HTMLParser):
    """The elements of a page, with the text of each part that has a name."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, str] = {}
        self._open: list[tuple[str, str]] = []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        self.close()
        assert not self._open, f"{self._open} are not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        assert len(attributes) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append((tag, attributes))
        self.handle_data(" ")  # between two cells of a table
        if tag not in VOID:
            self._open.append((tag, attributes.get("id", "")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))  # type: ignore[arg-type]

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}>"

    def handle_data(self, data: str) -> None:
        for tag, name in self._open:
            for part in {tag, f"#{name}"}:
                self.texts[part] = self.texts.get(part, "") + data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        wanted = attributes.items()
        return [found for name, found in self.elements if name == tag and wanted <= found.items()]

    def text(self, part: str = "body") -> str:
        return " ".join(self.texts.get(part, "").split())


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Page]:
    """`write(query, ref, ...)` writes a report and reads it."""

    def run(*objects: AnnData, **arguments: Any) -> Page:
        path = bl.report(*objects, path=tmp_path / "report.html", **arguments)
        assert path == tmp_path / "report.html"
        return Page(path)

    return run
