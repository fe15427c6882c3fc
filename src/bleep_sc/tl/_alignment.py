import warnings
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import as_numbers, check_adata
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import check_choice, check_in, check_int
from bleep_sc._logging import logger
from bleep_sc._side_effects import parallel_numba, python_random_state_kept
from bleep_sc.models.threads import on_allowed_cores

Layout = Literal["umap", "tsne"]

_FEWEST_FOR_A_LAYOUT = 5
_BLOCK = 1024
_SAME = 1e-6


@on_allowed_cores()
def alignment(
    adata: AnnData,
    *,
    key: str = _keys.MODEL,
    layout: Layout = "umap",
    recall_at: Sequence[int] = (1, 5, 10, 50),
    random_state: int = 0,
    copy: bool = False,
) -> AnnData | None:
    """Measure how close image and expression of the same spot are in the joint space, and draw both in a plane.

    This is a first look at a joint space. Do crops and profiles mix? Does a crop find its own profile? Use spots that
    the model never saw, placed by :func:`~bleep_sc.tl.embed`. On the reference itself the answer is too good.
    :func:`bleep_sc.pl.alignment` draws the result.

    Parameters
    ----------
    adata
        Spots with an embedding of both their images and their expression.
    key
        Name of the model that made the embeddings.
    layout
        Layout of images and expression together: ``"umap"`` (scanpy) or ``"tsne"`` (scikit-learn). Neither keeps
        distances. So all numbers below are measured in the joint space, not in the plane.
    recall_at
        How many nearest profiles to search for a spot's own profile (the k of "recall at k"). Pass several numbers.
    random_state
        Seed of the layout.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `adata.obsm['X_{key}_alignment_image']`, `adata.obsm['X_{key}_alignment_expression']` : :class:`numpy.ndarray`
        Positions of images and of expression in one plane (float32, (n_obs, 2)).
    `adata.obs['{key}_pair_distance']` : :class:`pandas.Series` (dtype `float32`)
        Distance between a spot's image and its own expression, 1 - cosine.
    `adata.obs['{key}_pair_rank']` : :class:`pandas.Series` (dtype `int32`)
        How many profiles of other spots are closer to the spot's image than its own profile; 0 is best. Of profiles at
        the same distance, half count as closer.
    `adata.uns['{key}_alignment']` : `dict`
        ``pair_distance``: mean over spots. ``other_distance``: mean distance between all images and the expression of
        *other* spots. ``recall``: a dict from each k of `recall_at` (as text) to the share of spots whose own profile
        is among the k nearest to their image. ``recall_by_chance``: the same for profiles drawn at random.
        ``median_rank``: median over spots. ``n_spots``. ``in_sample``: whether `adata` holds the model itself, so that
        the model was trained on these spots. ``params``.

    Raises
    ------
    KeyError
        No embedding of images or of expression.
    ValueError
        Fewer than 5 spots; embeddings of different shapes, or with NaN, as after a concat; a view.

    Notes
    -----
    Recall is over all spots of `adata`. It goes from image to expression, as imputation does. A k as large as the
    number of spots says nothing and is left out. Neighbouring spots have nearly the same profile, so a low recall at 1
    is no fault. Compare the numbers with those by chance.

    If a space has collapsed to a point, the pair distance is near 0, but so is ``other_distance``. Only the difference
    between the two is informative.

    Examples
    --------
    >>> bl.tl.embed(query, ref)  # doctest: +SKIP
    >>> bl.tl.alignment(query)  # doctest: +SKIP
    >>> query.uns["bleep_alignment"]["recall"]  # doctest: +SKIP
    """
    check_adata(adata, copy=copy)
    check_choice("layout", layout, get_args(Layout))
    seed = check_int("random_state", random_state, minimum=0)
    recall_ks = sorted({check_int("recall_at", k) for k in recall_at})
    if adata.n_obs < _FEWEST_FOR_A_LAYOUT:
        msg = f"`adata` has {adata.n_obs} spots; at least {_FEWEST_FOR_A_LAYOUT} are needed for a layout."
        raise ValueError(msg)
    images, expression = _embeddings(adata, key)
    entry = adata.uns.get(key)
    in_sample = isinstance(entry, dict) and "model" in entry

    distance, rank = _pairs(images, expression)
    n = adata.n_obs
    others = float(1 - (images.sum(axis=0, dtype=float) @ expression.sum(axis=0, dtype=float) / n) / (n - 1))
    others += float((1 - distance).mean(dtype=float) / (n - 1))
    places = _lay_out(np.concatenate([images, expression]), layout, seed)
    recall = {str(k): float((rank < k).mean()) for k in recall_ks if k < n}
    logger.info(
        "Image to own expression: distance %.3f (to that of other spots %.3f)%s%s.",
        distance.mean(),
        others,
        "".join(f", recall@{k} {share:.3f} (by chance {int(k) / n:.3f})" for k, share in recall.items()),
        "; in-sample, the model was trained on these spots" if in_sample else "",
    )
    adata = adata.copy() if copy else adata
    with all_or_nothing(adata):
        adata.obsm[_keys.alignment_coordinates(key, "image")] = places[:n]
        adata.obsm[_keys.alignment_coordinates(key, "expression")] = places[n:]
        adata.obs[_keys.pair_distance(key)] = distance
        adata.obs[_keys.pair_rank(key)] = rank
        adata.uns[_keys.alignment(key)] = {
            "pair_distance": float(distance.mean(dtype=float)),
            "other_distance": others,
            "median_rank": float(np.median(rank)),
            "recall": recall,
            "recall_by_chance": {k: int(k) / n for k in recall},
            "n_spots": n,
            "in_sample": in_sample,
            "params": {"layout": layout, "random_state": seed},
        }
    return adata if copy else None


def _embeddings(adata: AnnData, key: str) -> tuple[np.ndarray, np.ndarray]:
    """The embeddings of images and of expression, each row scaled to length 1."""
    embeddings = []
    for obsm_key in (_keys.image_embedding(key), _keys.expression_embedding(key)):
        path = f"adata.obsm[{obsm_key!r}]"
        check_in(
            "adata.obsm",
            obsm_key,
            adata.obsm.keys(),
            remedy=f"`bleep_sc.tl.embed(adata, ref, key={key!r})` makes both for spots with crops and with all genes "
            "that the model reads, if the model has a space for both (BLEEP).",
        )
        remedy = f"`bleep_sc.tl.embed(adata, ref, key={key!r})` makes it again."
        values = as_numbers(adata.obsm[obsm_key], path=path, remedy=remedy)
        if values.ndim != 2 or not values.shape[1]:
            msg = f"`{path}` must have one row a spot and one or more columns, found {values.shape}. {remedy}"
            raise ValueError(msg)
        without = ~np.isfinite(values).all(axis=1)
        if without.any():
            msg = (
                f"{without.sum()} of {adata.n_obs} spots have no embedding in `{path}`, as after `anndata.concat`: "
                f"run `bleep_sc.tl.embed(adata, ref, key={key!r})`."
            )
            raise ValueError(msg)
        embeddings.append(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))
    if embeddings[0].shape != embeddings[1].shape:
        msg = (
            f"the two embeddings of {key!r} are not of one space: images {embeddings[0].shape}, expression "
            f"{embeddings[1].shape}. Make both with `bleep_sc.tl.embed(adata, ref, key={key!r})`."
        )
        raise ValueError(msg)
    return embeddings[0], embeddings[1]


def _pairs(images: np.ndarray, expression: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each image to its own expression, and how many other profiles are nearer (both (n_obs,))."""
    cosine_to_own = np.empty(len(images), dtype=np.float32)
    rank = np.empty(len(images), dtype=np.int32)
    for start in range(0, len(images), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(images)))
        cosine = images[rows] @ expression.T
        cosine_to_own[rows] = cosine[np.arange(len(rows)), rows]
        nearer = (cosine > cosine_to_own[rows, None]).sum(axis=1)
        # ties count half: were they all in its favour, a space that has fallen together would retrieve perfectly
        equal = (cosine == cosine_to_own[rows, None]).sum(axis=1) - 1
        rank[rows] = nearer + (equal + 1) // 2
    return 1 - cosine_to_own, rank


def _lay_out(points: np.ndarray, layout: Layout, seed: int) -> np.ndarray:
    """Lay points of length 1 out in a plane; between such vectors, Euclidean neighbours are those by cosine."""
    if layout == "tsne":
        with python_random_state_kept():
            from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(points) - 1) / 3)
        # a space that has fallen together has no principal components: sklearn would crash on its NaN
        init = "pca" if np.ptp(points, axis=0).max() > _SAME else "random"
        model: Any = TSNE(init=init, perplexity=perplexity, random_state=seed)
        return np.asarray(model.fit_transform(points), dtype=np.float32)
    import scanpy as sc

    with python_random_state_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # of parts that need Tensorflow
        import umap  # noqa: F401 - which scanpy imports when it is called

    joint = AnnData(points)
    with parallel_numba():
        sc.pp.neighbors(joint, n_neighbors=min(15, len(points) - 1), use_rep="X", random_state=seed)
        sc.tl.umap(joint, random_state=seed)
    return np.asarray(joint.obsm["X_umap"], dtype=np.float32)
