"""What the plots make of every odd object: what the sound one shows, or one error that says how to mend it."""

import json
import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import cache, partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from conftest import make_sections, snapshot
from matplotlib.figure import Figure
from odd_inputs import EVERY
from scipy import sparse

import bleep_sc as bl

pytestmark = pytest.mark.odd

GENES = ["g1", "g2", "g3", "g4", "g0"]


@cache
def _finished() -> AnnData:
    """Twelve spots with all that plots read: a layer and its scores, neighbours, a comparison, an alignment, losses."""
    rng = np.random.default_rng(0)
    adata = make_sections(12, sections=("q",), size=8)
    n = adata.n_obs
    noise = rng.normal(scale=0.1, size=adata.shape)
    adata.layers["bleep"] = (0.8 * adata.X.toarray() + noise).astype(np.float32)
    adata.obsm["bleep_neighbors"] = rng.permuted(np.tile(np.arange(8), (n, 1)), axis=1)[:, :4].astype(np.int32)
    adata.obsm["bleep_distances"] = np.sort(rng.uniform(size=(n, 4)), axis=1).astype(np.float32)
    for kind in ("image", "expression"):
        adata.obsm[f"X_bleep_alignment_{kind}"] = rng.normal(size=(n, 2)).astype(np.float32)
    adata.obs["bleep_pair_distance"] = np.linspace(0, 1, n)
    adata.obs["bleep_reliability"] = np.linspace(0.001, 1, n)
    adata.uns["bleep_alignment"] = {
        **{"pair_distance": 0.25, "other_distance": 0.9, "recall": {"1": 0.5}, "recall_by_chance": {"1": 1 / n}},
        **{"n_spots": n, "in_sample": False, "params": {"layout": "umap"}},
    }
    adata.uns["bleep"] = {
        "params": {"layer": "X"},
        "panels": {"HVG-50": np.array(GENES, dtype=object)},
        "reliability": pd.DataFrame({"section": ["q"], "verdict": ["like the reference"]}),
        "coverage": pd.DataFrame({"group": ["q"], "n_spots": [n], "panel": ["all"], "level": [0.9], "coverage": [0.8]}),
        "reference_names": np.array([f"spot{i}" for i in range(8)], dtype=object),
        "reference_library": np.array(["A"] * 8, dtype=object),
        "history": {
            "train_loss": np.array([3.0, 2.0, 1.5]),
            "validation_loss": np.array([3.0, 2.5, 2.75]),
            "best_epoch": np.array([1]),
        },
    }
    adata.var["bleep_predictable"] = np.arange(adata.n_vars) % 3 > 0
    for end, shift in (("", 0.0), ("_lower", -0.1), ("_upper", 0.1)):
        adata.var[f"bleep_expected_pearson{end}"] = np.linspace(0, 0.8, adata.n_vars) + shift
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        bl.tl.evaluate(adata, n_bootstrap=0, metrics=["pearson", "gene_gene"])
    rows = [
        {"method": method, "panel": "all", "metric": "pearson", "value": value, "low": value - 0.1, "high": value + 0.1}
        | {"ceiling": 0.9, "n_genes": 30, "interval_over": "patients", "scope": "across patients"}
        | {"n_sections": 6, "n_patients": 3, "normalisation": "inside the folds", "uses_query_counts": False}
        for method, value in (("small", 0.2), ("large", 0.4), ("ridge", 0.3))
    ]
    methods = {"small": {"method": "bleep", "dim": 16}, "large": {"method": "bleep", "dim": 64}}
    ways = [("as given", "given"), ("mirrored left to right about their centre", "turn"), ("shifted", "shift")]
    table = pd.DataFrame(ways, columns=["way", "kind"], index=["0", "1", "2"])
    adata.uns["alignment_check"] = {
        "q": {
            **{"verdict": "fits", "by": "expression", "found": "", "best": "shifted", "chance": np.array([0.0, 0.1])},
            "table": table.assign(score=[0.3, 0.1, 0.2], standard_error=[0.0, 0.02, 0.03], n_spots=n),
        }
    }
    scores = ("auroc_measured", "auroc_predicted", "log2_fold_measured", "log2_fold_predicted")
    regions = {name: [0.5, 0.9] for name in (*scores, "pearson", "pearson_within")}
    adata.uns["bleep_regions"] = {
        "summary": pd.DataFrame({"region": ["gland", "stroma"], **regions}),
        "clusters": pd.DataFrame(
            {name: [0.5] for name in ("ari", "ari_chance", "ari_labels_measured", "ari_labels_predicted")}
        ),
        "spatial_genes": pd.DataFrame({"n_measured": [9], "n_both": [7], "n_chance": [2.5]}),
        "in_sample": False,
    }
    adata.uns["cv"] = {
        "summary": pd.DataFrame(rows),
        "config": json.dumps({"methods": methods | {"ridge": {"method": "ridge"}}, "k": 5}),
    }
    adata.uns["learning_curve"] = learned()
    return adata


def learned() -> dict[str, Any]:
    """What `learning_curve` stores, of four sizes."""
    named = {"panel": "all", "metric": "pearson"}
    curve = [{**named, "size": 16 * 2**step, "value": 0.1 * step} for step in range(4)]
    more = {"ceiling": 0.9, "n_genes": 30, "scope": "across patients", "interval_over": "patients"}
    asked = {**named, "question": "twice the spots", "size_from": 200, "size_to": 400}
    cost = {"seconds_fit": 1.0, "seconds_predict": 0.1, "seconds_search": np.nan, "mb_reference": 2.0}
    return {
        "summary": pd.DataFrame(
            [{**row, **more, "low": row["value"] - 0.1, "high": row["value"] + 0.1} for row in curve]
        ),
        "scores": pd.DataFrame([{**row, "section": "q"} for row in curve]),
        "law": pd.DataFrame(curve),
        "forecast": pd.DataFrame(
            [{**asked, "gain": 0.05, "low": 0.02, "high": 0.08, "verdict": "gain", "answer": "gain: +0.05"}]
        ),
        "cost": pd.DataFrame([{"size": row["size"], **cost} for row in curve]),
    }


def finished() -> AnnData:
    return _finished().copy()


def reference() -> AnnData:
    """The eight spots that the neighbours are rows of."""
    return make_sections(12, sections=("q",), size=8)[:8].copy()


PLOTS: dict[str, Callable[..., Figure]] = {
    "alignment": partial(bl.pl.alignment, color="bleep_pair_distance"),
    "alignment_check": partial(bl.pl.alignment_check, library_key="section"),
    "calibration": bl.pl.calibration,
    "gene_correlation": partial(bl.pl.gene_correlation, genes=GENES),
    "gene_scores": bl.pl.gene_scores,
    "history": bl.pl.history,
    "imputed": partial(bl.pl.imputed, genes="g0"),
    "learning_curve": bl.pl.learning_curve,
    "neighbors": lambda adata, **more: bl.pl.neighbors(
        adata, **{"ref": reference(), "spot": "spot0", "genes": "g0", "n_neighbors": 2} | more
    ),
    "neighbors ref": lambda ref, **more: bl.pl.neighbors(
        finished(), ref, spot="spot0", genes="g0", n_neighbors=2, **more
    ),
    "predictable_genes": bl.pl.predictable_genes,
    "regions": bl.pl.regions,
    "reliability": bl.pl.reliability,
    "scores": bl.pl.scores,
    "sweep": partial(bl.pl.sweep, parameter="dim"),
}
Drawn = tuple[list[np.ndarray], list[str]]


def test_all_plots_are_tested() -> None:
    assert {name.split()[0] for name in PLOTS} == set(bl.pl.__all__) - OF_TABLES


OF_TABLES = {"transfer_matrix"}
"""Plots that read a table, and no AnnData."""


def draw(plot: str, adata: AnnData, **more: Any) -> Drawn:
    """All numbers and texts within the axes; the object must be as before, and no figure open after an error."""
    before = snapshot(adata) if isinstance(adata, AnnData) else None
    plt.close("all")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`adata.X` looks like raw counts", UserWarning)
            fig = PLOTS[plot](adata, return_fig=True, **more)
    except (ValueError, TypeError, KeyError):
        assert not plt.get_fignums(), "a figure was begun before the error"
        raise
    finally:
        assert before is None or snapshot(adata) == before, "the object was changed"
    arrays = [image.get_array() for ax in fig.axes for image in ax.get_images()]
    arrays += [line.get_xydata() for ax in fig.axes for line in ax.get_lines()]
    for found in (found for ax in fig.axes if ax.get_label() != "<colorbar>" for found in ax.collections):
        arrays += [found.get_offsets(), np.zeros(0) if found.get_array() is None else found.get_array()]
    return [np.ma.filled(np.ma.asarray(array, dtype=float), np.nan) for array in arrays], [
        text.get_text() for ax in fig.axes for text in ax.texts
    ]


def plain(adata: AnnData) -> AnnData:
    """The same numbers as a dense matrix in double precision, in memory; NaN for what is not finite."""
    adata = adata.copy()
    if adata.X is not None:
        x = adata.X.compute() if hasattr(adata.X, "compute") else adata.X
        x = np.asarray(x.toarray() if sparse.issparse(x) else x, dtype=np.float64)
        adata.X = np.where(np.isfinite(x), x, np.nan)
    adata.obsm["spatial"] = np.asarray(adata.obsm["spatial"], dtype=np.float64)
    return adata


SAME, PLAIN = object(), object()
"""What the sound object shows; what the same numbers show in their plainest form."""

ALWAYS: dict[str, Any] = {
    "no spots": r"`{}` has no spots",
    "genes twice": r"`{}\.var_names` are not unique.*var_names_make_unique",
    "spots twice": r"`{}\.obs_names` are not unique.*obs_names_make_unique",
}
STORAGE = (
    "csr",
    "csc",
    "csr array",
    "dense",
    "dense by columns",
    "float64",
    "dask",
    "raw set",
    "unused levels",
    "numbered spots",
)
OTHER_NAMES = ("genes of unicode", "genes with a slash", "an empty gene name", "numbered genes")
NOT_THERE = dict.fromkeys(("no genes", *OTHER_NAMES), r"`genes`: `{}\.var_names\['g[01]'\]` does not exist")
UNREAD: dict[str, Any] = {**dict.fromkeys(EVERY, SAME), **ALWAYS}
BY_STORAGE: dict[str, Any] = {**dict.fromkeys(EVERY, PLAIN), **dict.fromkeys(STORAGE, SAME), **ALWAYS, **NOT_THERE}
PLACES = {
    "spatial of three columns": r"`adata\.obsm\['spatial'\]` must have the shape \(n_obs, 2\)",
    "spatial with NaN": r"`adata\.obsm\['spatial'\]` is NaN or infinite for 1 of .*Leave them out",
    "spatial with infinity": r"`adata\.obsm\['spatial'\]` is NaN or infinite for 1 of .*Leave them out",
}
NOT_PLACES = {name: SAME for name in EVERY if name.startswith("spatial") or name == "all spots at one place"}
OUTCOMES: dict[str, dict[str, Any]] = {
    "alignment": UNREAD | {"one spot": PLAIN, "a view": PLAIN},
    "alignment_check": UNREAD | PLACES | dict.fromkeys(("one spot", "a view", "spatial as a table"), PLAIN),
    "calibration": {name: text.format("ref") if name in ALWAYS else text for name, text in UNREAD.items()},
    "gene_correlation": {
        **(BY_STORAGE | NOT_PLACES | dict.fromkeys(("huge", "tiny", "negative", "genes permuted"), SAME)),
        **{"no matrix": r"`adata\.X` is empty.*Name its layer by `truth`", "one spot": r"has 1 spots.*at least 3"},
        **dict.fromkeys(("boolean", "all zero", "all NaN"), r"`genes`: [02] of 5 vary as measured; at least 3 must"),
        **{"one gene": NOT_THERE["no genes"]},
    },
    "gene_scores": UNREAD
    | {"no genes": r"none of the 0 genes has a score in `adata\.var\['bleep_p.*Draw other"}
    | {"one gene": PLAIN},
    "history": UNREAD,
    "imputed": BY_STORAGE | PLACES | {"genes permuted": SAME, "one gene": SAME, "spatial as a table": SAME},
    "learning_curve": UNREAD,
    "neighbors": BY_STORAGE
    | NOT_PLACES
    | dict.fromkeys(("one spot", "one gene", "a view", "genes permuted", "an empty gene name"), SAME)
    | {"an empty gene name": NOT_THERE["no genes"]}
    | {"numbered spots": r"`spot`: `adata\.obs_names\['spot0'\]` does not exist"},
    "neighbors ref": BY_STORAGE
    | NOT_PLACES
    | {"genes permuted": SAME, "one gene": SAME, "no matrix": r"`ref\.X` is empty.*Pass the AnnData that was averaged"}
    | dict.fromkeys(
        ("one spot", "a view", "numbered spots"),
        r"`ref` is not the reference.*Pass the AnnData that `bleep_sc\.tl\.imp",
    ),
    "predictable_genes": {name: text.format("ref") if name in ALWAYS else text for name, text in UNREAD.items()}
    | {"no genes": r"none of the 0 genes has an expected correlation", "one gene": PLAIN},
    "regions": UNREAD,
    "reliability": UNREAD | PLACES | dict.fromkeys(("one spot", "a view", "spatial as a table"), PLAIN),
    "scores": UNREAD,
    "sweep": UNREAD,
}


@cache
def _of_the_sound(plot: str) -> Drawn:
    return draw(plot, EVERY["csr"](sound(plot)))


def sound(plot: str) -> AnnData:
    return reference() if plot == "neighbors ref" else finished()


def check_same(found: Drawn, wanted: Drawn, *, texts: bool = True) -> None:
    assert len(found[0]) == len(wanted[0])
    assert any(array.size for array in wanted[0])
    for here, there in zip(found[0], wanted[0], strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-6)
    assert not texts or found[1] == wanted[1]


def _cases() -> list[tuple[str, str]]:
    """Of plots that do not read values, those of other shapes and names, and some others."""
    some = {*ALWAYS, "no matrix", "all NaN", "dask", "no genes", "one spot", "one gene", "a view", "numbered genes"}
    some |= {"genes permuted", "numbered spots", "unused levels", "spatial with NaN"}
    some |= {"csc", "float16", "boolean", "a NaN", "an infinity", "an empty gene name"}
    alike = {"csr", "csr array", "float64", "dense by columns", "raw set", "unused levels", "genes of unicode"}
    reads = ("gene_correlation", "imputed")
    return [
        (plot, case)
        for plot, rows in OUTCOMES.items()
        for case in rows
        if case in some or (plot in reads and case not in alike)
    ]


@pytest.mark.parametrize(("plot", "case"), _cases())
@pytest.mark.slow
def test_odd_objects(plot: str, case: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # anndata's, of names that are there twice
        odd = EVERY[case](sound(plot))
    outcome = OUTCOMES[plot][case]
    if isinstance(outcome, str):
        name = "ref" if plot == "neighbors ref" else "adata"
        with pytest.raises((ValueError, KeyError), match=outcome.format(name)):
            draw(plot, odd)
        return
    check_same(draw(plot, odd), _of_the_sound(plot) if outcome is SAME else draw(plot, plain(odd)))


@pytest.mark.parametrize("plot", PLOTS)
def test_what_is_no_anndata(plot: str) -> None:
    for what in (None, "adata.h5ad", np.zeros((3, 2)), pd.DataFrame({"a": [1]})):
        with pytest.raises(TypeError, match=r"`(adata|ref)` must be an AnnData, found \w+"):
            draw(plot, what)  # type: ignore[arg-type]


NO_NAMES = {name: rf"`{name}` must be a list of names, found 3" for name in ("genes", "layers", "panels", "methods")}
NO_MAP = r"must be a colour map of matplotlib's, such as 'viridis', found 'no'"
ARGUMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("alignment", {"key": "no"}, r"`adata\.uns\['no_alignment'\]` does not exist.*tl\.alignment` writes it"),
    ("alignment", {"color": "no"}, r"`adata\.obs\['no'\]` does not exist.*`color` names a column"),
    ("alignment", {"cmap": "no"}, "`cmap` " + NO_MAP),
    ("alignment", {"color": "section", "palette": "no"}, "`palette` " + NO_MAP),
    ("alignment", {"color": "section", "palette": ["no"]}, "`palette` must hold colours, found 'no'"),
    ("alignment", {"color": "section", "palette": []}, "`palette` has 0 colours.*1 categories"),
    ("alignment", {"color": "section", "palette": 3}, "`palette` must be the name of a colour map or a list"),
    ("alignment", {"size": -1}, "`size` must be a finite number above 0, found -1"),
    ("alignment", {"size": np.nan}, "`size` must be a finite number above 0, found nan"),
    ("alignment", {"size": "x"}, "`size` must be a finite number above 0, found 'x'"),
    ("alignment", {"ax": 3}, r"`ax` must be a matplotlib Axes, as of `plt\.subplots\(\)`, found int"),
    ("alignment_check", {"key": "no"}, r"`adata\.uns\['no'\]` does not exist.*pp\.check_alignment\(adata\)` writes it"),
    ("alignment_check", {"library_key": "no"}, r"`adata\.obs\['no'\]` does not exist.*name of a column"),
    ("alignment_check", {"library_id": "no"}, r"\['no'\]` does not exist; there is 'q'.*`library_id` names"),
    ("alignment_check", {"size": 0}, "`size` must be a finite number above 0, found 0"),
    ("gene_correlation", {"genes": 3}, NO_NAMES["genes"]),
    ("gene_correlation", {"genes": ["g0", "no"]}, r"`genes`: `adata\.var_names\['no'\]` does not exist"),
    ("gene_correlation", {"genes": []}, r"`genes` must name at least 3 genes of `adata`, found \[\]"),
    ("gene_correlation", {"genes": "no"}, r"`adata\.uns\['bleep'\]\['panels'\]\['no'\]` does not.*go in as a list"),
    ("gene_correlation", {"layer": "no"}, r"`adata\.layers\['no'\]` does not exist.*tl\.impute` makes"),
    ("gene_correlation", {"truth": "no"}, r"`adata\.layers\['no'\]` does not exist.*`truth=None` takes `X`"),
    ("gene_correlation", {"library_key": "no"}, r"`adata\.obs\['no'\]` does not exist.*name of a column"),
    ("gene_correlation", {"cmap": "no"}, "`cmap` " + NO_MAP),
    ("gene_scores", {"layers": 3}, NO_NAMES["layers"]),
    ("gene_scores", {"layers": []}, "`layers` names none: pass a layer"),
    (
        "gene_scores",
        {"layers": "no"},
        r"`adata\.var\['no_pearson'\]` does not exist.*tl\.evaluate\(adata, layer='no'\)`",
    ),
    ("gene_scores", {"metric": "no"}, r"`adata\.var\['bleep_no'\]` does not exist.*tl\.evaluate"),
    ("gene_scores", {"genes": 3}, NO_NAMES["genes"]),
    ("gene_scores", {"genes": ["no"]}, r"`genes`: `adata\.var_names\['no'\]` does not exist"),
    ("gene_scores", {"panels": 3}, NO_NAMES["panels"]),
    ("gene_scores", {"panels": ["no"]}, r"`adata\.uns\['bleep'\]\['panels'\]\['no'\]` does not exist.*HVG-50"),
    ("gene_scores", {"panels": {"mine": 3}}, r"`panels\['mine'\]` must be a list of names, found 3"),
    ("gene_scores", {"n_named": -1}, "`n_named` must be an integer of at least 0, found -1"),
    ("gene_scores", {"ax": 3}, "`ax` must be a matplotlib Axes"),
    ("history", {"key": "no"}, r"`adata\.uns\['no'\]\['history'\]` does not exist: `bleep_sc\.tl\.fit` writes it"),
    ("history", {"ax": 3}, "`ax` must be a matplotlib Axes"),
    ("reliability", {"key": "no"}, r"`adata\.obs\['no_reliability'\]` does not exist.*tl\.impute` writes it"),
    ("reliability", {"library_key": "no"}, r"`adata\.obs\['no'\]` does not exist.*name of a column"),
    ("reliability", {"alpha_img": 2}, "`alpha_img` must be from 0 to 1, found 2"),
    ("reliability", {"size": 0}, "`size` must be a finite number above 0, found 0"),
    ("imputed", {"genes": 3}, NO_NAMES["genes"]),
    ("imputed", {"genes": []}, "`genes` names none: pass a gene or several"),
    ("imputed", {"genes": "no"}, r"`genes`: `adata\.var_names\['no'\]` does not exist"),
    ("imputed", {"layer": "no"}, r"`adata\.layers\['no'\]` does not exist.*tl\.impute` makes"),
    ("imputed", {"truth": "no"}, r"`adata\.layers\['no'\]` does not exist.*`truth=None` takes `X`"),
    ("imputed", {"library_key": "no"}, r"`adata\.obs\['no'\]` does not exist.*name of a column"),
    ("imputed", {"library_id": 3}, "`library_id` must be a list of names, found 3"),
    (
        "imputed",
        {"library_id": "no"},
        r"`adata\.uns\['spatial'\]\['no'\]` does not exist; there is 'q'.*`library_id` names",
    ),
    ("imputed", {"library_id": []}, r"`library_id` names none of the sections \['q'\]"),
    ("imputed", {"alpha_img": 2}, "`alpha_img` must be from 0 to 1, found 2"),
    ("imputed", {"alpha_img": np.nan}, "`alpha_img` must be a finite number of at least 0, found nan"),
    ("imputed", {"cmap": "no"}, "`cmap` " + NO_MAP),
    ("imputed", {"difference_cmap": "no"}, "`difference_cmap` " + NO_MAP),
    ("imputed", {"size": 0}, "`size` must be a finite number above 0, found 0"),
    ("neighbors", {"ref": None}, "`ref` must be an AnnData, found NoneType"),
    ("neighbors", {"spot": 3}, "`spot` must be a list of names, found 3"),
    ("neighbors", {"spot": []}, "`spot` names none: pass the name of a query spot"),
    ("neighbors", {"spot": "no"}, r"`spot`: `adata\.obs_names\['no'\]` does not exist"),
    ("neighbors", {"genes": 3}, NO_NAMES["genes"]),
    ("neighbors", {"genes": "no"}, r"`genes`: `adata\.var_names\['no'\]` does not exist"),
    ("neighbors", {"key": "no"}, r"`adata\.obsm\['no_neighbors'\]` does not exist.*tl\.impute` writes it"),
    ("neighbors", {"n_neighbors": 0}, "`n_neighbors` must be an integer of at least 1, found 0"),
    ("neighbors", {"image_key": "no"}, r"`adata\.obsm\['no'\]` does not exist.*pp\.crops"),
    ("neighbors", {"image_key": "spatial"}, r"`adata\.obsm\['spatial'\]` must hold crops.*by `image_key`"),
    ("neighbors", {"cmap": "no"}, "`cmap` " + NO_MAP),
    ("scores", {"key": "no"}, r"`adata\.uns\['no'\]` does not exist.*tl\.cross_validate` compares methods"),
    ("scores", {"layers": 3}, NO_NAMES["layers"]),
    ("scores", {"layers": []}, "`layers` must name at least one layer"),
    ("scores", {"layers": "no"}, r"`adata\.uns\['no_scores'\]` does not exist.*tl\.evaluate` scores a layer"),
    ("scores", {"metric": "no"}, "`metric` must be one of 'pearson', found 'no'"),
    ("scores", {"panels": 3}, NO_NAMES["panels"]),
    ("scores", {"panels": "no"}, "`panels` must be one of 'all', found 'no'"),
    ("scores", {"methods": 3}, NO_NAMES["methods"]),
    ("scores", {"methods": []}, "`methods` must name at least one of 'small'"),
    ("scores", {"floors": 3}, "`floors` must be a list of names, found 3"),
    ("learning_curve", {"key": 3}, "`key` must be a name, found 3"),
    ("learning_curve", {"key": "no"}, r"`adata\.uns\['no'\]` does not exist.*tl\.learning_curve"),
    ("learning_curve", {"metric": "no"}, "`metric` must be one of 'pearson', found 'no'"),
    ("learning_curve", {"panels": "no"}, "`panels` must be one of 'all', found 'no'"),
    ("sweep", {"parameter": 3}, "`parameter` must be a name, found 3"),
    ("sweep", {"parameter": "no"}, "`parameter='no'` was not varied.*Varied were 'dim'"),
    ("sweep", {"key": 3}, "`key` must be a list of names, found 3"),
    ("sweep", {"key": []}, "`key` names no comparison"),
    ("sweep", {"key": "no"}, r"`adata\.uns\['no'\]` does not exist.*tl\.cross_validate` compares methods"),
    ("sweep", {"metric": "no"}, "`metric` must be one of 'pearson', found 'no'"),
    ("sweep", {"panels": 3}, NO_NAMES["panels"]),
    ("sweep", {"methods": "no"}, "`methods` must be one of 'small', 'large', 'ridge', found 'no'"),
]


@pytest.mark.parametrize(("plot", "arguments", "message"), ARGUMENTS)
def test_bad_arguments(plot: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError), match=message):
        draw(plot, finished(), **arguments)


Change = Callable[[AnnData], None]


def at(*path: str, to: Any) -> Change:
    """Put something else at a place in `uns`."""

    def change(adata: AnnData) -> None:
        inner = adata.uns
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = to

    return change


def without(*path: str) -> Change:
    def change(adata: AnnData) -> None:
        inner = adata.uns
        for name in path[:-1]:
            inner = inner[name]
        del inner[path[-1]]

    return change


def obsm(name: str, make: Callable[[np.ndarray], Any]) -> Change:
    def change(adata: AnnData) -> None:
        adata.obsm[name] = make(np.asarray(adata.obsm[name]))

    return change


def table(make: Callable[[pd.DataFrame], Any]) -> Change:
    """Another table of scores."""

    def change(adata: AnnData) -> None:
        adata.uns["cv"]["summary"] = make(adata.uns["cv"]["summary"])

    return change


def library(**parts: Any) -> Change:
    """A section's picture and scale, of which something is wrong."""
    factors = {"tissue_hires_scalef": 0.1, "spot_diameter_fullres": 50.0} | parts.pop("factors", {})
    image = np.zeros((99, 99, 3), dtype=np.uint8)
    return at("spatial", to={"q": {"images": {"hires": image}, "scalefactors": factors} | parts})


def layer(value: Any) -> Change:
    def change(adata: AnnData) -> None:
        adata.layers["bleep"] = np.full(adata.shape, value)

    return change


def words(values: np.ndarray) -> np.ndarray:
    return np.full(values.shape, "x")


def damaged(path: str, writer: str) -> str:
    return rf"`adata\.{path}` is damaged, or another program's .*`bleep_sc\.tl\.{writer}` writes it again"


IN_SPACE = "X_bleep_alignment_image"
OF_ALIGNMENT, OF_TABLE = damaged(r"uns\['bleep_alignment'\]", "alignment"), damaged(r"uns\['cv'\]", "cross_validate")
OF_HISTORY = damaged(r"uns\['bleep'\]\['history'\]", "fit")
OF_PANELS = damaged(r"uns\['bleep'\]\['panels'\]", "impute")
OF_CONFIG = damaged(r"uns\['cv'\]\['config'\]", "cross_validate")
OF_PARAMS = damaged(r"uns\['bleep'\]\['params'\]", "impute")
OF_IMPUTED = damaged(r"uns\['bleep'\]", "impute")
NO_IMAGE = r"`adata\.uns\['spatial'\]\['q'\]\['images'\]\['hires'\]` must be an image \(y, x, 3\), uint8 or .* 0 to 1"
NO_DICT = r"`adata\.uns\['spatial'\].*` must be a dict.*draws without pictures"
NO_FACTOR = (
    r"`adata\.uns\['spatial'\]\['q'\]\['scalefactors'\]\['tissue_hires_scalef'\]` must be a finite number above 0"
)
ROWS = r"`adata\.obsm\['bleep_neighbors'\]` must hold rows of `ref`, integers from 0 to 7.*tl\.impute` writes it again"
NO_NUMBERS = r"`adata\.layers\['bleep'\]` must hold numbers, found"
FIELDS: list[tuple[str, Change, str]] = [
    *[("alignment", at("bleep_alignment", to=what), OF_ALIGNMENT) for what in ("x", None, 3, [1])],
    *[
        ("alignment", without("bleep_alignment", name), OF_ALIGNMENT)
        for name in ("pair_distance", "recall", "recall_by_chance", "n_spots", "in_sample", "params")
    ],
    ("alignment", at("bleep_alignment", "pair_distance", to="x"), OF_ALIGNMENT),
    ("alignment", at("bleep_alignment", "recall", to=[0.5]), OF_ALIGNMENT),
    ("alignment", at("bleep_alignment", "recall", to={"2": 0.5}), OF_ALIGNMENT),
    ("alignment", at("bleep_alignment", "n_spots", to="many"), OF_ALIGNMENT),
    ("alignment", at("bleep_alignment", "params", to={}), OF_ALIGNMENT),
    ("alignment", obsm(IN_SPACE, lambda v: v[:, :1]), rf"`adata\.obsm\['{IN_SPACE}'\]` must have the shape \(12, 2\)"),
    ("alignment", obsm(IN_SPACE, words), rf"`adata\.obsm\['{IN_SPACE}'\]` must hold numbers.*tl\.alignment` writes it"),
    ("gene_correlation", at("bleep", "panels", to=None), OF_PANELS),
    ("gene_correlation", at("bleep", "panels", to={"HVG-50": 3}), OF_PANELS),
    ("gene_correlation", at("bleep_scores", "summary", to="x"), damaged(r"uns\['bleep_scores'\]", "evaluate")),
    (
        "gene_correlation",
        at("bleep_scores", "summary", to=pd.DataFrame({"a": [1]})),
        damaged(r"uns\['bleep_s.*", "eval.*"),
    ),
    ("gene_correlation", layer("x"), NO_NUMBERS),
    ("gene_correlation", layer(1j), NO_NUMBERS),
    (
        "gene_correlation",
        lambda a: a.obs.__setitem__("section", pd.Categorical([None] * 12)),
        r"`adata\.obs\['section'\]` is missing for 12 of 12 spots",
    ),
    ("gene_scores", lambda a: a.var.__setitem__("bleep_pearson", "x"), damaged(r"var\['bleep_pearson'\]", "evaluate")),
    (
        "gene_scores",
        lambda a: a.var.__setitem__("bleep_pearson", np.inf),
        r"none of the 30 genes has a score.*Draw other",
    ),
    ("gene_scores", at("bleep", "panels", to=["a"]), OF_PANELS),
    *[
        ("history", at("bleep", to=what), r"`adata\.uns\['bleep'\]\['history'\]` does not exist")
        for what in ("x", None, 3)
    ],
    ("history", at("bleep", "history", "train_loss", to=["x"]), OF_HISTORY),
    ("history", without("bleep", "history", "best_epoch"), OF_HISTORY),
    *[
        ("history", at("bleep", "history", "best_epoch", to=what), OF_HISTORY)
        for what in ("x", np.array([]), np.array([np.nan]), np.array([-5]))
    ],
    ("history", at("bleep", "history", to={}), "the model 'bleep' has no epochs to draw.*ridge, knn"),
    *[("imputed", at("spatial", to=what), NO_DICT) for what in ("x", None, 3, {"q": "x"}, {"q": {"images": "x"}})],
    ("imputed", library(scalefactors="x"), NO_DICT),
    *[
        ("imputed", library(images={"hires": image}), NO_IMAGE)
        for image in ("x", np.zeros(5), np.zeros((9, 9, 5)), np.zeros((0, 0, 3)), np.full((9, 9, 3), 200.0))
    ],
    ("imputed", library(images={"hires": np.full((9, 9, 3), 4000, dtype=np.uint16)}), NO_IMAGE),
    (
        "imputed",
        library(images={"lowres": np.zeros((9, 9, 3))}),
        r"\['images'\]\['hires'\]` does not.*`img_key=None` draws",
    ),
    ("imputed", library(scalefactors={}), r"\['scalefactors'\]\['tissue_hires_scalef'\]` does not exist.*squidpy"),
    *[("imputed", library(factors={"tissue_hires_scalef": what}), NO_FACTOR) for what in ("x", np.nan, 0.0, None)],
    (
        "imputed",
        library(images={}, factors={"spot_diameter_fullres": -9}),
        r"\['spot_diameter_fullres'\]` must be a finite",
    ),
    (
        "imputed",
        lambda a: a.obsm.__delitem__("spatial"),
        r"`adata\.obsm\['spatial'\]` does not exist.*full-resolution pixels",
    ),
    ("imputed", layer("x"), NO_NUMBERS),
    ("imputed", lambda a: a.var.__setitem__("bleep_pearson", "x"), damaged(r"var\['bleep_pearson'\]", "evaluate")),
    ("imputed", at("bleep_scores", to="x"), damaged(r"uns\['bleep_scores'\]", "evaluate")),
    ("imputed", at("bleep_scores", "n_sections", to="x"), damaged(r"uns\['bleep_scores'\]", "evaluate")),
    ("reliability", at("bleep", to="x"), damaged(r"uns\['bleep'\]\['reliability'\]", "impute")),
    *[
        ("reliability", at("bleep", "reliability", to=what), damaged(r"uns\['bleep'\]\['reliability'\]", "impute"))
        for what in ("x", 3, {}, pd.DataFrame({"section": ["q"]}))
    ],
    (
        "reliability",
        lambda a: a.obs.__setitem__("bleep_reliability", "x"),
        damaged(r"obs\['bleep_reliability'\]", "impute"),
    ),
    ("neighbors", at("bleep", to="x"), OF_IMPUTED),
    *[("neighbors", at("bleep", "reference_names", to=what), OF_IMPUTED) for what in (None, 3, [])],
    ("neighbors", at("bleep", "reference_names", to=["a"]), "`ref` is not the reference.*Pass the AnnData|damaged"),
    *[("neighbors", at("bleep", "reference_library", to=what), OF_IMPUTED) for what in (None, ["A"])],
    ("neighbors", at("bleep", "params", to="x"), OF_PARAMS),
    *[
        ("neighbors", at("bleep", "params", to={"weights": what}), OF_PARAMS)
        for what in ("x", {}, {"retrieval": "x"}, {"retrieval": 0.0})
    ],
    ("neighbors", at("bleep", "params", to={"layer": "no"}), r"`ref\.layers\['no'\]` does not exist.*tl\.impute"),
    *[
        ("neighbors", obsm("bleep_neighbors", make), ROWS)
        for make in (lambda v: v + 8, lambda v: v - 8, lambda v: v + 0.5, words, lambda v: v[:, :0])
    ],
    (
        "neighbors",
        obsm("bleep_distances", lambda v: v[:, :2]),
        r"`adata\.obsm\['bleep_distances'\]` must have the shape",
    ),
    (
        "neighbors",
        obsm("bleep_distances", words),
        r"`adata\.obsm\['bleep_distances'\]` must hold numbers.*writes it again",
    ),
    *[
        ("neighbors", obsm("crops", make), r"`adata\.obsm\['crops'\]` must be an image \(y, x, 3\), uint8 or")
        for make in (words, lambda v: v[:, :0, :0], lambda v: v.astype(np.float64), lambda v: v.astype(np.uint16) * 200)
    ],
    ("neighbors", layer("x"), NO_NUMBERS),
    *[("scores", at("cv", to=what), OF_TABLE) for what in ("x", None, 3)],
    ("scores", at("cv", to={}), r"`adata\.uns\['cv'\]\['summary'\]` does not exist.*tl\.cross_validate"),
    *[
        ("scores", table(lambda _, what=what: what), OF_TABLE)
        for what in ("x", pd.DataFrame(), pd.DataFrame({"a": [1]}))
    ],
    *[
        ("scores", table(lambda t, name=name: t.drop(columns=name)), OF_TABLE)
        for name in ("method", "panel", "metric", "value", "low", "ceiling", "n_genes", "n_patients", "n_sections")
    ],
    ("scores", table(lambda t: t.assign(value="x")), OF_TABLE),
    ("scores", table(lambda t: pd.concat([t, t])), OF_TABLE),
    ("scores", table(lambda t: t[:0]), "`metric` must be one of"),
    *[("sweep", table(lambda _, what=what: what), OF_TABLE) for what in ("x", pd.DataFrame())],
    ("sweep", table(lambda t: pd.concat([t, t])), OF_TABLE),
    *[
        ("sweep", at("cv", "config", to=what), OF_CONFIG)
        for what in ("x", None, "[1]", "{}", '{"methods": {"small": "x", "large": {}, "ridge": {}}}')
    ],
    ("sweep", without("cv", "config"), r"`adata\.uns\['cv'\]\['config'\]` does not exist.*tl\.cross_validate"),
    (
        "sweep",
        at("cv", "config", to='{"methods": {"small": {}, "large": {}, "ridge": {}}}'),
        r"\['small'\]\['method'\]` does",
    ),
]


@pytest.mark.parametrize("number", range(len(FIELDS)))
def test_damaged_fields(number: int) -> None:
    plot, change, message = FIELDS[number]
    adata = finished()
    adata.uns = deepcopy(dict(adata.uns))
    change(adata)
    more = {"genes": "HVG-50"} if plot == "gene_correlation" else {}
    with pytest.raises((ValueError, KeyError), match=message):
        draw(plot, adata, **more)
