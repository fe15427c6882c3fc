"""The words that a user may pass, spelt once. It imports nothing heavy: signatures are made of these."""

from typing import Literal

MethodName = Literal["bleep", "stnet", "histogene", "regressor", "ridge", "knn", "coordinates", "counts", "mean"]
"""The methods: each is a file in this folder, with its record at the end."""
PresetName = Literal["default", "best", "paper"]
Optimizer = Literal["adamw", "adam", "sgd"]
Mode = Literal["hybrid", "retrieval", "regression"]
"""The ways to predict."""
Match = Literal["expression", "image"]
"""The embeddings of the reference that a query can be compared with."""
Search = Literal["exact", "pynndescent", "auto"]
"""The ways to search neighbours."""
