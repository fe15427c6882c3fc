"""Objects on disk, and damaged crops, records, places, embeddings and tables, in the functions of `bl.tl`."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from conftest import HALF_CHARACTERS, PUBLISHED, make_sections, snapshot
from scipy import sparse

import bleep_sc as bl

pytestmark = [
    pytest.mark.odd,
    pytest.mark.usefixtures("remembered_colours"),
    pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning"),
    pytest.mark.filterwarnings("ignore:image features are standardised within each section:UserWarning"),
    pytest.mark.filterwarnings("ignore:.* does not say at which scale the crops were cut:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*is not what the model 'bleep' makes:UserWarning"),
]

FIT: dict[str, dict[str, Any]] = {
    "default": {"max_epochs": 1, "members": 1},
    "paper": {**PUBLISHED, "max_epochs": 1},
    "ridge": {"method": "ridge", "alpha": 1.0},
}
Damage = Callable[[AnnData], object]


def reference() -> AnnData:
    ref = make_sections(30, size=8)
    ref.obs["patient"] = ref.obs["section"]
    return ref


def reference_of_three() -> AnnData:
    ref = make_sections(30, sections=("s1", "s2", "s3"), size=8)
    ref.obs["patient"] = ref.obs["section"]
    return ref


@cache
def _fitted(kind: str) -> AnnData:
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        return bl.tl.fit(reference(), **FIT[kind], copy=True)


def fitted(kind: str) -> AnnData:
    return _fitted(kind).copy()


def partly_measured(adata: AnnData) -> AnnData:
    adata.obs["is_measured"] = np.arange(adata.n_obs) % 3 == 0
    return adata


@pytest.fixture
def slide() -> AnnData:
    """Thirty spots of another section."""
    query = make_sections(30, sections=("q",), size=8, seed=1)
    query.obs_names = [f"query{i}" for i in range(query.n_obs)]
    return query


# on disk: `X` stays there, all else is in memory


def ridge_scores(adata: AnnData) -> Any:
    kwargs: dict[str, Any] = {"method_kwargs": {"ridge": {"alpha": 1.0}}, "n_bootstrap": 0, "counts_layer": None}
    return bl.tl.cross_validate(adata, methods=["ridge"], **kwargs)["value"].to_numpy()


BACKED: dict[str, tuple[Callable[[], AnnData], Callable[[AnnData], Any]]] = {
    "fit": (reference, lambda a: (bl.tl.fit(a, **FIT["default"]), a.obsm["X_bleep_expression"])[1]),
    "encode": (reference, lambda a: (bl.tl.encode(a, encoder="color"), a.obsm["X_color"])[1]),
    "embed": (reference, lambda a: (bl.tl.embed(a, fitted("paper")), a.obsm["X_bleep_expression"])[1]),
    "impute": (reference, lambda a: (bl.tl.impute(a, fitted("ridge")), a.layers["bleep"])[1]),
    "impute measured": (
        lambda: partly_measured(reference()),
        lambda a: (bl.tl.impute(a, fitted("ridge"), measured="is_measured"), a.layers["bleep"])[1],
    ),
    "evaluate": (
        lambda: bl.tl.impute(reference(), fitted("ridge"), copy=True),
        lambda a: (bl.tl.evaluate(a, n_bootstrap=0, metrics=["rmse"]), a.var["bleep_rmse"])[1],
    ),
    "cross_validate": (reference, ridge_scores),
    "sweep": (
        reference_of_three,
        lambda a: bl.tl.sweep(a, {"k": [2, 5]}, method="knn", n_bootstrap=0, counts_layer=None)["value"],
    ),
    "alignment": (
        lambda: fitted("default"),
        lambda a: (bl.tl.alignment(a, layout="tsne"), a.obs["bleep_pair_rank"])[1],
    ),
    "noise_ceiling": (reference, lambda a: (bl.tl.noise_ceiling(a), a.var["noise_ceiling"])[1]),
    "calibrate": (
        lambda: fitted("default"),
        lambda a: (bl.tl.calibrate(a, n_turns=20), a.uns["bleep"]["coverage"]["coverage"])[1],
    ),
    "predictability": (reference, lambda a: bl.tl.predictability(a)["geary"]),
}


NAMED: dict[str, dict[str, Any]] = {"encode": {"encoder": "color"}}
"""What a function must be told."""


@pytest.mark.parametrize(("mode", "kind"), [("r", "csr"), ("r", "dense"), ("r+", "csr")])
@pytest.mark.parametrize("function", BACKED)
@pytest.mark.slow
def test_what_is_on_disk_gives_the_same(function: str, kind: str, mode: Any, tmp_path: Path) -> None:
    make, run = BACKED[function]
    sound = make()
    sound.X = sound.X if kind == "csr" else sound.X.toarray()
    sound.write_h5ad(tmp_path / "a.h5ad")
    on_disk = ad.read_h5ad(tmp_path / "a.h5ad", backed=mode)
    before = snapshot(ad.read_h5ad(tmp_path / "a.h5ad"))
    np.testing.assert_allclose(run(on_disk), run(sound), rtol=1e-4, atol=1e-5)
    assert on_disk.isbacked
    on_disk.file.close()
    assert snapshot(ad.read_h5ad(tmp_path / "a.h5ad")) == before


@pytest.mark.parametrize("kind", ["default", "ridge"])
def test_a_reference_on_disk_imputes_the_same(kind: str, slide: AnnData, tmp_path: Path) -> None:
    fitted(kind).write_h5ad(tmp_path / "ref.h5ad")
    ref = ad.read_h5ad(tmp_path / "ref.h5ad", backed="r")
    found = bl.tl.impute(slide, ref, copy=True).layers["bleep"]
    np.testing.assert_allclose(found, bl.tl.impute(slide, fitted(kind), copy=True).layers["bleep"], atol=1e-5)
    part = bl.tl.impute(slide, ref[:40], copy=True).layers["bleep"]
    wanted = bl.tl.impute(slide, fitted(kind)[:40].copy(), copy=True).layers["bleep"]
    np.testing.assert_allclose(part, wanted, atol=1e-5)
    ref.file.close()


@pytest.mark.parametrize("function", ["fit", "encode", "embed", "impute", "evaluate", "alignment", "noise_ceiling"])
def test_no_copy_of_what_is_on_disk(function: str, tmp_path: Path) -> None:
    fitted("paper").write_h5ad(tmp_path / "a.h5ad")
    on_disk = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    before = snapshot(on_disk.to_memory())
    needs_ref = [fitted("paper")] if function in ("embed", "impute") else []
    with pytest.raises(ValueError, match=r"`copy=True`.*opened with `backed=`.*to_memory\(\)`"):
        getattr(bl.tl, function)(on_disk, *needs_ref, copy=True, **NAMED.get(function, {}))
    assert snapshot(on_disk.to_memory()) == before
    on_disk.file.close()


# what is damaged, and the message; `{}` stands for the name of the argument


def images(change: Callable[[np.ndarray], Any]) -> Damage:
    return lambda adata: adata.obsm.update(crops=change(adata.obsm["crops"]))


def features(change: Callable[[np.ndarray], Any]) -> Damage:
    return images(lambda crops: change(crops.mean(axis=(1, 2))))


def record(value: Any, key: str = "size_um") -> Damage:
    return lambda adata: adata.uns.update(crops={k: {**r, key: value} for k, r in adata.uns["crops"].items()})


def records(value: Any) -> Damage:
    return lambda adata: adata.uns.update(crops=value)


def places(change: Callable[[np.ndarray], Any]) -> Damage:
    return lambda adata: adata.obsm.update(spatial=change(adata.obsm["spatial"]))


def sections(change: Callable[[list[str]], Any]) -> Damage:
    def damage(adata: AnnData) -> None:
        adata.obs["section"] = change(list(adata.obs["section"].astype(str)))

    return damage


def first_nan(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float32)
    values[1] = np.nan
    return values


CROPS: dict[str, tuple[Damage, str]] = {
    "no crops": (lambda adata: adata.obsm.pop("crops"), r"`{}\.obsm\['crops'\]` does not exist: cut.*pp\.crops\({}"),
    "oblong": (images(lambda c: c[:, :4]), r"must be uint8 \(n_obs, size, size, 3\).*\(\d+, 4, 8, 3\).*pp\.crops"),
    "of floats": (images(lambda c: c / 255.0), r"must be uint8.*found float64.*pp\.crops"),
    "of floats, lazy": (images(lambda c: da.from_array(c / 255.0)), r"must be uint8.*found float64"),
    "of four channels": (images(lambda c: np.concatenate([c, c[..., :1]], axis=3)), r"must be uint8.*8, 8, 4\)"),
    "grey": (images(lambda c: c[..., 0]), r"must be crops \(n_obs, size, size, 3\) or features.*8, 8\)"),
    "of no pixels": (images(lambda c: c[:, :0, :0]), r"must be uint8.*0, 0, 3\)"),
    "no features": (features(lambda f: f[:, :0]), r"must be crops.* or features.*\(\d+, 0\)"),
    "a NaN": (features(first_nan), r"is NaN, infinite or above 1e\+12 for 1 of \d+ spots, such as '\w+1'"),
    "huge features": (features(lambda f: f * 1e30), r"is NaN, infinite or above 1e\+12 for \d+ of"),
    "sparse features": (features(sparse.csr_matrix), r"must hold numbers, found csr_matrix.*dense array"),
    "words": (features(lambda f: np.full(f.shape, "a", dtype=object)), r"must hold numbers.*could not convert"),
    "complex": (features(lambda f: f * 1j), r"must hold numbers.*complex"),
}
RECORDS: dict[str, tuple[Damage, str]] = {
    "text": (records("x"), r"`{}\.uns\['crops'\]` must hold the records.*found str.*`del {}\.uns\['crops'\]`"),
    "a list": (records([1, 2]), r"must hold the records.*found list"),
    "an array": (records(np.arange(3)), r"must hold the records.*found ndarray"),
    "a number": (records(3), r"must hold the records.*found int"),
    "a width in words": (record("abc"), r"`{}\.uns\['crops'\]\['\w+'\]\['size_um'\]` must be a number above 0.*'abc'"),
    "a list of widths": (record([1, 2]), r"'size_um'\]` must be a number above 0.*found \[1, 2\].*pp\.crops"),
    "a negative width": (record(-5.0), r"'size_um'\]` must be a number above 0.*-5"),
    "no width at all": (record(0.0, "spot_diameters"), r"'spot_diameters'\]` must be a number above 0"),
}
PLACES: dict[str, tuple[Damage, str]] = {
    "none": (lambda adata: adata.obsm.pop("spatial"), r"`{}\.obsm\['spatial'\]` does not exist.*context=0"),
    "one column": (places(lambda xy: xy[:, :1]), r"must have the shape \(n_obs, 2\).*\(\d+, 1\)"),
    "words": (places(lambda xy: np.full(xy.shape, "a", dtype=object)), r"must hold numbers"),
    "sparse": (places(sparse.csr_matrix), r"`{}\.obsm\['spatial'\]` must hold numbers, found csr_matrix"),
    "one more axis": (places(lambda xy: xy[..., None]), r"must have the shape \(n_obs, 2\).*2, 1\)"),
}
SECTIONS: dict[str, tuple[Damage, str]] = {
    "missing": (sections(lambda s: [None, *s[1:]]), r"`{}\.obs\['section'\]` is missing for 1 of \d+ spots"),
}
BOTH = {
    f"{kind}: {name}": case
    for kind, cases in (("crops", CROPS), ("records", RECORDS), ("places", PLACES), ("sections", SECTIONS))
    for name, case in cases.items()
}
ONLY_QUERY = {
    "crops: narrower": (images(lambda c: c[:, :4, :4]), r"crops are 4 px wide.* trained on 8 px.*size=8, um=100\)"),
    "crops: features": (features(np.copy), r"`query\.obsm\['crops'\]` holds features, but.*on crops.*image_key"),
    "records: another width": (record(300.0), r"different widths of tissue: 100 and 300 µm.*size=8, um=100\)"),
}
ONLY_FIT = {
    "records: two widths": (
        lambda adata: adata.uns["crops"]["s1"].update(size_um=300.0),
        r"mixes scales.*'s1' and 's2' are 300 and 100 µm.*um=\.\.\.",
    ),
    "sections: a zero character": (
        sections(lambda s: [name + "\0b" for name in s]),
        r"`adata\.obs\['section'\]` names the section 's1\\x00b', with a zero character.*another name",
    ),
    "sections: half a character": (
        sections(lambda s: ["a\ud800" if name == "s1" else name for name in s]),
        r"names the section 'a\\ud800', with half a character.*another name",
    ),
}
if not HALF_CHARACTERS:
    del ONLY_FIT["sections: half a character"]


@pytest.mark.parametrize("case", [*BOTH, *ONLY_FIT])
def test_fit_refuses(case: str, unchanged: Callable[..., None]) -> None:
    ref = reference()
    damage, message = (BOTH | ONLY_FIT)[case]
    damage(ref)
    unchanged(ref)
    with pytest.raises((ValueError, KeyError), match=message.replace("{}", "adata")):
        bl.tl.fit(ref, max_epochs=1)


@pytest.mark.parametrize("function", ["impute", "embed"])
@pytest.mark.parametrize("case", [*BOTH, *ONLY_QUERY])
def test_impute_and_embed_refuse(case: str, function: str, slide: AnnData, unchanged: Callable[..., None]) -> None:
    damage, message = (BOTH | ONLY_QUERY)[case]
    damage(slide)
    ref = fitted("default")
    unchanged(slide, ref)
    name = "query" if function == "impute" else "adata"
    with pytest.raises((ValueError, KeyError), match=message.replace("{}", name).replace("query", name, 1)):
        getattr(bl.tl, function)(slide, ref)


@pytest.mark.parametrize("case", PLACES)
def test_measured_spots_need_places_on_both_sides(case: str, slide: AnnData, unchanged: Callable[..., None]) -> None:
    damage, message = PLACES[case]
    message = message.replace(".*context=0", "")
    for name in ("query", "ref"):
        pair = {"query": partly_measured(slide.copy()), "ref": fitted("ridge")}
        damage(pair[name])
        unchanged(*pair.values())
        with pytest.raises((ValueError, KeyError), match=message.replace("{}", name)):
            bl.tl.impute(pair["query"], pair["ref"], measured="is_measured")


@pytest.mark.parametrize("kind", ["default", "ridge"])
def test_nothing_of_that_is_asked_of_a_reference(kind: str, slide: AnnData, unchanged: Callable[..., None]) -> None:
    wanted = bl.tl.impute(slide, fitted(kind), copy=True).layers["bleep"]
    for damage, _ in [*CROPS.values(), *RECORDS.values(), *PLACES.values()]:
        ref = fitted(kind)
        damage(ref)
        unchanged(ref)
        np.testing.assert_array_equal(bl.tl.impute(slide, ref, copy=True).layers["bleep"], wanted)


@pytest.mark.parametrize("kind", ["paper", "ridge"])
def test_places_are_not_asked_of_who_does_not_look_at_them(kind: str, slide: AnnData) -> None:
    wanted = bl.tl.impute(slide, fitted(kind), copy=True).layers["bleep"]
    for damage, _ in PLACES.values():
        query = slide.copy()
        damage(query)
        bl.tl.impute(query, fitted(kind))
        np.testing.assert_array_equal(query.layers["bleep"], wanted)


FINE: dict[str, Damage] = {
    "crops of a dask array": images(lambda c: da.from_array(c, chunks=(7, -1, -1, -1))),
    "no records": records(None),
    "empty records": records({}),
    "records without a key by library": records({"size": 8, "size_um": 100.0}),
    "a width that is unknown": record(np.nan),
    "a width that is null": record(None),
    "a width in an array": record(np.array([100.0])),
    "places of a dask array": places(da.from_array),
    "places in a table": lambda a: a.obsm.update(
        spatial=pd.DataFrame(a.obsm["spatial"], index=a.obs_names, columns=["x", "y"])
    ),
    "levels that nobody uses": sections(lambda s: pd.Categorical(s, categories=["x", *sorted(set(s)), "y"])),
    "sections in an ordered categorical": sections(lambda s: pd.Categorical(s, ordered=True)),
    "a column of strings": sections(lambda s: pd.array(s, dtype="string")),
    "raw": lambda adata: setattr(adata, "raw", adata[:, :5].copy()),
}


@pytest.mark.parametrize("case", FINE)
@pytest.mark.slow
def test_what_says_the_same_gives_the_same(case: str, slide: AnnData) -> None:
    ref, query = reference(), slide.copy()
    FINE[case](ref)
    FINE[case](query)
    bl.tl.fit(ref, **FIT["default"], library_key="section")
    bl.tl.impute(query, ref, k=5)
    bl.tl.impute(slide, fitted("default"), k=5)
    np.testing.assert_allclose(ref.obsm["X_bleep_image"], fitted("default").obsm["X_bleep_image"], atol=1e-6)
    np.testing.assert_allclose(query.layers["bleep"], slide.layers["bleep"], atol=1e-5)


# embeddings, layers and tables that were made elsewhere

OF_ITS_SHAPE = r"{} must (have the shape|be finite, of the shape) \(60, \d+\).*tl\.embed\(ref"
EMBEDDINGS: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "too narrow": (lambda e: e[:, :-1], OF_ITS_SHAPE),
    "too wide": (lambda e: np.hstack([e, e]), OF_ITS_SHAPE),
    "of one more axis": (lambda e: e[..., None], OF_ITS_SHAPE),
    "of words": (lambda e: np.full(e.shape, "a", dtype=object), r"{} must hold numbers.*tl\.embed\(ref"),
    "sparse": (sparse.csr_matrix, r"{} must hold numbers, found csr_matrix.*tl\.embed\(ref"),
    "complex": (lambda e: e * 1j, r"{} must hold numbers.*complex.*tl\.embed\(ref"),
}


@pytest.mark.parametrize("case", EMBEDDINGS)
@pytest.mark.parametrize("key", ["X_bleep_expression", "X_bleep_image", "X_bleep_components"])
def test_embeddings_of_a_reference(key: str, case: str, slide: AnnData, unchanged: Callable[..., None]) -> None:
    ref = fitted("default")
    change, message = EMBEDDINGS[case]
    ref.obsm[key] = change(ref.obsm[key])
    unchanged(ref, slide)
    with pytest.raises(ValueError, match=message.replace("{}", rf"`ref\.obsm\['{key}'\]`")):
        bl.tl.impute(slide, ref, k=5)


@pytest.mark.parametrize("case", EMBEDDINGS)
@pytest.mark.parametrize("key", ["X_bleep_expression", "X_bleep_image"])
def test_embeddings_of_an_alignment(key: str, case: str, unchanged: Callable[..., None]) -> None:
    adata = fitted("default")
    adata.obsm[key] = EMBEDDINGS[case][0](adata.obsm[key])
    unchanged(adata)
    message = (
        rf"(the two embeddings of 'bleep' are not of one space|`adata\.obsm\['{key}'\]` must).*tl\.embed\(adata, ref"
    )
    with pytest.raises(ValueError, match=message):
        bl.tl.alignment(adata, layout="tsne")


def test_names_that_a_remedy_repeats_keep_their_case(slide: AnnData) -> None:
    ref = reference()
    bl.tl.fit(ref, **FIT["default"], key_added="MyModel")
    ref.obsm["X_MyModel_image"] = ref.obsm["X_MyModel_image"][:, :3]
    with pytest.raises(ValueError, match=r"tl\.embed\(ref, key='MyModel'\)"):
        bl.tl.impute(slide, ref, key="MyModel")


TABLES: dict[str, tuple[Damage, dict[str, Any], str]] = {
    "a layer of three axes": (
        lambda q: q.layers.update(bleep=q.layers["bleep"][..., None]),
        {},
        r"`query\.layers\['bleep'\]` must have the shape \(n_obs, n_vars\) = \(30, 30\)",
    ),
    "a truth of three axes": (
        lambda q: q.layers.update(t=q.layers["bleep"][..., None]),
        {"truth": "t"},
        r"`query\.layers\['t'\]` must have the shape \(n_obs, n_vars\)",
    ),
    "panels of text": (
        lambda q: q.uns["bleep"].update(panels="x"),
        {},
        r"`query\.uns\['bleep'\]\['panels'\]` must hold a list of genes for each panel.*Impute again",
    ),
    "a panel that is no list": (
        lambda q: q.uns["bleep"].update(panels={"HEG-50": "abc"}),
        {},
        r"\['panels'\]` must hold a list of genes",
    ),
    "markers that are a number": (lambda q: None, {"markers": 3}, r"`markers` must be a list of names, found 3"),
}


THREE_AXES = pytest.mark.filterwarnings("ignore:Layer .* must be 2-dimensional:UserWarning")
"""Which newer anndata warns of, as it is given them."""


@THREE_AXES
@pytest.mark.parametrize("case", TABLES)
def test_evaluate_refuses(case: str, slide: AnnData, unchanged: Callable[..., None]) -> None:
    bl.tl.impute(slide, fitted("default"))
    damage, arguments, message = TABLES[case]
    damage(slide)
    unchanged(slide)
    with pytest.raises((ValueError, TypeError), match=message):
        bl.tl.evaluate(slide, n_bootstrap=0, **arguments)


COMPARISONS: dict[str, tuple[Damage, dict[str, Any], str]] = {
    "a result that is text": (
        lambda a: a.uns.update(cv="x"),
        {},
        r"`adata\.uns\['cv'\]` holds something else.*key_added",
    ),
    "a result that is a number": (lambda a: a.uns.update(cv=3), {}, r"`adata\.uns\['cv'\]` holds something else"),
    "markers that are a number": (lambda a: None, {"markers": 3}, r"`markers` must be a list of names, found 3"),
    "places to score by": (
        places(lambda xy: np.where(np.arange(len(xy))[:, None] == 1, np.nan, xy)),
        {"metrics": ["ssim"]},
        r"`adata\.obsm\['spatial'\]` is NaN or infinite for 1 of 60 spots, such as 'spot1'.*Leave them out",
    ),
    "counts of three axes": (
        lambda a: a.layers.update(counts=a.layers["counts"].toarray()[..., None]),
        {},
        r"`adata\.layers\['counts'\]` must have the shape \(n_obs, n_vars\) = \(60, 30\)",
    ),
}


@THREE_AXES
@pytest.mark.parametrize("case", COMPARISONS)
def test_cross_validate_refuses(case: str, unchanged: Callable[..., None]) -> None:
    adata = reference()
    damage, arguments, message = COMPARISONS[case]
    damage(adata)
    unchanged(adata)
    with pytest.raises((ValueError, TypeError), match=message):
        bl.tl.cross_validate(adata, methods=["mean"], n_bootstrap=0, **arguments)


def test_markers_may_be_one_name_or_come_one_by_one() -> None:
    found = [
        bl.tl.cross_validate(reference(), methods=["mean"], n_bootstrap=0, markers=markers)
        for markers in ("g3", ["g3"], iter(["g3"]))
    ]
    assert (found[0]["panel"] == "markers").any()
    pd.testing.assert_frame_equal(found[0], found[1])
    pd.testing.assert_frame_equal(found[0], found[2])


# few and flat


@pytest.mark.parametrize("kind", ["default", "paper", "ridge"])
def test_a_reference_of_one_gene_and_a_query_of_one_spot(kind: str, slide: AnnData) -> None:
    ref = reference()[:, ["g7"]].copy()
    bl.tl.fit(ref, **FIT[kind])
    query = slide[:1].copy()
    bl.tl.impute(query, ref)
    expected = np.isin(query.var_names, "g7")
    assert np.array_equal(np.isfinite(query.layers["bleep"][0]), expected)
    assert 0 <= query.layers["bleep"][0, 7] <= 2 * ref.X.max()


@pytest.mark.parametrize("kind", ["default", "paper", "ridge"])
def test_a_gene_that_is_constant_is_predicted_so(kind: str, slide: AnnData) -> None:
    ref = reference()
    x = ref.X.toarray()
    x[:, 3], x[:, 4] = 0, 2.5
    x[5] = [0, 0, 0, 0, 2.5, *[0] * 25]
    ref.X = sparse.csr_matrix(x)
    bl.tl.fit(ref, **FIT[kind])
    bl.tl.impute(slide, ref)
    np.testing.assert_allclose(slide.layers["bleep"][:, 3], 0, atol=1e-5)
    np.testing.assert_allclose(slide.layers["bleep"][:, 4], 2.5, atol=1e-4)
    assert np.isfinite(slide.layers["bleep"]).all()


@pytest.mark.parametrize("kind", ["default", "paper"])
def test_more_neighbours_than_there_are(kind: str, slide: AnnData, unchanged: Callable[..., None]) -> None:
    ref = fitted(kind)
    unchanged(ref, slide)
    with pytest.raises(ValueError, match=r"`k=61` is more than the 60 spots of `ref`: the largest possible `k` is 60"):
        bl.tl.impute(slide, ref, k=61)
    own = ref.copy()
    before = snapshot(own)
    with pytest.raises(ValueError, match=r"own profile is left out, so the largest possible `k` is 59"):
        bl.tl.impute(own, ref, k=60)
    assert snapshot(own) == before


def test_a_matrix_out_of_order_is_read_right_and_left_so(slide: AnnData, unchanged: Callable[..., None]) -> None:
    """Each row's genes backwards, and each value in two halves: SciPy would mend that in place."""
    sound = fitted("default")
    parts = [sound.X[:, ::-1].tocoo() for _ in range(2)]
    rows, columns = (np.concatenate([getattr(part, name) for part in parts]) for name in ("row", "col"))
    order = np.lexsort((columns, rows))
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=sound.n_obs)))
    values = np.concatenate([part.data for part in parts])[order] / 2
    ref = sound.copy()
    ref.X = sparse.csr_matrix((values, sound.n_vars - 1 - columns[order], indptr), shape=sound.shape)
    assert not ref.X.has_canonical_format
    unchanged(ref)
    found = bl.tl.impute(slide, ref, copy=True, predict="retrieval", k=5).layers["bleep"]
    wanted = bl.tl.impute(slide, sound, copy=True, predict="retrieval", k=5).layers["bleep"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    again = bl.tl.fit(ref, **FIT["default"], copy=True)
    np.testing.assert_allclose(again.obsm["X_bleep_components"], sound.obsm["X_bleep_components"], atol=1e-4)
