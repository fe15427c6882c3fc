"""The methods that train a network: BLEEP, ST-Net, HisToGene and a plain regressor."""

from bleep_sc._logging import logger, warn
from bleep_sc.models.bleep import Bleep
from bleep_sc.models.diagnose import Spread, measure_spread
from bleep_sc.models.embedding import embed_in_batches
from bleep_sc.tl._presets import BleepRecipe, HisToGeneRecipe, RegressorRecipe, StNetRecipe
from bleep_sc.tl._task import Fitted, Task
from bleep_sc.tl._train import encoder_spec, train_network


def fit_bleep(task: Task) -> Fitted:
    """The joint space of images and expression, and every reference spot's place in it."""
    recipe = task.recipe
    assert isinstance(recipe, BleepRecipe)  # noqa: S101
    spec = {
        "kind": "bleep",
        **encoder_spec(task),
        "n_genes": len(task.expression.genes),
        "dim": recipe.dim,
        "dropout": recipe.dropout,
        "temperature": recipe.temperature,
    }
    model, history = train_network(task, spec)
    assert isinstance(model, Bleep)  # noqa: S101
    model.to(task.compute.device)
    image = embed_in_batches(model.embed_image, task.spots.rows, compute=task.compute, desc="Embedding images")
    profile = embed_in_batches(
        model.embed_expression, task.expression.matrix, compute=task.compute, desc="Embedding expression"
    )
    spread = measure_spread(image, profile)
    _report(spread)
    record = {
        "spread": {
            "image_cosine": spread.image_cosine,
            "expression_cosine": spread.expression_cosine,
            "references_in_use": spread.in_use,
        }
    }
    return Fitted(model, spec, task.expression.genes, image, profile, history, record)


def fit_stnet(task: Task) -> Fitted:
    """ST-Net: a DenseNet from image to expression that begins as the training mean."""
    recipe = task.recipe
    assert isinstance(recipe, StNetRecipe)  # noqa: S101
    spec = {
        "kind": "regressor",
        **encoder_spec(task),
        "n_genes": len(task.expression.genes),
        "hidden": None,
        "rank": None,
        "dropout": recipe.dropout,
        "loss": "stnet",
        "symmetries": True,
    }
    model, history = train_network(task, spec, learn_channels=True)
    return Fitted(model, spec, task.expression.genes, history=history)


def fit_histogene(task: Task) -> Fitted:
    """HisToGene: a transformer over the spots of a section."""
    recipe = task.recipe
    assert isinstance(recipe, HisToGeneRecipe)  # noqa: S101
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


def fit_regressor(task: Task) -> Fitted:
    """A plain regressor: the image encoder that BLEEP would train, a head, and mean squared error."""
    recipe = task.recipe
    assert isinstance(recipe, RegressorRecipe)  # noqa: S101
    spec = {
        "kind": "regressor",
        **encoder_spec(task),
        "n_genes": len(task.expression.genes),
        "hidden": recipe.hidden,
        "rank": None,
        "dropout": recipe.dropout,
        "loss": "mse",
        "symmetries": False,
    }
    model, history = train_network(task, spec)
    return Fitted(model, spec, task.expression.genes, history=history)


def _report(spread: Spread) -> None:
    logger.info("The joint space: %s.", spread)
    if spread.collapsed:
        warn(
            f"the model has nearly collapsed, so most spots will get much the same profile: {spread}. Common reasons: "
            "too few epochs, a large network from random weights, a learning rate too high. Try pretrained weights, "
            "`encoder='color'`, more `max_epochs` or a lower `lr`."
        )
