"""The images of spots in `obsm`: crops for a network, features of crops, or ready-made features."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from anndata import AnnData
from torch import nn

from bleep_sc._adata import as_numbers
from bleep_sc._blocks import is_lazy
from bleep_sc._checks import MAX_VALUE, MissingKeyError
from bleep_sc._logging import logger, warn
from bleep_sc._stats import rows_beyond
from bleep_sc.io._features import FeatureRecord, features_from_uns
from bleep_sc.methods.inputs import BY_HAND, FEATURES, NETWORK, EncoderRecord, InputRecord, Needs, Spots
from bleep_sc.models.device import Compute
from bleep_sc.models.encoders.registry import check_encoder_name, made_by_hand, names_network
from bleep_sc.models.nets.rules import MAX_SIDE
from bleep_sc.tl._inputs.crop_scale import compare_scales, compare_tiles, crop_scale
from bleep_sc.tl._inputs.encoders import Encoding, check_same_encoders, encode, encode_as_stored, encoder_list

_READERS = "`bleep_sc.io.from_wsidata` or `bleep_sc.io.from_patches`"


def choose_images(
    adata: AnnData,
    needs: Needs,
    *,
    image_key: str,
    method: str,
    explicit: bool,
    encoding: Encoding,
    compute: Compute,
    name: str,
) -> Spots:
    """Read the images that a method learns from: crops or features at a key of `obsm`.

    `explicit` says that the user asked for the encoder: then there must be crops for it to read.
    """
    images = stored_images(adata, image_key, name=name)
    encoder = needs.encoder
    if images.ndim == 2:
        return _ready_made(adata, images, needs, image_key=image_key, method=method, explicit=explicit, name=name)
    if isinstance(encoder, tuple) and not needs.source.frozen:
        msg = (
            f"`encoder={list(encoder)!r}`: `method={method!r}` reads one encoder with these arguments. BLEEP's default "
            "recipe fuses several: leave `method` and `preset` out, or name a single encoder."
        )
        raise ValueError(msg)
    scale = crop_scale(adata, image_key, name=name)
    if needs.source.frozen:
        return encode(images, encoder_list(encoder), scale, replace(encoding, view=needs.view), compute=compute)
    if not needs.source.takes_features:
        _check_trained_encoder(encoder, method)
        return Spots(images, NETWORK, encoder or method, scale)
    if names_network(encoder):
        check_encoder_name(encoder)
        return Spots(images, NETWORK, encoder, scale)
    return encode(images, (encoder,), scale, encoding, compute=compute)


def _ready_made(
    adata: AnnData, features: Any, needs: Needs, *, image_key: str, method: str, explicit: bool, name: str
) -> Spots:
    """Take features that were made before, with the record of what made them where `tl.encode` left one."""
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
    if needs.view is not None:
        msg = (
            f"`view={needs.view:g}`: `adata.obsm[{image_key!r}]` holds ready-made features, so no crop is read. Leave "
            "`view` out, or pass it to `bleep_sc.tl.encode`, which makes features."
        )
        raise ValueError(msg)
    record = features_from_uns(adata.uns, image_key, name=name)
    n_encoders = 1 if record is None else len(record.encoders)
    if isinstance(needs.encoder, tuple) and n_encoders < 2:
        names = list(needs.encoder)
        msg = (
            f"several encoders are to be fused, {names!r}, but `adata.obsm[{image_key!r}]` holds the features of one. "
            f"Name crops by `image_key`, or make features: `bleep_sc.tl.encode(adata, encoder={names!r}, "
            "key_added='X_fused')`, then `image_key='X_fused'`."
        )
        raise ValueError(msg)
    if record is None:
        logger.info(
            "`%s.uns[%r]` does not say what made these features, so they are taken for those of one encoder. If they "
            "are of `bleep_sc.tl.encode`: `anndata.concat` keeps the record with `uns_merge='unique'`.",
            name,
            image_key,
        )
        return Spots(features, FEATURES, image_key)
    _check_widths(features, record, path=f"{name}.obsm[{image_key!r}]")
    return Spots(features, FEATURES, image_key, record.scale, encoders=record.encoders)


def _check_widths(features: Any, record: FeatureRecord, *, path: str) -> None:
    width = sum(encoder.n_features for encoder in record.encoders)
    if features.shape[1] != width:
        msg = (
            f"`{path}` has {features.shape[1]} columns, and its record says {width}: it was changed since the record "
            "was written. Make it again, or delete the record if you know what the columns are."
        )
        raise ValueError(msg)


def images_as_stored(
    adata: AnnData,
    record: InputRecord,
    image_key: str | None,
    encoder: Any,
    networks: Sequence[nn.Module | None],
    *,
    compute: Compute,
    name: str,
) -> Spots:
    """Read the images that a stored model expects, by the record in its config.

    `encoder` is the user's own, or several where the model reads several, and `networks` are those that the model
    brings.
    """
    kind, key = record.kind, image_key or record.key
    if record.elsewhere:
        _check_holds_features(adata, key, record, name=name)
    images = stored_images(adata, key, name=name)
    features = features_from_uns(adata.uns, key, name=name) if images.ndim == 2 else None
    reads_features = not kind.from_crops or (features is not None and bool(record.encoders))
    own = () if encoder is None else tuple(encoder) if isinstance(encoder, list | tuple) else (encoder,)
    _check_encoder_of_stored(record, own, needed=images.ndim == 4)
    if (images.ndim == 2) != reads_features:
        held_kind, expected_kind = ("features", "crops") if images.ndim == 2 else ("crops", "features")
        msg = (
            f"`{name}.obsm[{key!r}]` holds {held_kind}, but the model was trained on {expected_kind}: name these by "
            f"`image_key`{_how_to_encode(record, name)}."
        )
        raise ValueError(msg)
    if reads_features:
        spots = _features_as_stored(images, features, record, path=f"{name}.obsm[{key!r}]", name=name)
    else:
        assert record.scale is not None  # noqa: S101 - the schema sees to it
        scale = crop_scale(adata, key, name=name)
        compare_scales(record.scale, scale)
        if kind.is_image:
            return Spots(images, kind, record.encoder, scale)
        known = record if record.encoders else replace(record, encoders=(_encoder_of(record),))
        spots = encode_as_stored(images, known, networks or (None,) * len(known.encoders), own, scale, compute=compute)
    if spots.rows.shape[1] != record.n_features:
        msg = (
            f"the model was trained on {record.n_features} image features ({record.encoder}), found "
            f"{spots.rows.shape[1]}: they come from another encoder."
        )
        raise ValueError(msg)
    return spots


def _check_holds_features(adata: AnnData, key: str, record: InputRecord, *, name: str) -> None:
    """Refuse an object without the features of another program that a model reads, and say which it holds instead."""
    if key in adata.obsm:
        return
    others = [held for held in adata.obsm if features_from_uns(adata.uns, held, name=name) is not None]
    of = ", ".join(repr(encoder.name) for encoder in record.encoders)
    msg = (
        f"`{name}.obsm[{key!r}]` does not exist, and the model reads these features, of {of}. "
        + (f"There are those of other encoders: {', '.join(map(repr, others))}. " if others else "")
        + f"Read the slide's features of {of} by {_READERS}, or name them by `image_key`."
    )
    raise MissingKeyError(msg)


def _features_as_stored(
    features: Any, found: FeatureRecord | None, record: InputRecord, *, path: str, name: str
) -> Spots:
    """Take ready-made features; refuse those of other encoders, or of crops of another width of tissue."""
    if not record.encoders:
        return Spots(features, record.kind, record.encoder)
    if found is None:
        recorder = _READERS if record.elsewhere else f"`bleep_sc.tl.encode({name}, ...)`"
        warn(
            f"`{path}` does not say what made these features, and the model reads those of {record.encoder!r}: nobody "
            f"can check that they are the same. {recorder} records it."
        )
    else:
        _check_widths(features, found, path=path)
        check_same_encoders(found.encoders, record.encoders, path=path, name=name)
        if record.scale is not None and record.elsewhere:
            compare_tiles(record.scale, found.scale, path=path)
        elif record.scale is not None:
            compare_scales(record.scale, found.scale)
    return Spots(features, record.kind, record.encoder, record.scale, record.feature_set, encoders=record.encoders)


def _how_to_encode(record: InputRecord, name: str) -> str:
    """Say how the features of a model that reads ready-made ones are made; empty where nobody knows."""
    if record.kind.from_crops or not record.encoders:
        return ""
    if record.elsewhere:
        return f", such as {record.key!r} that {_READERS} makes of another program's"
    names = [
        f"<your {encoder.name.removeprefix('custom: ')}>" if encoder.kind.by_user else repr(encoder.name)
        for encoder in record.encoders
    ]
    encoder = names[0] if len(names) == 1 else f"[{', '.join(names)}]"
    return f", or make them with `bleep_sc.tl.encode({name}, encoder={encoder}, key_added={record.key!r})`"


def _encoder_of(record: InputRecord) -> EncoderRecord:
    """Make the record of the only encoder of a model that an earlier version stored."""
    assert record.n_features is not None  # noqa: S101 - the schema sees to it
    return EncoderRecord(record.encoder, record.kind, record.n_features, record.feature_set)


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


def _check_encoder_of_stored(record: InputRecord, own: Sequence[Any], *, needed: bool) -> None:
    """Refuse encoders that do not suit a stored model.

    The user must pass one exactly where the model brings none, if there are crops to read. Features made by hand must
    be of today's version.
    """
    of_user = record.of_user
    n_needed = len(of_user) if needed and record.kind.from_crops else 0
    if len(own) != n_needed:
        if not record.kind.from_crops:
            msg = (
                f"the model reads ready-made features ({record.encoder}), so there is no image for an `encoder` to "
                "read: leave `encoder` out, and make the features with `bleep_sc.tl.encode`."
            )
            raise ValueError(msg)
        msg = (
            f"the model was trained with an encoder of your own ({', '.join(of_user)}), which is not stored with it: "
            "pass the same one as `encoder=`"
            + (f", and no other: {len(own)} were found." if len(own) > n_needed else ".")
            if n_needed
            else f"the model brings its own image encoder ({record.encoder}): leave `encoder` out."
        )
        raise ValueError(msg)
    for encoder in own:
        if not callable(encoder):
            msg = f"`encoder` must be the torch module or the function of {', '.join(of_user)}, found {encoder!r}."
            raise TypeError(msg)
    if not record.kind.from_crops:
        return
    known = record.encoders or ((_encoder_of(record),) if record.kind is BY_HAND else ())
    for made in known:
        if made.kind is not BY_HAND:
            continue
        by_hand = made_by_hand(made.name)
        feature_set = None if by_hand is None else by_hand.feature_set
        read = made.feature_set if record.feature_set in (None, feature_set) else record.feature_set
        if feature_set is None or read not in (None, feature_set):
            msg = (
                f"the model was trained on the colour features {read!r} of another version of bleep_sc; this one makes "
                f"{feature_set!r}. Train it again."
            )
            raise ValueError(msg)


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
            f"{adata.obs_names[bad][0]!r}. Make the features again, or leave these spots out."
        )
        raise ValueError(msg)
    return features
