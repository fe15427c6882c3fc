"""Reads a training task from an AnnData, and stores what was learned in it."""

from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import section_of_spots
from bleep_sc._all_or_nothing import all_or_nothing, set_or_delete
from bleep_sc._expression import expression_values, path_of, training_expression
from bleep_sc._logging import warn
from bleep_sc._stats import Expression, are_whole_counts, describe_units, log_depth, panels
from bleep_sc.io._config import Config, ExpressionSource
from bleep_sc.io._novelty import NOVELTY, novelties_to_bytes
from bleep_sc.io._out_of_fold import OUT_OF_FOLD, to_uns
from bleep_sc.io._reference_record import ReferenceRecord
from bleep_sc.io._stored import StoredModel, check_gene_names, check_gene_table, check_sections_fit
from bleep_sc.methods.learning.network import check_divides
from bleep_sc.methods.look import novelties_of
from bleep_sc.methods.recipe import values_of
from bleep_sc.methods.record import Method
from bleep_sc.methods.task import Fitted, HowHeldOut, Task
from bleep_sc.models.device import Compute
from bleep_sc.models.nets.serialize import weights_to_bytes
from bleep_sc.tl._fingerprint import checkpoint_folder
from bleep_sc.tl._inputs import AsAsked, read
from bleep_sc.tl._inputs.encoders import Encoding
from bleep_sc.tl._inputs.held_out import groups_apart, how_held_out, inner_folds, validation_spots
from bleep_sc.tl._inputs.measured import remember
from bleep_sc.tl._inputs.placed import fingerprints_of
from bleep_sc.tl._inputs.units import warn_of_units
from bleep_sc.tl._sections import patients_of_spots


@dataclass(frozen=True)
class Model:
    """The model that a user wants to train."""

    method: Method[Any]
    recipe: Any
    preset: str
    weights: str | Path | None
    """First weights of a network: a name or a file; None: random ones."""
    explicit_encoder: bool
    """Whether the user asked for the encoder."""


@dataclass(frozen=True)
class Data:
    """The parts of an AnnData that a user wants to train on."""

    image_key: str
    layer: str | None
    use_rep: str | None
    mask_var: str | None
    library_key: str | None
    patient_key: str | None
    validation_key: str | None
    validation_share: float


def read_task(
    adata: AnnData,
    model: Model,
    data: Data,
    *,
    compute: Compute,
    seed: int,
    checkpoint_dir: str | Path | None,
) -> Task[Any]:
    """Read all that is learned from, and refuse what could not be learned or stored, before any work."""
    method = model.method
    sections = section_of_spots(adata, data.library_key)
    if sections is not None:
        path = f"adata.obs[{data.library_key!r}]"
        check_sections_fit(dict.fromkeys(sections), n_components=method.n_centers(model.recipe), path=path)
    patients = patients_of_spots(adata, data.patient_key, sections)
    held_out, folds, how = np.zeros(adata.n_obs, dtype=bool), [], HowHeldOut()
    if method.held_out.spots:
        held_out = validation_spots(
            adata,
            sections=sections,
            validation_key=data.validation_key,
            random_state=seed,
            share=data.validation_share,
        )
    check_divides(compute, method, model.recipe, held_out)
    if method.held_out.folds:
        folds = inner_folds(
            adata,
            sections=sections,
            validation_key=data.validation_key,
            random_state=seed,
            patients=patients,
            at_most=method.held_out.most_folds,
        )
        how = how_held_out(adata, sections=sections, validation_key=data.validation_key, patients=patients)
    expression, everything = _read_expression(adata, method, data, sections)
    depth = _known_depth(adata) if method.learns_depth and data.use_rep is None else None
    image_source = AsAsked(
        data.image_key,
        method.name,
        explicit=model.explicit_encoder,
        encoding=Encoding(weights=model.weights, seed=seed),
    )
    spots = read(adata, method.needs(values_of(model.recipe)), image_source, sections=sections, compute=compute)
    task = Task(
        spots=spots,
        expression=expression,
        everything=expression if data.use_rep is not None else everything,
        all_genes=everything,
        recipe=model.recipe,
        compute=compute,
        seed=seed,
        weights=model.weights,
        held_out=held_out,
        folds=folds,
        how_held_out=how,
        patients=patients,
        depth=depth,
    )
    if checkpoint_dir is None:
        return task
    image = {**spots.record(data.image_key).to_json(), "crops": adata.uns.get(data.image_key)}
    folder = checkpoint_folder(checkpoint_dir, task, method=method.name, image=image)
    return replace(task, checkpoint_folder=folder)


def _known_depth(adata: AnnData) -> np.ndarray | None:
    """Compute the log total counts of each spot; None where there are no raw counts."""
    if _keys.COUNTS not in adata.layers:
        return None
    counts = expression_values(adata, _keys.COUNTS, name="adata")
    if not are_whole_counts(counts):
        warn(
            f"`{path_of('adata', _keys.COUNTS)}` does not hold raw counts, so sequencing depth is not separated from "
            f"the rest of expression. Put the counts there, or `del adata.layers[{_keys.COUNTS!r}]`."
        )
        return None
    return log_depth(counts)


def _read_expression(
    adata: AnnData, method: Method[Any], data: Data, sections: np.ndarray | None
) -> tuple[Expression, Expression]:
    """Read the expression that is learned, and that of all genes; refuse names that could not be read back."""
    check_gene_names(adata.var_names, path="adata.var_names")
    expression, everything = training_expression(
        adata, layer=data.layer, use_rep=data.use_rep, mask_var=data.mask_var, keep_sparse=method.reads_sparse
    )
    if data.use_rep is not None:
        check_gene_names(expression.genes, path=f"adata.uns[{data.use_rep.removeprefix('X_')!r}]['genes']")
    stored = everything.genes if method.names_all_genes and data.use_rep is None else expression.genes
    check_gene_table(stored, path="adata.var_names")
    if data.use_rep is None:
        warn_of_units(everything.matrix, sections, layer=data.layer)
    return expression, everything


def store_fitted(adata: AnnData, fitted: Fitted, task: Task[Any], model: Model, data: Data, *, key_added: str) -> None:
    """Write the model and the spots' places in its space, all or nothing."""
    stored = StoredModel(
        weights=weights_to_bytes(fitted.model),
        genes=fitted.genes,
        config=_config(fitted, task, model, data, log1p_recorded="log1p" in adata.uns),
        history={
            "train_loss": np.array(fitted.history.train_loss),
            "validation_loss": np.array(fitted.history.validation_loss),
            "best_epoch": np.array([fitted.history.best_epoch]),
        },
        panels=panels(task.all_genes.matrix, task.all_genes.genes, task.spots.sections),
    )
    learned = {
        _keys.image_embedding(key_added): fitted.image_embedding,
        _keys.expression_embedding(key_added): fitted.expression_embedding,
        _keys.components(key_added): fitted.components,
    }
    record = ReferenceRecord()
    if model.method.retrieves:  # others put out values of their own, and need no reference
        placed = fingerprints_of(learned, key_added, stored.sha256)
        record = ReferenceRecord(placed, remember(adata, task.all_genes))
    entries: dict[str, Any] = {}
    if model.method.needs(values_of(model.recipe)).source.is_image:
        groups = groups_apart(adata, sections=task.spots.sections, patients=task.patients, random_state=task.seed)
        entries[NOVELTY] = novelties_to_bytes(novelties_of(task, fitted, groups))
    left_out = fitted.out_of_fold
    learned[_keys.out_of_fold(key_added)] = None if left_out is None else left_out.scores
    learned[_keys.out_of_fold_regression(key_added)] = None if left_out is None else left_out.regressed
    if left_out is not None:
        entries[OUT_OF_FOLD] = to_uns(left_out, task.all_genes.genes, _patient_of_sections(task))
    with all_or_nothing(adata):
        set_or_delete(adata.obsm, learned)
        # of an earlier model's calibration
        set_or_delete(adata.var, dict.fromkeys(_keys.of_calibrated_genes(key_added)))
        set_or_delete(adata.obs, {_keys.fold(key_added): None if left_out is None else left_out.fold})
        adata.uns[key_added] = {**stored.to_uns(), **record.to_uns(), **entries}


def _patient_of_sections(task: Task[Any]) -> dict[str, str]:
    """Find the patient of each section, or of each patient itself where no sections are known."""
    if task.patients is None:
        return {}
    sections = task.patients if task.spots.sections is None else task.spots.sections
    return dict(zip(sections.astype(str), task.patients.astype(str), strict=True))


def _config(fitted: Fitted, task: Task[Any], model: Model, data: Data, *, log1p_recorded: bool) -> Config:
    spec = fitted.arguments.spec()
    has_network = spec.get("encoder") is not None or any(network is not None for network in task.spots.networks)
    network_weights = str(model.weights) if has_network and model.weights is not None else None
    units = describe_units(task.all_genes.matrix, log1p_recorded=log1p_recorded)
    if data.use_rep is not None and not model.method.retrieves:
        units = f"as `obsm[{data.use_rep!r}]` of the reference"
    return Config(
        method=model.method.name,
        preset=model.preset,
        params={
            **values_of(model.recipe),
            "encoder": task.spots.encoder,
            "weights": network_weights,
            "random_state": task.seed,
            "validation_key": data.validation_key,
            "validation_share": data.validation_share,
        },
        model=spec,
        image=task.spots.record(data.image_key),
        expression=ExpressionSource(data.layer, data.use_rep),
        library_key=data.library_key or "",
        patient_key=data.patient_key or "",
        units=units,
        method_config=fitted.record,
        versions=dict(_versions()),
    )


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    """Look up the versions of what models are made with, once a process: each is read from a file."""
    return tuple((name, version(name)) for name in ("bleep-sc", "torch", "torchvision", "lightning", "numpy"))
