import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from bleep_sc import _keys
from bleep_sc._checks import check_choice, check_names
from bleep_sc._library import SOURCE_IMAGE_PATH
from bleep_sc._logging import logger
from bleep_sc._progress import progress
from bleep_sc.pp._images.open import existing_path, open_image
from bleep_sc.pp._images.thumbnails import thumbnails

_PITCH_UM, _SPOT_UM = 200.0, 100.0
_COLUMNS = ("x", "y", "new_x", "new_y", "pixel_x", "pixel_y")
_SIDES = {"hires": 800, "lowres": 300}


def her2st(
    path: str | Path,
    *,
    sections: str | Sequence[str] | None = None,
    join: Literal["inner", "outer"] = "inner",
    progress_bar: bool | None = None,
) -> tuple[AnnData, dict[str, Path]]:
    """Read HER2ST: HER2-positive breast tumours, first-generation spatial transcriptomics with H&E images.

    The function reads a copy of the public repository github.com/almaan/her2st (Andersson et al., Nature Communications
    12, 6012, 2021). It also reads a folder that holds ``SECTION.h5ad`` beside ``SECTION.jpg``.

    Parameters
    ----------
    path
        The repository, its folder ``data``, or the folder of prepared sections.
    sections
        Sections to read, such as ``["C2", "C3"]`` or ``"C2"``; ``None`` reads all sections in the folder. The letter
        names the patient.
    join
        Which genes to keep: ``"inner"`` keeps those that all sections have. ``"outer"`` keeps those of any section,
        with 0 if a section does not have the gene.
    progress_bar
        Overrides the value of the same name in :attr:`bleep_sc.settings` for this call.

    Returns
    -------
    An AnnData of all sections, and a dict from section to the path of its image. The AnnData holds counts in `X` and in
    ``layers['counts']``. Its `obs` has ``in_tissue``, ``section``, ``patient``, ``array_row`` and ``array_col``. Its
    `obsm['spatial']` is in pixels of the image, and ``uns['spatial'][section]`` holds small images and scale factors.
    Spots without counts, or without a place under the tissue, are left out.

    Raises
    ------
    FileNotFoundError
        The folder has neither layout, or the counts, spots or image of a section are missing.
    ValueError
        - A section that does not exist.
        - A spot file without coordinates.
        - Sections that share no spot with their counts or no gene with each other.
        - A damaged file.
    """
    check_choice("join", join, ("inner", "outer"))
    if not isinstance(path, str | Path):
        msg = f"`path` must be the path of a folder, found {path!r}."
        raise TypeError(msg)
    root = existing_path(path)
    if root is None:
        msg = f"`path`: there is no folder {str(path)[:500]!r}."
        raise FileNotFoundError(msg)
    data = root / "data" if (root / "data" / "ST-cnts").is_dir() else root
    public = (data / "ST-cnts").is_dir()
    section_names = _public_sections(data) if public else sorted(p.stem for p in root.glob("*.h5ad"))
    if not section_names:
        msg = f"{str(path)!r} holds neither the folder ST-cnts of the HER2ST repository nor any SECTION.h5ad."
        raise FileNotFoundError(msg)
    chosen = section_names if sections is None else list(check_names("sections", sections))
    if not chosen:
        msg = f"`sections` names none; there are {section_names}, and `None` reads all."
        raise ValueError(msg)
    if absent := [section for section in chosen if section not in section_names]:
        msg = f"{str(path)!r} has no section {absent}; there are {section_names}."
        raise ValueError(msg)
    read = _read_public if public else _read_prepared
    parts, images = {}, {}
    for section in progress(chosen, desc="Reading HER2ST", show=progress_bar):
        parts[section], images[section] = read(data, section)
    adata = ad.concat(parts, join=join, fill_value=0, uns_merge="unique", index_unique="-")
    if adata.n_vars == 0:
        msg = f"no gene is in all of the sections {chosen}: their names differ. `join='outer'` keeps every gene."
        raise ValueError(msg)
    counts = sparse.csr_matrix(adata.X, dtype=np.float32)
    adata.X = counts
    adata.layers[_keys.COUNTS] = counts.copy()
    for column in ("section", "patient"):
        adata.obs[column] = adata.obs[column].astype("category")
    if join == "inner" and len(parts) > 1:
        union = set().union(*(part.var_names for part in parts.values()))
        left_out = len(union) - adata.n_vars
        logger.info(
            "%d genes are in all %d sections; %d are not and were left out.", adata.n_vars, len(parts), left_out
        )
    return adata, images


def _public_sections(data: Path) -> list[str]:
    return sorted({p.name.split(".")[0] for p in (data / "ST-cnts").glob("*.tsv*")})


def _one_file(folder: Path, pattern: str, section: str, what: str) -> Path:
    files = sorted(folder.glob(pattern))
    if not files:
        msg = f"section {section!r} has no {what}: nothing matches {str(folder / pattern)!r}."
        raise FileNotFoundError(msg)
    return files[0]


@contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """Turn the errors of any reader into one that names the file."""
    try:
        yield
    except Exception as err:  # each reader has errors of its own
        reason = " ".join(str(err).split()).rstrip(".")
        msg = f"{str(path)!r} could not be read, it may be cut short or damaged: {reason}. Get a new copy of it."
        raise ValueError(msg) from err


def _counts(path: Path) -> pd.DataFrame:
    """Read the counts of a section, spots × genes; float32."""
    with _undamaged(path):
        counts = pd.read_csv(path, sep="\t", index_col=0).astype(np.float32)
        if not (np.isfinite(counts) & (counts >= 0)).to_numpy().all():
            msg = "counts are missing, negative or infinite"
            raise ValueError(msg)
        if not counts.index.is_unique:
            msg = f"the spot {counts.index[counts.index.duplicated()][0]!r} is there twice"
            raise ValueError(msg)
    return counts


def _spots(path: Path, section: str) -> pd.DataFrame:
    """Read the places of the spots under the tissue, by name of the spot."""
    with _undamaged(path):
        spots = pd.read_csv(path, sep="\t")
    if absent := [name for name in _COLUMNS if name not in spots]:
        msg = f"the spot file of section {section!r} lacks the columns {absent}; it has {list(spots.columns)}."
        raise ValueError(msg)
    if "selected" in spots:
        spots = spots[spots["selected"] == 1]
    with _undamaged(path):
        spots = spots[[*_COLUMNS]].apply(pd.to_numeric)
        if not np.isfinite(spots).to_numpy().all():
            msg = "places of spots are missing or infinite"
            raise ValueError(msg)
        if len(spots) and (spots[["new_x", "new_y"]].nunique() < 2).any():
            msg = "all spots lie in one row, which does not tell the scale of the image"
            raise ValueError(msg)
    spots.index = [f"{x}x{y}" for x, y in zip(spots["x"], spots["y"], strict=True)]
    return spots[~spots.index.duplicated()]


def _read_public(data: Path, section: str) -> tuple[AnnData, Path]:
    counts = _counts(_one_file(data / "ST-cnts", f"{section}.tsv*", section, "counts"))
    spots = _spots(_one_file(data / "ST-spotfiles", f"{section}_selection.tsv", section, "spot file"), section)
    image = _one_file(data / "ST-imgs" / section[0], f"{section}/*.jpg", section, "image")
    names = [name for name in spots.index if name in counts.index]
    if not names:
        msg = (
            f"section {section!r}: no spot under the tissue has counts; spots are named as {list(spots.index[:2])}, "
            f"the rows of the counts as {list(counts.index[:2])}."
        )
        raise ValueError(msg)
    spots, counts = spots.loc[names], counts.loc[names]
    adata = AnnData(
        sparse.csr_matrix(counts.to_numpy(dtype=np.float32)),
        obs=pd.DataFrame(
            {
                "section": section,
                "patient": section[0],
                "in_tissue": 1,
                "array_row": spots["y"],
                "array_col": spots["x"],
            },
            index=names,
        ),
        var=pd.DataFrame(index=counts.columns.astype(str)),
        obsm={_keys.SPATIAL: spots[["pixel_x", "pixel_y"]].to_numpy(dtype=np.float64)},
    )
    pixels_per_um = _pixels_per_step(spots) / _PITCH_UM
    small = thumbnails(open_image(image, library_id=section, name=image.name).array, _SIDES, name=image.name)
    diameter = _SPOT_UM * pixels_per_um
    factors = {
        **{f"tissue_{name}_scalef": factor for name, (_, factor) in small.items()},
        "spot_diameter_fullres": diameter,
        "fiducial_diameter_fullres": diameter,
        "microns_per_pixel": 1 / pixels_per_um,
    }
    adata.uns[_keys.SPATIAL] = {
        section: {
            "images": {name: picture for name, (picture, _) in small.items()},
            "scalefactors": factors,
            "metadata": {SOURCE_IMAGE_PATH: str(image.resolve())},
        }
    }
    return adata, image


def _pixels_per_step(spots: pd.DataFrame) -> float:
    """Pixels from one array position to the next, from straight lines through the measured positions."""
    slopes = [np.polyfit(spots[f"new_{axis}"], spots[f"pixel_{axis}"], 1)[0] for axis in ("x", "y")]
    return float(np.mean(np.abs(slopes)))


def _read_prepared(folder: Path, section: str) -> tuple[AnnData, Path]:
    image = _one_file(folder, f"{section}.jpg", section, "image")
    path = folder / f"{section}.h5ad"
    with _undamaged(path):
        adata = ad.read_h5ad(path)
        if adata.X is None:
            msg = "it holds no counts in `X`"
            raise ValueError(msg)
    adata.obs["section"] = section
    if "patient" not in adata.obs:
        adata.obs["patient"] = re.sub(r"\d+$", "", section)
    keep = [name for name in ("section", "patient", "in_tissue", "array_row", "array_col") if name in adata.obs]
    obs: pd.DataFrame = adata.obs
    adata.obs = obs[keep].astype({"section": str, "patient": str})
    spatial, source = adata.uns.get(_keys.SPATIAL), adata.uns.get("source")
    libraries = dict(spatial) if isinstance(spatial, Mapping) else {}
    um_per_px = source.get("um_per_px") if isinstance(source, Mapping) else None
    for library in libraries.values():
        library.setdefault("metadata", {})[SOURCE_IMAGE_PATH] = str(image.resolve())
        if um_per_px is not None:
            library.setdefault("scalefactors", {}).setdefault("microns_per_pixel", float(um_per_px))
    adata.uns = {_keys.SPATIAL: libraries}
    return adata, image
