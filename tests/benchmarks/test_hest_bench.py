"""HEST-Bench's protocol, on a miniature of its folder."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import h5py
import hest_bench
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hest_bench import main, named_encoder, run, table
from scipy import sparse

SAMPLES = {"A1": "A", "A2": "A", "B1": "B", "C1": "C"}
N_SPOTS, N_GENES = 36, 6
GENES = [f"G{gene}" for gene in (7, 2, 9, 4, 0, 11)]  # some of all, in an order of their own
SIDE = 224


class Mini:
    """A miniature of one task, and what was put into it by name of the sample."""

    def __init__(self, root: Path, *, patients: str = "ABC") -> None:
        self.root, self.folder = root, root / "IDC"
        self.features: dict[str, np.ndarray] = {}
        self.counts: dict[str, np.ndarray] = {}
        for part in ("patches", "adata", "splits"):
            (self.folder / part).mkdir(parents=True)
        for number, name in enumerate(SAMPLES):
            self._write(name, number)
        (self.folder / "var_50genes.json").write_text(json.dumps({"genes": GENES}))
        for number, patient in enumerate(patients):
            of_patient = [name for name, owner in SAMPLES.items() if owner == patient]
            self.split(number, [name for name in SAMPLES if name not in of_patient], of_patient)

    def _write(self, name: str, number: int) -> None:
        rng = np.random.default_rng(number)
        barcodes = np.array([f"{''.join(rng.choice(list('ACGT'), 8))}-{spot}" for spot in range(N_SPOTS)])
        shade = rng.uniform(60, 200, (N_SPOTS, 3))
        patches = np.clip(shade[:, None, None] + rng.normal(0, 4, (N_SPOTS, 8, 8, 3)), 0, 255)
        patches = patches.astype(np.uint8).repeat(SIDE // 8, 1).repeat(SIDE // 8, 2)
        slopes = np.random.default_rng(99).normal(0, 0.008, (3, 12))
        depth = rng.uniform(0.5, 2, (N_SPOTS, 1)) * (1 + number)
        counts = rng.poisson(5 * depth * np.exp((shade - 130) @ slopes))
        with h5py.File(self.folder / "patches" / f"{name}.h5", "w") as file:
            file["img"], file["coords"] = patches, np.array([[i % 6, i // 6] for i in range(N_SPOTS)]) * 224
            file["barcode"] = barcodes[:, None].astype(h5py.string_dtype())
        # expression has its own order, and spots that have no patch
        order = rng.permutation(N_SPOTS)
        values = np.vstack([counts[order], rng.poisson(3, (2, 12))])
        adata = AnnData(
            sparse.csr_matrix(values.astype(np.float32)),
            obs=pd.DataFrame(index=[*barcodes[order], "none-0", "none-1"]),
            var=pd.DataFrame(index=[f"G{gene}" for gene in range(12)]),
        )
        adata.write_h5ad(self.folder / "adata" / f"{name}.h5ad")
        self.features[name] = encode(patches)
        self.counts[name] = counts

    def split(self, number: int, training: Sequence[str], test: Sequence[str]) -> None:
        for side, names in (("train", training), ("test", test)):
            table = pd.DataFrame({"sample_id": names})
            table["patches_path"] = [f"patches/{name}.h5" for name in names]
            table["expr_path"] = [f"adata/{name}.h5ad" for name in names]
            table.to_csv(self.folder / "splits" / f"{side}_{number}.csv", index=False)

    def truth(self, names: Sequence[str]) -> np.ndarray:
        of_genes = [int(gene[1:]) for gene in GENES]
        return np.log1p(np.vstack([self.counts[name][:, of_genes] for name in names]))


def encode(patches: np.ndarray) -> np.ndarray:
    blocks = patches[:, ::56, ::56].reshape(len(patches), -1)
    return np.hstack([patches.mean(axis=(1, 2)), blocks]).astype(np.float32)


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    return Mini(tmp_path_factory.mktemp("bench_data"))


def by_hand(mini: Mini, training: Sequence[str], test: Sequence[str], components: int) -> np.ndarray:
    """The prediction by plain algebra: standardise, rotate, solve the normal equations without an intercept."""
    x, x_test = (np.vstack([mini.features[name] for name in names]).astype(float) for names in (training, test))
    mean, spread = x.mean(axis=0), x.std(axis=0)
    x, x_test = (x - mean) / spread, (x_test - mean) / spread
    axes = np.linalg.svd(x, full_matrices=False)[2][:components].T
    x, x_test = x @ axes, x_test @ axes
    penalty = 100 / (components * N_GENES)
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(components), x.T @ mini.truth(training))
    return x_test @ weights


@pytest.mark.parametrize("components", [3, 10])
def test_scores_are_those_of_the_protocol(mini: Mini, components: int) -> None:
    scores = run(mini.root, ["IDC"], encode, reduced_to=components)
    assert scores["split"].tolist() == [0, 1, 2]
    for number, patient in enumerate("ABC"):
        test = [name for name, owner in SAMPLES.items() if owner == patient]
        training = [name for name in SAMPLES if name not in test]
        truth, predicted = mini.truth(test), by_hand(mini, training, test, components)
        genes = [np.corrcoef(truth[:, gene], predicted[:, gene])[0, 1] for gene in range(N_GENES)]
        # their solver stops at a tolerance of its own
        assert scores["pearson"][number] == pytest.approx(np.mean(genes), abs=1e-3)


def test_what_differs_between_samples_counts_in_theirs_alone(mini: Mini) -> None:
    """The two samples of the first split are pooled there; ours are taken within each."""
    scores = run(mini.root, None, encode, reduced_to=3)
    predicted, truth = by_hand(mini, ["B1", "C1"], ["A1", "A2"], 3), mini.truth(["A1", "A2"])
    within = [
        np.corrcoef(truth[rows, gene], predicted[rows, gene])[0, 1]
        for rows in (slice(0, N_SPOTS), slice(N_SPOTS, None))
        for gene in range(N_GENES)
    ]
    assert scores["within"][0] == pytest.approx(np.mean(within), abs=1e-3)
    assert abs(scores["within"][0] - scores["pearson"][0]) > 0.01
    # one sample alone is pooled with nothing
    assert scores["within"][1] == pytest.approx(scores["pearson"][1], abs=1e-9)
    # depth has no part in the image, so the rest is predicted better without it
    assert (scores["depth_free"] > scores["within"]).all()


@pytest.mark.slow
def test_features_are_reduced_only_where_asked_for(mini: Mini) -> None:
    whole, all_components = (run(mini.root, ["IDC"], encode, reduced_to=n)["pearson"] for n in (None, 10_000))
    assert np.isfinite(whole).all()
    assert not np.allclose(whole, all_components)  # features that are not centred have no intercept to lean on


@pytest.mark.slow
def test_a_constant_gene_makes_a_nan_as_theirs(mini: Mini, tmp_path: Path) -> None:
    other = Mini(tmp_path)
    adata = ad.read_h5ad(other.folder / "adata" / "B1.h5ad")
    values = adata.X.toarray()
    values[:, 7] = 0
    adata.X = values
    adata.write_h5ad(other.folder / "adata" / "B1.h5ad")
    with pytest.warns(match="constant"):
        scores = run(tmp_path, ["IDC"], encode, reduced_to=3)
    assert scores["pearson"].isna().tolist() == [False, True, False]
    assert scores["within"].notna().all()
    assert "nan" in table(scores)


@pytest.mark.slow
def test_the_default_recipe_reads_the_same_features(tmp_path: Path) -> None:
    Mini(tmp_path, patients="C")
    scores = run(tmp_path, ["IDC"], lambda patches: encode(patches)[:, :3], method="bleep")
    assert (scores["within"] > 0.1).all()


@pytest.mark.slow
def test_the_command_prints_a_row_a_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Mini(tmp_path, patients="AB")
    found = tmp_path / "found.json"
    arguments = [str(tmp_path), "--task", "IDC", "--encoder", "color", "--latent", "8", "--json", str(found)]
    monkeypatch.setattr(sys, "argv", ["hest_bench.py", *arguments])
    main()
    scores = pd.DataFrame(json.loads(found.read_text()))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:5] == [
        *("IDC", "2", f"{scores['pearson'].mean():.4f}", "±"),
        f"{scores['pearson'].std(ddof=0):.4f}",
    ]
    assert lines[2].split()[:2] == ["mean", f"{scores['pearson'].mean():.4f}"]


def test_the_mean_is_over_tasks() -> None:
    scores = pd.DataFrame(
        {
            "task": ["IDC", "IDC", "READ"],
            "split": [0, 1, 0],
            "pearson": [0.1, 0.3, 0.8],
            "within": 0.0,
            "depth_free": 0.0,
        }
    )
    assert table(scores).splitlines()[-1].split()[:2] == ["mean", "0.5000"]


@pytest.mark.slow
def test_resnet50_is_read_at_its_third_stage() -> None:
    """As HEST-Bench does; random weights are the same every time."""
    patches = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    features = named_encoder("resnet50", weights=None)(patches)
    assert features.shape == (2, 1024)
    np.testing.assert_array_equal(features, named_encoder("resnet50", weights=None)(patches))


def test_another_network_gives_its_final_features() -> None:
    patches = np.zeros((1, SIDE, SIDE, 3), dtype=np.uint8)
    assert named_encoder("resnet18", weights=None)(patches).shape == (1, 512)


def test_what_is_not_there_is_named(mini: Mini, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"READ.*PATH must be the folder of HEST-Bench's tasks"):
        run(mini.root, ["READ"], encode)
    other = Mini(tmp_path)
    (other.folder / "var_50genes.json").write_text(json.dumps({"genes": ["G1", "ERBB2"]}))
    with pytest.raises(ValueError, match=r"lacks 1 genes of .*IDC, such as 'ERBB2'"):
        run(tmp_path, ["IDC"], encode)
    with h5py.File(other.folder / "patches" / "B1.h5", "a") as file:
        del file["img"]
        file["img"] = np.zeros((N_SPOTS, 256, 256, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"`img` must be uint8 \(n, 224, 224, 3\), found uint8 \(36, 256, 256, 3\)"):
        run(tmp_path, ["IDC"], encode)


def test_no_file_is_unpickled() -> None:
    assert "pickle" not in Path(hest_bench.__file__).read_text()
