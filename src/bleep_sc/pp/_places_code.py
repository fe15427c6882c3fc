"""The places of the spots as code, for the lines that users are told to run."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from bleep_sc._adata import x_then_y


@dataclass(frozen=True)
class PlacesCode:
    """Writes Python that reads and moves the places of one section, and of no other."""

    spatial_key: str
    library_id: str
    library_key: str | None
    """Column of `obs` with the section of each spot; None where the object is one section."""
    is_table: bool = False
    """Whether the places are stored as a table, and not as an array."""
    is_reversed: bool = False
    """Whether the table holds y before x."""

    @classmethod
    def of(cls, stored: Any, spatial_key: str, library_id: str, library_key: str | None) -> "PlacesCode":
        """Look at how the places are stored."""
        is_table = isinstance(stored, pd.DataFrame)
        is_reversed = is_table and list(x_then_y(stored).columns) != list(stored.columns)
        return cls(spatial_key, library_id, library_key, is_table, is_reversed)

    @property
    def stored(self) -> str:
        """Where the places stand."""
        return f"adata.obsm[{self.spatial_key!r}]"

    @property
    def read(self) -> str:
        """The places as an array, x then y."""
        return f"{self.stored}{'.to_numpy()' if self.is_table else ''}{'[:, ::-1]' if self.is_reversed else ''}"

    @property
    def of_section(self) -> str:
        """Which spots are of this section, as code."""
        return f"(adata.obs[{self.library_key!r}] == {self.library_id!r}).to_numpy()"

    def moved(self, expression: str) -> str:
        """Write what moves the places; in the expression, braces stand for them."""
        if self.library_key is None:
            return f"{self.stored} = {expression.format(self.read)}"
        return (
            f"rows = {self.of_section}; xy = {self.read}.astype(float); xy[rows] = {expression.format('xy[rows]')}; "
            f"{self.stored} = xy"
        )

    def from_um(self, um_per_px: str) -> str:
        """Write what turns places in µm, whose recorded scale is 1, into pixels; the scale factors go with them."""
        factors = f"adata.uns['spatial'][{self.library_id!r}]['scalefactors']"
        return (
            f"mpp = {um_per_px}; {self.moved('{} / mpp')}; {factors}['microns_per_pixel'] = mpp; "
            f"{factors}['spot_diameter_fullres'] /= mpp"
        )
