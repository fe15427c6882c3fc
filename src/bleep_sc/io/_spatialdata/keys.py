"""What a table of SpatialData annotates: its regions, and the columns that name region and instance of each row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._checks import check_in

REGION = "region"
"""Key of the metadata of a library under which the element that its spots annotate is named."""


@dataclass(frozen=True)
class TableKeys:
    """What a table annotates."""

    regions: tuple[str, ...]
    """Names of the elements."""
    region_key: str
    """Column of `obs` with the element of each row."""
    instance_key: str
    """Column of `obs` with the row's index within that element."""

    @classmethod
    def of(cls, table: AnnData, *, path: str, remedy: str) -> "TableKeys":
        """Read them from a table.

        Parameters
        ----------
        table
            The table.
        path
            The table as messages name it.
        remedy
            What to do where it annotates nothing.
        """
        attributes: Any = table.uns.get(_keys.SPATIALDATA)
        wanted = ("region", "region_key", "instance_key")
        missing = [key for key in wanted if not hasattr(attributes, "get") or attributes.get(key) is None]
        if missing:
            msg = f"`{path}` annotates no element: `uns[{_keys.SPATIALDATA!r}]` lacks {', '.join(missing)}. {remedy}"
            raise ValueError(msg)
        region, region_key, instance_key = (attributes[key] for key in wanted)
        regions = [region] if isinstance(region, str) else list(np.ravel(region))
        for key in (region_key, instance_key):
            check_in(f"{path}.obs", str(key), table.obs.columns, remedy=f"`uns[{_keys.SPATIALDATA!r}]` names it.")
        return cls(tuple(map(str, regions)), str(region_key), str(instance_key))

    def rows_of(self, table: AnnData) -> dict[str, np.ndarray]:
        """Rows of each region; regions without a row are left out."""
        column = table.obs[self.region_key].astype(str).to_numpy()
        rows = {region: np.flatnonzero(column == region) for region in self.regions}
        return {region: found for region, found in rows.items() if len(found)}

    def described(self, regions: Sequence[str]) -> dict[str, Any]:
        """Write them as SpatialData does, for some of the regions."""
        region = regions[0] if len(regions) == 1 else list(regions)
        return {"region": region, "region_key": self.region_key, "instance_key": self.instance_key}
