from collections.abc import Callable, Sequence
from typing import Any

from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata, check_readable
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import check_key_added
from bleep_sc._logging import logger
from bleep_sc._settings import Precision
from bleep_sc.models.threads import on_allowed_cores


@on_allowed_cores()
def embed(
    adata: AnnData,
    ref: AnnData | None = None,
    *,
    key: str = _keys.MODEL,
    key_added: str | None = None,
    image_key: str | None = None,
    encoder: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    progress_bar: bool | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Place spots in the joint space of a fitted model that predicts by retrieval.

    The function embeds the images of the spots. It also embeds their expression, if `adata` holds the genes that the
    model reads. Use it to look at query spots in the joint space, or to add new sections to a reference. After
    ``anndata.concat`` or :func:`bleep_sc.io.read_model`, call ``bl.tl.embed(ref)`` to place every row.

    Parameters
    ----------
    adata
        Spots with crops, or with the features that the model was trained on.
    ref
        AnnData that holds the model; ``None`` means that `adata` itself holds it.
    key
        Name of the model in `ref.uns`.
    key_added
        Name of the fields below, in place of ``bleep``; ``None`` is `key`.
    image_key
        Key of the crops or features in `adata.obsm`; ``None`` is the key that the model was trained on.
    encoder
        Your own image encoder, if the model was trained with one. Pass several as a list, in the same order.
    batch_size
        Number of spots that are embedded at a time; 256 by default.
    device, precision, progress_bar
        Override the values of the same names in :attr:`bleep_sc.settings` for this call.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `adata.obsm['X_bleep_image' | 'X_{key_added}_image']` : :class:`numpy.ndarray` (float32, (n_obs, dim))
        Image embeddings.
    `adata.obsm['X_bleep_expression' | 'X_{key_added}_expression']` : :class:`numpy.ndarray` (float32, (n_obs, dim))
        Expression embeddings, if `adata` has the expression.
    `adata.obsm['X_bleep_components' | 'X_{key_added}_components']` : :class:`numpy.ndarray` (float32, (n_obs, q))
        Scores on the q components of expression, if `adata` has the expression and the model has components (BLEEP's
        default recipe).
    `adata.uns['bleep' | key_added]` : `dict`
        ``placed``: fingerprints of these embeddings. With them :func:`~bleep_sc.tl.impute` recognises the embeddings of
        its own model. They are added to the entries that exist.

    Raises
    ------
    KeyError
        No model, or no crops.
    ValueError
        - Crops of another scale than the model's.
        - Features of another width.
        - No raw counts in ``layers['counts']`` where the model reads the depth of each spot.
        - A damaged or foreign model.
        - A model of a method that has no joint space.
    """
    check_adata(adata, copy=copy)
    if ref is not None:
        check_readable(ref, name="ref")

    from bleep_sc.io._trained import load_model
    from bleep_sc.models.device import resolve_compute
    from bleep_sc.models.inference import embed_in_batches
    from bleep_sc.models.scheduled import embed_images
    from bleep_sc.tl._inputs import AsStored, read
    from bleep_sc.tl._inputs.placed import record_placed
    from bleep_sc.tl._inputs.reference import check_depth, lacks_input, read_expression_rows
    from bleep_sc.tl._load import check_no_other_model, sections_like

    name = key if key_added is None else key_added
    check_key_added("key_added", name)
    compute = resolve_compute(device=device, precision=precision, batch_size=batch_size, progress_bar=progress_bar)
    stored, trained = load_model(adata if ref is None else ref, key, name="adata" if ref is None else "ref")
    method, model = trained.method, trained.model
    check_no_other_model(adata, name, stored)
    if method.space is None:
        msg = (
            f"the model {key!r} was trained by `method={method.name!r}`, which has no space to place spots "
            "in. `bleep_sc.tl.impute` predicts with it directly."
        )
        raise ValueError(msg)
    check_depth(adata, trained)
    sections = sections_like(adata, stored, image_key, name="adata")
    images = AsStored(stored.config.image, image_key, encoder, trained.networks)
    spots = read(adata, method.needs(trained.method_config), images, sections=sections, compute=compute)
    spots = method.see_in_section(trained, spots)
    model.to(compute.device)
    embeddings = {_keys.image_embedding(name): embed_images(model, spots.rows, compute=compute)}
    if method.space.has_expression:
        lacking = lacks_input(adata, trained, stored)
        if lacking:
            logger.info("Only the images were embedded: %s.", lacking)
        else:
            expression = read_expression_rows(adata, trained, sections, stored, of_reference=ref is None, name="adata")
            embeddings[_keys.expression_embedding(name)] = embed_in_batches(
                model.embed_expression, expression, compute=compute, desc="Embedding expression"
            )
            if method.space.centred:
                embeddings[_keys.components(name)] = expression
    adata = adata.copy() if copy else adata
    with all_or_nothing(adata):
        adata.obsm.update(embeddings)
        record_placed(adata, embeddings, name, stored.sha256)
    return adata if copy else None
