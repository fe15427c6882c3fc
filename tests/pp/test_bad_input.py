"""What the functions of `bl.pp` make of odd objects and arguments: the right result, or one error before any work."""

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from conftest import make_sections, snapshot
from odd_inputs import EVERY
from scipy import sparse
from squidpy.im import ImageContainer

import bleep_sc as bl
from bleep_sc.pp._alignment import compare

pytestmark = pytest.mark.odd


@cache
def picture() -> Any:
    return ImageContainer(np.random.default_rng(0).integers(0, 256, size=(1000, 1000, 3), dtype=np.uint8))


@cache
def _sound() -> AnnData:
    adata = make_sections(20, size=4)
    adata.uns["spatial"] = {s: {"scalefactors": {"spot_diameter_fullres": 50.0}} for s in ("s1", "s2")}
    return adata


def sound() -> AnnData:
    """Two sections of 20 spots."""
    return _sound().copy()


def quietly(function: Callable[[], Any]) -> Any:
    """Warnings of bleep_sc and of anndata are other tests' matter; those of NumPy and pandas are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function()


def cut(adata: AnnData, **how: Any) -> np.ndarray:
    images = {"s1": picture(), "s2": picture()}
    bl.pp.crops(adata, **{"image": images, "size": 4, "library_key": "section", "mpp": 0.5} | how)
    assert set(adata.uns["crops"]) <= {"s1", "s2"}
    return adata.obsm[how.get("key_added", "crops")]


def blanked(ref: AnnData, **how: Any) -> np.ndarray:
    before = snapshot(ref)
    slide = bl.pp.blank(ref, **{"spatial": np.ones((3, 2)), "library_id": "new"} | how)
    assert snapshot(ref) == before
    assert slide.X is None
    assert list(slide.var_names) == [str(name) for name in ref.var_names]
    factors = slide.uns["spatial"][how.get("library_id", "new")]["scalefactors"]
    return np.append(slide.obsm["spatial"].ravel(), factors["spot_diameter_fullres"])


def chosen(adata: AnnData, **how: Any) -> np.ndarray:
    key = how.get("key_added", "highly_variable")
    bl.pp.select_genes(adata, **{"n_top_genes": 10, "batch_key": "section", "min_fraction": 0} | how)
    return adata.var[[key, f"{key}_nbatches"]].to_numpy(dtype=np.float64).T


def corrected(adata: AnnData, **how: Any) -> np.ndarray:
    key = how.get("key_added", "harmony")
    bl.pp.harmonize(adata, **{"batch_key": "section", "max_iter": 1} | how)
    assert list(adata.uns[key]["genes"]) == [str(name) for name in adata.var_names]
    return adata.obsm[f"X_{key}"]


@cache
def slide_picture() -> Any:
    pixels = np.full((1000, 1000, 3), 240, dtype=np.uint8)
    pixels[200:800, 300:900] = (170, 90, 150)
    return ImageContainer(pixels)


def gridded(ref: AnnData, **how: Any) -> np.ndarray:
    before = snapshot(ref)
    arguments = {"image": slide_picture(), "um": 50, "mpp": 0.5, "library_id": "new"} | how
    slide = bl.pp.grid(arguments.pop("image"), ref, **arguments)
    assert snapshot(ref) == before
    assert list(slide.var_names) == [str(name) for name in ref.var_names]
    return slide.obsm["spatial"]


def pooled(adata: AnnData, **how: Any) -> np.ndarray:
    found = bl.pp.pool(adata, **{"um": 300, "mpp": 1, "library_key": "section"} | how)
    assert list(found.var_names) == [str(name) for name in adata.var_names]
    assert found.obs["n_pooled"].sum() == adata.n_obs
    return found.X.toarray()


def compared(adata: AnnData, **how: Any) -> np.ndarray:
    """The scores of all ways; sections as small as these are compared too."""
    key = how.get("key_added", "alignment_check")
    images = {"s1": picture(), "s2": picture()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "FEWEST", 10)
        bl.pp.check_alignment(adata, **{"image": images, "library_key": "section"} | how)
    tables = [found["table"] for found in adata.uns[key].values()]
    scores = [table.reindex(columns=["score", "gain"]).to_numpy(dtype=np.float64) for table in tables]
    return np.concatenate(scores).round(6)


FUNCTIONS: dict[str, tuple[Callable[..., np.ndarray], str]] = {
    "check_alignment": (compared, "adata"),
    "crops": (cut, "adata"),
    "blank": (blanked, "ref"),
    "grid": (gridded, "ref"),
    "pool": (pooled, "adata"),
    "select_genes": (chosen, "adata"),
    "harmonize": (corrected, "adata"),
}
"""Each with the name of its object in messages."""

# Outcomes: a pattern of the error's message; "same", the result of the sound object; "values", that of the same numbers
# in CSR; or how the result follows from the sound one.
Outcome = str | Callable[[np.ndarray], np.ndarray]

STORAGE = ("csr", "csc", "csr array", "dense", "dense by columns", "float64", "dask", "raw set", "unused levels")
OTHER_NAMES = ("genes of unicode", "genes with a slash", "an empty gene name", "numbered genes", "numbered spots")
NUMBERS = ("float16", "integer", "boolean", "a zero spot", "a zero gene", "all zero", "tiny")
BROKEN = ("no matrix", "a NaN", "an infinity", "all NaN", "huge", "negative")
WELL_PLACED = ("spatial as a table", "spatial of integers", "all spots at one place")
MISPLACED = ("spatial of three columns", "spatial with NaN", "spatial with infinity")
NOT_FINITE = r"`{}\.X` holds NaN or infinite values.*Remove or replace"
REFUSED: dict[str, Outcome] = {
    "no spots": r"`{}` has no spots",
    "genes twice": r"`{}\.var_names` are not unique.*'g1'.*var_names_make_unique",
    "spots twice": r"`{}\.obs_names` are not unique.*'spot1'.*obs_names_make_unique",
}
VIEW: dict[str, Outcome] = {"a view": r"`{0}` is a view.*`{0} = {0}\.copy\(\)`"}
NAMED: dict[str, Outcome] = dict.fromkeys((*STORAGE, *OTHER_NAMES), "same")
UNREAD: dict[str, Outcome] = dict.fromkeys((*NUMBERS, *BROKEN, "no genes", "one gene", "genes permuted"), "same")
UNREAD_PLACES: dict[str, Outcome] = dict.fromkeys((*WELL_PLACED, *MISPLACED), "same")
READ: dict[str, Outcome] = {
    **dict.fromkeys(NUMBERS, "values"),
    **dict.fromkeys(("a NaN", "an infinity", "all NaN"), NOT_FINITE),
    "no matrix": r"`{}\.X` is empty: expression is needed",
    "huge": r"`{}\.X` holds values as large as 7.*e\+30.*[Nn]ormalise",
    "negative": r"`{}\.X` has negative values.*log-normalised expression is expected",
    "no genes": r"`{}` has no genes \(n_vars = 0\).*mask",
    "one gene": "values",
    "genes permuted": lambda found: found[:, ::-1],
}
OUTCOMES: dict[str, dict[str, Outcome]] = {
    "check_alignment": {
        **(REFUSED | VIEW | NAMED | READ),
        **dict.fromkeys(("negative", "no matrix", "no genes", "spatial of integers"), "values"),
        **{"genes permuted": "same", "spatial as a table": "same"},
        "spatial of three columns": r"`adata\.obsm\['spatial'\]` must have the shape \(n_obs, 2\)",
        **dict.fromkeys(MISPLACED[1:], r"`adata\.obsm\['spatial'\]` is NaN or infinite for 1 of .*Leave them out"),
        **dict.fromkeys(("one spot", "all spots at one place"), lambda found: found[:0]),
    },
    "crops": {
        **(REFUSED | VIEW | NAMED | UNREAD),
        **{"spatial as a table": "same", "spatial of integers": "values", "all spots at one place": "values"},
        "spatial of three columns": r"`adata\.obsm\['spatial'\]` must have the shape \(n_obs, 2\)",
        **dict.fromkeys(MISPLACED[1:], r"`adata\.obsm\['spatial'\]` is NaN or infinite for 1 of .*Leave them out"),
        "one spot": lambda found: found[:1],
    },
    "blank": {**(REFUSED | NAMED | UNREAD | UNREAD_PLACES), "a view": "same", "one spot": "same"},
    "grid": {**(REFUSED | NAMED | UNREAD | UNREAD_PLACES), "a view": "same", "one spot": "same"},
    "pool": {  # of the layer with counts, which these cases leave alone
        **(REFUSED | VIEW | NAMED | UNREAD),
        **{"spatial as a table": "same", "spatial of integers": "values", "all spots at one place": "values"},
        "spatial of three columns": r"`adata\.obsm\['spatial'\]` must have the shape \(n_obs, 2\)",
        **dict.fromkeys(MISPLACED[1:], r"`adata\.obsm\['spatial'\]` is NaN or infinite for 1 of .*Leave them out"),
        **{"one spot": "values", "one gene": "values", "genes permuted": lambda found: found[:, ::-1]},
        "no genes": r"`adata` has no genes \(n_vars = 0\).*mask",
    },
    "select_genes": {
        **(REFUSED | VIEW | NAMED | READ | UNREAD_PLACES),
        "one spot": r"`adata\.obs\['section'\]`: 's1' has a single spot, so no gene varies in it. Leave it out",
        "all zero": r"`adata\.X` of the spots of 's1' in `adata\.obs\['section'\]`: no gene varies.*Leave these spots",
        # every gene is detected in every spot of it
        "boolean": r"`adata\.X` of the spots of 's1' in `adata\.obs\['section'\]`: no gene varies.*Leave these spots",
    },
    "harmonize": {
        **(REFUSED | VIEW | NAMED | READ | UNREAD_PLACES),
        "one spot": r"`adata\.obs\['section'\]` holds a single batch",
    },
}


def plain(adata: AnnData) -> AnnData:
    """The same numbers as most people have them: CSR of floats, plain arrays."""
    x = adata.X.compute() if hasattr(adata.X, "compute") else adata.X
    if x is not None:
        x = x.toarray() if sparse.issparse(x) else np.asarray(x)
        x = sparse.csr_matrix(x if x.dtype == np.float64 else x.astype(np.float32))
    layers = {name: layer for name, layer in adata.layers.items() if name is not None}  # newer anndata lists `X`
    made = AnnData(x, obs=adata.obs, var=adata.var, uns=dict(adata.uns), layers=layers)
    for key, found in adata.obsm.items():
        made.obsm[key] = np.asarray(found)
    return made


@cache
def _of_the_sound(function: str) -> np.ndarray:
    return quietly(lambda: FUNCTIONS[function][0](EVERY["csr"](sound())))


def test_every_odd_object_has_its_outcome() -> None:
    for function, outcomes in OUTCOMES.items():
        assert set(outcomes) == set(EVERY), function


@pytest.mark.parametrize("case", EVERY)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.slow
def test_odd_objects(function: str, case: str) -> None:
    (run, called), outcome = FUNCTIONS[function], OUTCOMES[function][case]
    odd = quietly(lambda: EVERY[case](sound()))
    before = snapshot(odd)
    if isinstance(outcome, str) and outcome not in ("same", "values"):
        with pytest.raises((ValueError, KeyError), match=outcome.format(called)):
            quietly(lambda: run(odd))
        assert snapshot(odd) == before
        return
    expected = _of_the_sound(function)
    if outcome == "values":
        expected = quietly(lambda: run(plain(odd)))
    elif callable(outcome):
        expected = outcome(expected)
    found = quietly(lambda: run(odd))
    if function == "harmonize":
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
    else:
        np.testing.assert_array_equal(found, expected)
    after = snapshot(odd)
    for slot in ("X", "layers", "varm", "obsp"):
        assert after[slot] == before[slot]


ODD: dict[str, Any] = {
    "None": None,
    "NaN": np.nan,
    "infinity": np.inf,
    "negative": -1,
    "zero": 0,
    "fraction": 1.5,
    "huge": 10**30,
    "boolean": True,
    "NumPy boolean": np.True_,
    "NumPy integer": np.int64(3),
    "NumPy number": np.float64(2.0),
    "array": np.array([3]),
    "no text": "",
    "digits": "3",
    "an unknown name": "nope",
    "bytes": b"a",
    "slash": "a/b",
    "zero character": "a\0b",
    "half a character": "\ud800",
    "list": [],
    "dict": {},
    "a thing": object(),
}
SMALL = {"NumPy integer"}
POSITIVE = {"fraction", "NumPy integer", "NumPy number"}
NAMES = {"digits", "an unknown name"}
NOTHING = {"None"}
KEYS = r"does not exist; there is|must be a name"
WRITABLE = r"must be a name without '/' that a file can hold"
TABLE: dict[str, tuple[set[str], str]] = {
    "check_alignment image": (
        NOTHING,
        "has no entry for|ImageContainer or a path|to image|there is no file",
    ),
    "check_alignment layer": (NOTHING, KEYS),
    "check_alignment image_key": (set(), KEYS),
    "check_alignment library_key": (NOTHING, KEYS),
    # None takes the column that the record of the crops names
    "check_alignment library_id": (
        set(),
        r"must be a name, found|is not in `adata\.uns\['spatial'\]`|one `image` for 2",
    ),
    "check_alignment series": (
        NOTHING | {"dict"},
        "chooses one of the images in a TIFF|must be the number or the name of an image",
    ),
    "check_alignment max_spots": (SMALL | {"huge"}, "must be an integer of at least 1, found"),
    "check_alignment random_state": (SMALL | {"zero", "huge"}, "must be an integer of at least 0, found"),
    "check_alignment spatial_key": (set(), KEYS),
    "check_alignment key_added": (NAMES, WRITABLE),
    "crops size": (SMALL, "must be an integer of at least 1 and at most 16384, found"),
    "crops um": (POSITIVE | NOTHING, r"must be a finite number above 0|pixels wide on the image of 's1'.*scale of the"),
    "crops mpp": (POSITIVE | NOTHING | {"huge"}, r"must be a finite number above 0|has no entry for any of"),
    "crops library_key": (set(), KEYS + "|holds 2 libraries.*pass `library_key`"),
    "crops library_id": (set(), r"must be a name, found|is not in `adata\.uns\['spatial'\]`|holds 2 libraries"),
    "crops image_layer": (NOTHING, r"has no layer .*; it has \['image'\]"),
    "crops border": (set(), "must be one of 'white', 'reflect', found"),
    "crops check": (set(), "must be one of 'warn', 'raise', 'off', found"),
    "crops series": (
        NOTHING | {"dict"},
        "chooses one of the images in a TIFF|must be the number or the name of an image",
    ),
    "crops spatial_key": (set(), KEYS),
    "crops key_added": (NAMES, WRITABLE),
    "crops image": (
        set(),
        "has no entry for|image of SpatialData or a path|mapping from library to image|there is no file",
    ),
    "blank spatial": (set(), r"must have the shape \(n_obs, 2\)|must hold numbers"),
    "blank library_id": (NAMES, WRITABLE),
    "blank image": (
        NOTHING,
        "must be a squidpy ImageContainer, .* or a path, found|there is no file",
    ),
    "blank series": (NOTHING, "chooses one of the images in a TIFF|must be the number or the name of an image"),
    "blank obs_names": (NOTHING, r"must be a list with the name of each spot, found|has \d names for 3 spots"),
    "blank spot_diameter": (POSITIVE | NOTHING | {"huge"}, "must be a finite number above 0, found"),
    "grid image": (
        set(),
        "must be a squidpy ImageContainer, an image of SpatialData or a path, found|there is no file",
    ),
    "grid um": (
        {"fraction", "NumPy integer", "NumPy number"},
        "must be a finite number above 0|is wider than the slide|`um` is needed|would lay",
    ),
    "grid lattice": (NOTHING, "must be one of 'square', 'hexagonal', found"),
    "grid mask": (
        NOTHING,
        r"`mask` must be an array|`mask` holds no polygon|`mask`: there is no file",
    ),
    "grid min_tissue": ({"zero"}, "must be a finite number of at least 0|must be between 0 and 1"),
    "grid mpp": (POSITIVE, "must be a finite number above 0|no tag of 'ImageContainer' says|would lay"),
    "grid library_id": (NAMES | NOTHING, WRITABLE),
    "grid series": (NOTHING, "chooses one of the images in a TIFF|must be the number or the name of an image"),
    "grid library_key": (NOTHING, KEYS),
    "pool um": ({"huge"}, "must be a finite number above 0, found|are .* µm apart"),
    "pool lattice": (set(), "must be one of 'square', 'hexagonal', found"),
    "pool mpp": (POSITIVE - SMALL, "must be a finite number above 0|has no entry for any of|is unknown|µm apart"),
    "pool layer": (NOTHING, KEYS),
    "pool library_key": (set(), KEYS + "|holds 2 libraries.*pass `library_key`"),
    "pool library_id": (NOTHING, r"not both|must be a name, found"),
    "pool spatial_key": (set(), KEYS),
    "pool key_added": (NAMES | NOTHING, WRITABLE),
    "select_genes batch_key": (NOTHING, KEYS),
    "select_genes n_top_genes": (SMALL | {"huge"}, "must be an integer of at least 1, found"),
    "select_genes min_fraction": ({"zero"}, "must be a finite number of at least 0|a share of the spots, from 0 to 1"),
    "select_genes layer": (NOTHING, KEYS),
    "select_genes key_added": (NAMES, WRITABLE),
    "harmonize batch_key": (set(), KEYS),
    "harmonize mask_var": (NOTHING, KEYS),
    "harmonize max_iter": (SMALL, "must be an integer of at least 1 and at most 10000, found"),
    "harmonize layer": (NOTHING, KEYS),
    "harmonize random_state": (SMALL | {"zero"}, "must be an integer of at least 0 and at most 2147483647, found"),
    "harmonize key_added": (NAMES, WRITABLE),
}
"""By argument: the odd values that are fine, and a pattern of the error for all others."""
FLAGS = {"lazy", "progress_bar", "copy"}


def test_every_argument_is_in_the_table() -> None:
    from inspect import signature

    for function in bl.pp.__all__:
        parameters = {*signature(getattr(bl.pp, function)).parameters} - {"adata", "ref"}
        tested = {name.split()[1] for name in TABLE if name.startswith(function + " ")} | FLAGS
        # which only says where an ImageContainer has several
        assert parameters - tested <= {"image_layer"}, function


@pytest.mark.parametrize("argument", TABLE)
def test_odd_arguments(argument: str) -> None:
    (function, name), (fine, message) = argument.split(), TABLE[argument]
    run, _ = FUNCTIONS[function]
    for label, value in ODD.items():
        adata = sound()
        before = snapshot(adata)
        how = {name: value}
        if name == "image_key":
            how |= {"image": None}
        if name == "library_id" and function in ("crops", "check_alignment"):
            how |= {"library_key": None, "image": picture()}
        if label in fine:
            quietly(lambda adata=adata, how=how: run(adata, **how))
            continue
        with pytest.raises((ValueError, KeyError, TypeError, FileNotFoundError), match=message) as caught:
            quietly(lambda adata=adata, how=how: run(adata, **how))
        text = str(caught.value)
        assert name in text or repr(value) in text or "`adata." in text or "`image" in text, (label, text)
        assert snapshot(adata) == before, label


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "what", [None, 3, "ref.h5ad", np.zeros((3, 2)), pd.DataFrame()], ids=lambda v: type(v).__name__
)
def test_what_is_no_anndata(function: str, what: Any) -> None:
    run, called = FUNCTIONS[function]
    arguments: Mapping[str, Any] = {"key_added": "x"}
    direct = {
        "blank": lambda: bl.pp.blank(what, spatial=np.ones((3, 2)), library_id="new"),
        "grid": lambda: bl.pp.grid(slide_picture(), what),
    }
    with pytest.raises(TypeError, match=rf"`{called}` must be an AnnData, found {type(what).__name__}"):
        direct.get(function, lambda: run(what, **arguments))()


RESERVED: list[tuple[str, str, str]] = [
    ("crops", "spatial", "`key_added='spatial'`: under that name something else is kept"),
    ("crops", "harmony", "`key_added='harmony'`: under that name something else is kept"),
    ("harmonize", "spatial", "`key_added='spatial'`: under that name something else is kept"),
    ("harmonize", "crops", "`key_added='crops'`: under that name something else is kept"),
]


@pytest.mark.parametrize(("function", "key", "message"), RESERVED)
def test_nothing_else_is_replaced(function: str, key: str, message: str) -> None:
    adata = sound()
    before = snapshot(adata)
    with pytest.raises(ValueError, match=message):
        FUNCTIONS[function][0](adata, key_added=key)
    assert snapshot(adata) == before


def test_crops_never_replace_the_places() -> None:
    adata = sound()
    adata.obsm["xy"] = adata.obsm["spatial"]
    before = snapshot(adata)
    with pytest.raises(ValueError, match=r"`key_added='xy'` is `spatial_key`.*Name another"):
        cut(adata, spatial_key="xy", key_added="xy")
    assert snapshot(adata) == before


@pytest.mark.parametrize("name", ["a/b", "", "a\0b"])
def test_sections_that_no_file_holds(name: str) -> None:
    adata = sound()
    adata.obs["slide"] = [name] * 20 + ["other"] * 20
    before = snapshot(adata)
    with pytest.raises(ValueError, match=r"`adata\.obs\['slide'\]` holds .*no file can hold.*Rename it"):
        cut(adata, library_key="slide", image={name: picture(), "other": picture()})
    assert snapshot(adata) == before


@pytest.mark.parametrize("top", [88.0, 89.0, 5000.0])
def test_values_that_no_logarithm_has(top: float) -> None:
    """Scanpy takes exponentials, which 32 bits hold up to 88."""
    adata = sound()
    adata.X = adata.X.toarray()
    adata.X[3, 3] = top
    before = snapshot(adata)
    if top < 88.7:
        assert quietly(lambda: chosen(adata)).any()
        return
    with pytest.raises(ValueError, match=r"`adata\.X` holds values as large as .*no logarithm has.*normalize_total"):
        chosen(adata)
    assert snapshot(adata) == before


def test_one_section_of_zeros() -> None:
    adata = sound()
    adata.X = adata.X.toarray()
    adata.X[20:] = 0
    before = snapshot(adata)
    with pytest.raises(
        ValueError, match=r"`adata\.X` of the spots of 's2' in `adata\.obs\['section'\]`: no gene varies"
    ):
        quietly(lambda: chosen(adata))
    assert snapshot(adata) == before
    with pytest.raises(ValueError, match=r"`adata` has a single spot, so no gene varies"):
        chosen(adata[:1].copy(), batch_key=None)
