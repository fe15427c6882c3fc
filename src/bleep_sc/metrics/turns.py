"""Whether a map says more of a gene than the same map does when it is turned, mirrored and shifted at random.

Neighbouring spots are alike in a prediction as in the truth, so that two smooth maps that have nothing to do with each
other often correlate. A turned map is as smooth as before, but lies wrongly. What correlations such maps reach is what
smoothness alone reaches.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bleep_sc._blocks import InThreads, one_after_another
from bleep_sc.metrics._common import check_draws

FEWEST_TURNS = 20
"""Fewest turns whose mean and spread say anything."""
_FEWEST_SPOTS = 5
"""Fewest spots that a turned map must share with the section: fewer leave a correlation beyond depth no freedom."""
_LEAST_OVERLAP = 0.5
_TRIES, _HOPELESS = 40, 10
"""Tries to find one turn, and turns in vain after which no other is looked for."""
_SHORTEST, _LONGEST = 0.25, 0.8
"""Shifts, in radii of a disc that spreads as the section does. A disc shifted by .8 of its radius overlaps by half."""
_REACH = 0.75
"""How far from a place the nearest spot may be, in steps of the lattice; within a square of spots it is at most .71."""
_BLOCK = 128
"""Genes at a time: their values of some thousand spots stay in a processor's cache."""
_NEARER = 0.25
"""Power of the share of covered spots by which turned maps' scores are brought nearer to their mean.

The variance of a correlation goes with one over the area where maps are rough, which makes a half. It does not change
where they are smooth over the whole section, which makes none. In between, this keeps unrelated maps' p-values even."""
_NOTHING_LEFT = 1e-4
"""Share of a map that counts as nothing: depth explains the rest, but for the rounding of single precision."""


def random_turns(xy: np.ndarray, *, n_turns: int, rng: np.random.Generator) -> np.ndarray:
    """Draw random turns of a section: for each, the spot whose value comes to lie on each spot.

    Each turn has a random angle, is mirrored or not, and is shifted. In round, layered tissue an angle alone would
    leave each layer in its place, so shifts are at least a quarter of the section's radius. A turn that leaves less
    than half of the spots covered is drawn again, with a shorter shift each time.

    Parameters
    ----------
    xy
        Coordinates of the spots of one section (n_obs, 2).
    n_turns
        Number of turns.
    rng
        Random number generator that draws them.

    Returns
    -------
    int32 (n_turns, n_obs): the row of the spot whose value lands there, the nearest one within three quarters of a step
    of the lattice; -1 where none does. A turn is -1 throughout where none that covers half of the section was found, as
    of sections of two or three spots, or of several small pieces far apart.
    """
    from scipy.spatial import cKDTree

    check_draws(n_turns, rng, name="n_turns")
    xy = np.asarray(xy)
    if xy.ndim != 2 or xy.shape[1] != 2 or not len(xy) or xy.dtype.kind not in "fiu" or not np.isfinite(xy).all():
        msg = f"`xy` must be the places of the spots (n_obs, 2), finite numbers, found {xy.dtype} {xy.shape}."
        raise ValueError(msg)
    centred = xy - xy.mean(axis=0)
    n = len(centred)
    out = np.full((n_turns, n), -1, dtype=np.int32)
    tree = cKDTree(centred)
    # the fourth nearest is one step away on any lattice; where spots lie anyhow, the nearest one says less of gaps
    step = float(np.median(tree.query(centred, k=min(4, n - 1) + 1)[0].reshape(n, -1)[:, -1]))
    radius = float(np.sqrt(2 * np.mean((centred**2).sum(axis=1))))
    if n < _FEWEST_SPOTS or step == 0:
        return out
    for number, turn in enumerate(out):
        if number == _HOPELESS and (out[:number] < 0).all():
            break
        for longest in np.linspace(_LONGEST, _SHORTEST, _TRIES):
            # spread evenly over the area between the shortest and the longest shift
            shift = radius * np.sqrt(rng.uniform(_SHORTEST**2, longest**2))
            angle, direction = rng.uniform(0, 2 * np.pi, size=2)
            moved = shift * np.array([np.cos(direction), np.sin(direction)])
            turned = (centred * [rng.choice([-1, 1]), 1]) @ _rotation(angle) + moved
            distance, nearest = tree.query(turned, distance_upper_bound=_REACH * step)
            covered = np.isfinite(distance)
            if covered.mean() >= _LEAST_OVERLAP:
                turn[covered] = nearest[covered]
                break
    return out


def _rotation(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])


def beyond_depth(
    truth: np.ndarray,
    predicted: np.ndarray,
    log_depth: np.ndarray | None,
    turns: np.ndarray,
    *,
    in_threads: InThreads = one_after_another,
) -> tuple[np.ndarray, np.ndarray]:
    """Correlate truth and prediction beyond depth, and tell how far that is above the same of turned predictions.

    Parameters
    ----------
    truth, predicted
        Measured and predicted expression of one section, dense, float32 (n_obs, n_genes), finite.
    log_depth
        Log total counts of each spot (n_obs,), which truth and prediction are both regressed on; None regresses on
        nothing.
    turns
        Rows of spots (n_turns, n_obs) that :func:`random_turns` drew.
    in_threads
        Function that does the work in threads.

    Returns
    -------
    Two arrays, float64 (n_genes,). The correlation r of what depth leaves, as
    :func:`~bleep_sc.metrics.partial_pearson`. Then z, which is r less the mean of the turned predictions' r, in units
    of their standard deviation. A turned prediction is correlated over the spots that it covers, and regressed on the
    depth of these. r is 0 where truth or prediction does not vary beyond depth. z is 0 where one of them is constant,
    or fewer than 20 turns cover enough spots.

    Notes
    -----
    Turned predictions cover about two thirds of the spots, and correlations over fewer spots scatter more. So each is
    brought nearer to the mean of all, by the fourth root of the share of spots that it covers. Without, z of maps that
    have nothing to do with each other would have a standard deviation of .8 to .9; with it, .97 to 1.1.
    """
    _check_block(truth, "truth", turns)
    _check_block(predicted, "predicted", turns)
    if truth.shape != predicted.shape:
        msg = f"`truth` and `predicted` must be of the same genes, found {truth.shape} and {predicted.shape}."
        raise ValueError(msg)
    plan = _plan(turns, log_depth)
    r, z = np.zeros((2, truth.shape[1]))

    def score(block: slice) -> None:
        t, p = _standardised(truth[:, block]), _standardised(predicted[:, block])
        r[block], z[block] = _against_turned(_partial(plan, t, p), plan.n)

    in_threads(_in_blocks(score), truth.shape[1])
    return r, z


def cross_geary(
    values: np.ndarray,
    near_mean: np.ndarray,
    near_square: np.ndarray,
    turns: np.ndarray,
    *,
    in_threads: InThreads = one_after_another,
) -> tuple[np.ndarray, np.ndarray]:
    """Geary's C between the spots of a section and spots elsewhere that look like them, against turned looks.

    C is the mean squared difference between a spot and its neighbours, over what it is between spots that have nothing
    to do with each other: 1 if looks say nothing of the gene, 0 if they say all.

    Parameters
    ----------
    values
        Expression of one section, dense, float32 (n_obs, n_genes), each gene of mean 0.
    near_mean, near_square
        Mean of the neighbours' values, and of their squares, where each gene of each section has mean 0 (n_obs,
        n_genes).
    turns
        Rows of spots (n_turns, n_obs) that :func:`random_turns` drew. They turn the looks, and with them each spot's
        neighbours.
    in_threads
        Function that does the work in threads.

    Returns
    -------
    Two arrays, float64 (n_genes,): C, and z, by how many standard deviations C is below that of turned looks. C is 1
    and z is 0 where neither spots nor neighbours vary.
    """
    for name, array in (("values", values), ("near_mean", near_mean), ("near_square", near_square)):
        _check_block(array, name, turns)
    plan = _plan(turns, None)
    geary, z = np.ones((2, values.shape[1]))

    def score(block: slice) -> None:
        x, mean, square = (np.ascontiguousarray(array[:, block]) for array in (values, near_mean, near_square))
        common = plan.products(x, mean)
        spread = (plan.cover @ x**2 + plan.landing @ square).astype(np.float64)
        alike = np.divide(2 * common, spread, out=np.zeros_like(spread), where=spread > 0)
        likeness, z[block] = _against_turned(alike, plan.n)
        geary[block] = 1 - likeness

    in_threads(_in_blocks(score), values.shape[1])
    return geary, z


def _check_block(values: np.ndarray, name: str, turns: np.ndarray) -> None:
    if np.ndim(turns) != 2 or np.ndim(values) != 2 or len(values) != turns.shape[1]:
        msg = (
            f"`{name}` must be of the spots that were turned (n_obs, n_genes), found {np.shape(values)} and turns "
            f"{np.shape(turns)}."
        )
        raise ValueError(msg)
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        msg = f"`{name}` must hold finite floating-point numbers: leave genes out that were not predicted."
        raise ValueError(msg)


def _in_blocks(score: Callable[[slice], None]) -> Callable[[slice], None]:
    def over(part: slice) -> None:
        for start in range(part.start, part.stop, _BLOCK):
            score(slice(start, min(start + _BLOCK, part.stop)))

    return over


@dataclass(frozen=True)
class _Plan:
    """The turns of one section, after no turn at all, as matrices by which sums over the covered spots are products."""

    turns: np.ndarray
    """Row of the spot that lands on each spot, int32 (1 + n_turns, n_obs); the first row is the spots themselves."""
    cover: np.ndarray
    """Whether a spot is covered, float32 (1 + n_turns, n_obs)."""
    landing: np.ndarray
    """How many spots a spot's value lands on, float32 (1 + n_turns, n_obs)."""
    depth: np.ndarray
    """Standardised log depth of each spot, float32 (n_obs,); 0 where there is none."""
    depth_landing: np.ndarray
    """Sum of the depth of the spots that a spot's value lands on, float32 (1 + n_turns, n_obs)."""

    @property
    def n(self) -> np.ndarray:
        """Number of covered spots, a column."""
        out: np.ndarray = self.cover.sum(axis=1, dtype=np.float64)[:, None]
        return out

    def products(self, fixed: np.ndarray, turned: np.ndarray) -> np.ndarray:
        """Sum the products of two maps, of which the second is turned, over covered spots (1 + n_turns, n_genes)."""
        from bleep_sc.metrics._compiled_turns import add_turned_products

        out = np.zeros((len(self.turns), fixed.shape[1]), dtype=np.float32)
        add_turned_products(fixed, turned, self.turns, out)
        return out.astype(np.float64)


def _plan(turns: np.ndarray, log_depth: np.ndarray | None) -> _Plan:
    n_obs = turns.shape[1]
    usable = (turns >= 0).sum(axis=1) >= _FEWEST_SPOTS
    turns = np.concatenate([np.arange(n_obs)[None], turns[usable]]).astype(np.int32)
    depth = np.zeros((n_obs, 1)) if log_depth is None else np.reshape(log_depth, (-1, 1))
    if len(depth) != n_obs or not np.isfinite(depth).all():
        msg = f"`log_depth` must be finite numbers of the {n_obs} spots, found {len(depth)} numbers."
        raise ValueError(msg)
    depth = _standardised(depth)[:, 0]
    landing, depth_landing = np.zeros((2, *turns.shape), dtype=np.float32)
    turn, spot = np.nonzero(turns >= 0)
    source = turns[turn, spot]
    np.add.at(landing, (turn, source), 1)
    np.add.at(depth_landing, (turn, source), depth[spot])
    return _Plan(turns, (turns >= 0).astype(np.float32), landing, depth, depth_landing)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Bring each gene to mean 0 and variance 1, float32 (n_obs, n_genes); 0 where it is constant."""
    centred = values - values.mean(axis=0, dtype=np.float64)
    sd = centred.std(axis=0)
    sd[np.ptp(values, axis=0) == 0] = np.inf
    return np.ascontiguousarray(centred / sd, dtype=np.float32)


def _partial(plan: _Plan, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Correlate truth and turned prediction beyond depth in each turn (1 + n_turns, n_genes)."""
    n, d = plan.n, plan.depth
    mean_d = plan.cover @ d[:, None] / n
    var_d = plan.cover @ d[:, None] ** 2 / n - mean_d**2
    mean_t, mean_p = plan.cover @ t / n, plan.landing @ p / n
    square_t, square_p = plan.cover @ t**2 / n, plan.landing @ p**2 / n
    cov_td = plan.cover @ (t * d[:, None]) / n - mean_t * mean_d
    cov_pd = plan.depth_landing @ p / n - mean_p * mean_d
    # what depth leaves of covariance and variances; a regression on a constant leaves all
    inverse = np.divide(1.0, var_d, out=np.zeros_like(var_d), where=var_d > _NOTHING_LEFT)
    left_t = square_t - mean_t**2 - cov_td**2 * inverse
    left_p = square_p - mean_p**2 - cov_pd**2 * inverse
    covariance = plan.products(t, p) / n - mean_t * mean_p - cov_td * cov_pd * inverse
    fine = (left_t > _NOTHING_LEFT * square_t) & (left_p > _NOTHING_LEFT * square_p)
    out: np.ndarray = np.where(fine, np.clip(covariance / np.sqrt(np.where(fine, left_t * left_p, 1)), -1, 1), 0)
    return out


def _against_turned(scores: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take the first row of scores as it is, and by how many standard deviations it is above the others.

    `n` is the number of spots that each row is of, a column.
    """
    own, turned = scores[0], scores[1:]
    if len(turned) < FEWEST_TURNS:
        return own, np.zeros_like(own)
    mean = turned.mean(axis=0)
    scatter = (turned - mean) * (n[1:] / n[0]) ** _NEARER
    sd = np.sqrt((scatter**2).sum(axis=0) / (len(turned) - 1))
    return own, np.divide(own - mean, sd, out=np.zeros_like(own), where=sd > 0)
