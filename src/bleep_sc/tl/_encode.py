from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import check_int, check_key, check_key_added, check_number
from bleep_sc._settings import Precision
from bleep_sc.models.threads import on_allowed_cores

if TYPE_CHECKING:
    from pathlib import Path


@on_allowed_cores()
def encode(
    adata: AnnData,
    *,
    encoder: str | Callable[..., Any] | Sequence[str | Callable[..., Any]],
    key_added: str | None = None,
    view: float | None = None,
    weights: "str | Path | None" = "imagenet",
    image_key: str = _keys.CROPS,
    random_state: int = 0,
    batch_size: int | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    progress_bar: bool | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Compute image features of crops with a frozen encoder, once for all later steps.

    A large network takes minutes for a few thousand crops. Once its features are in `adata`, pass their key as
    `image_key` to :func:`~bleep_sc.tl.fit`, :func:`~bleep_sc.tl.cross_validate` and :func:`~bleep_sc.tl.impute`. These
    functions then need not run the network again. A record beside the features says which encoder made them. So
    `impute` can refuse features of another encoder.

    Parameters
    ----------
    adata
        Spots with crops (:func:`~bleep_sc.pp.crops`), in memory or lazy.
    encoder
        What turns crops into features: ``"color"``, the name of a network, a module or function of your own, or a list
        of several. :func:`~bleep_sc.tl.fit` describes each of them. It gives each encoder of a list a model of its own,
        and averages their predictions.
    key_added
        Key in `adata.obsm` of the features. ``None`` makes one of the encoder's name, such as ``"X_resnet50"``.
    view
        The part of each crop that a network sees, around the crop's centre. A value above 1 is a width in µm; a value
        up to 1 is a share of the crop's width. ``None`` takes 1.5 spot diameters, where the record of the crops holds
        the diameter. For bins and cells it takes at least 82.5 µm, which is 1.5 Visium spots. Without a diameter it
        takes the whole crop. Your own encoder gets the whole crop, or the `view` that you set.
    weights
        The weights of a network that `encoder` names: ``"imagenet"``, the path of a file of tensors, or ``None`` for
        random ones.
    image_key
        Key of the crops in `adata.obsm`.
    random_state
        Seed of random weights.
    batch_size
        Number of crops that are read at a time; 256 by default.
    device, precision, progress_bar
        Override the values of the same names in :attr:`bleep_sc.settings` for this call.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `adata.obsm['X_{encoder}' | key_added]` : :class:`numpy.ndarray` (float32, (n_obs, n_features))
        Features of all encoders, side by side.
    `adata.uns['X_{encoder}' | key_added]` : `dict`
        ``config``, JSON. For each encoder it holds the name, the number of features, the hash of the weights, and how
        crops were read. It also holds the width of the crops in pixels, µm and spot diameters.

    Raises
    ------
    KeyError
        No crops.
    ValueError
        - An unknown encoder, or one that is named twice.
        - Features instead of crops.
        - A `view` that is wider than the crops, or that no encoder reads.
        - Features with NaN.
        - A `key_added` that is already used for something other than features, such as crops or a model.
    ImportError
        The encoder needs a package that is not installed. The message names it.
    RuntimeError
        ImageNet weights could not be downloaded.

    Examples
    --------
    >>> import bleep_sc as bl
    >>> adata = bl.datasets.toy(n_patients=1, n_sections=1, n_spots=30, progress_bar=False)
    >>> bl.tl.encode(adata, encoder="color", progress_bar=False)
    >>> adata.obsm["X_color"].shape[1]
    164
    >>> bl.tl.fit(adata, image_key="X_color", progress_bar=False)  # doctest: +SKIP
    """
    check_adata(adata, copy=copy)
    check_key("image_key", image_key)
    seed = check_int("random_state", random_state, minimum=0)
    if view is not None:
        check_number("view", view, above=0)
    if key_added is not None:
        check_key_added("key_added", key_added)

    from bleep_sc.io._features import FeatureRecord
    from bleep_sc.models.device import resolve_compute
    from bleep_sc.tl._inputs.crop_scale import crop_scale
    from bleep_sc.tl._inputs.encoders import Encoding, encoder_list, key_of_encoders
    from bleep_sc.tl._inputs.encoders import encode as features_of
    from bleep_sc.tl._inputs.images import stored_images

    encoders = encoder_list(encoder)
    compute = resolve_compute(device=device, precision=precision, batch_size=batch_size, progress_bar=progress_bar)
    crops = stored_images(adata, image_key, name="adata")
    if key_added is not None:
        _check_free(adata, key_added, image_key=image_key)
    if crops.ndim != 4:
        msg = f"`adata.obsm[{image_key!r}]` holds features already, so there is no image to read. Name crops."
        raise ValueError(msg)
    scale = crop_scale(adata, image_key, name="adata")
    spots = features_of(crops, encoders, scale, Encoding(view, weights, seed), compute=compute)
    key = key_of_encoders(spots.encoders) if key_added is None else key_added
    _check_free(adata, key, image_key=image_key)
    record = FeatureRecord(spots.encoders, scale)
    adata = adata.copy() if copy else adata
    with all_or_nothing(adata):
        adata.obsm[key] = spots.rows
        adata.uns[key] = record.to_uns()
    return adata if copy else None


def _check_free(adata: AnnData, key: str, *, image_key: str) -> None:
    """Refuse a key under which something else than features is kept, which they would replace."""
    from bleep_sc.tl._load import has_model

    models = [name for name in adata.uns if has_model(adata, name)]
    places = {
        of(name) for name in models for of in (_keys.image_embedding, _keys.expression_embedding, _keys.components)
    }
    entry, found = adata.uns.get(key), None
    if key == image_key or getattr(adata.obsm.get(key), "ndim", 2) == 4:
        found = "the picture of each spot"
    elif key in models:
        found = "a model"
    elif key in places:
        found = "each spot's place in the space of a model"
    elif entry is not None and not (isinstance(entry, Mapping) and "config" in entry):
        found = f"something else, in `adata.uns[{key!r}]`,"
    if found is not None:
        msg = f"`key_added={key!r}`: {found} is kept under that name. Choose another, such as 'X_features'."
        raise ValueError(msg)
