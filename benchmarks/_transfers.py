"""From some tissue to other tissue, one way: trained on a pack of real sections, scored on another pack.

Folds of `bl.tl.cross_validate` go both ways, so this hands one fold of its own to the code behind it: genes, panels,
penalties and neighbours are chosen on the training sections alone, and the tables are the same. One thing differs. Each
side is normalised to the median total of its own spots, as `scanpy.pp.normalize_total` does to what one person has
measured: the packs differ in depth by up to five times, and counts that are blown up to another side's depth vary with
their own depth in all genes.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from _sections import MARKERS, read_pack, standardized_by_section
from anndata import AnnData

import bleep_sc as bl
from bleep_sc.metrics.summary import summarize
from bleep_sc.tl._cv.folds import Fold, scope_of
from bleep_sc.tl._cv.plan import asked_methods, make_plan
from bleep_sc.tl._cv.run import Prepared, log_normalized, predict, prepare
from bleep_sc.tl._cv.scores import FoldScores

TRAINING_COUNTS = 500
"""The least counts of a spot that is trained on."""
N_BOOTSTRAP = 1000


@dataclass(frozen=True)
class Transfer:
    """The packs that are trained on and scored."""

    training: str
    test: str
    at_least: tuple[int, ...] = (500,)
    """The least counts of a spot that is scored: a table for each."""
    markers: tuple[str, ...] = ()


TRANSFERS = {
    "transfer_c_b4": Transfer("her2st", "her2st_b", at_least=(500, 200), markers=MARKERS),
    "transfer_b4_c": Transfer("her2st_b", "her2st", markers=MARKERS),
    "transfer_mob2k_mob1k": Transfer("mob2k", "mob1k_layers"),
    "transfer_mob1k_mob2k": Transfer("mob1k_layers", "mob2k"),
}


def read_both(transfer: Transfer) -> dict[str, AnnData]:
    """The sections of both packs by name, with patients under one name."""
    sections = {
        **read_pack(transfer.training, min_counts=TRAINING_COUNTS),
        **read_pack(transfer.test, min_counts=min(transfer.at_least)),
    }
    for section in sections.values():
        section.obs["patient"] = section.obs["animal" if "animal" in section.obs else "patient"].astype(str)
    return sections


def score_transfer(
    transfer: Transfer, adata: AnnData, label: str, given: dict[str, Any], *, metrics: tuple[str, ...], seed: int
) -> dict[str, pd.DataFrame]:
    """Train a method on one pack and score it on the other: the tables that `cross_validate` leaves in `uns`.

    A column more, ``at_least``, names the counts that the scored spots have at least.
    """
    tables = [_scores(transfer, adata, label, given, least, metrics=metrics, seed=seed) for least in transfer.at_least]
    return {name: pd.concat([table[name] for table in tables], ignore_index=True) for name in ("summary", "chosen")}


def _scores(
    transfer: Transfer,
    adata: AnnData,
    label: str,
    given: dict[str, Any],
    least: int,
    *,
    metrics: tuple[str, ...],
    seed: int,
) -> dict[str, pd.DataFrame]:
    part = _part(transfer, adata, least)
    sections, patients, packs = (part.obs[key].to_numpy(dtype=str) for key in ("section", "patient", "pack"))
    (asked,) = asked_methods([label], {label: given}).values()
    plan = make_plan(
        part,
        {label: asked},
        counts_layer="counts",
        library_key="section",
        group_key="patient",
        patient_key="patient",
        markers=[gene for gene in transfer.markers if gene in part.var_names],
        n_top_genes=1000,
        min_fraction=0.1,
        k=None,
        refit=True,
        random_state=seed,
    )
    # one way alone: a fold whose group is the pack
    training, test = (np.flatnonzero(packs == side) for side in (transfer.training, transfer.test))
    fold = Fold(transfer.test, training, test, packs)
    prepared = _on_its_own_scale(prepare(plan, fold), plan.values[fold.test])
    with bl.settings.override(verbosity="warning"):
        layer, chosen = predict(plan, fold, prepared, asked)
    of_sections = dict(zip(sections[fold.test], patients[fold.test], strict=True))
    scorer = FoldScores(part, sections, of_sections, metrics, n_bootstrap=N_BOOTSTRAP, random_state=seed)
    labels = {
        "scope": scope_of([fold], patients),
        "normalisation": "each side by itself",
        "uses_query_counts": asked.reads_query_counts,
    }
    scorer.score(plan, fold, prepared, label, layer, extra=labels)
    summary = summarize(scorer.rows, draws=scorer.draws, n_bootstrap=N_BOOTSTRAP, random_state=seed)
    rows = [{"method": label, "fold": fold.name, "parameter": n, "value": float(v)} for n, v in chosen.items()]
    return {"summary": summary.assign(**labels, at_least=least), "chosen": pd.DataFrame(rows).assign(at_least=least)}


def _part(transfer: Transfer, adata: AnnData, least: int) -> AnnData:
    """The spots that are trained on and scored, with features standardised over these alone."""
    packs, counts = adata.obs["pack"].to_numpy(dtype=str), adata.obs["n_counts"].to_numpy()
    training = (packs == transfer.training) & (counts >= TRAINING_COUNTS)
    part = adata[training | ((packs == transfer.test) & (counts >= least))].copy()
    for key in [key for key in part.obsm if key.endswith("_z")]:
        raw = part.obsm[key.removesuffix("_z")]
        part.obsm[key] = standardized_by_section(raw, part.obs["section"].to_numpy(dtype=str))
    return part


def _on_its_own_scale(prepared: Prepared, counts: Any) -> Prepared:
    target_sum = float(np.median(np.asarray(counts.sum(axis=1))))
    return replace(prepared, truth=log_normalized(counts, target_sum), target_sum=target_sum)
