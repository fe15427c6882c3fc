"""The methods that train a network: BLEEP, ST-Net, HisToGene and a plain regressor."""

from typing import Any, cast

from bleep_sc.methods._train import encoder_spec, report_spread, train_network
from bleep_sc.methods.recipes import BleepRecipe, HisToGeneRecipe, RegressorRecipe, StNetRecipe
from bleep_sc.methods.task import Fitted, Task
from bleep_sc.models.inference import embed_in_batches
from bleep_sc.models.nets.bleep import Bleep
from bleep_sc.models.search.spread import measure_spread


def fit_bleep(task: Task[BleepRecipe]) -> Fitted:
    """The joint space of images and expression, and every reference spot's place in it."""
    recipe = task.recipe
    spec = {
        "kind": "bleep",
        **encoder_spec(task),
        "n_genes": len(task.expression.genes),
        "dim": recipe.dim,
        "dropout": recipe.dropout,
        "temperature": recipe.temperature,
    }
    trained, history = train_network(task, spec)
    model = cast(Bleep, trained.to(task.compute.device))
    image = embed_in_batches(model.embed_image, task.spots.rows, compute=task.compute, desc="Embedding images")
    profile = embed_in_batches(
        model.embed_expression, task.expression.matrix, compute=task.compute, desc="Embedding expression"
    )
    spread = measure_spread(image, profile)
    report_spread(spread)
    return Fitted(
        model,
        spec,
        task.expression.genes,
        image_embedding=image,
        expression_embedding=profile,
        history=history,
        record={"spread": spread.record()},
    )


def fit_stnet(task: Task[StNetRecipe]) -> Fitted:
    """ST-Net: a DenseNet from image to expression that begins as the training mean."""
    spec = _regressor_spec(task, loss="stnet", symmetries=True)
    model, history = train_network(task, spec, learn_channels=True)
    return Fitted(model, spec, task.expression.genes, history=history)


def fit_histogene(task: Task[HisToGeneRecipe]) -> Fitted:
    """HisToGene: a transformer over the spots of a section."""
    recipe = task.recipe
    spec = {
        "kind": "histogene",
        "image_size": int(task.spots.rows.shape[1]),
        "n_genes": len(task.expression.genes),
        "dim": recipe.dim,
        "depth": recipe.depth,
        "dropout": recipe.dropout,
    }
    model, history = train_network(task, spec)
    return Fitted(model, spec, task.expression.genes, history=history, record={"window": recipe.window})


def fit_regressor(task: Task[RegressorRecipe]) -> Fitted:
    """A plain regressor: the image encoder that BLEEP would train, a head, and mean squared error."""
    spec = _regressor_spec(task, hidden=task.recipe.hidden)
    model, history = train_network(task, spec)
    return Fitted(model, spec, task.expression.genes, history=history)


def _regressor_spec(
    task: Task[StNetRecipe | RegressorRecipe],
    *,
    hidden: int | None = None,
    loss: str = "mse",
    symmetries: bool = False,
) -> dict[str, Any]:
    return {
        "kind": "regressor",
        **encoder_spec(task),
        "n_genes": len(task.expression.genes),
        "hidden": hidden,
        "rank": None,
        "dropout": task.recipe.dropout,
        "loss": loss,
        "symmetries": symmetries,
    }
