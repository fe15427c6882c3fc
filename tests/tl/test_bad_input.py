"""What the functions of `bl.tl` make of every odd object: the right result, or one error that says how to mend it."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from conftest import PUBLISHED, make_sections, snapshot
from odd_inputs import EVERY
from safetensors.numpy import load
from scipy import sparse

import bleep_sc as bl

pytestmark = [pytest.mark.odd, pytest.mark.usefixtures("remembered_colours")]

TINY: Mapping[str, dict[str, Any]] = {
    "default": {"max_epochs": 1, "members": 1},
    "paper": {**PUBLISHED, "max_epochs": 1},
    "ridge": {"method": "ridge", "alpha": 1.0},
    "regressor": {"method": "regressor", "encoder": "color", "max_epochs": 1},
}
"""Arguments of `fit` for models that take a tenth of a second."""


def quietly(function: Callable[[], Any]) -> Any:
    """Warnings of bleep_sc and of anndata are other tests' matter; those of NumPy, torch and pandas are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function()


def reference() -> AnnData:
    """Two sections of 20 spots, of which each is a patient's."""
    ref = make_sections(20, size=8)
    ref.obs["patient"] = ref.obs["section"]
    ref.obsm["X_made"] = ref.obsm["crops"].mean(axis=(1, 2)).astype(np.float32)
    return ref


@cache
def _fitted(kind: str) -> AnnData:
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        return quietly(lambda: bl.tl.fit(reference(), **TINY[kind], copy=True))


def fitted(kind: str) -> AnnData:
    """The reference with a tiny model, free to change."""
    return _fitted(kind).copy()


def slide() -> AnnData:
    """Thirty spots of another section, with expression of their own."""
    query = make_sections(30, sections=("q",), size=8, seed=1)
    query.obs_names = [f"query{i}" for i in range(query.n_obs)]
    return query


@cache
def _imputed() -> AnnData:
    return bl.tl.impute(slide(), fitted("default"), copy=True)


def plain(adata: AnnData) -> AnnData:
    """The same numbers as most people have them: CSR of float32, text for names, no more than is needed."""
    x = adata.X.compute() if hasattr(adata.X, "compute") else adata.X
    x = x.toarray() if sparse.issparse(x) else x
    made = AnnData(
        None if x is None else sparse.csr_matrix(np.asarray(x, dtype=np.float32)),
        obs=adata.obs.set_axis(adata.obs_names.astype(str)),
        var=adata.var.set_axis(adata.var_names.astype(str)),
        uns=dict(adata.uns),
        layers={name: layer for name, layer in adata.layers.items() if name is not None},  # newer anndata lists `X`
    )
    for key, values in adata.obsm.items():
        made.obsm[key] = np.asarray(values)
    return made


def learned(kind: str) -> Callable[[AnnData], np.ndarray]:
    """Fit, read the model back, and return all its numbers and the embeddings."""

    def run(adata: AnnData) -> np.ndarray:
        bl.tl.fit(adata, **TINY[kind])
        assert list(adata.uns["bleep"]["genes"]) == [str(name) for name in adata.var_names]
        parts = [tensor for _, tensor in sorted(load(adata.uns["bleep"]["model"].tobytes()).items())]
        parts += [adata.obsm[key] for key in sorted(adata.obsm) if key.startswith("X_bleep")]
        return np.concatenate([np.asarray(part, dtype=np.float64).ravel() for part in parts])

    return run


def embedded(kind: str) -> Callable[[AnnData], np.ndarray]:
    def run(adata: AnnData) -> np.ndarray:
        bl.tl.embed(adata, fitted(kind))
        return np.hstack([adata.obsm[key] for key in sorted(adata.obsm) if key.startswith("X_bleep")])

    return run


def imputed(kind: str) -> Callable[[AnnData], np.ndarray]:
    def run(query: AnnData) -> np.ndarray:
        bl.tl.impute(query, fitted(kind))
        return query.layers["bleep"]

    return run


def imputed_from(**how: Any) -> Callable[[AnnData], np.ndarray]:
    """`impute` from an odd reference, which it must leave as it is."""

    def run(ref: AnnData) -> np.ndarray:
        query, before = slide(), snapshot(ref)
        bl.tl.impute(query, ref, **how)
        assert snapshot(ref) == before
        return query.layers["bleep"]

    return run


def evaluated(query: AnnData) -> np.ndarray:
    bl.tl.evaluate(query, n_bootstrap=10, metrics=["pearson", "pearson_depth_free", "rmse", "ssim", "moran_difference"])
    table = query.uns["bleep_scores"]["summary"]
    of_genes = query.var[[name for name in query.var if name.startswith("bleep_")]].to_numpy()
    return np.concatenate(
        [table[["value", "low", "high", "n_genes", "n_missing"]].to_numpy().ravel(), of_genes.ravel()]
    )


def cross_validated(counts_layer: str | None) -> Callable[[AnnData], np.ndarray]:
    def run(adata: AnnData) -> np.ndarray:
        scores = bl.tl.cross_validate(
            adata,
            methods=["ridge"],
            method_kwargs={"ridge": {"alpha": 1.0, "image_key": "X_made"}},
            counts_layer=counts_layer,
            n_bootstrap=0,
        )
        return np.concatenate([adata.layers["cv_ridge"].ravel(), scores["value"].to_numpy()])

    return run


def aligned(adata: AnnData) -> np.ndarray:
    bl.tl.alignment(adata, layout="tsne")
    return adata.obs[["bleep_pair_distance", "bleep_pair_rank"]].to_numpy(dtype=np.float64)


def ceiling(adata: AnnData) -> np.ndarray:
    bl.tl.noise_ceiling(adata)
    return adata.var["noise_ceiling"].to_numpy()


def same(sound: np.ndarray, _odd: np.ndarray, _values: np.ndarray | None) -> np.ndarray:
    """What the function gives for the sound object in CSR."""
    return sound


def values(sound: np.ndarray, _odd: np.ndarray, expected: np.ndarray | None) -> np.ndarray:
    """What it gives for the same numbers in CSR, which are others than the sound ones."""
    assert expected is not None
    assert expected.shape != sound.shape or not np.array_equal(expected, sound, equal_nan=True)
    return expected


def reversed_genes(sound: np.ndarray, _odd: np.ndarray, _values: np.ndarray | None) -> np.ndarray:
    return sound[:, ::-1]


def first_row(sound: np.ndarray, _odd: np.ndarray, _values: np.ndarray | None) -> np.ndarray:
    return sound[:1]


def first_gene(sound: np.ndarray, _odd: np.ndarray, _values: np.ndarray | None) -> np.ndarray:
    return sound[:, :1]


def without_first_gene(sound: np.ndarray, _odd: np.ndarray, _values: np.ndarray | None) -> np.ndarray:
    return np.where(np.arange(sound.shape[1]) == 0, np.nan, sound)


def only_first_gene(sound: np.ndarray, _odd: np.ndarray, _values: np.ndarray | None) -> np.ndarray:
    return np.where(np.arange(sound.shape[1]) == 0, sound, np.nan)


Outcome = str | Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]
"""A pattern of the error's message, or what the result must be, from that of the sound object."""

STORAGE = dict.fromkeys(
    ("csr", "csc", "csr array", "dense", "dense by columns", "float64", "dask", "raw set", "unused levels"), same
)
NUMBERS = dict.fromkeys(("float16", "integer", "boolean", "a zero spot", "a zero gene", "all zero", "tiny"), values)
UNREAD = dict.fromkeys(("no matrix", "a NaN", "an infinity", "all NaN", "huge", "negative", *NUMBERS), same)
"""Of a function that does not read `X`."""
OTHER_NAMES = dict.fromkeys(("genes of unicode", "genes with a slash", "numbered genes"), same)
SPOT_NAMES = {"numbered spots": same}
NOT_UNIQUE = {
    "genes twice": r"`{}\.var_names` are not unique.*'g1'.*var_names_make_unique",
    "spots twice": r"`{}\.obs_names` are not unique.*'spot1'.*obs_names_make_unique",
}
NO_SPOTS = {"no spots": r"`{}` has no spots"}
VIEW = {"a view": r"`{0}` is a view.*`{0} = {0}\.copy\(\)`"}
NO_GENES = {"no genes": r"`{}` has no genes \(n_vars = 0\).*mask"}
NO_X = {"no matrix": r"`{}\.X` is empty: expression is needed"}
NOT_FINITE = dict.fromkeys(("a NaN", "an infinity", "all NaN"), r"`{}\.X` holds NaN or infinite.*Remove or replace")
HUGE = {"huge": r"`{}\.X` holds values as large as 7.*e\+30.*at most 1e\+12.*[Nn]ormalise"}
NEGATIVE = {"negative": r"`{}\.X` has negative values.*log-normalised expression is expected"}
BAD_X = NO_X | NOT_FINITE | HUGE | NEGATIVE
PLACES = dict.fromkeys(("spatial as a table", "spatial of integers", "all spots at one place"), same) | {
    "spatial of three columns": r"`{}\.obsm\['spatial'\]` must have the shape \(n_obs, 2\)",
    "spatial with NaN": r"`{}\.obsm\['spatial'\]` is NaN or infinite for 1 of .*Leave them out",
    "spatial with infinity": r"`{}\.obsm\['spatial'\]` is NaN or infinite for 1 of .*Leave them out",
}
UNREAD_PLACES = dict.fromkeys(PLACES, same)
UNSTORABLE = {"an empty gene name": r"`{}\.var_names\[0\]` is '', an empty name.*another name, or leave it out"}
COMMON = STORAGE | NOT_UNIQUE | NO_SPOTS | VIEW | SPOT_NAMES
NO_SHARED = dict.fromkeys(
    ("genes of unicode", "genes with a slash", "numbered genes"), r"share no gene.*Name genes alike in both.*pp\.blank"
)

FIT: dict[str, Outcome] = {
    **(COMMON | NUMBERS | BAD_X | NO_GENES | OTHER_NAMES | UNREAD_PLACES | UNSTORABLE),
    **{"one spot": r"`{}` has 1 spots; at least 16 are needed", "one gene": values, "genes permuted": values},
}
EMBED: dict[str, Outcome] = {
    **(COMMON | NUMBERS | NOT_FINITE | HUGE | NEGATIVE | UNREAD_PLACES),
    # without the model's genes the images are placed alone
    **dict.fromkeys(("no matrix", "no genes", "one gene", *NO_SHARED, "an empty gene name"), values),
    **{"genes permuted": same, "one spot": first_row},
}
QUERY: dict[str, Outcome] = {
    **(COMMON | UNREAD | NO_SHARED | UNREAD_PLACES),
    **{"no genes": r"`query` has no genes, so there is no column to fill.*pp\.blank", "genes permuted": reversed_genes},
    **{"one gene": first_gene, "one spot": first_row, "an empty gene name": without_first_gene},
}
REFERENCE: dict[str, Outcome] = {
    **(COMMON | NUMBERS | BAD_X | NO_GENES | NO_SHARED | UNREAD_PLACES),
    **{"a view": values, "one spot": r"`k=20` is more than the 1 spots.*largest possible `k` is 1"},
    **{"genes permuted": same, "one gene": only_first_gene, "an empty gene name": without_first_gene},
}
READ_FROM_THE_MODEL = {name: same for name in REFERENCE if name not in (NOT_UNIQUE | NO_SPOTS)}
EVALUATE: dict[str, Outcome] = {
    **(COMMON | NUMBERS | NOT_FINITE | HUGE | NO_GENES | PLACES | dict.fromkeys(NO_SHARED, values)),
    **{"no matrix": r"`query` has no measured expression \(`X` is empty\).*Evaluate on a section that was"},
    **{"negative": values, "one spot": r"section 'q' has 1 spots.*at least 3.*Leave it out", "one gene": values},
    **dict.fromkeys(("spatial of integers", "all spots at one place", "genes permuted", "an empty gene name"), values),
}
CROSS_VALIDATE: dict[str, Outcome] = {
    **(COMMON | UNREAD | NO_GENES | OTHER_NAMES | UNREAD_PLACES | UNSTORABLE),
    **{"one spot": r"`{}\.obs\['patient'\]` holds one group only, 's1'", "one gene": values, "genes permuted": values},
}
CROSS_VALIDATE_X: dict[str, Outcome] = {
    **(CROSS_VALIDATE | NUMBERS | BAD_X),
    # the two sections' profiles are all alike then
    **{"boolean": r"have the same profile in `adata\.X`.*Remove the copies"},
    **{"all zero": r"no gene is detected in 10% of the spots: lower `min_fraction`"},
}
ALIGNMENT: dict[str, Outcome] = {
    **(COMMON | UNREAD | OTHER_NAMES | UNREAD_PLACES),
    **dict.fromkeys(("no genes", "one gene", "genes permuted", "an empty gene name"), same),
    **{"one spot": r"`{}` has 1 spots; at least 5 are needed"},
}
CEILING: dict[str, Outcome] = {
    **(COMMON | UNREAD | OTHER_NAMES | UNREAD_PLACES | NO_GENES),
    # the total that the halves are normalised to is read from X where it tells
    **dict.fromkeys(UNREAD, values) | {"a zero spot": same},
    **{"one spot": r"section 's1' has 1 spots.*at least 3.*Leave it out", "one gene": values, "genes permuted": values},
    **{"an empty gene name": same},
}


@dataclass(frozen=True)
class Row:
    """A function, the sound object that is made odd, and what must come out for each odd one."""

    run: Callable[[AnnData], np.ndarray]
    sound: Callable[[], AnnData]
    outcomes: Mapping[str, Outcome]
    called: str = "adata"
    """Name of the argument, in messages."""


TABLE: dict[str, Row] = {
    "fit": Row(learned("default"), reference, FIT | PLACES | {"all spots at one place": values}),
    "fit paper": Row(learned("paper"), reference, FIT),
    "fit ridge": Row(learned("ridge"), reference, FIT),
    "fit regressor": Row(learned("regressor"), reference, FIT),
    "embed": Row(
        embedded("default"),
        slide,
        EMBED | PLACES | {"one spot": values, "all spots at one place": values},
    ),
    "embed paper": Row(embedded("paper"), slide, EMBED),
    "impute": Row(
        imputed("default"),
        slide,
        QUERY | PLACES | {"one spot": values, "all spots at one place": values},
        "query",
    ),
    "impute paper": Row(imputed("paper"), slide, QUERY, "query"),
    "impute ridge": Row(imputed("ridge"), slide, QUERY | {"one spot": values}, "query"),
    "impute ref": Row(imputed_from(k=20), lambda: fitted("default"), REFERENCE, "ref"),
    "impute ref paper": Row(imputed_from(k=20), lambda: fitted("paper"), REFERENCE, "ref"),
    "impute ref ridge": Row(
        imputed_from(), lambda: fitted("ridge"), READ_FROM_THE_MODEL | NOT_UNIQUE | NO_SPOTS, "ref"
    ),
    "evaluate": Row(evaluated, lambda: _imputed().copy(), EVALUATE, "query"),
    "cross_validate": Row(cross_validated("counts"), reference, CROSS_VALIDATE),
    "cross_validate X": Row(cross_validated(None), reference, CROSS_VALIDATE_X),
    "alignment": Row(aligned, lambda: fitted("default")[::4].copy(), ALIGNMENT),
    "noise_ceiling": Row(ceiling, reference, CEILING),
}


SLOW = (
    *("fit regressor", "fit paper", "embed paper", "impute paper", "impute ref paper", "impute ref ridge"),
    *("cross_validate", "cross_validate X", "alignment"),
)
"""Rows that take the way of another through most of the code."""


def _paced(function: str) -> Any:
    return pytest.param(function, marks=pytest.mark.slow) if function in SLOW else function


@cache
def _of_the_sound(function: str) -> np.ndarray:
    row = TABLE[function]
    return quietly(lambda: row.run(EVERY["csr"](row.sound())))


def test_every_odd_object_has_its_outcome() -> None:
    for function, row in TABLE.items():
        assert set(row.outcomes) == set(EVERY), function


@pytest.mark.parametrize("case", EVERY)
@pytest.mark.parametrize("function", [*map(_paced, TABLE)])
def test_odd_objects(function: str, case: str) -> None:
    row = TABLE[function]
    odd, outcome = quietly(lambda: EVERY[case](row.sound())), row.outcomes[case]
    before = snapshot(odd)
    if isinstance(outcome, str):
        with pytest.raises((ValueError, KeyError), match=outcome.format(row.called)) as caught:
            quietly(lambda: row.run(odd))
        assert snapshot(odd) == before
        assert "uns['bleep']" not in str(caught.value)
        return
    expected = quietly(lambda: row.run(plain(odd))) if outcome is values else None
    found = quietly(lambda: row.run(odd))
    wanted = outcome(_of_the_sound(function), found, expected)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)
    after = snapshot(odd)
    for slot in ("X", "obsm", "layers", "varm", "obsp"):  # nothing that was there is lost or another
        kept = before[slot]
        assert {key: after[slot][key] for key in kept} == kept if isinstance(kept, dict) else after[slot] == kept
