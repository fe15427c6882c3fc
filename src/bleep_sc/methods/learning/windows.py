"""Cut sections into windows of neighbouring spots, small enough for a transformer and its position embeddings."""

import numpy as np


def split_windows(grid: np.ndarray, *, largest: int, side: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut one section into windows of at most `largest` spots that span at most `side` grid positions each way.

    A section that is small enough stays whole, as in the published HisToGene. A larger one is halved along its longer
    side, at the median spot, until each part fits.

    Parameters
    ----------
    grid
        Row and column of each spot, int (n, 2).

    Returns
    -------
    For each window, its spots (indices into `grid`) and their positions in it, int64 (n, 2), from 0.
    """
    pending, windows = [np.arange(len(grid))], []
    while pending:
        spots = pending.pop()
        low, high = grid[spots].min(axis=0), grid[spots].max(axis=0)
        extent = high - low + 1
        if len(spots) <= largest and (extent <= side).all():
            windows.append((spots, (grid[spots] - low).astype(np.int64)))
            continue
        axis = int(extent.argmax())
        # by place, not by number, so that spots of one line stay together; the first line always goes left
        along = grid[spots, axis]
        border = max(int(np.median(along)), int(along.min()) + 1)
        left = along < border
        pending += [spots[~left], spots[left]] if extent[axis] > 1 else np.array_split(spots, 2)
    return windows
