"""The methods that train a network: BLEEP, ST-Net, HisToGene and a plain regressor."""

from typing import cast

from bleep_sc.methods._train import encoder_arguments, report_spread, train_network
from bleep_sc.methods.recipes import BleepRecipe, HisToGeneRecipe, RegressorRecipe, StNetRecipe
from bleep_sc.methods.task import Fitted, Task
from bleep_sc.models.inference import embed_in_batches
from bleep_sc.models.nets.bleep import Bleep, BleepArguments
from bleep_sc.models.nets.histogene import HisToGeneArguments
from bleep_sc.models.nets.regressor import RegressorArguments
from bleep_sc.models.search.spread import measure_spread


def fit_bleep(task: Task[BleepRecipe]) -> Fitted:
    """The joint space of images and expression, and every reference spot's place in it."""
    arguments = BleepArguments.filled(task.recipe, **encoder_arguments(task), n_genes=len(task.expression.genes))
    trained, history = train_network(task, arguments)
    model = cast(Bleep, trained.to(task.compute.device))
    image = embed_in_batches(model.embed_image, task.spots.rows, compute=task.compute, desc="Embedding images")
    profile = embed_in_batches(
        model.embed_expression, task.expression.matrix, compute=task.compute, desc="Embedding expression"
    )
    spread = measure_spread(image, profile)
    report_spread(spread)
    return Fitted(
        model,
        arguments.spec(),
        task.expression.genes,
        image_embedding=image,
        expression_embedding=profile,
        history=history,
        record={"spread": spread.record()},
    )


def fit_stnet(task: Task[StNetRecipe]) -> Fitted:
    """ST-Net: a DenseNet from image to expression that begins as the training mean."""
    arguments = RegressorArguments.filled(
        task.recipe,
        **encoder_arguments(task),
        n_genes=len(task.expression.genes),
        hidden=None,
        rank=None,
        loss="stnet",
        symmetries=True,
    )
    model, history = train_network(task, arguments, learn_channels=True)
    return Fitted(model, arguments.spec(), task.expression.genes, history=history)


def fit_histogene(task: Task[HisToGeneRecipe]) -> Fitted:
    """HisToGene: a transformer over the spots of a section."""
    recipe, size = task.recipe, int(task.spots.rows.shape[1])
    arguments = HisToGeneArguments.filled(recipe, image_size=size, n_genes=len(task.expression.genes))
    model, history = train_network(task, arguments)
    return Fitted(model, arguments.spec(), task.expression.genes, history=history, record={"window": recipe.window})


def fit_regressor(task: Task[RegressorRecipe]) -> Fitted:
    """A plain regressor: the image encoder that BLEEP would train, a head, and mean squared error."""
    arguments = RegressorArguments.filled(
        task.recipe,
        **encoder_arguments(task),
        n_genes=len(task.expression.genes),
        rank=None,
        loss="mse",
        symmetries=False,
    )
    model, history = train_network(task, arguments)
    return Fitted(model, arguments.spec(), task.expression.genes, history=history)
