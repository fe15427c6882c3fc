"""How near training on ready-made features comes to its bare matrix products.

    python benchmarks/speed_heads.py --json speed_heads.json

Epochs of `tl.fit(preset="paper", image_key=...)`, from the second one on and without validation, take turns with
epochs of nothing but forward, backward and AdamW's step of the same heads on one random batch that never leaves the
device; so do epochs of the small heads of the default recipe. Uses the device that `bleep_sc.settings` resolves to.
"""

import warnings

import numpy as np
import torch
from _timing import Row, arguments_of, ratio, report
from anndata import AnnData
from speed_fit import bare_epoch, take_turns_in_training

import bleep_sc as bl
from bleep_sc.methods.registry import choose
from bleep_sc.models.device import resolve_compute
from bleep_sc.models.nets.bleep import BleepArguments
from bleep_sc.models.nets.joint import JointArguments, JointSpace
from bleep_sc.models.train.batches import Batch, Batches
from bleep_sc.models.train.loop import Optimization, train


def main() -> None:
    arguments = arguments_of(__doc__, spots=50_000, features=1024, genes=1000, batch=0, rounds=5)
    compute = resolve_compute(progress_bar=False)
    n, n_features, n_genes = arguments.spots, arguments.features, arguments.genes
    rng = np.random.default_rng(0)
    features = rng.standard_normal((n, n_features), dtype=np.float32)
    expression = rng.exponential(size=(n, n_genes)).astype(np.float32)
    (_, recipe), (_, small) = choose("bleep", "paper", {}), choose("bleep", "default", {})
    rows = []

    batch = arguments.batch or recipe.batch_size
    some = Batch(torch.from_numpy(features[:batch]), torch.from_numpy(expression[:batch]))
    on_features = {"encoder": None, "image_size": None, "n_image_features": n_features, "standardize": True}
    heads = BleepArguments.filled(recipe, **on_features, n_genes=n_genes)
    adata = AnnData(expression, obsm={"X_features": features})
    adata.obs_names = [f"spot{i}" for i in range(n)]
    seconds = take_turns_in_training(
        lambda: bl.tl.fit(
            adata,
            preset="paper",
            image_key="X_features",
            accumulate=1,
            batch_size=batch,
            max_epochs=arguments.rounds + 1,
            validation_share=0,
            progress_bar=False,
        ),
        bare_epoch(heads.build(), some, -(-n // batch), compute),
        compute.device,
    )
    detail = f"{n} spots, {n_features} features, {n_genes} genes: {min(seconds['fit']):.2f} s an epoch at best"
    rows.append(
        Row(
            "heads on features, `preset='paper'`",
            "forward, backward and step alone",
            ratio(seconds, "other", "fit"),
            ">= 0.5",
            f"{detail}, batch {batch}, {compute}",
        )
    )

    batch = arguments.batch or small.batch_size
    scores = rng.standard_normal((n, small.n_components), dtype=np.float32)
    some = Batch(torch.from_numpy(features[:batch]), torch.from_numpy(scores[:batch]))
    arguments_of_space = JointArguments.filled(small, n_features=n_features)
    space, bare = (JointSpace(arguments_of_space) for _ in range(2))
    seconds = take_turns_in_training(
        lambda: train(
            space,
            Batches(features, scores, np.arange(n), batch_size=batch, seed=0),
            None,
            optimization=Optimization(small.lr, small.weight_decay, max_epochs=arguments.rounds + 1, patience=0),
            compute=compute,
            announce=False,
        ),
        bare_epoch(bare, some, -(-n // batch), compute),
        compute.device,
    )
    detail = f"{small.members} members, {small.n_components} components: {min(seconds['fit']):.2f} s an epoch at best"
    rows.append(
        Row(
            "heads of the default recipe",
            "forward, backward and step alone",
            ratio(seconds, "other", "fit"),
            ">= 0.5",
            f"{detail}, batch {batch}, {compute}",
        )
    )
    report(rows, arguments.json)


if __name__ == "__main__":
    bl.settings.verbosity = "error"
    warnings.simplefilter("ignore", UserWarning)  # random features: nothing to learn
    main()
