from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata, recorded_library_key
from bleep_sc._checks import check_choice, check_int, check_key, check_key_added, check_number
from bleep_sc._settings import Precision
from bleep_sc.methods.names import MethodName, Optimizer, PresetName

if TYPE_CHECKING:
    from pathlib import Path


FEWEST_TO_TRAIN_ON = 16


def fit(
    adata: AnnData,
    *,
    method: MethodName = "bleep",
    preset: PresetName = "default",
    encoder: str | Callable[..., Any] | None = None,
    weights: "str | Path | None" = "imagenet",
    image_key: str = _keys.CROPS,
    layer: str | None = None,
    use_rep: str | None = None,
    mask_var: str | None = None,
    library_key: str | None = None,
    validation_key: str | None = None,
    validation_share: float = 0.2,
    temperature: float | None = None,
    dim: int | None = None,
    members: int | None = None,
    context: int | None = None,
    dropout: float | None = None,
    batch_size: int | None = None,
    accumulate: int | None = None,
    lr: float | None = None,
    weight_decay: float | None = None,
    max_epochs: int | None = None,
    patience: int | None = None,
    optimizer: Optimizer | None = None,
    hidden: int | None = None,
    depth: int | None = None,
    window: int | None = None,
    alpha: float | None = None,
    n_components: int | None = None,
    random_state: int = 0,
    device: str | None = None,
    precision: Precision | None = None,
    progress_bar: bool | None = None,
    devices: int = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
    checkpoint_dir: "str | Path | None" = None,
    key_added: str = _keys.MODEL,
    copy: bool = False,
) -> AnnData | None:
    """Train a model on spots that have both an image and measured expression.

    BLEEP by default: learns one space in which the crop of a spot lies beside the expression profile of the same spot
    (Xie et al., NeurIPS 2023), here in the form that predicts best from few sections on a laptop; ``preset="paper"``
    is the published one. The published rivals and simple floors are trained by the same call, so that they can be
    compared (:func:`~bleep_sc.tl.cross_validate`). Afterwards `adata` is a reference: it holds the model and, for
    methods that retrieve, its spots' places in the model's space, so ``adata.write_h5ad`` saves all that
    :func:`~bleep_sc.tl.impute` needs.

    Parameters
    ----------
    adata
        Spots of one or several sections with crops (:func:`~bleep_sc.pp.crops`) and log-normalised expression.
    method
        What to train.

        Retrieval, which averages measured profiles and imputes all genes: ``"bleep"``, by default mixed with a
        regression of components of expression (Notes); ``"knn"``, no training at all, neighbours straight in the space
        of image features.

        Regression by a network, which predicts the genes that it was trained on (`mask_var`): ``"stnet"`` (He et al.,
        Nat Biomed Eng 2020), ``"histogene"`` (Pang et al., bioRxiv 2021), ``"regressor"`` (BLEEP's image encoder with
        a linear head, or one hidden layer, and mean squared error).

        Floors that any method should beat, which predict all genes: ``"ridge"`` (image features to five principal
        components of expression: the strongest so far), ``"coordinates"`` (the same from the place in the section),
        ``"mean"`` (the training mean), ``"counts"`` (from the total counts of the very spots that are predicted:
        it tells how much of a score is sequencing depth, and is of no use for slides without counts).
    preset
        A named set of values for all arguments below that are left at ``None``. ``"default"``: for BLEEP the recipe of
        the Notes, which needs no download and no GPU. ``"paper"``: for BLEEP ResNet-50 from ImageNet, 256 dimensions,
        dropout 0.1, temperature 1, batches of at most 128 spots, the gradients of 4 of them averaged for each step (the
        paper's "batch 512" is four GPUs with 128 spots and a loss each), learning rate and weight decay 1e-3, 150
        epochs; for ST-Net and HisToGene all their published epochs. Where `encoder` names a network, the default is the
        published BLEEP too, with single steps, stopped after 10 epochs without a better validation loss. Networks keep
        their best epoch.
    encoder
        What reads the crops: ``"color"``, colour, texture and nuclei features made by hand: quick, needs no download,
        strong on small data, and the default of BLEEP, ridge and knn; a torchvision network (``"resnet18"``,
        ``"resnet50"``, ``"densenet121"``, ...) or a timm one (``"timm:<name>"``), trained along by BLEEP, ST-Net and
        the regressor, frozen for ridge and knn; or your own module or function, which gets float32 tensors (n, 3,
        size, size) with RGB in 0..1, returns (n, n_features), and is not trained. Yours is not stored: pass it to
        :func:`~bleep_sc.tl.impute` again. ST-Net reads crops by a network; HisToGene has patch embeddings of its own.
    weights
        First weights of a network that `encoder` names: ``"imagenet"`` downloads them through torchvision or timm, a
        path reads a file (only tensors: nothing is unpickled), ``None`` starts from random ones.
    image_key
        Crops, or image features (n_obs, n_features) made elsewhere, in `adata.obsm`. With features only the heads are
        trained.
    layer
        Expression to learn from, a layer; ``None`` is `adata.X`.
    use_rep
        Learn from a representation in `adata.obsm` instead, such as ``"X_harmony"``. Regressions then predict its
        columns.
    mask_var
        Boolean column of `adata.var` with the genes to learn from. ``None``: ``"highly_variable"`` if that exists,
        else all genes. Retrieval and floors fill in all genes whatever is chosen here; a network's regression predicts
        these alone.
    library_key
        Column of `adata.obs` with each spot's section. ``None``: what :func:`~bleep_sc.pp.crops` was told.
    validation_key
        How to choose validation spots. ``None``: a share of the spots of each section (the paper). A boolean column of
        `adata.obs`: its True spots. Any other column: whole groups (sections, patients) of it, drawn until they
        hold that share. BLEEP's default recipe chooses its blend, and ridge and coordinates their penalty, by holding
        out each group of it, or each section, once (more than five are joined to five for BLEEP).
    validation_share
        Share of the spots that are held out for validation, 20 % in the paper. 0: none; all spots are trained on for
        all `max_epochs`, and the last epoch is kept. BLEEP's default recipe trains on all spots anyway, once it has
        chosen its blend on folds.
    temperature, dim, dropout
        Temperature of BLEEP's loss; width of the joint space (of each member), or of HisToGene; dropout of heads and
        transformer.
    members, context
        BLEEP's default recipe: number of pairs of heads, whose embeddings stand side by side, and number of nearest
        spots whose mean features are looked at beside a spot's own (0: none; needs no ``obsm["spatial"]`` then).
    batch_size
        Most spots of a batch. The spots are split evenly, so none is left out, and all of them make one batch where
        there are fewer. HisToGene's batches are windows instead.
    accumulate
        Batches whose gradients are averaged for one step (BLEEP).
    lr, weight_decay
        Of the optimiser.
    max_epochs
        Most epochs.
    patience
        Epochs without a better validation loss after which training stops; 0 never stops early.
    optimizer
        ``"adamw"`` (BLEEP, regressor), ``"adam"`` (HisToGene) or ``"sgd"`` with momentum 0.9 (ST-Net, as published,
        learning rate 1e-6; with another optimiser 3e-4).
    hidden
        Width of the hidden layer of BLEEP's heads (default recipe), or of the regressor, whose head is linear for
        ``None``.
    depth, window
        HisToGene: number of transformer blocks, and most spots of a window; larger sections, and those that span more
        than 64 grid positions, are cut into windows of neighbours.
    alpha
        Ridge and coordinates: the penalty; ``None`` chooses it on held-out sections of `adata`.
    n_components
        Number of principal components of expression. BLEEP's default recipe reads expression as these; ridge and
        coordinates regress them (0 regresses each gene).
    random_state
        Seed of weights, validation split, batches, augmentation and dropout. On one CPU with one number of threads
        (``torch.get_num_threads()``; the first loop that numba runs in parallel, for scanpy say, changes it) the same
        seed gives the same weights bit for bit. The order of the spots matters too.
    device, precision, progress_bar
        In place of :attr:`bleep_sc.settings`'s.
    devices, num_nodes, strategy
        Train one network by several processes (Notes): GPUs, or processes on the CPU, of each machine; machines; and
        how PyTorch joins them: ``"auto"``, which is ``"ddp"``, or ``"ddp_find_unused_parameters_true"`` for an encoder
        of which some weights take no part. For ``"bleep"`` as published, ``"stnet"`` and ``"regressor"``.
    checkpoint_dir
        A folder, made where it does not exist, in which to write after each epoch where training stands. Should it be
        ended, by a cluster, a full disk or Ctrl-C, the same call goes on from there (Notes). ``None``: nothing is
        written. For methods that train epoch by epoch.
    key_added
        Name of the model: that of all fields below, and of the layer it will impute.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `adata.obsm['X_bleep_image' | 'X_{key_added}_image']` : :class:`numpy.ndarray` (float32, (n_obs, dim))
        Image embeddings (BLEEP), or standardised image features (knn). Other methods have none, and what an earlier
        fit left under this name is removed.
    `adata.obsm['X_bleep_expression' | 'X_{key_added}_expression']` : :class:`numpy.ndarray` (float32, (n_obs, dim))
        Expression embeddings (BLEEP).
    `adata.obsm['X_bleep_components' | 'X_{key_added}_components']` : :class:`numpy.ndarray` (float32, (n_obs, q))
        Scores on the q principal components of expression within sections (BLEEP's default recipe).
    `adata.uns['bleep' | key_added]` : `dict`
        ``model`` (weights, uint8 bytes of a safetensors file), ``genes`` (the expression input, or the genes that a
        regression predicts), ``history`` (``train_loss``, ``validation_loss`` by epoch, and ``best_epoch``, counted
        from 0; empty for what is not trained by gradient descent), ``panels`` (genes of highest mean, HEG-50, and
        highest within-section variance, HVG-50 and HVG-200, of this reference) and ``config`` (JSON: method,
        parameters, what was chosen, image scale, units, versions).

    Raises
    ------
    KeyError
        Crops, expression or a named column are not there.
    ValueError
        Fewer than 16 spots, a view, names that are not unique or with which the model could not be read back, NaN or
        negative expression or values above 1e12, crops of several scales,
        an encoder or weights that do not fit, an argument that the method does not have, several processes where they
        cannot train together, a `checkpoint_dir` with checkpoints of another training or with none that is whole.
    FloatingPointError
        Training diverged. The message says how to get the best weights before that.
    OSError
        A checkpoint could not be written. Those before are whole.
    RuntimeError
        ImageNet weights could not be downloaded. Nothing else is ever taken in their place.

    Notes
    -----
    BLEEP's default recipe, each part of which was measured alone and together with the others (docs, "Which parts
    pay"). Image features are standardised within each section, which takes differences in staining out, and joined by
    the mean of those of the neighbouring spots. Expression is read as principal components of its variation within
    sections. An ensemble of small heads joins the two in one space by a contrastive loss at a low temperature.
    Retrieval in that space, ridge regression and kernel ridge regression all predict the components, and their mix,
    number of neighbours and penalties are those that predict held-out sections of `adata` best: where a plain ridge
    regression is the best predictor for your tissue, that is what you get.

    Several processes train the model that one would: every batch, with its shuffling and augmentation, is that of one
    process; it is divided among them, the embeddings of all parts are gathered, and the contrastive loss is that of the
    whole batch; so are validation loss, best epoch and early stop. What differs is rounding, and the dropout masks, of
    which each process draws its own. Every process runs the same script, holds all spots in memory and comes out with
    the same result; let only the first, where ``torch.distributed.get_rank()`` is 0, write files. Networks with batch
    normalisation need GPUs for this.

    With `checkpoint_dir` a training that was ended and resumed gives the very result of one that never stopped: on one
    CPU bit for bit. A call that finds a finished training trains nothing and returns its result at once; delete the
    folder when you have saved `adata`. The last two checkpoints of each training (BLEEP's default recipe has one for
    each fold and one for all spots) are kept, each up to four times as large as the model, as safetensors: a newest one
    that is damaged is passed over for the one before, with a warning. A folder belongs to one call: other genes,
    expression, images, sections, validation spots, seed, precision, device or parameters are refused by name, and
    other versions of bleep-sc or PyTorch warned of. `max_epochs` alone may change: more go on from the last one, and
    fewer give the best epoch where that lies within them. Lazy crops are told apart by their shape and record
    (`adata.uns["crops"]`) alone, since reading them all could take hours. Several processes must all see the same
    folder, and only one call may use it at a time.

    In several threads of one process, each with an object of its own, trainings take turns, since PyTorch has one
    random state for all; the rest of `fit`, embedding and imputing, from one reference too, go on side by side. All
    give what they give alone. Processes, such as joblib's, train side by side. Never change one object from two
    threads at once.

    Ctrl-C raises KeyboardInterrupt and leaves `adata` as it was; the log says how to go on. SIGTERM, which clusters
    send before they kill, ends the process as it would without this package, or does what your own handler does.

    Examples
    --------
    >>> import bleep_sc as bl
    >>> ref = bl.datasets.toy()
    >>> bl.tl.fit(ref, progress_bar=False)  # doctest: +SKIP
    >>> bl.tl.fit(ref, method="ridge", key_added="ridge")  # doctest: +SKIP
    """
    check_adata(adata, copy=copy)
    check_choice("method", method, get_args(MethodName))
    check_key_added("key_added", key_added)
    check_key("image_key", image_key)
    seed = check_int("random_state", random_state, minimum=0)

    from bleep_sc.methods.registry import choose

    chosen, recipe = choose(
        method,
        preset,
        {
            "encoder": encoder,
            "temperature": temperature,
            "dim": dim,
            "members": members,
            "context": context,
            "dropout": dropout,
            "batch_size": batch_size,
            "accumulate": accumulate,
            "lr": lr,
            "weight_decay": weight_decay,
            "max_epochs": max_epochs,
            "patience": patience,
            "optimizer": optimizer,
            "hidden": hidden,
            "depth": depth,
            "window": window,
            "alpha": alpha,
            "n_components": n_components,
        },
    )
    if check_number("validation_share", validation_share, minimum=0) >= 1:
        msg = f"`validation_share` is a share of the spots, from 0 to below 1; found {validation_share!r}."
        raise ValueError(msg)
    if checkpoint_dir is not None and not chosen.by_epochs:
        msg = (
            f"`method={method!r}` is solved at once, not epoch by epoch, so that there is nothing to resume: leave "
            "`checkpoint_dir` out."
        )
        raise ValueError(msg)
    if adata.n_obs < FEWEST_TO_TRAIN_ON:
        msg = f"`adata` has {adata.n_obs} spots; at least {FEWEST_TO_TRAIN_ON} are needed to train on."
        raise ValueError(msg)

    from bleep_sc.models.device import resolve_compute
    from bleep_sc.tl._training import Data, Model, read_task, store_fitted

    compute = resolve_compute(
        device=device,
        precision=precision,
        progress_bar=progress_bar,
        devices=devices,
        num_nodes=num_nodes,
        strategy=strategy,
    )
    model = Model(chosen, recipe, preset, weights=weights, explicit_encoder=encoder is not None)
    data = Data(
        image_key=image_key,
        layer=layer,
        use_rep=use_rep,
        mask_var=mask_var,
        library_key=library_key or recorded_library_key(adata, image_key) or recorded_library_key(adata),
        validation_key=validation_key,
        validation_share=validation_share,
    )
    task = read_task(adata, model, data, compute=compute, seed=seed, checkpoint_dir=checkpoint_dir)
    fitted = chosen.fit(task)
    adata = adata.copy() if copy else adata
    store_fitted(adata, fitted, task, model, data, key_added=key_added)
    return adata if copy else None
