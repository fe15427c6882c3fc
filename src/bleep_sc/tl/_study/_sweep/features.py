"""Makes the features of frozen encoders once for all folds of a sweep."""

from dataclasses import replace

from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._logging import logger
from bleep_sc.models.encoders.registry import names_network
from bleep_sc.tl._cv.plan import Asked, checked
from bleep_sc.tl._cv.ready import Ready
from bleep_sc.tl._encode import encode
from bleep_sc.tl._inputs.encoders import encoder_list
from bleep_sc.tl._study._sweep.grid import Grid, Training

_OF_ENCODER = ("encoder", "view", "weights")


def with_features(ready: Ready, grid: Grid, *, progress_bar: bool | None) -> tuple[Ready, Grid]:
    """Read the crops of all spots by each encoder that no training changes, so that no fold reads them again.

    The user's object is not touched: the features are put beside the images in an object of the folds' own.
    """
    adata = ready.plan.adata
    made: dict[str, str] = {}
    trainings, holder = [], None
    for training in grid.trainings:
        arguments = training.asked.arguments
        image_key = str(arguments.get("image_key", _keys.CROPS))
        if not _is_frozen(training.asked) or getattr(adata.obsm[image_key], "ndim", 2) != 4:
            trainings.append(training)
            continue
        how = {name: arguments[name] for name in _OF_ENCODER if name in arguments}
        how["encoder"] = training.asked.needs.encoder
        key = made.get(repr((image_key, how)))
        if key is None:
            holder = _light(adata) if holder is None else holder
            key = made[repr((image_key, how))] = f"X_sweep_{len(made)}"
            logger.info("The features of encoder %r are made once for all folds.", how["encoder"])
            compute = {name: arguments[name] for name in ("device", "precision") if name in arguments}
            encoder = list(how["encoder"]) if isinstance(how["encoder"], tuple) else how["encoder"]
            encode(
                holder,
                **{**how, **compute, "encoder": encoder},
                image_key=image_key,
                key_added=key,
                random_state=ready.plan.random_state,
                progress_bar=progress_bar,
            )
        rest = {name: value for name, value in arguments.items() if name not in _OF_ENCODER}
        asked = checked({**rest, "image_key": key}, path="method_kwargs")
        trainings.append(Training(training.label, asked, training.readings))
    if holder is None:
        return ready, grid
    keys = tuple(dict.fromkeys(str(each.asked.arguments.get("image_key", _keys.CROPS)) for each in trainings))
    return replace(ready, plan=replace(ready.plan, adata=holder, image_keys=keys)), replace(grid, trainings=trainings)


def _is_frozen(asked: Asked) -> bool:
    """Tell whether features of crops are made before the method begins, by encoders that a name tells."""
    source, encoders = asked.needs.source, encoder_list(asked.needs.encoder)
    if not source.is_image or not source.takes_features or not all(isinstance(each, str) for each in encoders):
        return False
    return source.frozen or not any(map(names_network, encoders))


def _light(adata: AnnData) -> AnnData:
    """Make an object of the same spots that shares their images and holds no expression."""
    return AnnData(
        obs=adata.obs.copy(),
        var=adata.var[[]].copy(),
        obsm=dict(adata.obsm),
        uns={key: value for key, value in adata.uns.items() if key in adata.obsm},
    )
