"""Names that would be HTML, and would run, if a page put them in as they are."""

import pandas as pd
from anndata import AnnData

HOSTILE_GENE = "<script>window.hit=1</script>"
HOSTILE_SECTION = '"><img src=x onerror=window.hit=1>'


def hostile(full: tuple[AnnData, AnnData]) -> tuple[AnnData, AnnData]:
    """Return a reference and its query with a gene and a section whose names are HTML."""
    ref, query = full
    for adata in full:
        adata.var_names = [HOSTILE_GENE if name == "g3" else name for name in adata.var_names]
    query.obs["section"] = pd.Categorical([HOSTILE_SECTION] * query.n_obs)
    for entry in ("crops", "spatial", "alignment_check"):
        query.uns[entry][HOSTILE_SECTION] = query.uns[entry].pop("D1")
    query.uns["crops"] = {HOSTILE_SECTION: query.uns["crops"][HOSTILE_SECTION]}
    query.uns["bleep"]["reliability"]["section"] = HOSTILE_SECTION
    query.obs_names = [f"{HOSTILE_SECTION}{i}" for i in range(query.n_obs)]
    query.uns["bleep"]["units"] = HOSTILE_GENE
    return ref, query
