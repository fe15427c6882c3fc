"""Makes the tables of a calibration, a block of genes at a time: half-widths, coverage, and how genes do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bleep_sc._blocks import budget
from bleep_sc._progress import progress
from bleep_sc.io._calibration import rounded_up
from bleep_sc.metrics.conformal import conformal_quantiles, half_widths, noise_free_variance
from bleep_sc.tl._trust.depth import Depths, as_they_are, differences, differences_of_halves, thinned_to
from bleep_sc.tl._trust.spots import HeldOutSpots

_SHARES = (0.1, 0.25, 0.5, 0.75)
"""Shares of the spots of the shallowest group that are left out at the depths of the table."""
_COPIES = 12
"""The number of arrays of a block that are in memory at once."""
TOP_TENTH = "own top tenth"
"""The panel of each gene's highest tenth of measured values."""
ABOVE = 0.8
"""The coverage that a gene should have at the level of 0.9."""


@dataclass(frozen=True)
class Tables:
    """What is known of each gene at each depth."""

    depths: list[int]
    half_width: np.ndarray
    n_spots: np.ndarray
    rate_sd: np.ndarray
    coverage: list[list[object]] = field(default_factory=list)


def depths_to_tabulate(spots: HeldOutSpots) -> list[int]:
    """Choose depths that every group has spots enough for; 0, the first, leaves spots as they are."""
    totals = [spots.measured.totals[spots.group == group] for group in range(len(spots.group_names))]
    depths = {int(float(f"{min(np.quantile(of_group, share) for of_group in totals):.2g}")) for share in _SHARES}
    return [0, *sorted(depth for depth in depths if depth >= 1)]


def gene_blocks(n_spots: int, n_genes: int) -> list[slice]:
    """Divide genes into blocks that fit into the memory budget."""
    step = budget(4 * n_spots * _COPIES)
    return [slice(start, min(start + step, n_genes)) for start in range(0, n_genes, step)]


def tabulate(
    spots: HeldOutSpots, levels: Sequence[float], panel: np.ndarray, *, seed: int, progress_bar: bool | None
) -> Tables:
    """Make the tables of all genes; coverage is of the genes of a `panel`, bool (n_genes,), alone."""
    n_genes, group = len(spots.measured.genes), spots.group
    depths = depths_to_tabulate(spots)
    at_depths = [as_they_are(spots), *(thinned_to(spots, depth) for depth in depths[1:])]
    half_width = np.empty((len(depths), len(levels), n_genes), dtype=np.float16)
    rate_sd = np.empty(n_genes, dtype=np.float16)
    counted = _Coverage(spots, levels)
    blocks = gene_blocks(len(spots.rows), n_genes)
    for block in progress(blocks, desc="Calibrating", show=progress_bar if len(blocks) > 1 else False):
        columns = np.arange(n_genes)[block]
        predicted = spots.predict(columns)
        for row, at_depth in enumerate(at_depths):
            found = differences(spots, predicted, columns, at_depth, seed=seed)
            half_width[row, :, block] = rounded_up(widths_of(spots, np.abs(found), at_depth, levels))
            if row == 0:
                as_measured = found
            if row == 0 and panel[block].any():
                counted.add(np.abs(found[panel[block]]), (found + predicted)[panel[block]])
        one, other = differences_of_halves(spots, predicted, columns, seed=seed)
        rate_sd[block] = rounded_up(np.sqrt(noise_free_variance(one, other, as_measured, group, joint=spots.joint)))
    n_spots = np.array([np.bincount(group[depth.rows], minlength=len(spots.group_names)) for depth in at_depths])
    return Tables(depths, half_width, n_spots, rate_sd, counted.rows())


def widths_of(spots: HeldOutSpots, errors: np.ndarray, depths: Depths, levels: Sequence[float]) -> np.ndarray:
    """Compute half-widths (n_levels, n_genes); a patient without spots at that depth leaves nothing to promise."""
    group = spots.group[depths.rows]
    if not spots.joint and len(np.unique(group)) < len(spots.group_names):
        return np.full((len(levels), len(errors)), np.inf)
    return half_widths(errors, group, levels, joint=spots.joint)


class _Coverage:
    """Counts how many measured values of a group lie within intervals that are made from the other groups alone."""

    def __init__(self, spots: HeldOutSpots, levels: Sequence[float]) -> None:
        self._spots, self._levels = spots, levels
        self._inside: list[list[np.ndarray]] = [[] for _ in spots.group_names]
        self._top: list[list[np.ndarray]] = [[] for _ in spots.group_names]
        self._means: list[np.ndarray] = []

    def add(self, errors: np.ndarray, values: np.ndarray) -> None:
        """Count some genes, from errors and measured values (n_genes, n_spots)."""
        spots, group = self._spots, self._spots.group
        by_group: list[np.ndarray] = []
        if not spots.joint:
            by_group = [conformal_quantiles(errors[:, group == g], self._levels) for g in _all(spots)]
        self._means.append(values.mean(axis=1))
        for held_out in _all(spots):
            own = group == held_out
            if spots.joint:
                widths = conformal_quantiles(errors[:, ~own], self._levels)
            else:
                widths = np.max([q for g, q in enumerate(by_group) if g != held_out], axis=0)
            inside = errors[:, own] <= widths[:, :, None]
            self._inside[held_out].append(inside.mean(axis=2))
            top = values[:, own] >= np.quantile(values[:, own], 0.9, axis=1, keepdims=True)
            top &= values[:, own] > 0
            with np.errstate(invalid="ignore"):
                self._top[held_out].append((inside & top).sum(axis=2) / top.sum(axis=1))

    def rows(self) -> list[list[object]]:
        """Make the rows of the table of coverage."""
        if not self._means:
            return []
        mean = np.concatenate(self._means)
        highest = mean >= np.quantile(mean, 0.9)
        return [row for held_out in _all(self._spots) for row in self._rows_of(held_out, highest)]

    def _rows_of(self, held_out: int, highest: np.ndarray) -> Iterator[list[object]]:
        name, n = str(self._spots.group_names[held_out]), int((self._spots.group == held_out).sum())
        inside, top = (np.concatenate(parts[held_out], axis=1) for parts in (self._inside, self._top))
        panels = {"all": inside, "HEG": inside[:, highest], TOP_TENTH: top}
        for row, level in enumerate(self._levels):
            for panel, values in panels.items():
                of_genes = values[row][np.isfinite(values[row])]
                if len(of_genes):
                    yield [name, n, panel, float(level), float(of_genes.mean()), float((of_genes >= ABOVE).mean())]


def _all(spots: HeldOutSpots) -> range:
    return range(len(spots.group_names))
