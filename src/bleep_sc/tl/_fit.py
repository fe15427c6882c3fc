from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._settings import Precision
from bleep_sc._validate import check_adata, check_choice, check_int, recorded_library_key, section_of_spots
from bleep_sc.tl._presets import PresetName, Recipe, recipe

if TYPE_CHECKING:
    from pathlib import Path

    from bleep_sc.tl._images import ImageInput

Method = Literal["bleep"]
MIN_SPOTS = 16


def fit(
    adata: AnnData,
    *,
    method: Method = "bleep",
    preset: PresetName = "default",
    encoder: str | Callable[..., Any] | None = None,
    weights: "str | Path | None" = "imagenet",
    image_key: str = _keys.CROPS,
    layer: str | None = None,
    use_rep: str | None = None,
    mask_var: str | None = None,
    library_key: str | None = None,
    validation_key: str | None = None,
    temperature: float | None = None,
    dim: int | None = None,
    dropout: float | None = None,
    batch_size: int | None = None,
    accumulate: int | None = None,
    lr: float | None = None,
    weight_decay: float | None = None,
    max_epochs: int | None = None,
    patience: int | None = None,
    random_state: int = 0,
    device: str | None = None,
    precision: Precision | None = None,
    progress_bar: bool | None = None,
    key_added: str = _keys.MODEL,
    copy: bool = False,
) -> AnnData | None:
    """Train BLEEP on spots that have both an image and measured expression.

    Learns one space in which the crop of a spot lies beside the expression profile of the same spot (Xie et al.,
    NeurIPS 2023). Afterwards `adata` is a reference: it holds its spots' places in that space and the model itself,
    so ``adata.write_h5ad`` saves all that :func:`~bleep_sc.tl.impute` needs.

    Parameters
    ----------
    adata
        Spots of one or several sections with crops (:func:`~bleep_sc.pp.crops`) and log-normalised expression.
    method
        What to train.
    preset
        A named set of values for all arguments below that are left at ``None``. ``"default"``: ResNet-50, 256
        dimensions, dropout 0.1, temperature 1, batches of at most 128 spots, learning rate and weight decay 1e-3,
        150 epochs at most, stopped after 10 without a better validation loss. ``"paper"``: the same with the
        gradients of 4 batches averaged for each step (the paper's "batch 512" is four GPUs with 128 spots and a loss
        each) and without early stopping. Both keep the best epoch.
    encoder
        What reads the crops: a torchvision network (``"resnet18"``, ``"resnet50"``, ``"densenet121"``, ...) or a timm
        one (``"timm:<name>"``), trained along; ``"color"``, colour and texture features made by hand: quick, needs
        no download, strong on small data; or your own module or function, which gets float32 tensors (n, 3, size,
        size) with RGB in 0..1, returns (n, n_features), and is not trained. Yours is not stored: pass it to
        :func:`~bleep_sc.tl.impute` again.
    weights
        First weights of a named network: ``"imagenet"`` downloads them through torchvision or timm, a path reads a
        file (only tensors: nothing is unpickled), ``None`` starts from random ones.
    image_key
        Crops, or image features (n_obs, n_features) made elsewhere, in `adata.obsm`. With features only the two
        heads are trained.
    layer
        Expression to learn from, a layer; ``None`` is `adata.X`.
    use_rep
        Learn from a representation in `adata.obsm` instead, such as ``"X_harmony"``.
    mask_var
        Boolean column of `adata.var` with the genes to learn from. ``None``: ``"highly_variable"`` if that exists,
        else all genes. Imputation averages all genes whatever is chosen here.
    library_key
        Column of `adata.obs` with each spot's section. ``None``: what :func:`~bleep_sc.pp.crops` was told.
    validation_key
        How to choose validation spots. ``None``: 20 % of the spots of each section (the paper). A boolean column of
        `adata.obs`: its True spots. Any other column: whole groups (sections, patients) of it, drawn until they
        hold 20 %.
    temperature, dim, dropout
        Temperature of the loss, width of the joint space, dropout of the heads.
    batch_size
        Most spots of a batch. The spots are split evenly, so none is left out, and all of them make one batch where
        there are fewer.
    accumulate
        Batches whose gradients are averaged for one step of the optimiser (AdamW).
    lr, weight_decay
        Of AdamW.
    max_epochs
        Most epochs.
    patience
        Epochs without a better validation loss after which training stops; 0 never stops early.
    random_state
        Seed of weights, validation split, batches, augmentation and dropout. On one CPU with one number of threads
        the same seed gives the same weights bit for bit. The order of the spots matters too.
    device, precision, progress_bar
        In place of :attr:`bleep_sc.settings`'s.
    key_added
        Name of the model: that of all fields below, and of the layer it will impute.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `adata.obsm['X_bleep_image' | 'X_{key_added}_image']` : :class:`numpy.ndarray` (float32, (n_obs, dim))
        Image embeddings.
    `adata.obsm['X_bleep_expression' | 'X_{key_added}_expression']` : :class:`numpy.ndarray` (float32, (n_obs, dim))
        Expression embeddings.
    `adata.uns['bleep' | key_added]` : `dict`
        ``model`` (weights, uint8 bytes of a safetensors file), ``genes`` (the expression input), ``history``
        (``train_loss``, ``validation_loss`` by epoch, and ``best_epoch``, counted from 0), ``panels`` (genes of
        highest mean, HEG-50, and highest within-section variance, HVG-50 and HVG-200, of this reference) and
        ``config`` (JSON: parameters, image scale, units, versions).

    Raises
    ------
    KeyError
        Crops, expression or a named column are not there.
    ValueError
        Fewer than 16 spots, a view, names that are not unique, NaN or negative expression, crops of several scales,
        an encoder or weights that do not fit.
    RuntimeError
        ImageNet weights could not be downloaded. Nothing else is ever taken in their place.

    Examples
    --------
    >>> import bleep_sc as bl
    >>> ref = bl.datasets.toy()
    >>> bl.tl.fit(ref, encoder="color", max_epochs=2, progress_bar=False)  # doctest: +SKIP
    """
    check_adata(adata)
    check_choice("method", method, ("bleep",))
    _check_key(key_added)
    seed = check_int("random_state", random_state, minimum=0)
    chosen = recipe(
        preset,
        encoder=encoder,
        temperature=temperature,
        dim=dim,
        dropout=dropout,
        batch_size=batch_size,
        accumulate=accumulate,
        lr=lr,
        weight_decay=weight_decay,
        max_epochs=max_epochs,
        patience=patience,
    )
    if adata.n_obs < MIN_SPOTS:
        msg = f"`adata` has {adata.n_obs} spots; at least {MIN_SPOTS} are needed to train on."
        raise ValueError(msg)

    from bleep_sc._expression import describe_units, expression_input, expression_values
    from bleep_sc._stats import panels
    from bleep_sc.io._stored import StoredModel
    from bleep_sc.models.device import resolve_compute
    from bleep_sc.models.serialize import weights_to_bytes
    from bleep_sc.tl._images import image_input
    from bleep_sc.tl._split import validation_spots
    from bleep_sc.tl._train import model_spec, train_bleep

    compute = resolve_compute(device=device, precision=precision, progress_bar=progress_bar)
    library_key = library_key or recorded_library_key(adata, image_key)
    sections = section_of_spots(adata, library_key)
    held_out = validation_spots(adata, sections=sections, validation_key=validation_key, random_state=seed)
    expression = expression_input(adata, layer=layer, use_rep=use_rep, mask_var=mask_var)
    values = expression_values(adata, layer, name="adata")
    images = image_input(adata, image_key, chosen.encoder, explicit=encoder is not None, compute=compute)

    trained = train_bleep(
        images, expression.matrix, held_out=held_out, recipe=chosen, weights=weights, seed=seed, compute=compute
    )
    history, spread = trained.history, trained.spread

    stored = StoredModel(
        weights=weights_to_bytes(trained.model),
        genes=expression.genes,
        config={
            "method": method,
            "preset": preset,
            "params": _params(chosen, images, weights, seed, validation_key),
            "model": model_spec(images, expression.matrix.shape[1], chosen),
            "image": images.record(image_key),
            "expression": {"layer": layer, "use_rep": use_rep},
            "library_key": library_key or "",
            "units": describe_units(values, log1p_recorded="log1p" in adata.uns),
            "spread": {
                "image_cosine": spread.image_cosine,
                "expression_cosine": spread.expression_cosine,
                "references_in_use": spread.in_use,
            },
            "versions": _versions(),
        },
        history={
            "train_loss": np.array(history.train_loss),
            "validation_loss": np.array(history.validation_loss),
            "best_epoch": np.array([history.best_epoch]),
        },
        panels=panels(values, adata.var_names.to_numpy().astype(str), sections),
    )
    adata = adata.copy() if copy else adata
    adata.obsm[_keys.image_embedding(key_added)] = trained.image_embedding
    adata.obsm[_keys.expression_embedding(key_added)] = trained.expression_embedding
    adata.uns[key_added] = stored.to_uns()
    return adata if copy else None


def _check_key(key_added: str) -> None:
    if not isinstance(key_added, str) or not key_added or "/" in key_added:
        msg = f"`key_added` must be a name without '/', found {key_added!r}."
        raise ValueError(msg)


def _params(
    chosen: Recipe, images: "ImageInput", weights: Any, seed: int, validation_key: str | None
) -> dict[str, Any]:
    return {
        **{field.name: getattr(chosen, field.name) for field in fields(chosen)},
        "encoder": images.encoder,
        "weights": None if weights is None else str(weights),
        "random_state": seed,
        "validation_key": validation_key,
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("bleep-sc", "torch", "torchvision", "lightning", "numpy")}
