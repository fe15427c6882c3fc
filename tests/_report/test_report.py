"""What stands in a report is what the objects hold, and each map has the colours of its values."""

import json
import re
import tomllib
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml
from anndata import AnnData
from hostile_names import HOSTILE_GENE, HOSTILE_SECTION, hostile
from PIL import Image

import bleep_sc as bl
from bleep_sc._report import _write
from bleep_sc._report.citation import PAPERS, package
from bleep_sc._report.records import KINDS

ROOT = Path(__file__).parents[2]
Pair = tuple[AnnData, AnnData]
GENES = ["g3", "g7"]


def picture(uri: str) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(b64decode(uri.partition("base64,")[2]))).convert("RGBA"))


def test_what_the_objects_hold_stands_in_the_report(
    full: Pair, write: Callable, unchanged: Callable[..., None]
) -> None:
    ref, query = full
    unchanged(ref, query)
    page = write(query, ref, genes=GENES, title="Two genes", note="For Dr. Ito")
    config = json.loads(ref.uns["bleep"]["config"])
    assert page.text("h1") == "Two genes"
    assert "For Dr. Ito" in page.text("header")
    for gene in GENES:
        expected = f"{ref.var.loc[gene, 'bleep_expected_pearson']:.2f}".replace("-", "−")
        reached = f"{query.var.loc[gene, 'bleep_pearson']:.2f}".replace("-", "−")
        row = re.search(rf"{gene} ([✓!✕?] [a-z ]+) (\S+) \((\S+) to (\S+)\) (\S+) (\S+)", page.text("#genes"))
        assert row is not None
        listed, low = ref.var.loc[gene, ["bleep_predictable", "bleep_expected_pearson_lower"]]
        if query.var.loc[gene, "bleep_pearson"] < low:
            assert row[1] in ("✕ not here", "✕ worse here")
        else:
            assert row[1] in (("✓ yes", "? not known here") if listed else ("! not shown to be",))
        assert row[2] == expected
        assert row[5] == reached
    assert query.uns["bleep"]["reliability"]["verdict"].iloc[0] in page.text("#slides")
    n_unlike = int((query.obs["bleep_reliability"] <= 0.05).sum())
    assert f"{n_unlike} of {query.n_obs} spots" in page.text("#slides")
    assert "100 µm wide" in page.text("#slides")
    assert config["sha256"] in page.text("#model")
    assert config["units"] in page.text("#model")
    assert f"{ref.n_obs} spots, 4 sections, 3 patients" in page.text("#model")
    assert f"bleep-sc {config['versions']['bleep-sc']}" in page.text("#model")
    assert "across 3 patients" in page.text("#genes")
    assert "About 90% of the values" in page.text("#maps")
    assert "Xie R" in page.text("#cite")
    assert "missing" not in [found.get("id") for _, found in page.elements], page.text("#missing")


@pytest.mark.slow
def test_maps_have_the_colours_of_their_values(full: Pair, write: Callable) -> None:
    """Seen at the centre of each spot, whose place in the picture is worked out from the places alone."""
    ref, query = full
    gene = query.var_names.get_loc("g7")
    page = write(query, ref, genes=["g3", "g7"])
    shown = {
        "predicted": query.layers["bleep"][:, gene],
        "measured": query.X.toarray()[:, gene],
        "lower": query.layers["bleep_lower"][:, gene],
    }
    both = [np.percentile(shown[name], [1, 99]) for name in ("predicted", "measured")]
    low, high = min(ends[0] for ends in both), max(ends[1] for ends in both)
    assert f"{low:.2f} (low)" in page.text("#maps")
    assert f"{high:.2f} (high)" in page.text("#maps")
    xy = 0.5 * query.obsm["spatial"]  # of the picture, which is half as large
    margin = max(0.5 * 40.0, 0.02 * np.ptp(xy, axis=0).max())
    begin = xy.min(axis=0) - margin
    size = np.ptp(xy, axis=0) + 2 * margin
    # spots that no other one covers in part
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=2) + 1e3 * np.eye(len(xy))
    alone = np.flatnonzero(apart.min(axis=1) > 22)
    assert len(alone) > 10
    for kind, values in shown.items():
        (found,) = page.all("img", **{"data-kind": kind, "data-gene": "1"})
        pixels = picture(found["src"])
        assert pixels.shape[:2] == (int(found["height"]), int(found["width"]))
        at = ((xy[alone] - begin) / size * pixels.shape[1::-1]).astype(int)
        seen = pixels[at[:, 1], at[:, 0]]
        expected = matplotlib.colormaps["viridis"](np.clip((values[alone] - low) / (high - low), 0, 1), bytes=True)
        np.testing.assert_allclose(seen.astype(int), expected.astype(int), atol=3)  # of 250 shades
        assert (pixels[..., 3] == 0).any(), "the slide shows between the spots"
        assert kind.capitalize() in found["alt"] or kind == "lower"


@pytest.mark.usefixtures("quick")
def test_overlays_fit_the_slide(full: Pair, write: Callable) -> None:
    """The picture is cut to the same window, and is that of the slide."""
    ref, query = full
    query.uns["spatial"]["D1"]["images"]["hires"][:] = (200, 100, 150)
    page = write(query, ref, genes="g3")
    images = [found for found in page.all("img") if "H&E picture of" in found["alt"]]
    sizes = {(found["width"], found["height"]) for found in page.all("img", **{"class": "map"})}
    assert {(images[0]["width"], images[0]["height"])} == sizes
    ground = picture(images[0]["src"])
    middle = ground[ground.shape[0] // 2, ground.shape[1] // 2, :3]
    np.testing.assert_allclose(middle.astype(int), (200, 100, 150), atol=6)
    # crops of 100 µm are 1 spot diameter of 40 pixels wide, so that 1,000 pixels are about 2.5 mm
    wide = (np.ptp(query.obsm["spatial"], axis=0)[0] + 2 * 40) * 100 / 40
    assert f"The picture is {wide / 1000:.3g} mm wide." in images[0]["alt"]


@pytest.mark.usefixtures("quick")
def test_where_values_come_from(full: Pair, write: Callable) -> None:
    ref, query = full
    spot = query.obs_names[5]
    page = write(query, ref, genes=["g3"], spots=spot)
    assert f"Spot {spot}" in page.text("#origins")
    nearest = query.obsm["bleep_neighbors"][5]
    shown = [found for found in page.all("img") if "neighbour" in found["alt"]]
    assert len(shown) == 6
    for place, found in enumerate(shown):
        name = ref.obs_names[nearest[place]]
        assert f"reference spot {name}," in found["alt"]
        crop = ref.obsm["crops"][nearest[place]]
        np.testing.assert_allclose(picture(found["src"])[..., :3].mean(), crop.mean(), atol=4)
        assert f"{ref[name, 'g3'].X.toarray().item():.2f}" in page.text("#origins")
    assert f"{query.obsm['bleep_distances'][5, 0]:.3f}" in page.text("#origins")
    highest = query.obs_names[np.argmax(query.layers["bleep"][:, query.var_names.get_loc("g3")])]
    page = write(query, ref, genes=["g3"])
    assert f"Spot {highest} The prediction of g3 is highest here." in page.text("#origins")


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_genes_are_chosen_by_what_the_reference_says(full: Pair, write: Callable) -> None:
    ref, query = full

    def chosen(page: object) -> list[str]:
        return [found["data-label"] for found in page.all("input", name="gene")]  # type: ignore[attr-defined]

    listed = ref.var.index[ref.var["bleep_predictable"]]
    best = ref.var.loc[listed, "bleep_expected_pearson"].sort_values(ascending=False).index[:3]
    assert len(best)
    assert chosen(write(query, ref)) == list(best)
    page = write(query)
    assert chosen(page) == list(query.uns["bleep"]["panels"]["HVG-50"][:3])
    assert "vary most in the reference" in page.text("#brief")
    query.layers["bleep"][:, query.var_names.get_loc(chosen(page)[0])] = np.nan
    assert chosen(write(query)) == list(query.uns["bleep"]["panels"]["HVG-50"][1:4])
    del query.uns["bleep"]["panels"]
    spread = query.to_df("bleep").std().fillna(0)
    assert chosen(write(query)) == list(spread.sort_values(ascending=False).index[:3])


@pytest.mark.usefixtures("quick")
def test_the_page_loads_nothing_and_runs_its_own_script_alone(full: Pair, write: Callable) -> None:
    page = write(full[1], full[0])
    assert len(page.html.encode()) < 15_000_000
    for tag, found in page.elements:
        for name in ("src", "href"):
            assert found.get(name, "#").startswith(("data:", "#")), f"<{tag}> loads {found[name][:50]}"
        assert not [name for name in found if name.startswith("on") or name == "style"]
    assert not re.search(r"@import|url\(", page.text("style"))
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; img-src data:;")
    for part, directive in (("script", "script-src"), ("style", "style-src")):
        assert len(page.all(part)) == 1
        digest = b64encode(sha256(page.texts[part].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy["content"]


@pytest.mark.usefixtures("quick")
def test_everyone_can_read_it(full: Pair, write: Callable) -> None:
    """Landmarks, names of pictures and choices, headings without gaps."""
    page = write(full[1], full[0])
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert len(page.all(landmark)) == 1
    assert page.all("html", lang="en")
    assert all(found.get("alt") for found in page.all("img"))
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(set(ids)) == len(ids)
    named = [value for _, found in page.elements for name in ("aria-labelledby", "for") if (value := found.get(name))]
    links = [found["href"][1:] for found in page.all("a")]
    assert set(named + links) <= set(ids)
    assert len(page.all("fieldset")) == len(page.all("legend")) == 3
    assert len(page.all("label")) == len(page.all("input"))
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert all(after <= before + 1 for before, after in pairwise(headings))
    assert all({"role", "aria-label"} <= found.keys() for found in page.all("div", tabindex="0"))
    assert [found["value"] for found in page.all("input", name="kind")] == [*(kind.name for kind in KINDS), ""]


@pytest.mark.usefixtures("quick")
def test_names_that_hold_html_are_text(full: Pair, write: Callable) -> None:
    plain = write(full[1], full[0], genes=["g3"])
    ref, query = hostile(full)
    page = write(query, ref, genes=[HOSTILE_GENE], note=HOSTILE_SECTION)
    of_note = [("p", {"class": "note"})]
    tags = [tag for tag, found in page.elements if (tag, found) not in of_note]
    assert tags == [tag for tag, _ in plain.elements]
    assert [found.keys() for _, found in page.elements if found != of_note[0][1]] == [
        found.keys() for _, found in plain.elements
    ]
    assert page.texts["script"] == plain.texts["script"]
    assert HOSTILE_GENE in page.text("#genes")
    assert HOSTILE_SECTION in page.text("#slides")
    assert HOSTILE_GENE not in page.html
    assert HOSTILE_SECTION not in page.html


@pytest.mark.usefixtures("quick")
def test_a_slide_without_anything(bare: AnnData, write: Callable) -> None:
    page = write(bare)
    assert [found["value"] for found in page.all("input", name="kind")] == ["predicted"]
    assert len(page.all("img", **{"class": "map"})) == 3
    for part in (
        *("The reference and its model", "The H&E picture", "Measured maps", "Lower and upper bounds", "Reliability"),
        *("Checks of image and scale", "image fits the spots", "The record of what made the prediction"),
    ):
        assert part in page.text("#missing"), part
    assert "bl.report(query, ref)" in page.text("#missing")
    assert "not recorded" in page.text("#model")


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_several_slides(full: Pair, write: Callable) -> None:
    ref, query = full
    both = query.copy()
    both.obs["section"] = np.where(np.arange(both.n_obs) % 2, "E2", "D1")
    add_of = both.uns["spatial"]["D1"]
    both.uns["spatial"]["E2"] = add_of
    page = write(both, ref, genes=["g3"], library_key="section")
    assert [found["data-label"] for found in page.all("input", name="slide")] == ["D1", "E2"]
    assert len(page.all("div", **{"class": "panes"})) == 2
    assert len(page.all("img", **{"data-kind": "predicted", "data-slide": "1"})) == 1
    page = write(both, ref, genes=["g3"], library_key="section", library_id="E2")
    assert not page.all("input", name="slide")
    assert "E2, 30 spots" in page.text("#slides")


@pytest.mark.usefixtures("quick")
def test_doubts_about_the_image(full: Pair, write: Callable) -> None:
    ref, query = full
    query.uns["crops"]["D1"]["findings"] = pd.DataFrame(
        {"sign": ["dark"], "found": ["The image is <dark>."], "remedy": ["Pass `image='other.tif'`."]}
    )
    query.uns["alignment_check"]["D1"] |= {
        "verdict": "another way fits better: mirrored", "found": "0.3 against 0.1.", "remedy": "Mirror it.",
    }  # fmt: skip
    page = write(query, ref, genes=["g3"])
    assert "There are 2 doubts about D1" in page.text("#brief")
    for words in ("The image is <dark>.", "Pass `image='other.tif'`.", "mirrored", "0.3 against 0.1.", "Mirror it."):
        assert words in page.text("#slides")


@pytest.mark.usefixtures("quick")
def test_spots_that_the_model_has_seen(full: Pair, write: Callable) -> None:
    ref, query = full
    query.uns["bleep"]["in_sample"] = True
    assert "The model has learned from spots that are shown here." in write(query, ref).text("#brief")


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_smaller_pictures_where_the_file_would_be_too_large(
    full: Pair, write: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ref, query = full
    usual = write(query, ref, genes=["g3"])
    monkeypatch.setattr(_write, "_MOST_BYTES", len(usual.html.encode()) - 1_000)
    smaller = write(query, ref, genes=["g3"])
    widths = [int(page.all("img", **{"class": "map"})[0]["width"]) for page in (usual, smaller)]
    assert widths[1] < widths[0]
    monkeypatch.setattr(_write, "_MOST_BYTES", 10_000)
    before = (tmp_path / "report.html").read_bytes()
    with pytest.raises(ValueError, match=r"1 gene on 1 section are too many for one.*by `genes` and `library_id`"):
        write(query, ref, genes=["g3"])
    assert (tmp_path / "report.html").read_bytes() == before


def page_figures(page: object) -> list[str]:
    """What the plots of `bl.pl` in a report are called."""
    names = ("and their difference", "Expected correlation of each gene", "lay within the bounds, by level")
    return [found["alt"] for found in page.all("img") if any(name in found["alt"] for name in names)]  # type: ignore[attr-defined]


@pytest.mark.slow
def test_matplotlib_stays_as_it_was(full: Pair, write: Callable) -> None:
    """Figures are drawn in its own style, on white, whatever the user's is, and none is left open."""
    ref, query = full
    usual = write(query, ref, genes=["g3"])
    assert len(page_figures(usual)) == 3
    with plt.style.context("dark_background"):
        before = dict(matplotlib.rcParams)
        dark = write(query, ref, genes=["g3"])
        assert dict(matplotlib.rcParams) == before
    assert dark.html == usual.html
    assert plt.get_fignums() == []


def test_citations_are_those_of_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for part in (citation["title"], citation["repository-code"], version):
        assert part in package(version)
    paper = citation["references"][0]
    for part in (paper["title"], str(paper["volume"]), f"{paper['start']}–{paper['end']}", str(paper["year"])):
        assert part in PAPERS["bleep"]
    entries = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8").split("\n@")
    for name, key in (("bleep", "xie2023bleep"), ("stnet", "he2020stnet"), ("histogene", "pang2021histogene")):
        (entry,) = [entry for entry in entries if key in entry.partition("\n")[0]]
        fields = dict(re.findall(r"(\w+)\s*=\s*\{(.*)\}", entry))
        assert fields["title"] in PAPERS[name]
        assert fields["year"] in PAPERS[name]
        assert fields.get("doi", "") in PAPERS[name]
        surnames = [author.partition(",")[0] for author in fields["author"].split(" and ")]
        plain = [re.sub(r"\{\\aa\}", "å", re.sub(r"\{\\AA\}", "Å", surname)) for surname in surnames]
        assert all(surname in PAPERS[name] for surname in plain), plain


@pytest.mark.usefixtures("quick")
def test_settings_say_what_is_shown(full: Pair, write: Callable, capfd: pytest.CaptureFixture[str]) -> None:
    ref, query = full
    write(query, ref, genes=["g3"], progress_bar=True)
    said = capfd.readouterr().err
    assert "Drawing maps" in said
    assert "Wrote" in said
    with bl.settings.override(verbosity="warning"):
        write(query, ref, genes=["g3"])
    assert capfd.readouterr().err == ""
