"""From AnnData to what the image side of a model reads: crops for a network, or one row of features a spot."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc._errors import MissingKeyError
from bleep_sc.models.batches import Rows
from bleep_sc.models.color import FEATURE_SET, color_features
from bleep_sc.models.device import Compute
from bleep_sc.models.embedding import custom_features
from bleep_sc.models.encoders import check_encoder_name
from bleep_sc.tl._crop_scale import CropScale, compare_scales, crop_scale

COLOR = "color"


@dataclass(frozen=True)
class ImageInput:
    """What the image side of a model reads, and the record of where it came from."""

    rows: Rows
    """uint8 (n_obs, y, x, 3) for a network, else float32 (n_obs, n_features)."""
    kind: str
    """``"network"``, ``"color"``, ``"custom"`` or ``"features"``."""
    encoder: str
    """Name of the network, or a description."""
    scale: CropScale | None

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


def image_input(
    adata: AnnData,
    image_key: str,
    encoder: str | Callable[..., Any],
    *,
    explicit: bool,
    compute: Compute,
    name: str = "adata",
) -> ImageInput:
    """Gather the image input for training; `explicit` says that the user asked for this encoder."""
    images = _stored_images(adata, image_key, name=name)
    if images.ndim == 2:
        if explicit:
            msg = (
                f"`{name}.obsm[{image_key!r}]` holds ready-made features, so there is no image for an `encoder` to "
                "read. Leave `encoder` out, or name crops by `image_key`."
            )
            raise ValueError(msg)
        return ImageInput(images, "features", image_key, None)
    scale = crop_scale(adata, image_key, name=name)
    if isinstance(encoder, str) and encoder != COLOR:
        check_encoder_name(encoder)
        return ImageInput(images, "network", encoder, scale)
    kind = COLOR if isinstance(encoder, str) else "custom"
    return _features_of_crops(images, kind, encoder, scale, compute)


def image_input_like(
    adata: AnnData,
    image_key: str | None,
    record: Mapping[str, Any],
    encoder: Callable[..., Any] | None,
    *,
    compute: Compute,
    name: str,
) -> ImageInput:
    """Gather the image input as a stored model expects it, from what its config recorded."""
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
        msg = f"`{path}` holds {'features' if images.ndim == 2 else 'crops'}, but the model was trained on the other."
        raise ValueError(msg)
    if kind == "features":
        found = ImageInput(images, kind, record["encoder"], None)
    else:
        scale = crop_scale(adata, image_key or record["key"], name=name)
        compare_scales(CropScale(**record["scale"]), scale)
        if kind == "network":
            return ImageInput(images, kind, record["encoder"], scale)
        found = _features_of_crops(images, kind, encoder, scale, compute)
    if found.rows.shape[1] != record["n_features"]:
        msg = (
            f"the model was trained on {record['n_features']} image features ({record['encoder']}), found "
            f"{found.rows.shape[1]}: they come from another encoder."
        )
        raise ValueError(msg)
    return found


def _features_of_crops(crops: Any, kind: str, encoder: Any, scale: CropScale, compute: Compute) -> ImageInput:
    if kind == COLOR:
        features, described = color_features(crops, progress_bar=compute.progress_bar), COLOR
    elif callable(encoder):
        features = custom_features(encoder, crops, compute=compute)
        described = f"custom: {getattr(encoder, '__qualname__', type(encoder).__qualname__)}"
    else:
        msg = f"`encoder` must be a name, a torch module or a function of image tensors, found {encoder!r}."
        raise TypeError(msg)
    if not np.isfinite(features).all():
        msg = f"the image features ({described}) hold NaN or infinite values."
        raise ValueError(msg)
    return ImageInput(features, kind, described, scale)


def _stored_images(adata: AnnData, image_key: str, *, name: str) -> Any:
    """Crops as uint8 (n_obs, y, x, 3), NumPy or dask, or features as float32 (n_obs, n_features)."""
    path = f"{name}.obsm[{image_key!r}]"
    if image_key not in adata.obsm:
        msg = (
            f"`{path}` does not exist: cut the crops first with `bleep_sc.pp.crops({name}, image)`, or name crops or "
            "ready-made image features of `obsm` by `image_key`."
        )
        raise MissingKeyError(msg)
    images = adata.obsm[image_key]
    if getattr(images, "ndim", 0) == 4:
        if images.dtype != np.uint8 or images.shape[3] != 3 or images.shape[1] != images.shape[2]:
            msg = f"`{path}` must be uint8 (n_obs, size, size, 3), RGB; found {images.dtype} {tuple(images.shape)}."
            raise ValueError(msg)
        return images if hasattr(images, "compute") else np.asarray(images)
    try:
        features = np.asarray(images, dtype=np.float32)
    except (TypeError, ValueError) as err:
        msg = f"`{path}` must be crops (n_obs, size, size, 3) or numeric features (n_obs, n_features): {err}"
        raise ValueError(msg) from err
    if features.ndim != 2:
        msg = f"`{path}` must be crops (n_obs, size, size, 3) or features (n_obs, n_features); found {features.shape}."
        raise ValueError(msg)
    if not np.isfinite(features).all():
        bad = (~np.isfinite(features).all(axis=1)).sum()
        msg = f"`{path}` is NaN or infinite for {bad} of {len(features)} spots."
        raise ValueError(msg)
    return features
