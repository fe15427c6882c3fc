import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import torch
from anndata import AnnData
from conftest import PUBLISHED
from scipy import sparse

import bleep_sc as bl

pytestmark = pytest.mark.usefixtures("remembered_colours")

COLLAPSE = pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning")


def naive(query: AnnData, ref: AnnData, k: int) -> np.ndarray:
    """The method in a plain loop: cosine, the k best, their mean."""
    values = ref.X.toarray()
    keys = ref.obsm["X_bleep_expression"].astype(np.float64)
    out = []
    for image in query.obsm["X_bleep_image"].astype(np.float64):
        cosine = [image @ key / np.linalg.norm(image) / np.linalg.norm(key) for key in keys]
        best = np.argsort(cosine)[::-1][:k]
        out.append(sum(values[row].astype(np.float64) for row in best) / k)
    return np.array(out)


def test_equals_a_naive_loop(fitted: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, fitted, k=7)
    assert query.layers["bleep"].dtype == np.float32
    np.testing.assert_allclose(query.layers["bleep"], naive(query, fitted, 7), atol=1e-5)


@pytest.mark.slow
def test_takes_no_copy_of_the_reference(fitted: AnnData, query: AnnData) -> None:
    """Beyond what is written, NumPy takes at most a small part of what the reference holds."""
    rng, n = np.random.default_rng(0), 40_000
    keys = rng.normal(size=(n, fitted.obsm["X_bleep_image"].shape[1])).astype(np.float32)
    values = sparse.random(n, 30, density=0.5, format="csr", dtype=np.float32, random_state=0)
    model = {part: value for part, value in fitted.uns["bleep"].items() if part != "placed"}  # which these are not
    ref = AnnData(values, var=fitted.var, obsm={"X_bleep_image": keys}, uns={"bleep": model})
    query = query[:20].copy()
    bl.tl.impute(query.copy(), ref, match="image")  # imports and compiles
    with bl.settings.override(memory=4):
        tracemalloc.start()
        try:
            bl.tl.impute(query, ref, match="image")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < keys.nbytes / 2


def test_writes_what_the_contract_says(fitted: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, fitted, k=5)
    assert query.obsm["X_bleep_image"].shape == (40, 256)
    rows, distances = query.obsm["bleep_neighbors"], query.obsm["bleep_distances"]
    assert rows.dtype == np.int32
    assert distances.dtype == np.float32
    assert rows.shape == distances.shape == (40, 5)
    assert (np.diff(distances, axis=1) >= 0).all()
    entry = query.uns["bleep"]
    assert set(entry) == {
        "params",
        "units",
        "panels",
        "reference_names",
        "reference_library",
        "model_sha256",
        "in_sample",
        "reliability",
    }
    assert entry["units"] == "log1p of counts normalised to 10000 per spot"
    assert entry["in_sample"] is False
    assert entry["reference_names"][rows[0, 0]] == fitted.obs_names[rows[0, 0]]
    assert entry["reference_library"].tolist() == fitted.obs["section"].astype(str).tolist()
    import hashlib

    assert entry["model_sha256"] == hashlib.sha256(fitted.uns["bleep"]["model"].tobytes()).hexdigest()
    assert "model" not in entry


def test_predicts_what_the_image_shows(fitted: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, fitted, k=10)
    bl.tl.evaluate(query)
    summary = query.uns["bleep_scores"]["summary"]
    assert summary.loc[(summary["panel"] == "all") & (summary["metric"] == "pearson"), "value"].item() > 0.4


def test_reads_and_changes_nothing_else(fitted: AnnData, query: AnnData, unchanged: Callable[..., None]) -> None:
    unchanged(fitted)
    before = query.copy()
    bl.tl.impute(query, fitted, k=5)
    other = query.copy()
    other.X = None
    del other.layers["counts"], other.layers["bleep"]
    bl.tl.impute(other, fitted, k=5)
    assert np.array_equal(other.layers["bleep"], query.layers["bleep"])
    assert (query.X != before.X).nnz == 0
    assert query.obs.drop(columns="bleep_reliability").equals(before.obs)
    assert set(query.layers) - {None} == {"counts", "bleep"}


def test_key_added_renames_everything(fitted: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, fitted, k=5, key_added="mine")
    assert "mine" in query.layers
    assert {"X_mine_image", "mine_neighbors", "mine_distances"} <= set(query.obsm)
    assert "mine" in query.uns
    assert not any("bleep" in str(name) for name in [*query.layers, *query.obsm, *query.uns])


def test_copy(fitted: AnnData, query: AnnData, unchanged: Callable[..., None]) -> None:
    unchanged(query, fitted)
    done = bl.tl.impute(query, fitted, k=5, copy=True)
    assert done is not None
    assert "bleep" in done.layers


@pytest.mark.parametrize("kind", ["dense", "csc", "float64", "float16"])
def test_any_matrix_of_the_reference(fitted: AnnData, query: AnnData, kind: str) -> None:
    bl.tl.impute(query, fitted, k=5)
    expected = query.layers["bleep"].copy()
    fitted.X = {
        "dense": lambda x: x.toarray(),
        "csc": sparse.csc_matrix,
        "float64": lambda x: x.astype(np.float64),
        "float16": lambda x: x.toarray().astype(np.float16),
    }[kind](fitted.X)
    bl.tl.impute(query, fitted, k=5)
    np.testing.assert_allclose(query.layers["bleep"], expected, atol=1e-2 if kind == "float16" else 1e-5)


def test_a_layer_is_averaged_in_its_units(fitted: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, fitted, k=5, layer="counts")
    rows = query.obsm["bleep_neighbors"]
    counts = fitted.layers["counts"].toarray()
    np.testing.assert_allclose(query.layers["bleep"], counts[rows].mean(axis=1), atol=1e-4)
    assert query.uns["bleep"]["units"] == "raw counts"


@pytest.mark.filterwarnings("ignore:.*is not what the model 'bleep' makes:UserWarning")
def test_match_image_uses_the_references_images(fitted: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, fitted, k=5, match="image")
    by_image = query.obsm["bleep_neighbors"].copy()
    fitted.obsm["X_bleep_expression"] = fitted.obsm["X_bleep_image"]
    bl.tl.impute(query, fitted, k=5)
    assert np.array_equal(by_image, query.obsm["bleep_neighbors"])


@pytest.mark.parametrize("weighting", ["distance", "softmax"])
def test_weighting_follows_from_the_stored_distances(fitted: AnnData, query: AnnData, weighting: str) -> None:
    bl.tl.impute(query, fitted, k=6, weighting=weighting, temperature=0.2)
    d = query.obsm["bleep_distances"].astype(np.float64)
    weights = 1 / np.maximum(d, 1e-6) if weighting == "distance" else np.exp(-d / 0.2)
    weights /= weights.sum(axis=1, keepdims=True)
    expected = np.einsum("qk,qkg->qg", weights, fitted.X.toarray()[query.obsm["bleep_neighbors"]])
    np.testing.assert_allclose(query.layers["bleep"], expected, atol=1e-5)


@pytest.mark.slow
def test_pynndescent(fitted: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, fitted, k=10)
    exact = query.obsm["bleep_neighbors"].copy()
    bl.tl.impute(query, fitted, k=10, search="pynndescent")
    found = query.obsm["bleep_neighbors"]
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)]) > 0.9


def test_genes_are_matched_by_name(fitted: AnnData, query: AnnData, log: pytest.LogCaptureFixture) -> None:
    bl.tl.impute(query, fitted, k=5)
    expected = query.to_df(layer="bleep")
    rng = np.random.default_rng(0)
    some = query[:, rng.permutation(query.n_vars)[:20]].copy()
    some.var_names = [*some.var_names[:15], *(f"other{i}" for i in range(5))]
    bl.tl.impute(some, fitted, k=5)
    found = some.to_df(layer="bleep")
    for gene in some.var_names[:15]:
        np.testing.assert_allclose(found[gene], expected[gene], atol=1e-6)
    assert found.iloc[:, 15:].isna().all(axis=None)
    assert "15 of the 30 genes of the reference are not in `query`" in log.text
    assert "blank(ref" in log.text
    assert "5 of the query's 20 genes are not among those of the reference: NaN" in log.text


def test_a_blank_slide_gets_all_genes(fitted: AnnData, query: AnnData) -> None:
    slide = bl.pp.blank(fitted, spatial=query.obsm["spatial"], library_id="q", spot_diameter=10.0)
    slide.obsm["crops"], slide.uns["crops"] = query.obsm["crops"], query.uns["crops"]
    bl.tl.impute(slide, fitted, k=5)
    bl.tl.impute(query, fitted, k=5)
    assert np.array_equal(slide.layers["bleep"], query.layers["bleep"])
    assert slide.X is None


def test_in_sample_leaves_the_own_profile_out(fitted: AnnData, log: pytest.LogCaptureFixture) -> None:
    model = fitted.uns["bleep"]["model"].copy()
    bl.tl.impute(fitted, fitted, k=5)
    own = np.arange(fitted.n_obs)[:, None]
    assert not (fitted.obsm["bleep_neighbors"] == own).any()
    assert "In-sample: 96 of 96" in log.text
    assert fitted.uns["bleep"]["in_sample"] is True
    # the model is still there, and still works
    assert np.array_equal(fitted.uns["bleep"]["model"], model)
    part = fitted[10:40].copy()
    del part.uns["bleep"]
    bl.tl.impute(part, fitted, k=95)
    assert not (part.obsm["bleep_neighbors"] == np.arange(10, 40)[:, None]).any()
    with pytest.raises(ValueError, match=r"own profile is left out.*95"):
        bl.tl.impute(part, fitted, k=96)


def test_own_spots_are_known_in_another_number_format(fitted: AnnData, query: AnnData) -> None:
    """The reference was embedded in bfloat16, as on a GPU, and its spots are predicted in float32, as on a laptop."""
    bl.tl.embed(fitted, precision="bf16-mixed")
    part = fitted[10:40].copy()
    del part.uns["bleep"]
    rounded = part.obsm["X_bleep_image"].copy()
    bl.tl.impute(part, fitted, k=5, precision="32")
    moved = np.abs(part.obsm["X_bleep_image"] - rounded).max(axis=1)
    assert (moved > 1e-3 * (1 + np.abs(rounded).max(axis=1))).any(), "as near as if nothing had been rounded"
    assert part.uns["bleep"]["in_sample"] is True
    assert not (part.obsm["bleep_neighbors"] == np.arange(10, 40)[:, None]).any()
    # spots of another slide that have the same names still are not
    query.obs_names = fitted.obs_names[: query.n_obs]
    bl.tl.impute(query, fitted, k=5, precision="32")
    assert query.uns["bleep"]["in_sample"] is False


def test_equal_names_are_not_the_same_spot(fitted: AnnData, query: AnnData) -> None:
    query.obs_names = fitted.obs_names[: query.n_obs]
    bl.tl.impute(query, fitted, k=5)
    assert query.uns["bleep"]["in_sample"] is False


def test_works_on_a_part_and_without_crops(fitted: AnnData, query: AnnData) -> None:
    del fitted.obsm["crops"]
    mask = np.arange(fitted.n_obs) % 2 == 0
    bl.tl.impute(query, fitted[mask], k=5)
    assert query.obsm["bleep_neighbors"].max() < mask.sum()
    assert query.uns["bleep"]["reference_names"].tolist() == fitted.obs_names[mask].tolist()


@pytest.mark.slow
def test_another_process_gives_the_same_layer_bit_for_bit(
    fitted: AnnData, hybrid: AnnData, query: AnnData, tmp_path: Path
) -> None:
    """The published BLEEP and the default recipe."""
    models = {"published": fitted, "default": hybrid}
    for name, ref in models.items():
        ref.write_h5ad(tmp_path / f"{name}.h5ad")
    query.write_h5ad(tmp_path / "query.h5ad")
    script = (
        "import anndata as ad, bleep_sc as bl, torch\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        f"bl.settings.device = 'cpu'\n"
        f"query = ad.read_h5ad({str(tmp_path / 'query.h5ad')!r})\n"
        f"for name in {list(models)}:\n"
        f"    ref = ad.read_h5ad({str(tmp_path)!r} + f'/{{name}}.h5ad')\n"
        f"    bl.tl.impute(query, ref, k=9, key_added=name)\n"
        f"query.write_h5ad({str(tmp_path / 'done.h5ad')!r})\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    done = ad.read_h5ad(tmp_path / "done.h5ad")
    for name, ref in models.items():
        bl.tl.impute(query, ref, k=9, key_added=name)
        assert np.array_equal(done.layers[name], query.layers[name])
        assert np.array_equal(done.obsm[f"{name}_neighbors"], query.obsm[f"{name}_neighbors"])
        assert done.uns[name]["model_sha256"] == query.uns[name]["model_sha256"]
    assert not np.array_equal(query.layers["published"], query.layers["default"])


@COLLAPSE
def test_custom_encoder_is_asked_for_again(ref: AnnData, query: AnnData) -> None:
    encoder = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten())
    bl.tl.fit(ref, **(PUBLISHED | {"encoder": encoder, "max_epochs": 2}))
    with pytest.raises(ValueError, match=r"pass the same one as `encoder=`"):
        bl.tl.impute(query, ref, k=5)
    with pytest.raises(ValueError, match=r"trained on 12 image features.*found 48"):
        bl.tl.impute(query, ref, k=5, encoder=torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten()))
    with pytest.raises(ValueError, match=r"must return a tensor"):
        bl.tl.impute(query, ref, k=5, encoder=torch.nn.AvgPool2d(4))
    bl.tl.impute(query, ref, k=5, encoder=encoder)
    assert "bleep" in query.layers


def test_embed_places_new_rows(fitted: AnnData, query: AnnData) -> None:
    both = ad.concat([fitted, query], uns_merge="first", join="inner")
    assert "X_bleep_expression" not in both.obsm
    with pytest.raises(KeyError, match=r"X_bleep_expression.*bleep_sc\.tl\.embed"):
        bl.tl.impute(query, both, k=5)
    bl.tl.embed(both)
    np.testing.assert_allclose(
        both.obsm["X_bleep_expression"][: fitted.n_obs], fitted.obsm["X_bleep_expression"], atol=1e-5
    )
    fresh = query[:10].copy()
    fresh.obs_names = [f"new{i}" for i in range(10)]
    fresh.obsm["crops"] = 255 - fresh.obsm["crops"]
    with pytest.warns(UserWarning, match="10 spots look unlike the reference"):
        bl.tl.impute(fresh, both, k=5)
    assert fresh.uns["bleep"]["reference_names"].shape == (both.n_obs,)


@pytest.mark.odd
def test_rows_without_an_embedding_are_named(fitted: AnnData, query: AnnData) -> None:
    fitted.obsm["X_bleep_expression"][3:5] = np.nan
    with pytest.raises(ValueError, match=r"2 of 96 spots.*bleep_sc\.tl\.embed"):
        bl.tl.impute(query, fitted, k=5)


def test_embed_says_what_it_could_not(fitted: AnnData, query: AnnData, log: pytest.LogCaptureFixture) -> None:
    query.X = None
    bl.tl.embed(query, fitted)
    assert "X_bleep_image" in query.obsm
    assert "X_bleep_expression" not in query.obsm
    assert "Only the images were embedded: `adata.X` is empty" in log.text


def no_model(query: AnnData, ref: AnnData) -> None:
    del ref.uns["bleep"]


def other_genes(query: AnnData, ref: AnnData) -> None:
    query.var_names = [f"ENSG{i}" for i in range(query.n_vars)]


def wider_crops(query: AnnData, ref: AnnData) -> None:
    query.uns["crops"]["q"]["size_um"] = 112.0


def wider_spots(query: AnnData, ref: AnnData) -> None:
    query.uns["crops"]["q"].update(size_um=np.nan, spot_diameters=1.2)


def larger_crops(query: AnnData, ref: AnnData) -> None:
    query.obsm["crops"] = np.zeros((40, 20, 20, 3), dtype=np.uint8)


def truncated(query: AnnData, ref: AnnData) -> None:
    ref.uns["bleep"]["model"] = ref.uns["bleep"]["model"][:-100]


def foreign(query: AnnData, ref: AnnData) -> None:
    ref.uns["bleep"] = {"model": np.arange(5.0), "genes": np.array(["a"]), "config": "{}"}


def own_model(query: AnnData, ref: AnnData) -> None:
    query.uns["bleep"] = {"model": np.arange(5, dtype=np.uint8)}


def config(**changes: Any) -> Callable[[AnnData, AnnData], None]:
    def change(query: AnnData, ref: AnnData) -> None:
        import json

        found = json.loads(ref.uns["bleep"]["config"])
        for path, value in changes.items():
            *parents, last = path.split("__")
            part = found
            for parent in parents:
                part = part[parent]
            part[last] = value
        ref.uns["bleep"]["config"] = json.dumps(found)

    return change


BAD: dict[str, tuple[Callable[[AnnData, AnnData], Any], dict[str, Any], type[Exception], str]] = {
    "k": (lambda q, r: None, {"k": 97}, ValueError, r"k=97.*largest possible `k` is 96"),
    "k of zero": (lambda q, r: None, {"k": 0}, ValueError, r"`k`.*at least 1"),
    "no crops": (lambda q, r: q.obsm.pop("crops"), {}, KeyError, r"query\.obsm\['crops'\].*bleep_sc\.pp\.crops"),
    "no model": (no_model, {}, KeyError, r"ref\.uns\['bleep'\].*bleep_sc\.tl\.fit"),
    "other key": (lambda q, r: None, {"key": "hm"}, KeyError, r"ref\.uns\['hm'\]"),
    "no genes shared": (other_genes, {}, ValueError, r"share no gene.*ENSG0.*g0.*blank"),
    "wider crops": (wider_crops, {}, ValueError, r"100 and 112 µm wide.*um=100"),
    "wider spots": (wider_spots, {}, ValueError, r"1 and 1\.2 spot diameters wide.*um=100, mpp=\.\.\."),
    "larger crops": (larger_crops, {}, ValueError, r"20 px wide.*16 px.*size=16"),
    "truncated model": (truncated, {}, ValueError, r"ref\.uns\['bleep'\].*damaged"),
    "foreign entry": (foreign, {}, ValueError, r"ref\.uns\['bleep'\].*uint8"),
    "foreign config": (config(format_version=99), {}, ValueError, r"format version 99"),
    "huge config": (config(model__n_genes=10**9), {}, ValueError, r"another number of genes"),
    "wide config": (config(model__dim=10**9), {}, ValueError, r"weights do not belong to the config"),
    "other colour features": (config(image__feature_set="color-0"), {}, ValueError, r"'color-0'.*Train it again"),
    "unknown method": (config(method="magic"), {}, ValueError, r"'magic'"),
    "own model": (own_model, {}, ValueError, r"another model.*key_added"),
    "layer": (lambda q, r: None, {"layer": "norm"}, KeyError, r"ref\.layers\['norm'\]"),
    "no values": (lambda q, r: setattr(r, "X", None), {}, KeyError, r"ref\.X.*empty"),
    "match": (lambda q, r: None, {"match": "both"}, ValueError, r"`match`.*'expression', 'image'.*'both'"),
    "weighting": (lambda q, r: None, {"weighting": "best"}, ValueError, r"`weighting`.*'best'"),
    "search": (lambda q, r: None, {"search": "faiss"}, ValueError, r"`search`.*'faiss'"),
    "encoder": (lambda q, r: None, {"encoder": len}, ValueError, r"leave `encoder` out"),
}


@pytest.mark.odd
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_before_any_work(
    case: str, fitted: AnnData, query: AnnData, unchanged: Callable[..., None]
) -> None:
    damage, arguments, error, message = BAD[case]
    damage(query, fitted)
    unchanged(query, fitted)
    with pytest.raises(error, match=message):
        bl.tl.impute(query, fitted, **{"k": 5, **arguments})


@pytest.mark.odd
def test_views_are_refused(fitted: AnnData, query: AnnData) -> None:
    with pytest.raises(ValueError, match=r"`query` is a view"):
        bl.tl.impute(query[:10], fitted, k=5)


def test_crop_widths_are_compared_in_the_best_unit(
    fitted: AnnData, query: AnnData, log: pytest.LogCaptureFixture
) -> None:
    bl.tl.impute(query, fitted, k=5)
    assert "compared in µm" in log.text
    query.uns["crops"]["q"]["size_um"] = np.nan
    bl.tl.impute(query, fitted, k=5)
    assert "compared in spot diameters" in log.text
    query.uns["crops"]["q"]["spot_diameters"] = np.nan
    bl.tl.impute(query, fitted, k=5)
    assert "compared in pixels" in log.text


def test_embeddings_of_another_model_are_warned_of(fitted: AnnData, query: AnnData) -> None:
    other = fitted.copy()
    bl.tl.fit(other, **PUBLISHED, max_epochs=3, random_state=7)
    fitted.obsm["X_bleep_expression"][50:] = other.obsm["X_bleep_expression"][50:]
    with pytest.warns(UserWarning, match=r"X_bleep_expression.*another model.*bleep_sc\.tl\.embed"):
        bl.tl.impute(query, fitted, k=5)
    bl.tl.embed(fitted)
    bl.tl.impute(query, fitted, k=5)


def test_embed_does_not_replace_the_embeddings_of_another_model(
    fitted: AnnData, unchanged: Callable[..., None]
) -> None:
    other = fitted.copy()
    bl.tl.fit(other, **PUBLISHED, max_epochs=3, random_state=7)
    unchanged(fitted)
    with pytest.raises(ValueError, match=r"another model.*key_added='bleep_2'"):
        bl.tl.embed(fitted, other)


def test_own_spots_are_known_by_their_place_where_names_changed(fitted: AnnData, log: pytest.LogCaptureFixture) -> None:
    part = fitted[:48].copy()
    del part.uns["bleep"]
    part.obs_names = [f"{name}-C2" for name in part.obs_names]
    bl.tl.impute(part, fitted, k=5)
    assert part.uns["bleep"]["in_sample"] is True
    assert not (part.obsm["bleep_neighbors"] == np.arange(48)[:, None]).any()
    assert "In-sample: 48 of 48" in log.text


@pytest.mark.odd
@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c["image"].pop("kind"),
        lambda c: c["image"].pop("scale"),
        lambda c: c["expression"].pop("layer"),
        lambda c: c["model"].pop("kind"),
        lambda c: c.update(method="ridge"),
        lambda c: c.update(method=["bleep"]),
        lambda c: c["model"].update(n_genes=7),
    ],
)
def test_a_foreign_config_is_one_clear_error(damage: Callable[..., Any], fitted: AnnData, query: AnnData) -> None:
    import json

    config = json.loads(fitted.uns["bleep"]["config"])
    damage(config)
    fitted.uns["bleep"]["config"] = json.dumps(config)
    with pytest.raises(ValueError, match=r"ref\.uns\['bleep'\]"):
        bl.tl.impute(query, fitted, k=5)


def test_auto_searches_as_it_says(fitted: AnnData, query: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    from bleep_sc.methods.predicting import neighbors

    bl.tl.impute(query, fitted, k=5)
    exact = query.layers["bleep"]
    bl.tl.impute(query, fitted, k=5, search="auto")
    assert query.uns["bleep"]["params"]["search"] == "exact"
    assert np.array_equal(query.layers["bleep"], exact)
    called = []
    monkeypatch.setattr(neighbors, "quicker_search", lambda *sizes: called.append(sizes) or "pynndescent")
    monkeypatch.setattr(neighbors, "nearest_approximately", neighbors.nearest)
    bl.tl.impute(query, fitted, k=5, search="auto")
    assert query.uns["bleep"]["params"]["search"] == "pynndescent"
    assert called == [(40, 96, 256, torch.device("cpu"))]
