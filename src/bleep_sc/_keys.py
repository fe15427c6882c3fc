"""The names of all slots that bleep_sc reads and writes: one place, so that no name is spelt twice."""

import re
from collections.abc import Iterable

SPATIAL = "spatial"
"""`obsm` and `uns` key of scanpy's and squidpy's spatial conventions."""

SPATIALDATA = "spatialdata_attrs"
"""`uns` key under which SpatialData keeps what a table annotates."""

CROPS = "crops"
"""`obsm` key of the image crops, `uns` key of their records by library."""

COUNTS = "counts"
"""`layers` key of the raw counts."""

PATIENT = "patient"
"""`obs` column of the donors, where no other is named."""

NOISE_CEILING = "noise_ceiling"
"""`var` column of each gene's noise ceiling, `uns` key of how it was estimated."""

PREDICTABILITY = "predictability"
"""Beginning of the `var` columns of the screen for predictable genes, `uns` key of how it was made."""

GENE_STRATA = "gene_strata"
"""`uns` key of the scores of genes by stratum and gene set, where no other is named."""

ALIGNMENT_CHECK = "alignment_check"
"""`uns` key of how well the image fits the spots of each section."""

RESERVED = (SPATIAL, CROPS, COUNTS, "harmony", "log1p", "noise_ceiling", PREDICTABILITY, ALIGNMENT_CHECK)
"""Names that no model, layer or comparison may have, since results would replace input or each other."""

HIGHLY_VARIABLE = "highly_variable"
"""`var` column of the selected genes."""

MODEL = "bleep"
"""Default name of a fitted model, of its embeddings and of the layer that it imputes."""


def image_embedding(key: str) -> str:
    """`obsm` key of the image embedding."""
    return f"X_{key}_image"


def expression_embedding(key: str) -> str:
    """`obsm` key of the expression embedding."""
    return f"X_{key}_expression"


def components(key: str) -> str:
    """`obsm` key of the reference's scores on the components of its expression."""
    return f"X_{key}_components"


def out_of_fold(key: str) -> str:
    """`obsm` key of what a model that never saw a reference spot predicts of it."""
    return f"{key}_out_of_fold"


def out_of_fold_regression(key: str) -> str:
    """`obsm` key of the same by the model's regressions alone."""
    return f"{out_of_fold(key)}_regression"


def fold(key: str) -> str:
    """`obs` column of the fold that left a reference spot out."""
    return f"{key}_fold"


def predictable(key: str) -> str:
    """`var` column of whether a gene can be read off an image."""
    return f"{key}_predictable"


def expected_pearson(key: str, end: str = "") -> str:
    """`var` column of the correlation to expect of each gene, or of the ``"lower"`` or ``"upper"`` end of it."""
    return f"{key}_expected_pearson" + (f"_{end}" if end else "")


def of_calibrated_genes(key: str) -> tuple[str, ...]:
    """`var` columns that a calibration writes."""
    return (predictable(key), *(expected_pearson(key, end) for end in ("", "lower", "upper")))


def bound(key: str, end: str) -> str:
    """`layers` key of the ``"lower"`` or ``"upper"`` bounds of a layer."""
    return f"{key}_{end}"


def intervals(key: str) -> str:
    """`uns` key of what the bounds of a layer promise."""
    return f"{key}_intervals"


def neighbors(key: str) -> str:
    """`obsm` key of the reference rows that a query spot retrieved."""
    return f"{key}_neighbors"


def distances(key: str) -> str:
    """`obsm` key of the distances to those rows."""
    return f"{key}_distances"


def reliability(key: str) -> str:
    """`obs` column of how far a spot looks like the reference's."""
    return f"{key}_reliability"


def representation(key: str) -> str:
    """`obsm` key of a low-level representation, as scanpy names them."""
    return f"X_{key}"


def features(encoders: Iterable[str]) -> str:
    """`obsm` key of the features of encoders, such as ``X_resnet50``: other characters of their names become ``_``."""
    return representation("_".join(re.sub(r"[^A-Za-z0-9_.-]+", "_", name) for name in encoders))


def score(layer: str, metric: str) -> str:
    """`var` column of the per-gene scores of a layer by one metric."""
    return f"{layer}_{metric}"


def pearson(layer: str) -> str:
    """`var` column of the per-gene Pearson correlation of a layer."""
    return f"{layer}_pearson"


def scores(layer: str) -> str:
    """`uns` key of the score summary of a layer."""
    return f"{layer}_scores"


def regions(layer: str) -> str:
    """`uns` key of how a layer compares with regions that somebody has drawn."""
    return f"{layer}_regions"


def alignment(key: str) -> str:
    """`uns` key of how well images and expression of the same spots lie together."""
    return f"{key}_alignment"


def alignment_coordinates(key: str, kind: str) -> str:
    """`obsm` key of the two-dimensional places of the spots' images, or of their expression."""
    return representation(f"{alignment(key)}_{kind}")


def pair_distance(key: str) -> str:
    """`obs` column of the distance between a spot's image and its own expression."""
    return f"{key}_pair_distance"


def pair_rank(key: str) -> str:
    """`obs` column of how many expression profiles lie nearer to a spot's image than its own."""
    return f"{key}_pair_rank"
