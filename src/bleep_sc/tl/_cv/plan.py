"""The plan of a cross-validation: what the user asks for, checked before anything is trained."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from anndata import AnnData
from scipy import sparse

from bleep_sc import _keys
from bleep_sc._adata import section_of_spots, spatial_coordinates
from bleep_sc._checks import check_choice, check_in
from bleep_sc._expression import count_values, expression_values, path_of, warn_if_counts
from bleep_sc._logging import logger
from bleep_sc.methods.inputs import Needs
from bleep_sc.methods.names import MethodName
from bleep_sc.methods.recipe import values_of
from bleep_sc.methods.record import Method
from bleep_sc.methods.registry import choose, settable
from bleep_sc.models.encoders.registry import encoder_named, names_network
from bleep_sc.tl._fit import fit
from bleep_sc.tl._inputs.crop_scale import crop_scale
from bleep_sc.tl._inputs.encoders import (
    Encoding,
    check_encoders,
    encoder_list,
    one_or_several,
    view_pixels,
    warn_of_few_pixels,
)
from bleep_sc.tl._inputs.places import neighbor_places
from bleep_sc.tl._inputs.units import warn_of_units

DECIDED_HERE = {
    *("layer", "mask_var", "library_key", "patient_key", "validation_key", "validation_share"),
    *("random_state", "key_added", "copy", "progress_bar", "checkpoint_dir"),
}
"""Arguments of `fit` that each fold sets itself.

Passed by the user, they could carry what the test spots know, or let a fold go on from what another one left.
"""

OF_IMPUTE = {"predict"}
"""Arguments that a fold hands to `impute`; all others are `fit`'s."""
HARMONY = "X_harmony"
_OF_EXPRESSION = (HARMONY, "X_pca", "X_umap", "X_tsne", "X_scVI", "X_diffmap")


@dataclass(frozen=True)
class Asked:
    """One of the methods that are compared, as it will be trained."""

    arguments: Mapping[str, Any]
    """The arguments of `fit`, and those of `impute` among them."""
    method: Method[Any]
    needs: Needs

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "Asked":
        """Resolve a method's arguments as `fit` will."""
        known = settable()
        of_recipe = {name: value for name, value in arguments.items() if name in known}
        of_recipe["encoder"] = one_or_several(of_recipe.get("encoder"))
        method, recipe = choose(arguments["method"], arguments.get("preset", "default"), of_recipe)
        method.mode(arguments.get("predict"))
        return cls(arguments, method, method.needs(values_of(recipe)))

    @property
    def reads_query_counts(self) -> bool:
        """Whether the method reads the counts of the very spots that it predicts."""
        return self.needs.source.reads_query_counts


@dataclass(frozen=True)
class Plan:
    """The inputs and settings that all folds share."""

    adata: AnnData
    values: sparse.csr_matrix
    """The counts of all spots, or their expression where there are no counts."""
    is_counts: bool
    library_key: str
    group_key: str
    patient_key: str | None
    image_keys: tuple[str, ...]
    markers: tuple[str, ...]
    n_top_genes: int
    min_fraction: float
    k: int | None
    harmonize: bool
    refit: bool
    random_state: int


def asked_methods(methods: Sequence[str], method_kwargs: Mapping[str, Mapping[str, Any]]) -> dict[str, Asked]:
    """Resolve each label to a method and its arguments, which always name the method."""
    if isinstance(methods, str) or not methods or len(set(methods)) < len(methods):
        msg = f"`methods` must be a list of one or more different names, found {methods!r}."
        raise ValueError(msg)
    if unused := [label for label in method_kwargs if label not in methods]:
        msg = f"`method_kwargs` has {unused[0]!r}, which is not among `methods` {list(methods)}."
        raise ValueError(msg)
    out: dict[str, Asked] = {}
    for label in methods:
        arguments = dict(method_kwargs.get(label, {}))
        method = arguments.setdefault("method", label)
        if method not in get_args(MethodName) or "/" in label:
            msg = (
                f"`methods` has {label!r}, which is no method: there are "
                f"{', '.join(map(repr, get_args(MethodName)))}. A label of your own, without '/', names its method by "
                "`method_kwargs={label: {'method': ...}}`."
            )
            raise ValueError(msg)
        out[label] = checked(arguments, path=f"method_kwargs[{label!r}]")
    return out


def asked_method(method: Any, method_kwargs: Any) -> Asked:
    """Resolve the one method of a study and its arguments; ``None`` gives it none."""
    return checked({**plain_arguments(method, method_kwargs), "method": method}, path="method_kwargs")


def plain_arguments(method: Any, method_kwargs: Any) -> dict[str, Any]:
    """Return the arguments of a method of this name, which they do not name again."""
    check_choice("method", method, get_args(MethodName))
    if not (method_kwargs is None or isinstance(method_kwargs, Mapping)):
        msg = f"`method_kwargs` must be a mapping, such as {{'alpha': 10}}, found {method_kwargs!r}."
        raise TypeError(msg)
    if "method" in (method_kwargs or {}):
        msg = "`method_kwargs['method']`: name the method by `method`."
        raise ValueError(msg)
    return dict(method_kwargs or {})


def checked(arguments: Mapping[str, Any], *, path: str) -> Asked:
    """Resolve a method's arguments, of which none may be a fold's own; `path` is what messages call them."""
    known = set(inspect.signature(fit).parameters) - {"adata"} | OF_IMPUTE
    for name in arguments:
        if name in DECIDED_HERE:
            msg = (
                f"`{path}[{name!r}]` cannot be given: each fold sets it itself, so that nothing of the test spots gets "
                "in."
            )
            raise ValueError(msg)
        if name not in known:
            msg = f"`{path}[{name!r}]` is no argument of `bleep_sc.tl.fit`, nor `predict`."
            raise ValueError(msg)
    if arguments.get("use_rep") not in (None, HARMONY):
        msg = (
            f"`{path}['use_rep']` is {arguments['use_rep']!r}, a representation made outside the folds, which may have "
            "seen the test spots. 'X_harmony' is made again in each fold."
        )
        raise ValueError(msg)
    _check_image_key(path, arguments.get("image_key"))
    return Asked.of(arguments)


def _check_image_key(path: str, image_key: str | None) -> None:
    """Refuse an image key that plainly holds expression, which would hand over the truth itself."""
    if image_key is not None and (image_key in _OF_EXPRESSION or image_key.endswith(("_expression", "_components"))):
        msg = (
            f"`{path}['image_key']` is {image_key!r}, which is made of expression: the test spots' own would be handed "
            "over. Name crops, or features of images alone."
        )
        raise ValueError(msg)


def make_plan(
    adata: AnnData,
    asked: Mapping[str, Asked],
    *,
    counts_layer: str | None,
    markers: Sequence[str],
    **rest: Any,
) -> Plan:
    if counts_layer not in (None, _keys.COUNTS):
        check_in("adata.layers", counts_layer, adata.layers.keys(), remedy="`counts_layer=None` takes `X` as it is.")
    is_counts = counts_layer is not None and counts_layer in adata.layers
    needs_counts = [label for label, asked_method in asked.items() if asked_method.reads_query_counts]
    if needs_counts and not is_counts:
        msg = (
            f"`methods` has {needs_counts[0]!r}, which reads total counts, but `adata.layers[{counts_layer!r}]` does "
            "not exist. Keep the counts there, or leave the method out."
        )
        raise ValueError(msg)
    if is_counts:
        values = count_values(adata, str(counts_layer))
    else:
        expression = expression_values(adata, None, name="adata")
        if expression.min() < 0:
            msg = f"`adata.X` has negative values, found {expression.min():.3g}: log-normalised expression is expected."
            raise ValueError(msg)
        warn_if_counts(expression, path_of("adata", None))
        warn_of_units(expression, section_of_spots(adata, rest["library_key"]), layer=None)
        values = sparse.csr_matrix(expression)
        logger.info(
            "`adata.X` is taken as it is: there are no counts in `layers[%r]`, so it was normalised outside the folds.",
            counts_layer,
        )
    for gene in markers:
        check_in("adata.var_names", gene, adata.var_names, remedy="`markers` are names of genes.")
    return Plan(
        adata=adata,
        values=values,
        is_counts=is_counts,
        markers=tuple(markers),
        image_keys=tuple(
            dict.fromkeys(str(asked_method.arguments.get("image_key", _keys.CROPS)) for asked_method in asked.values())
        ),
        harmonize=any(asked_method.arguments.get("use_rep") is not None for asked_method in asked.values()),
        **rest,
    )


def readable(value: Any) -> Any:
    """Return a value as JSON can hold it, and the same in every process: a function is told by its name."""
    if isinstance(value, list | tuple):
        return [readable(each) for each in value]
    if callable(value):
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}.{named.__qualname__}"
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def check_inputs(adata: AnnData, asked: Mapping[str, Asked]) -> None:
    """Check what each method will read, before the first is trained."""
    for label, asked_method in asked.items():
        needs = asked_method.needs
        if needs.places:
            spatial_coordinates(adata)
        neighbor_places(adata, needs.n_neighbors, name="adata")
        if not needs.source.is_image:
            continue
        arguments = asked_method.arguments
        image_key = arguments.get("image_key", _keys.CROPS)
        check_in(
            "adata.obsm",
            image_key,
            adata.obsm.keys(),
            remedy=f"{label!r} reads images: cut them with `bleep_sc.pp.crops`, or name features by `image_key`.",
        )
        key = str(image_key).removeprefix("X_").removesuffix("_image")
        if str(image_key) == _keys.image_embedding(key) and "model" in dict(adata.uns.get(key, {})):
            msg = (
                f"`method_kwargs[{label!r}]['image_key']` is {image_key!r}, the embedding of a model that was trained "
                "on the test spots too. Name crops, or features of images alone."
            )
            raise ValueError(msg)
        _check_network(adata, label, asked_method, image_key)


def _check_network(adata: AnnData, label: str, asked_method: Asked, image_key: str) -> None:
    """Load first weights once, so that a missing file or network is known before hours of training."""
    from bleep_sc.models.encoders.frozen import reading_of
    from bleep_sc.models.encoders.networks import build_network
    from bleep_sc.models.train.randomness import borrowed_random_state

    images: Any = adata.obsm[image_key]
    source, weights = asked_method.needs.source, asked_method.arguments.get("weights", "imagenet")
    if getattr(images, "ndim", 2) != 4:
        if not source.takes_features:
            msg = f"{label!r} reads crops, but `adata.obsm[{image_key!r}]` holds ready-made features."
            raise ValueError(msg)
        return
    needs, size = asked_method.needs, int(images.shape[1])
    encoders = encoder_list(needs.encoder) if source.frozen else (needs.encoder,)
    if source.frozen:
        how, scale = Encoding(needs.view, weights), crop_scale(adata, image_key, name="adata")
        check_encoders(encoders, how)
    readings = {}
    for name in filter(names_network, encoders):
        if source.frozen:
            readings[name] = reading_of(encoder_named(name), view_px=view_pixels(how.view, scale))
            size = readings[name].input_px
        if weights is not None:
            with borrowed_random_state():
                build_network(name, image_size=size, weights=weights)
    for name, reading in readings.items():
        warn_of_few_pixels(name, reading, scale)
