from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from bleep_sc._checks import check_int, check_number
from bleep_sc._progress import progress
from bleep_sc._side_effects import python_random_state_kept
from bleep_sc.datasets._patient_shift import PatientShift
from bleep_sc.datasets._tissue import REGIONS, Tissue, draw_stain, paint, smooth_field
from bleep_sc.pp._cut import cut_windows
from bleep_sc.pp._images.section import SectionImage
from bleep_sc.pp._images.thumbnails import thumbnails
from bleep_sc.pp._record import crop_record
from bleep_sc.pp._section_crops import SectionCrops

if TYPE_CHECKING:
    from squidpy.im import ImageContainer

_PITCH, _DIAMETER, _CROP = 64, 44, 64
_UM_PER_PX = 100 / _PITCH
_IN_TISSUE = 0.8
_LINKED_SHARE = 2 / 3
_PROGRAMMES = 12
_HIDDEN_FIELDS = 24
_FIELD_SCALE, _FIELD_STEP = 110.0, 8
_DEPTH = 4000.0
_DISPERSION = 12.0
_MOST_SHIFT = 3.0


def toy(
    *,
    n_patients: int = 3,
    n_sections: int = 2,
    n_spots: int = 170,
    n_genes: int = 300,
    patient_shift: float = 0.0,
    random_state: int = 0,
    return_images: bool = False,
    progress_bar: bool | None = None,
) -> "AnnData | tuple[AnnData, dict[str, ImageContainer]]":
    """Paint tissue with known truth: the image shows some genes, and says nothing about the others.

    Each section is a map of six regions, in three pairs. The regions of a pair share their mean colour and differ in
    the size, order or direction of nuclei and fibres. Two thirds of the genes follow programmes over these regions. The
    other genes follow smooth fields of their own, which the picture does not show. Nothing can predict them from the
    image. So if their score differs from 0, expression has leaked. Patients differ in stain and in gene-wise batch
    factors.

    Parameters
    ----------
    n_patients, n_sections
        Number of patients, and number of sections of each patient (at most 26).
    n_spots
        Approximate number of spots in a section. Spots are the points of a square grid that lie on tissue.
    n_genes
        Number of genes. The image shows the first two thirds of them.
    patient_shift
        How much patients differ, beyond the small differences that they always have, from 0 to 3. 0 adds no
        differences. With 1, three things differ between patients. The strength of each stain differs by a factor of
        about 1.6 (a log-normal of standard deviation 0.5). What a stain absorbs of each colour differs by about 1.5,
        and the level of each gene by about 2. The empty slide also has another shade. Every second patient (``"P2"``,
        ``"P4"``, ...) has a fifth of the counts. All sections of a patient share these differences. The link between
        look and expression stays the same.
    random_state
        Seed of image and counts.
    return_images
        Also return the painted images.
    progress_bar
        Overrides the value of the same name in :attr:`bleep_sc.settings` for this call.

    Returns
    -------
    An AnnData ready for :func:`~bleep_sc.tl.fit`. With `return_images`, also a dict from section to
    :class:`squidpy.im.ImageContainer`. The AnnData holds:

    `X` : :class:`scipy.sparse.csr_matrix` (float32)
        log1p of counts normalised to 10,000 per spot.
    `layers['counts']` : :class:`scipy.sparse.csr_matrix` (float32)
        Counts: negative binomial, with totals that do not depend on the region.
    `obs` : ``section``, ``patient``, ``region`` (that with the largest share of the spot), ``in_tissue``,
        ``array_row``, ``array_col``
    `var['image_linked']` : bool
        Whether the gene follows what the image shows.
    `obsm['spatial']`, `obsm['crops']` (64 px), `uns['crops']`, `uns['spatial']`
        As :func:`~bleep_sc.pp.crops` and ``squidpy.read.visium`` write them.

    Examples
    --------
    >>> import bleep_sc as bl
    >>> adata = bl.datasets.toy(n_patients=1, n_sections=1, n_spots=30, progress_bar=False)
    >>> adata.obsm["crops"].shape[1:]
    (64, 64, 3)
    """
    # a letter names a section, and a painted section of the most spots takes some gigabytes
    check_int("n_patients", n_patients, maximum=1000)
    check_int("n_sections", n_sections, maximum=26)
    check_int("n_spots", n_spots, minimum=9, maximum=20_000)
    check_int("n_genes", n_genes, minimum=6, maximum=100_000)
    if check_number("patient_shift", patient_shift, minimum=0) > _MOST_SHIFT:
        msg = (
            f"`patient_shift` must be from 0 to {_MOST_SHIFT:g}: beyond that slides are black; found {patient_shift!r}."
        )
        raise ValueError(msg)
    rng = np.random.default_rng(check_int("random_state", random_state, minimum=0))
    genes = _Genes(rng, n_genes)
    names = [f"P{patient + 1}_{chr(65 + s)}" for patient in range(n_patients) for s in range(n_sections)]
    parts: dict[str, AnnData] = {}
    images: dict[str, np.ndarray] = {}
    for number, name in enumerate(progress(names, desc="Painting tissue", total=len(names), show=progress_bar)):
        if number % n_sections == 0:
            stain, batch = draw_stain(rng), rng.normal(0, 0.25, size=n_genes)
            shift = PatientShift.draw(patient_shift, patient=number // n_sections, n_genes=n_genes, seed=random_state)
        side = _PITCH * (int(np.ceil(np.sqrt(n_spots / _IN_TISSUE))) + 1)
        tissue = paint(rng, side, shift.of_stain(stain))
        levels = batch + rng.normal(0, 0.08, size=n_genes) + shift.batch
        parts[name] = _section(rng, name, tissue, genes, levels, depth=_DEPTH * shift.depth)
        images[name] = tissue.image
    adata = ad.concat(parts, uns_merge="unique", merge="same", index_unique=None)
    for column in ("section", "patient", "region"):
        adata.obs[column] = adata.obs[column].astype("category")
    adata.uns["log1p"] = {}
    if not return_images:
        return adata
    with python_random_state_kept():
        from squidpy.im import ImageContainer

    return adata, {name: ImageContainer(image, library_id=[name]) for name, image in images.items()}


class _Genes:
    """The pattern that each gene follows: programmes over regions, or fields that the picture does not show."""

    def __init__(self, rng: np.random.Generator, n_genes: int) -> None:
        self.n_linked = round(_LINKED_SHARE * n_genes)
        n_hidden = n_genes - self.n_linked
        self.base = rng.normal(0, 0.7, size=n_genes)
        self.by_region = _loadings(rng, self.n_linked, _PROGRAMMES) @ _programmes(rng)
        self.by_field = 0.55 * _loadings(rng, n_hidden, _HIDDEN_FIELDS)

    def proportions(self, regions: np.ndarray, fields: np.ndarray, batch: np.ndarray) -> np.ndarray:
        """Expected share of each gene in the counts of each spot (n_spots, n_genes).

        Linked and hidden genes each keep their part of the total. So the region shows neither in total counts nor,
        through normalisation, in hidden genes.
        """
        log_mean = np.concatenate([regions @ self.by_region.T, fields @ self.by_field.T], axis=1) + self.base + batch
        out = np.exp(log_mean)
        for part, share in ((slice(self.n_linked), _LINKED_SHARE), (slice(self.n_linked, None), 1 - _LINKED_SHARE)):
            out[:, part] *= share / out[:, part].sum(axis=1, keepdims=True)
        return out


def _programmes(rng: np.random.Generator) -> np.ndarray:
    """Log-fold changes of each programme over the regions (n_programmes, n_regions); most are within pairs."""
    pairs = len(REGIONS) // 2
    contrast = rng.normal(0, 0.9, size=(_PROGRAMMES, pairs, 1)) * np.array([1.0, -1.0])
    common = rng.normal(0, 0.3, size=(_PROGRAMMES, pairs, 1)) + np.zeros(2)
    return (contrast + common).reshape(_PROGRAMMES, 2 * pairs)


def _loadings(rng: np.random.Generator, n_genes: int, n_programmes: int) -> np.ndarray:
    """Draw how strongly each gene follows each programme (n_genes, n_programmes): one to three of them."""
    loadings = np.zeros((n_genes, n_programmes))
    for gene in loadings:
        members = rng.choice(n_programmes, size=rng.integers(1, 4), replace=False)
        gene[members] = rng.choice([-1, 1], size=len(members)) / np.sqrt(len(members))
    return loadings


def _section(
    rng: np.random.Generator, name: str, tissue: Tissue, genes: _Genes, batch: np.ndarray, *, depth: float
) -> AnnData:
    side = len(tissue.region)
    grid = np.arange(1, side // _PITCH) * _PITCH
    column, row = (m.ravel() for m in np.meshgrid(np.arange(len(grid)), np.arange(len(grid))))
    xy = np.stack([grid[column], grid[row]], axis=1) + rng.uniform(-1.5, 1.5, size=(len(row), 2))
    share, covered = _under_spots(tissue, xy)
    on_tissue = covered > 0.5
    column, row, xy, share = column[on_tissue], row[on_tissue], xy[on_tissue], share[on_tissue]
    # spots are far apart, so a coarse field will do
    x, y = (xy / _FIELD_STEP).astype(int).T
    scale = _FIELD_SCALE / _FIELD_STEP
    fields = np.stack([smooth_field(rng, side // _FIELD_STEP + 1, scale)[y, x] for _ in range(_HIDDEN_FIELDS)], axis=1)
    # hidden genes must not follow the regions of this very section by chance either: take out what regions explain
    fields = fields - share @ np.linalg.lstsq(share, fields, rcond=None)[0]
    counts = _counts(rng, genes.proportions(share, fields / fields.std(axis=0), batch), depth=depth)
    scaled = counts / counts.sum(axis=1, keepdims=True) * 1e4
    n_linked = genes.n_linked
    obsm: dict[str, Any] = {"spatial": xy, "crops": cut_windows(tissue.image, xy, _CROP, border="white")}
    return AnnData(
        sparse.csr_matrix(np.log1p(scaled).astype(np.float32)),
        obs=pd.DataFrame(
            {
                "in_tissue": 1,
                "array_row": row,
                "array_col": column,
                "section": name,
                "patient": name.split("_")[0],
                "region": np.array([kind.name for kind in REGIONS])[share.argmax(axis=1)],
            },
            index=[f"{name}_{r}x{c}" for r, c in zip(row, column, strict=True)],
        ),
        var=pd.DataFrame(
            {"image_linked": np.arange(counts.shape[1]) < n_linked},
            index=[f"GENE{i + 1:03d}" for i in range(counts.shape[1])],
        ),
        layers={"counts": sparse.csr_matrix(counts.astype(np.float32))},
        obsm=obsm,
        uns={"spatial": {name: _library(tissue.image)}, "crops": {name: _record(xy, side)}},
    )


def _under_spots(tissue: Tissue, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of each region under each spot (n_spots, n_regions), and how much of the spot is tissue (n_spots,)."""
    reach = np.arange(-_DIAMETER // 2, _DIAMETER // 2 + 1)
    dx, dy = (d.ravel() for d in np.meshgrid(reach, reach))
    disc = np.hypot(dx, dy) <= _DIAMETER / 2
    x = np.clip(np.rint(xy[:, :1]).astype(int) + dx[disc], 0, len(tissue.region) - 1)
    y = np.clip(np.rint(xy[:, 1:]).astype(int) + dy[disc], 0, len(tissue.region) - 1)
    region = tissue.region[y, x]
    share = np.stack([(region == number).mean(axis=1) for number in range(len(REGIONS))], axis=1)
    return share, tissue.inside[y, x].mean(axis=1)


def _counts(rng: np.random.Generator, proportions: np.ndarray, *, depth: float) -> np.ndarray:
    """Draw negative binomial counts of about that depth; that of a spot has nothing to do with its tissue."""
    depths = depth * np.exp(rng.normal(0, 0.35, size=(len(proportions), 1)))
    return rng.poisson(depths * proportions * rng.gamma(_DISPERSION, 1 / _DISPERSION, size=proportions.shape))


def _library(image: np.ndarray) -> dict[str, Any]:
    small = thumbnails(image, {"hires": 600, "lowres": 200}, name="image")
    factors = {
        **{f"tissue_{name}_scalef": factor for name, (_, factor) in small.items()},
        "spot_diameter_fullres": float(_DIAMETER),
        "fiducial_diameter_fullres": float(_DIAMETER),
        "microns_per_pixel": _UM_PER_PX,
    }
    return {"images": {name: picture for name, (picture, _) in small.items()}, "scalefactors": factors, "metadata": {}}


def _record(xy: np.ndarray, side: int) -> Mapping[str, Any]:
    """The record that `pp.crops` would have made of these crops."""
    image = SectionImage(np.empty((side, side, 0)), 1.0, np.zeros(2), "ImageContainer")
    section = SectionCrops("", np.arange(len(xy)), image, xy, _CROP, None, "white")
    return crop_record(section, um_per_px=_UM_PER_PX, spot_diameter=float(_DIAMETER), library_key="section")
