"""How large the work of `gpu.py` is: as measured, and for a dry run."""

from dataclasses import dataclass

from speed_fit import SIZE


@dataclass(frozen=True)
class Searched:
    """Queries, references and genes of one imputation."""

    queries: int
    references: int
    genes: int
    kind: str
    """Of the reference's expression: "dense" or "sparse"."""
    rounds: int


@dataclass(frozen=True)
class Sizes:
    """Those of all parts."""

    copied_mb: int
    matrix: int
    """Rows and columns of the matrices that are multiplied."""
    crop: int
    genes: int
    fit_spots: int
    fit_batch: int
    frozen: str
    """Network that reads crops frozen."""
    encoded_spots: int
    encoded_batch: int
    rounds: int
    """Of fit, encode and embed, beside one that warms up."""
    searched: tuple[Searched, ...]
    recipe_spots: tuple[int, ...]
    recipe_genes: int
    recipe_epochs: int | None
    """None for the recipe's own."""
    section_spots: int | None
    """Spots that are taken of each real section; None for all."""
    section_epochs: int
    sections: int
    """Number of real sections."""


FULL = Sizes(
    copied_mb=1024,
    matrix=8192,
    crop=SIZE,
    genes=1000,
    fit_spots=4096,
    fit_batch=128,
    frozen="resnet50",
    encoded_spots=4096,
    encoded_batch=256,
    rounds=3,
    searched=(
        Searched(5000, 50_000, 3000, "dense", 3),
        Searched(5000, 50_000, 3000, "sparse", 3),
        # so few genes that the reference and the result stay within a few GB
        Searched(20_000, 1_000_000, 500, "sparse", 1),
    ),
    recipe_spots=(900, 50_000),
    recipe_genes=500,
    recipe_epochs=None,
    section_spots=None,
    section_epochs=30,
    sections=5,
)

TINY = Sizes(
    copied_mb=1,
    matrix=64,
    crop=32,
    genes=20,
    fit_spots=16,
    fit_batch=8,
    frozen="resnet18",
    encoded_spots=4,
    encoded_batch=2,
    rounds=1,
    searched=(Searched(20, 300, 30, "dense", 1), Searched(20, 300, 30, "sparse", 1)),
    recipe_spots=(60,),
    recipe_genes=20,
    recipe_epochs=2,
    section_spots=40,
    section_epochs=1,
    sections=2,
)
