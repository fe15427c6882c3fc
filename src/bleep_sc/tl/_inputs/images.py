"""The images of spots in `obsm`: crops for a network, features of crops, or ready-made features."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc._adata import as_numbers
from bleep_sc._blocks import is_lazy
from bleep_sc._checks import MAX_VALUE, MissingKeyError
from bleep_sc._stats import all_finite, rows_beyond
from bleep_sc.methods.inputs import BY_HAND, CUSTOM, FEATURES, NETWORK, CropScale, InputRecord, Needs, Spots
from bleep_sc.models.device import Compute
from bleep_sc.models.encoders.record import ByHand
from bleep_sc.models.encoders.registry import check_encoder_name, made_by_hand, names_network
from bleep_sc.models.inference import custom_features
from bleep_sc.models.nets.rules import MAX_SIDE
from bleep_sc.models.scheduled import compute_rows
from bleep_sc.models.train.batches import Rows
from bleep_sc.tl._inputs.crop_scale import compare_scales, crop_scale


def choose_images(
    adata: AnnData,
    needs: Needs,
    *,
    image_key: str,
    method: str,
    explicit: bool,
    compute: Compute,
    name: str,
) -> Spots:
    """Read the images that a method learns from: crops or features at a key of `obsm`.

    `explicit` says that the user asked for the encoder: then there must be crops for it to read.
    """
    images = stored_images(adata, image_key, name=name)
    encoder = needs.encoder
    if images.ndim == 2:
        if not needs.source.takes_features:
            msg = (
                f"`adata.obsm[{image_key!r}]` holds ready-made features, but `method={method!r}` reads crops. Name "
                "crops by `image_key`; features can be read by 'bleep', 'regressor', 'ridge' and 'knn'."
            )
            raise ValueError(msg)
        if explicit:
            msg = (
                f"`adata.obsm[{image_key!r}]` holds ready-made features, so there is no image for an `encoder` to "
                "read. Leave `encoder` out, or name crops by `image_key`."
            )
            raise ValueError(msg)
        return Spots(images, FEATURES, image_key)
    if not needs.source.takes_features:
        _check_trained_encoder(encoder, method)
        return Spots(images, NETWORK, encoder or method, crop_scale(adata, image_key, name=name))
    scale = crop_scale(adata, image_key, name=name)
    if names_network(encoder):
        check_encoder_name(encoder)
        return Spots(images, NETWORK, encoder, scale)
    read = _features_by_hand if isinstance(encoder, str) else _features_of_custom
    return read(images, encoder, scale, compute)


def images_as_stored(
    adata: AnnData,
    record: InputRecord,
    image_key: str | None,
    encoder: Callable[..., Any] | None,
    *,
    compute: Compute,
    name: str,
) -> Spots:
    """Read the images that a stored model expects, by the record in its config."""
    kind = record.kind
    _check_encoder_of_stored(record, encoder)
    key = image_key or record.key
    images = stored_images(adata, key, name=name)
    if (images.ndim == 2) == kind.from_crops:
        held_kind, expected_kind = ("features", "crops") if images.ndim == 2 else ("crops", "features")
        msg = (
            f"`{name}.obsm[{key!r}]` holds {held_kind}, but the model was trained on {expected_kind}: name these by "
            "`image_key`."
        )
        raise ValueError(msg)
    if not kind.from_crops:
        spots = Spots(images, kind, record.encoder)
    else:
        assert record.scale is not None  # noqa: S101 - the schema sees to it
        scale = crop_scale(adata, key, name=name)
        compare_scales(record.scale, scale)
        if kind.is_image:
            return Spots(images, kind, record.encoder, scale)
        spots = (
            _features_of_custom(images, encoder, scale, compute)
            if kind.by_user
            else _features_by_hand(images, record.encoder, scale, compute)
        )
    if spots.rows.shape[1] != record.n_features:
        msg = (
            f"the model was trained on {record.n_features} image features ({record.encoder}), found "
            f"{spots.rows.shape[1]}: they come from another encoder."
        )
        raise ValueError(msg)
    return spots


def _check_trained_encoder(encoder: Any, method: str) -> None:
    """Refuse an encoder that a method cannot train along; None is a method with an encoder of its own."""
    if encoder is None:
        return
    if not names_network(encoder):
        msg = (
            f"`method={method!r}` trains a network, so `encoder` must be the name of one, found {encoder!r}. For "
            "features made by hand or by a function of yours there are 'regressor', 'ridge' and 'knn'."
        )
        raise ValueError(msg)
    check_encoder_name(encoder)


def _check_encoder_of_stored(record: InputRecord, encoder: Callable[..., Any] | None) -> None:
    """Refuse an encoder that does not suit a stored model.

    The user must pass one exactly where the model brings none. Features made by hand must be of today's version.
    """
    if record.kind.by_user != (encoder is not None):
        msg = (
            f"the model was trained with an encoder of your own ({record.encoder}), which is not stored with it: "
            "pass the same one as `encoder=`."
            if record.kind.by_user
            else f"the model brings its own image encoder ({record.encoder}): leave `encoder` out."
        )
        raise ValueError(msg)
    if record.kind is not BY_HAND:
        return
    by_hand = made_by_hand(record.encoder)
    feature_set = None if by_hand is None else by_hand.feature_set
    if feature_set is None or record.feature_set not in (None, feature_set):
        msg = (
            f"the model was trained on the colour features {record.feature_set!r} of another version of bleep_sc; "
            f"this one makes {feature_set!r}. Train it anew."
        )
        raise ValueError(msg)


def _features_by_hand(crops: Any, name: str, scale: CropScale, compute: Compute) -> Spots:
    by_hand = made_by_hand(name)
    assert by_hand is not None  # noqa: S101 - the name was checked
    features = compute_rows(partial(_described, by_hand), crops, compute=compute)
    spots = Spots(features, BY_HAND, name, scale, by_hand.feature_set)
    return _checked(spots)


def _described(by_hand: ByHand, crops: Rows, *, compute: Compute) -> np.ndarray:
    return by_hand.features(crops, progress_bar=compute.progress_bar)


def _features_of_custom(crops: Any, encoder: Any, scale: CropScale, compute: Compute) -> Spots:
    if not callable(encoder):
        msg = f"`encoder` must be a name, a torch module or a function of image tensors, found {encoder!r}."
        raise TypeError(msg)
    features = compute_rows(partial(custom_features, encoder), crops, compute=compute)
    name = getattr(encoder, "__qualname__", type(encoder).__qualname__)
    return _checked(Spots(features, CUSTOM, f"custom: {name}", scale))


def _checked(spots: Spots) -> Spots:
    """Refuse features that no model can read."""
    if not all_finite(spots.rows):
        msg = f"the image features ({spots.encoder}) hold NaN or infinite values."
        raise ValueError(msg)
    return spots


def stored_images(adata: AnnData, image_key: str, *, name: str) -> Any:
    """Read crops as uint8 (n_obs, y, x, 3), NumPy or dask, or features as float32 (n_obs, n_features)."""
    path = f"{name}.obsm[{image_key!r}]"
    if image_key not in adata.obsm:
        msg = (
            f"`{path}` does not exist: cut the crops first with `bleep_sc.pp.crops({name}, image)`, or name crops or "
            "ready-made image features of `obsm` by `image_key`."
        )
        raise MissingKeyError(msg)
    images: Any = adata.obsm[image_key]
    if getattr(images, "ndim", 0) == 4:
        square = images.shape[1] == images.shape[2] and 1 <= images.shape[1] <= MAX_SIDE
        if images.dtype != np.uint8 or images.shape[3] != 3 or not square:
            msg = (
                f"`{path}` must be uint8 (n_obs, size, size, 3), RGB; found {images.dtype} {tuple(images.shape)}. Cut "
                f"the crops with `bleep_sc.pp.crops({name}, image)`, which stores them so."
            )
            raise ValueError(msg)
        return images if is_lazy(images) else np.asarray(images)
    remedy = "Crops (n_obs, size, size, 3) or features (n_obs, n_features) are expected, as a dense array."
    features = as_numbers(images, path=path, remedy=remedy)
    if features.ndim != 2 or not features.shape[1]:
        msg = f"`{path}` must be crops (n_obs, size, size, 3) or features (n_obs, n_features); found {features.shape}."
        raise ValueError(msg)
    bad = rows_beyond(features, MAX_VALUE)
    if bad.any():
        msg = (
            f"`{path}` is NaN, infinite or above {MAX_VALUE:.0e} for {bad.sum()} of {len(features)} spots, such as "
            f"{adata.obs_names[bad][0]!r}. Make the features anew, or leave these spots out."
        )
        raise ValueError(msg)
    return features
