"""Features of crops by frozen encoders, alone or several side by side, and what tells them from those of others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bleep_sc import _keys
from bleep_sc._logging import logger, warn
from bleep_sc._stats import all_finite
from bleep_sc.methods.inputs import BY_HAND, CUSTOM, FROZEN, NETWORK, CropScale, EncoderRecord, InputRecord, Spots
from bleep_sc.models.device import Compute
from bleep_sc.models.encoders.frozen import FrozenEncoder, Reading, build_frozen, reading_of, weights_digest
from bleep_sc.models.encoders.record import ByHand
from bleep_sc.models.encoders.registry import check_encoder_name, encoder_named, made_by_hand, names_network
from bleep_sc.models.inference import custom_features, embed_in_batches
from bleep_sc.models.scheduled import compute_rows
from bleep_sc.models.train.batches import Rows
from bleep_sc.models.train.randomness import borrowed_random_state
from bleep_sc.tl._inputs.units import said_of_all_folds

_USUAL_VIEW = 1.5
"""Width in spot diameters of what a network reads: the spot, and a rim around it."""
_LEAST_VIEW_UM = 82.5
"""It is no narrower than that of Visium's spots of 55 µm: by a bin of 8 µm or a cell, a network would see a few pixels
of one nucleus."""
_FEWEST_PIXELS = 0.5
"""Share of a network's own input size; with fewer pixels of the crop, it sees mostly what resampling made up."""


@dataclass(frozen=True)
class Encoding:
    """The way in which crops are turned into features."""

    view: float | None = None
    """The part of a crop that networks read: a share of its width, or µm above 1; None is the usual."""
    weights: str | Path | None = "imagenet"
    """First weights of networks: a name or a file; None: random ones."""
    seed: int = 0
    """Seed of random weights."""


def one_or_several(encoder: Any) -> Any:
    """Return an encoder as it is, and a list of several as a tuple; refuse one that is empty or nested."""
    if not isinstance(encoder, list | tuple):
        return encoder
    if not encoder:
        msg = "`encoder` is an empty list: name one or more encoders, or leave it out."
        raise ValueError(msg)
    for one in encoder:
        if one is None or isinstance(one, list | tuple):
            msg = f"`encoder` must be a flat list of names, torch modules and functions; it holds {one!r}."
            raise TypeError(msg)
    return tuple(encoder) if len(encoder) > 1 else encoder[0]


def encoder_list(encoder: Any) -> tuple[Any, ...]:
    """List the encoders that a user names, one or several."""
    named = one_or_several(encoder)
    return named if isinstance(named, tuple) else (named,)


def key_of_encoders(encoders: Sequence[EncoderRecord]) -> str:
    """Make a key of `obsm` of the names of encoders, such as ``X_resnet50``."""
    names = (encoder.name.removeprefix("custom: ") for encoder in encoders)
    return _keys.features(names)


def check_encoders(encoders: Sequence[Any], how: Encoding) -> None:
    """Refuse what is no encoder, one that is named twice, a view that none reads, and weights that fit not all."""
    for encoder in encoders:
        if names_network(encoder):
            check_encoder_name(encoder)
        elif not isinstance(encoder, str) and not callable(encoder):
            msg = f"`encoder` must be a name, a torch module or a function of image tensors, found {encoder!r}."
            raise TypeError(msg)
    if how.view is not None and all(isinstance(encoder, str) and made_by_hand(encoder) for encoder in encoders):
        msg = (
            f"`view={how.view:g}`: {encoders[0]!r} always reads the whole crop. Leave `view` out, or cut narrower "
            "crops with `bleep_sc.pp.crops(..., um=...)`."
        )
        raise ValueError(msg)
    networks = [encoder for encoder in encoders if names_network(encoder)]
    if not networks and how.weights not in (None, "imagenet"):
        msg = f"`weights={str(how.weights)!r}` is the file of a network, but `encoder` names none. Leave `weights` out."
        raise ValueError(msg)
    if len(networks) > 1 and how.weights not in (None, "imagenet"):
        msg = (
            f"`weights={str(how.weights)!r}` is the file of one network, but `encoder` names {len(networks)}: "
            f"{', '.join(map(repr, networks))}. Make the features of each with `bleep_sc.tl.encode`, or pass modules."
        )
        raise ValueError(msg)
    for number, encoder in enumerate(encoders):
        if any(encoder is other or (isinstance(encoder, str) and encoder == other) for other in encoders[:number]):
            msg = f"`encoder` holds {encoder!r} twice. Leave one of them out."
            raise ValueError(msg)


def encode(crops: Any, encoders: Sequence[Any], scale: CropScale, how: Encoding, *, compute: Compute) -> Spots:
    """Compute the features of all encoders, side by side."""
    check_encoders(encoders, how)
    made = [_read_anew(encoder, crops, scale, how) for encoder in encoders]  # all are built before the first works
    return _computed(crops, [record for record, _ in made], [module for _, module in made], scale, compute=compute)


def encode_as_stored(
    crops: Any,
    record: InputRecord,
    networks: Sequence[nn.Module | None],
    own: Sequence[Callable[..., Any]],
    scale: CropScale,
    *,
    compute: Compute,
) -> Spots:
    """Compute the features that a stored model reads, with the networks that it brings and encoders of the user's."""
    remaining = iter(own)
    modules = []
    for encoder, network in zip(record.encoders, networks, strict=True):
        modules.append(next(remaining) if encoder.kind.by_user else network)
        if encoder.kind.by_user:
            _check_own(modules[-1], encoder)
    return _computed(crops, record.encoders, modules, scale, compute=compute)


def check_same_encoders(
    found: Sequence[EncoderRecord], expected: Sequence[EncoderRecord], *, path: str, name: str
) -> None:
    """Refuse features of other encoders than those that a model reads."""
    for own, other in zip(found, expected, strict=False):
        if own != other:
            remedy = (
                "Make the features with the program and the encoder that made the reference's; if they are, and it is "
                "only named otherwise here, pass its name as `encoder=` to the function of `bleep_sc.io` that read it"
                if other.elsewhere
                else f"Make the features as for the reference, with `bleep_sc.tl.encode({name}, ...)`"
            )
            msg = (
                f"`{path}` was made by {own.name!r}, and the model reads {other.name!r}{_differences(own, other)}. "
                f"{remedy}."
            )
            raise ValueError(msg)
    if len(found) != len(expected):
        msg = (
            f"`{path}` was made by {len(found)} encoders, and the model reads {len(expected)}: "
            f"{', '.join(repr(encoder.name) for encoder in expected)}. Make the features as for the reference, with "
            f"`bleep_sc.tl.encode({name}, ...)`."
        )
        raise ValueError(msg)


def _differences(own: EncoderRecord, other: EncoderRecord) -> str:
    """Say in what two encoders of one name differ; empty where the names tell them apart."""
    if own.name != other.name:
        return ""
    parts: dict[str, tuple[Any, Any]] = {
        "made": (_maker(own), _maker(other)),
        "weights": (_short_hash(own), _short_hash(other)),
        "pixels of a crop": (_pixels(own), _pixels(other)),
        "features": (own.n_features, other.n_features),
        "version of the features": (own.feature_set, other.feature_set),
    }
    differ = [f"{part} {found}, not {expected}" for part, (found, expected) in parts.items() if found != expected]
    return f": {'; '.join(differ) or f'it reads a crop as {own.reading}, not {other.reading}'}"


def _maker(record: EncoderRecord) -> str:
    return "by another program" if record.elsewhere else "by `bleep_sc.tl.encode`"


def _short_hash(record: EncoderRecord) -> str:
    return "that nobody knows" if record.weights is None else f"of hash {record.weights[:8]}"


def _pixels(record: EncoderRecord) -> int | str:
    return "all" if record.reading is None else record.reading.view_px


def _check_own(module: Any, record: EncoderRecord) -> None:
    """Refuse a module of the user's whose weights are not those that the model was trained with."""
    if record.weights is None:
        return
    if not isinstance(module, nn.Module):
        warn(
            f"`encoder` is no torch module, and the model was trained with one, {record.name!r}: nobody can check that "
            "its weights are the same. Pass the module itself."
        )
    elif weights_digest(module) != record.weights:
        msg = (
            f"`encoder` has other weights than the {record.name!r} that the model was trained with. Pass the same "
            "module, or train the model again."
        )
        raise ValueError(msg)


def view_pixels(view: float | None, scale: CropScale) -> int:
    """Compute the side, in a crop's pixels, of the centre that a network reads; centred on whole pixels."""
    size = _pixels_of_crop(scale)
    pixels = min(size, max(1, round(_share(view, scale) * size)))
    return min(size, pixels + (size - pixels) % 2)


def _pixels_of_crop(scale: CropScale) -> int:
    assert scale.size is not None  # noqa: S101 - there are crops to read
    return scale.size


def _share(view: float | None, scale: CropScale) -> float:
    if view is None:
        least = 0.0 if scale.size_um is None else _LEAST_VIEW_UM / scale.size_um
        return 1.0 if scale.spot_diameters is None else min(1.0, max(least, _USUAL_VIEW / scale.spot_diameters))
    if view <= 1:
        return view
    if scale.size_um is None:
        msg = (
            f"`view={view:g}` is a width in µm, but nobody knows how many µm a crop is wide. Cut the crops by `um=` "
            "(`bleep_sc.pp.crops`), or give a share of the crop's width, such as `view=0.5`."
        )
        raise ValueError(msg)
    if view > scale.size_um * (1 + 1e-6):
        msg = (
            f"`view={view:g}` µm is more than a crop shows, {scale.size_um:g} µm. Cut wider crops "
            f"(`bleep_sc.pp.crops(..., um={view:g})`), or take a smaller `view`."
        )
        raise ValueError(msg)
    return view / scale.size_um


def _read_anew(encoder: Any, crops: Any, scale: CropScale, how: Encoding) -> tuple[EncoderRecord, Any]:
    """Make the record of an encoder, and the encoder itself; the number of its features is not known yet."""
    if not isinstance(encoder, str):
        name = getattr(encoder, "__qualname__", type(encoder).__qualname__)
        digest = weights_digest(encoder) if isinstance(encoder, nn.Module) else None
        side = None if how.view is None else view_pixels(how.view, scale)
        reading = None if side is None else Reading(side, side, stages=None, symmetries=1)
        return EncoderRecord(f"custom: {name}", CUSTOM, 0, weights=digest, reading=reading), encoder
    if (by_hand := made_by_hand(encoder)) is not None:
        return EncoderRecord(encoder, BY_HAND, 0, by_hand.feature_set), None
    reading = reading_of(encoder_named(encoder), view_px=view_pixels(how.view, scale))
    with borrowed_random_state():
        torch.manual_seed(how.seed)  # of random weights
        network = build_frozen(encoder, reading, weights=how.weights)
    warn_of_few_pixels(encoder, reading, scale)
    return EncoderRecord(encoder, NETWORK, network.n_features, None, weights_digest(network), reading), network


def warn_of_few_pixels(encoder: str, reading: Reading, scale: CropScale) -> None:
    """Say how a network reads the crops, and warn where it sees mostly what resampling made up."""
    side = _pixels_of_crop(scale)
    logger.info(
        "%s reads the centre of each crop, %d of %d px%s, as %d px.",
        encoder,
        reading.view_px,
        side,
        "" if scale.size_um is None else f" ({reading.view_px / side * scale.size_um:.4g} µm)",
        reading.input_px,
    )
    if reading.view_px < _FEWEST_PIXELS * reading.input_px and not said_of_all_folds():
        size = int(np.ceil(side * reading.input_px / reading.view_px))
        warn(
            f"`encoder={encoder!r}` reads {reading.view_px} of a crop's {side} px, blown up to the "
            f"{reading.input_px} px that it was made for. If the image has more detail, cut larger crops: "
            f"`bleep_sc.pp.crops(..., size={size})`, with the same `um`."
        )


def _computed(
    crops: Any, encoders: Sequence[EncoderRecord], modules: Sequence[Any], scale: CropScale, *, compute: Compute
) -> Spots:
    features = [_features(crops, record, module, compute) for record, module in zip(encoders, modules, strict=True)]
    records = tuple(
        replace(record, n_features=int(own.shape[1])) for record, own in zip(encoders, features, strict=True)
    )
    networks = tuple(module if isinstance(module, FrozenEncoder) else None for module in modules)
    only = records[0]
    if len(records) == 1 and not only.kind.is_image:
        return Spots(features[0], only.kind, only.name, scale, only.feature_set, encoders=records)
    name = " + ".join(record.name for record in records)
    return Spots(np.hstack(features), FROZEN, name, scale, encoders=records, networks=networks)


def _features(crops: Any, record: EncoderRecord, module: Any, compute: Compute) -> np.ndarray:
    if record.kind is BY_HAND:
        by_hand = made_by_hand(record.name)
        assert by_hand is not None  # noqa: S101 - the name was checked
        features = compute_rows(partial(_by_hand, by_hand), crops, compute=compute)
    elif record.kind.by_user:
        view_px = None if record.reading is None else record.reading.view_px
        features = compute_rows(partial(custom_features, module, view_px=view_px), crops, compute=compute)
    else:
        features = compute_rows(partial(_by_network, module), crops, compute=compute)
    if not all_finite(features):
        msg = f"the image features ({record.name}) hold NaN or infinite values."
        raise ValueError(msg)
    return features


def _by_hand(by_hand: ByHand, crops: Rows, *, compute: Compute) -> np.ndarray:
    return by_hand.features(crops, progress_bar=compute.progress_bar)


def _by_network(network: nn.Module, crops: Rows, *, compute: Compute) -> np.ndarray:
    network.to(compute.device)
    return embed_in_batches(network, crops, compute=compute, desc="Image features")
