"""Several tissues in one object: on the genes that all of them have, under names that do not meet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from bleep_sc import _keys
from bleep_sc._adata import as_text, check_readable, crop_records, recorded_library_key, section_of_spots
from bleep_sc._checks import check_in
from bleep_sc._expression import count_values, expression_values
from bleep_sc._logging import logger, warn
from bleep_sc._stats import section_rows
from bleep_sc.tl._cv.folds import check_sections_in_groups
from bleep_sc.tl._inputs.crop_scale import crop_scale
from bleep_sc.tl._sections import check_section_sizes, known_patient_key, patient_of_sections

ALL = "all"
"""The name of the reference that all tissues make together."""
SECTION, GROUP = "section", "group"
_GRID = ("array_row", "array_col")
_FEW_SHARED = 0.1
"""Share of the smallest tissue's genes below which gene names seem to be of two kinds."""
UPPER = "upper"


@dataclass(frozen=True)
class Joined:
    """All tissues in one object."""

    adata: AnnData
    """Spots of all tissues, one tissue after the other, with `section`, `group` and, where known, `patient`."""
    tissues: np.ndarray
    """Name of each spot's tissue (n_obs,)."""
    names: tuple[str, ...]

    def rows(self, tissue: str) -> np.ndarray:
        """Rows of a tissue's spots."""
        return np.flatnonzero(self.tissues == tissue)


def check_tissues(tissues: Any) -> dict[str, AnnData]:
    """Return the tissues by name; refuse all but a mapping of two or more."""
    if not isinstance(tissues, Mapping) or len(tissues) < 2:
        found = f"{len(tissues)} tissue" if isinstance(tissues, Mapping) else type(tissues).__name__
        msg = (
            f"`tissues` must name two or more tissues, as `{{'breast': adata, 'brain': other}}`; found {found}. "
            "`bleep_sc.tl.cross_validate` scores a single one."
        )
        raise ValueError(msg)
    for name, adata in tissues.items():
        if not isinstance(name, str) or not name or name == ALL:
            msg = f"`tissues` has the name {name!r}: a text is needed, other than {ALL!r}, which names all together."
            raise ValueError(msg)
        check_readable(adata, name=f"tissues[{name!r}]")
    return dict(tissues)


def join(
    tissues: Mapping[str, AnnData],
    *,
    map_genes: str | Mapping[str, str] | None,
    image_keys: Sequence[str],
    counts_layer: str | None,
    group_key: str | None,
    library_key: str | None,
    patient_key: str | None,
) -> Joined:
    """Join tissues on the genes that all of them have; nothing of the user's is changed.

    Raises
    ------
    ValueError
        No gene is in all tissues; counts or images in some tissues only, or images of different kinds.
    """
    genes = shared_genes(tissues, map_genes)
    _check_counts(tissues, counts_layer)
    _check_images(tissues, image_keys)
    columns = _patient_columns(tissues, patient_key)
    parts = []
    for name, adata in tissues.items():
        obs = _labels(name, adata, group_key=group_key, library_key=library_key, patient_key=columns.get(name))
        parts.append(_part(name, adata, obs, genes[name], image_keys=image_keys, counts_layer=counts_layer))
    joined = ad.concat(parts, join="inner")
    for key in image_keys:
        sections = set(joined.obs[SECTION])
        records = [_records(name, adata, key, sections) for name, adata in tissues.items()]
        if any(records):
            joined.uns[key] = {library: record for each in records for library, record in each.items()}
        if getattr(joined.obsm.get(key), "ndim", 2) == 4:
            crop_scale(joined, key, name="tissues")  # which refuses crops of several widths
    of_all: pd.DataFrame = joined.obs
    sections_of_spots, groups = (of_all[column].to_numpy(dtype=str) for column in (SECTION, GROUP))
    check_sections_in_groups(sections_of_spots, groups, library_key=SECTION, group_key=GROUP)
    check_section_sizes(section_rows(sections_of_spots, joined.n_obs))
    of_spots = np.repeat(list(tissues), [adata.n_obs for adata in tissues.values()])
    return Joined(joined, of_spots, tuple(tissues))


def shared_genes(
    tissues: Mapping[str, AnnData], map_genes: str | Mapping[str, str] | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Find the genes of all tissues: their columns in each, and their common names, in the order of the first tissue.

    Genes of one tissue whose names fall together are left out, since it cannot be known which is meant.
    """
    if not (map_genes is None or isinstance(map_genes, Mapping) or (isinstance(map_genes, str) and map_genes == UPPER)):
        msg = (
            f"`map_genes` must be None, {UPPER!r} or a mapping from a gene's name to a common one, found {map_genes!r}."
        )
        raise ValueError(msg)
    named = {}
    for name, adata in tissues.items():
        common = pd.Series(_common_names(as_text(adata.var_names), map_genes))
        twice = common.duplicated(keep=False)
        if twice.any():
            logger.info("%s: %d genes are left out, because several get the same common name.", name, int(twice.sum()))
        named[name] = common.where(~twice)
    first = next(iter(named.values()))
    in_all = set.intersection(*(set(common.dropna()) for common in named.values()))
    kept = list(first[first.isin(in_all)])
    if not kept:
        raise ValueError(_none_shared(tissues, map_genes))
    smallest = min(adata.n_vars for adata in tissues.values())
    if len(kept) < _FEW_SHARED * smallest:
        warn(
            f"the tissues share {len(kept)} genes only, of {smallest} in the smallest: their names seem to be of two "
            "kinds. `map_genes` brings them to common ones, such as 'upper' for human and mouse symbols."
        )
    return {name: (_columns(common, kept), np.array(kept)) for name, common in named.items()}


def _columns(common: pd.Series, kept: Sequence[str]) -> np.ndarray:
    known = common.dropna()
    return known.index.to_numpy()[pd.Index(known).get_indexer(pd.Index(kept))]


def _common_names(names: pd.Index, map_genes: str | Mapping[str, str] | None) -> list[str]:
    if map_genes is None:
        return list(names)
    if isinstance(map_genes, Mapping):
        return [str(map_genes.get(name, name)) for name in names]
    return [name.upper() for name in names]


def _none_shared(tissues: Mapping[str, AnnData], map_genes: str | Mapping[str, str] | None) -> str:
    shown = ", ".join(f"{name!r} has such as {adata.var_names[0]!r}" for name, adata in tissues.items())
    upper = set.intersection(*({gene.upper() for gene in as_text(adata.var_names)} for adata in tissues.values()))
    remedy = (
        f"`map_genes='upper'` would make {len(upper)} genes common."
        if map_genes is None and upper
        else "Give `map_genes` a mapping from the genes' names to common ones, such as orthologs."
    )
    return f"no gene is in all tissues: {shown}. {remedy}"


def _check_counts(tissues: Mapping[str, AnnData], counts_layer: str | None) -> None:
    having = [name for name, adata in tissues.items() if counts_layer is not None and counts_layer in adata.layers]
    lacking = [name for name in tissues if name not in having]
    if having and lacking:
        msg = (
            f"`layers[{counts_layer!r}]` is in {having[0]!r} but not in {lacking[0]!r}, so they cannot be normalised "
            "alike. Keep the counts of all, or take `X` of all by `counts_layer=None`."
        )
        raise ValueError(msg)


def _check_images(tissues: Mapping[str, AnnData], image_keys: Sequence[str]) -> None:
    """Refuse images that one model cannot read: of several shapes, or features that several encoders made."""
    for key in image_keys:
        having = {name: adata for name, adata in tissues.items() if key in adata.obsm}
        if not having:
            continue
        for name, adata in tissues.items():
            check_in(f"tissues[{name!r}].obsm", key, adata.obsm.keys(), remedy="All tissues need images of one kind.")
        (first, one), *others = having.items()
        for name, adata in others:
            held: list[Any] = [each.obsm[key] for each in (one, adata)]
            shapes = tuple(tuple(map(int, each.shape[1:])) for each in held)
            configs = tuple(_encoder_of(each, key) for each in (one, adata))
            if shapes[0] != shapes[1] or configs[0] != configs[1]:
                what = f"the shapes {shapes[0]} and {shapes[1]}" if shapes[0] != shapes[1] else "other records"
                msg = (
                    f"`obsm[{key!r}]` of {first!r} and {name!r} have {what}, so one model cannot read both. Cut the "
                    "crops of all tissues with one `um` and one `size` (`bleep_sc.pp.crops`), and make features of "
                    "them with one encoder (`bleep_sc.tl.encode`)."
                )
                raise ValueError(msg)


def _encoder_of(adata: AnnData, key: str) -> str:
    entry = adata.uns.get(key)
    return str(entry.get("config", "")) if isinstance(entry, Mapping) else ""


def _patient_columns(tissues: Mapping[str, AnnData], patient_key: str | None) -> dict[str, str]:
    """The column of patients of each tissue; none where not all have one, since patients are then unknown."""
    if patient_key is not None:
        for name, adata in tissues.items():
            check_in(f"tissues[{name!r}].obs", patient_key, adata.obs.columns, remedy="`patient_key` names a column.")
    found = {name: known_patient_key(adata, patient_key) for name, adata in tissues.items()}
    return {name: key for name, key in found.items() if key is not None}


def _labels(
    name: str, adata: AnnData, *, group_key: str | None, library_key: str | None, patient_key: str | None
) -> pd.DataFrame:
    """Name section, group and patient of each spot, under the tissue's name."""
    path = f"tissues[{name!r}]"
    library_key = library_key or recorded_library_key(adata)
    sections = section_of_spots(adata, library_key, name=path)
    sections = np.full(adata.n_obs, "") if sections is None else sections.astype(str)
    patients = section_of_spots(adata, patient_key, name=path)
    patients = np.full(adata.n_obs, "") if patients is None else patients.astype(str)
    patient_of_sections(adata, section_rows(sections, adata.n_obs), patient_key, name=path)
    groups: np.ndarray | None = section_of_spots(adata, group_key, name=path)
    if groups is None:  # whole patients, where there are several to hold out
        groups = patients if len(set(patients)) > 1 else sections
    of_obs = {
        SECTION: [f"{name}: {section}" if section else name for section in sections],
        GROUP: [f"{name}: {group}" if group else name for group in groups.astype(str)],
        _keys.PATIENT: [f"{name}: {patient}" if patient else "" for patient in patients],
    }
    grid = {column: adata.obs[column].to_numpy() for column in _GRID if column in adata.obs}
    return pd.DataFrame(of_obs | grid, index=[f"{name}: {spot}" for spot in adata.obs_names])


def _part(
    name: str,
    adata: AnnData,
    obs: pd.DataFrame,
    genes: tuple[np.ndarray, np.ndarray],
    *,
    image_keys: Sequence[str],
    counts_layer: str | None,
) -> AnnData:
    """Make an object of a tissue's spots with the shared genes, their places and images, and nothing else."""
    columns, names = genes
    part = AnnData(obs=obs, var=pd.DataFrame(index=names))
    path = f"tissues[{name!r}]"
    if counts_layer is not None and counts_layer in adata.layers:
        part.layers[counts_layer] = sparse.csr_matrix(count_values(adata, counts_layer, name=path)[:, columns])
    else:
        part.X = sparse.csr_matrix(expression_values(adata, None, name=path)[:, columns])
    for key in (_keys.SPATIAL, *image_keys):
        if key in adata.obsm:
            values = adata.obsm[key]
            part.obsm[key] = values.to_numpy() if isinstance(values, pd.DataFrame) else np.asarray(values)
    return part


def _records(name: str, adata: AnnData, key: str, sections: set[str]) -> dict[str, Any]:
    """Take over what `uns` says of images: of features as it is, of crops by section under the tissue's name."""
    entry = adata.uns.get(key)
    if isinstance(entry, Mapping) and "config" in entry:
        return dict(entry)
    records = {}
    for library, record in crop_records(adata, key).items():
        section = f"{name}: {library}"
        records[section if section in sections else name] = {**record, "library_key": SECTION}
    return records
