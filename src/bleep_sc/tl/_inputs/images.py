"""From AnnData to what a model reads of each spot: a crop, image features, its place, its counts, or nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import as_numbers, recorded_library_key, section_of_spots
from bleep_sc._blocks import is_lazy
from bleep_sc._checks import MAX_VALUE, check_in
from bleep_sc._errors import MissingKeyError
from bleep_sc._expression import expression_values, log_depth
from bleep_sc._stats import all_finite, rows_beyond
from bleep_sc.io._schema import MAX_SIDE
from bleep_sc.io._stored import StoredModel
from bleep_sc.methods.recipes import COLOR, Recipe
from bleep_sc.models.device import Compute
from bleep_sc.models.encoders.color import FEATURE_SET, color_features
from bleep_sc.models.encoders.networks import check_encoder_name
from bleep_sc.models.inference import custom_features
from bleep_sc.models.train.batches import Rows
from bleep_sc.tl._inputs.crop_scale import CropScale, compare_scales, crop_scale
from bleep_sc.tl._inputs.per_spot import per_spot
from bleep_sc.tl._inputs.places import place_features


@dataclass(frozen=True)
class SpotInput:
    """What a model reads of each spot, and the record of where it came from."""

    rows: Rows
    """uint8 (n_obs, y, x, 3) for a network, else float32 (n_obs, n_features)."""
    kind: str
    """``"network"``, ``"color"``, ``"custom"``, ``"features"``, ``"place"``, ``"counts"`` or ``"nothing"``."""
    encoder: str
    """Name of the network, or a description."""
    scale: CropScale | None = None

    def record(self, image_key: str) -> dict[str, Any]:
        """Plain types for a config."""
        return {
            "key": image_key,
            "kind": self.kind,
            "encoder": self.encoder,
            "feature_set": FEATURE_SET if self.kind == COLOR else None,
            "n_features": None if self.kind == "network" else int(self.rows.shape[1]),
            "scale": None if self.scale is None else self.scale.to_json(),
        }


def spot_input(
    adata: AnnData,
    *,
    method: str,
    reads: str,
    image_key: str,
    recipe: Recipe,
    sections: np.ndarray | None,
    explicit: bool,
    compute: Compute,
) -> SpotInput:
    """Gather what a method learns from; `explicit` says that the user asked for this encoder."""
    match reads:
        case "places":
            return place_input(adata, sections)
        case "counts":
            return depth_input(adata)
        case "nothing":
            return no_input(adata)
        case "crops":
            return crop_input(adata, image_key, method, getattr(recipe, "encoder", None))
        case _:
            return image_input(adata, image_key, getattr(recipe, "encoder", None), explicit=explicit, compute=compute)


def image_input(
    adata: AnnData, image_key: str, encoder: str | Callable[..., Any] | None, *, explicit: bool, compute: Compute
) -> SpotInput:
    """Crops for a network, features of crops, or ready-made features."""
    images = _stored_images(adata, image_key, name="adata")
    if images.ndim == 2:
        if explicit:
            msg = (
                f"`adata.obsm[{image_key!r}]` holds ready-made features, so there is no image for an `encoder` to "
                "read. Leave `encoder` out, or name crops by `image_key`."
            )
            raise ValueError(msg)
        return SpotInput(images, "features", image_key)
    scale = crop_scale(adata, image_key, name="adata")
    if isinstance(encoder, str) and encoder != COLOR:
        check_encoder_name(encoder)
        return SpotInput(images, "network", encoder, scale)
    kind = COLOR if isinstance(encoder, str) else "custom"
    return _features_of_crops(images, kind, encoder, scale, compute)


def crop_input(adata: AnnData, image_key: str, method: str, encoder: Any) -> SpotInput:
    """Crops for a method that reads nothing else; `encoder` is None where it has an encoder of its own."""
    images = _stored_images(adata, image_key, name="adata")
    if images.ndim == 2:
        msg = (
            f"`adata.obsm[{image_key!r}]` holds ready-made features, but `method={method!r}` reads crops. Name crops "
            "by `image_key`; features can be read by 'bleep', 'regressor', 'ridge' and 'knn'."
        )
        raise ValueError(msg)
    if encoder is not None:
        if not isinstance(encoder, str) or encoder == COLOR:
            msg = (
                f"`method={method!r}` trains a network, so `encoder` must be the name of one, found {encoder!r}. For "
                "features made by hand or by a function of yours there are 'regressor', 'ridge' and 'knn'."
            )
            raise ValueError(msg)
        check_encoder_name(encoder)
    return SpotInput(
        images, "network", method if encoder is None else encoder, crop_scale(adata, image_key, name="adata")
    )


def place_input(adata: AnnData, sections: np.ndarray | None, *, name: str = "adata") -> SpotInput:
    """A polynomial of the place of each spot in its section."""
    return SpotInput(place_features(adata, sections, name=name), "place", "place in the section")


def depth_input(adata: AnnData, *, name: str = "adata") -> SpotInput:
    """The logarithm of each spot's total counts: it must have been measured."""
    check_in(
        f"{name}.layers",
        _keys.COUNTS,
        adata.layers.keys(),
        remedy="`method='counts'` predicts from the total counts of the very spots that it predicts: a yardstick for "
        "how much of a score is sequencing depth, not a method for slides without counts.",
    )
    depth = log_depth(expression_values(adata, _keys.COUNTS, name=name))
    return SpotInput(depth.astype(np.float32)[:, None], "counts", "total counts")


def no_input(adata: AnnData) -> SpotInput:
    """No features at all."""
    return SpotInput(np.empty((adata.n_obs, 0), dtype=np.float32), "nothing", "nothing")


def sections_like(adata: AnnData, stored: StoredModel, image_key: str | None, *, name: str) -> np.ndarray | None:
    """Section of each spot, by the column that the model was trained with where it is there.

    Another column may lump sections together.
    """
    library_key = stored.config.get("library_key")
    if library_key not in adata.obs:
        crops_key = image_key or str(stored.config["image"]["key"])
        library_key = recorded_library_key(adata, crops_key) or recorded_library_key(adata)
    return section_of_spots(adata, library_key, name=name)


def input_like(
    adata: AnnData,
    image_key: str | None,
    record: Mapping[str, Any],
    encoder: Callable[..., Any] | None,
    *,
    sections: np.ndarray | None,
    compute: Compute,
    name: str,
) -> SpotInput:
    """Gather what a stored model expects, from what its config recorded."""
    match record["kind"]:
        case "place":
            return place_input(adata, sections, name=name)
        case "counts":
            return depth_input(adata, name=name)
        case "nothing":
            return no_input(adata)
        case _:
            return _images_like(adata, image_key, record, encoder, compute=compute, name=name)


def _images_like(
    adata: AnnData,
    image_key: str | None,
    record: Mapping[str, Any],
    encoder: Callable[..., Any] | None,
    *,
    compute: Compute,
    name: str,
) -> SpotInput:
    kind = record["kind"]
    if (kind == "custom") != (encoder is not None):
        msg = (
            f"the model was trained with an encoder of your own ({record['encoder']}), which is not stored with it: "
            "pass the same one as `encoder=`."
            if kind == "custom"
            else f"the model brings its own image encoder ({record['encoder']}): leave `encoder` out."
        )
        raise ValueError(msg)
    if record.get("feature_set") not in (None, FEATURE_SET):
        msg = (
            f"the model was trained on the colour features {record['feature_set']!r} of another version of bleep_sc; "
            f"this one makes {FEATURE_SET!r}. Train it anew."
        )
        raise ValueError(msg)
    images = _stored_images(adata, image_key or record["key"], name=name)
    if (images.ndim == 2) != (kind == "features"):
        path = f"{name}.obsm[{image_key or record['key']!r}]"
        here, wanted = ("features", "crops") if images.ndim == 2 else ("crops", "features")
        msg = f"`{path}` holds {here}, but the model was trained on {wanted}: name these by `image_key`."
        raise ValueError(msg)
    if kind == "features":
        found = SpotInput(images, kind, record["encoder"])
    else:
        scale = crop_scale(adata, image_key or record["key"], name=name)
        compare_scales(CropScale(**record["scale"]), scale)
        if kind == "network":
            return SpotInput(images, kind, record["encoder"], scale)
        found = _features_of_crops(images, kind, encoder, scale, compute)
    if found.rows.shape[1] != record["n_features"]:
        msg = (
            f"the model was trained on {record['n_features']} image features ({record['encoder']}), found "
            f"{found.rows.shape[1]}: they come from another encoder."
        )
        raise ValueError(msg)
    return found


def _features_of_crops(crops: Any, kind: str, encoder: Any, scale: CropScale, compute: Compute) -> SpotInput:
    if kind == COLOR:
        features, described = per_spot(_colour, crops, compute=compute), COLOR
    elif callable(encoder):
        features = per_spot(partial(custom_features, encoder), crops, compute=compute)
        described = f"custom: {getattr(encoder, '__qualname__', type(encoder).__qualname__)}"
    else:
        msg = f"`encoder` must be a name, a torch module or a function of image tensors, found {encoder!r}."
        raise TypeError(msg)
    if not all_finite(features):
        msg = f"the image features ({described}) hold NaN or infinite values."
        raise ValueError(msg)
    return SpotInput(features, kind, described, scale)


def _colour(crops: Rows, *, compute: Compute) -> np.ndarray:
    return color_features(crops, progress_bar=compute.progress_bar)


def _stored_images(adata: AnnData, image_key: str, *, name: str) -> Any:
    """Crops as uint8 (n_obs, y, x, 3), NumPy or dask, or features as float32 (n_obs, n_features)."""
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
