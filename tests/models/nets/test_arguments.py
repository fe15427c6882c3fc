"""One record a kind of model: its rules, its description and what is built all follow from it."""

import json
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, ClassVar

import pytest
import torch
from torch import nn

from bleep_sc.models.nets.arguments import Arguments, BuiltEncoder, Weights
from bleep_sc.models.nets.bleep import Bleep, BleepArguments
from bleep_sc.models.nets.feature_space import FeatureArguments, FeatureSpace
from bleep_sc.models.nets.fused import Fused, columns_of_encoders
from bleep_sc.models.nets.histogene import HisToGene, HisToGeneArguments
from bleep_sc.models.nets.hybrid import Hybrid, HybridArguments
from bleep_sc.models.nets.joint import JointArguments, JointSpace
from bleep_sc.models.nets.kinds import KINDS, arguments_of
from bleep_sc.models.nets.regressor import Regressor, RegressorArguments
from bleep_sc.models.nets.rules import REPEATS, whole
from bleep_sc.models.nets.slim import Slim

FEATURES = {"encoder": None, "image_size": None, "n_image_features": 3, "standardize": True}
SPECS: dict[str, dict[str, Any]] = {
    "bleep": {**FEATURES, "n_genes": 5, "dim": 4, "dropout": 0.1, "temperature": 1.0},
    "hybrid": {
        **{"n_image_features": 3, "n_features": 6, "n_genes": 5, "n_components": 2, "n_landmarks": 7},
        **{"members": 2, "dim": 4, "hidden": 8, "dropout": 0.3, "temperature": 0.1},
    },
    "fused": {
        **{"n_image_features": 3, "n_features": 6, "n_genes": 5, "n_components": 2, "n_landmarks": 7},
        **{"members": 2, "dim": 4, "hidden": 8, "dropout": 0.3, "temperature": 0.1},
        "encoders": [{"n_features": 1, "network": None}, {"n_features": 2, "network": None}],
    },
    "slim": {
        **{"n_image_features": 3, "n_features": 6, "n_genes": 5, "n_components": 2, "n_landmarks": 7},
        "nonnegative": True,
        "encoders": [{"n_features": 1, "network": None}, {"n_features": 2, "network": None}],
    },
    "regressor": {
        **FEATURES,
        **{"n_genes": 5, "hidden": 4, "rank": None, "dropout": 0.0, "loss": "mse", "symmetries": False},
    },
    "histogene": {"image_size": 8, "n_genes": 5, "dim": 64, "depth": 2, "dropout": 0.1},
    "features": FEATURES,
}
"""The arguments of each kind, in the order of a stored config."""
MODULES = {
    **{"bleep": Bleep, "hybrid": Hybrid, "fused": Fused, "slim": Slim},
    **{"regressor": Regressor, "histogene": HisToGene, "features": FeatureSpace},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def _seeded(torch_seeded: object) -> None:
    pass


def test_these_are_all_kinds() -> None:
    assert list(SPECS) == list(MODULES) == list(KINDS)
    assert all(arguments.kind == kind for kind, arguments in KINDS.items())


@every_kind
def test_a_description_makes_the_record_and_the_record_the_description(kind: str) -> None:
    spec = {"kind": kind, **SPECS[kind]}
    arguments = KINDS[kind].from_spec(spec)
    assert json.dumps(arguments.spec()) == json.dumps(spec), "names, values and their order"
    assert KINDS[kind].from_spec(arguments.spec()) == arguments


@every_kind
def test_every_argument_has_a_rule_that_its_own_value_fits(kind: str) -> None:
    rules = KINDS[kind].rules()
    assert list(rules) == [field.name for field in fields(KINDS[kind])] == list(SPECS[kind])
    for name, rule in rules.items():
        assert rule.fits(SPECS[kind][name]), name
        assert not rule.fits(-1.5), name


@every_kind
def test_names_that_a_kind_does_not_have_or_lacks_are_refused(kind: str) -> None:
    spec = {"kind": kind, **SPECS[kind]}
    with pytest.raises(ValueError, match=rf"a model of the kind '{kind}' has no argument 'widht'; it has .*"):
        arguments_of({**spec, "widht": 3})
    for name in SPECS[kind]:
        with pytest.raises(KeyError, match=name):
            arguments_of({other: value for other, value in spec.items() if other != name})


@pytest.mark.parametrize("kind", ["linear", "", None, ["bleep"]])
def test_unknown_kinds_are_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"unknown kind of model"):
        arguments_of({"kind": kind, **SPECS["bleep"]})


@every_kind
def test_the_record_builds_what_its_description_builds(kind: str) -> None:
    arguments = KINDS[kind].from_spec({"kind": kind, **SPECS[kind]})
    torch.manual_seed(0)
    built = arguments.build()
    torch.manual_seed(0)
    again = arguments_of(arguments.spec()).build()
    assert type(built) is type(again) is MODULES[kind]
    assert list(built.state_dict()) == list(again.state_dict())
    for name, values in built.state_dict().items():
        assert torch.equal(values, again.state_dict()[name]), name


@pytest.mark.parametrize(
    ("kind", "argument", "tensor", "axis"),
    [
        ("bleep", "dim", "image_projection.projection.weight", 0),
        ("bleep", "n_genes", "expression_projection.projection.weight", 1),
        ("bleep", "n_image_features", "image_projection.projection.weight", 1),
        ("hybrid", "n_image_features", "feature_mean", 0),
        ("hybrid", "n_features", "linear.weight", 1),
        ("hybrid", "n_genes", "loadings", 1),
        ("hybrid", "n_components", "loadings", 0),
        ("hybrid", "n_landmarks", "kernel.landmarks", 0),
        ("hybrid", "hidden", "space.image_heads.0.1.weight", 0),
        ("hybrid", "dim", "space.image_heads.0.4.weight", 0),
        ("fused", "n_genes", "hybrids.1.loadings", 1),
        ("fused", "n_components", "hybrids.0.loadings", 0),
        ("fused", "n_landmarks", "hybrids.1.kernel.landmarks", 0),
        ("fused", "hidden", "hybrids.0.space.image_heads.0.1.weight", 0),
        ("fused", "dim", "hybrids.1.space.image_heads.0.4.weight", 0),
        ("slim", "n_genes", "loadings", 1),
        ("slim", "n_components", "loadings", 0),
        ("slim", "n_features", "linear.weight", 1),
        ("slim", "n_landmarks", "kernels.1.landmarks", 0),
        ("regressor", "n_genes", "head.3.weight", 0),
        ("regressor", "hidden", "head.0.weight", 0),
        ("histogene", "n_genes", "gene_head.1.weight", 0),
        ("histogene", "dim", "x_embedding.weight", 1),
        ("features", "n_image_features", "image_encoder.mean", 0),
    ],
)
def test_each_size_is_that_of_a_layer(kind: str, argument: str, tensor: str, axis: int) -> None:
    arguments = KINDS[kind].from_spec({"kind": kind, **SPECS[kind]})
    size = 2 * SPECS[kind][argument]
    with torch.device("meta"):
        built = replace(arguments, **{argument: size}).build()
    assert built.state_dict()[tensor].shape[axis] == size


def test_a_record_is_filled_from_a_recipe() -> None:
    @dataclass
    class Recipe:
        dim: int = 64
        depth: int = 3
        dropout: float = 0.5
        lr: float = 1.0

    filled = HisToGeneArguments.filled(Recipe(), image_size=8, n_genes=5, depth=2)
    assert filled == HisToGeneArguments(image_size=8, n_genes=5, dim=64, depth=2, dropout=0.5)
    with pytest.raises(AttributeError, match="n_genes"):
        HisToGeneArguments.filled(Recipe(), image_size=8)
    with pytest.raises(TypeError, match="n_gene"):
        HisToGeneArguments.filled(Recipe(), image_size=8, n_genes=5, n_gene=5)


def test_what_a_model_reads_follows_from_its_arguments() -> None:
    known = {kind: KINDS[kind].from_spec({"kind": kind, **SPECS[kind]}) for kind in KINDS}
    assert [kind for kind, arguments in known.items() if arguments.reads_crops] == ["histogene"]
    for kind in ("bleep", "regressor", "features"):
        network = replace(known[kind], encoder="resnet18", image_size=32, n_image_features=None)
        assert network.reads_crops
        assert network.network == "resnet18"
    assert {kind: KINDS[kind].repeats() for kind in KINDS if KINDS[kind].repeats()} == {
        "hybrid": ("members",),
        "fused": ("members",),
        "histogene": ("depth",),
    }


def test_an_image_encoder_is_a_network_a_scale_or_both() -> None:
    def parts(**arguments: Any) -> tuple[list[str], int]:
        with torch.device("meta"):
            built = FeatureArguments(**{**FEATURES, **arguments}).build_encoder()
        several = built.module if isinstance(built.module, nn.Sequential) else [built.module]
        return [type(part).__name__ for part in several], built.n_features

    crops = {"encoder": "resnet18", "image_size": 32, "n_image_features": None}
    assert parts() == (["Standardize"], 3)
    assert parts(standardize=False) == ([], 3)
    assert parts(**crops, standardize=False) == (["ImageNetwork"], 512)
    assert parts(**crops) == (["ImageNetwork", "Standardize"], 512)


def test_a_hybrids_record_is_its_joint_spaces_too() -> None:
    hybrid = HybridArguments(**SPECS["hybrid"])
    joint = JointArguments.filled(hybrid)
    with torch.device("meta"):
        alone, part = JointSpace(joint).state_dict(), Hybrid(hybrid).space.state_dict()
    assert {name: values.shape for name, values in alone.items()} == {name: part[name].shape for name in part}


def test_models_take_a_built_encoder_of_any_kind() -> None:
    encoder = BuiltEncoder(nn.Identity(), 3)
    for model in (
        Bleep(BleepArguments(**SPECS["bleep"]), encoder),
        Regressor(RegressorArguments(**SPECS["regressor"]), encoder),
        FeatureSpace(encoder),
    ):
        assert model.image_encoder is encoder.module


def test_a_new_kind_is_one_class() -> None:
    @dataclass(frozen=True)
    class Lines(Arguments):
        kind: ClassVar[str] = "lines"
        n_genes: Annotated[int, whole(1, 9)]
        depth: Annotated[int, REPEATS]

        def build(self, weights: Weights = None) -> nn.Module:
            return nn.Sequential(*[nn.Linear(self.n_genes, self.n_genes) for _ in range(self.depth)])

    assert Lines.rules()["n_genes"].expected == "a whole number from 1 to 9"
    assert Lines.repeats() == ("depth",)
    assert Lines(3, 2).spec() == {"kind": "lines", "n_genes": 3, "depth": 2}
    assert len(list(Lines(3, 2).build())) == 2  # type: ignore[call-overload]


def test_each_hybrid_of_a_fused_model_has_its_own_encoders_width() -> None:
    """Features of all encoders come first, then those of the neighbours; networks are built where they are named."""
    network = {"name": "timm:test_efficientnet", "view_px": 8, "input_px": 8, "stages": [0], "symmetries": 4}
    encoders = [{"n_features": 3, "network": None}, {"n_features": 16, "network": network}]
    sizes = {**SPECS["fused"], "n_image_features": 19, "n_features": 38, "encoders": encoders}
    model = KINDS["fused"].from_spec({"kind": "fused", **sizes}).build()
    assert isinstance(model, Fused)
    assert [part.linear.in_features for part in model.parts] == [6, 32]
    assert model.networks[0] is None
    assert model.networks[1] is not None
    assert model.networks[1](torch.zeros(2, 8, 8, 3, dtype=torch.uint8)).shape == (2, 16)
    assert not any(value.requires_grad for value in model.networks[1].parameters())
    assert model.train().networks[1].training is False  # type: ignore[union-attr]
    features = torch.arange(38.0)
    columns = columns_of_encoders([3, 16], 2)
    assert features[columns[0]].tolist() == [0, 1, 2, 19, 20, 21]
    assert sorted(columns[0] + columns[1]) == list(range(38))
