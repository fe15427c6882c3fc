"""A model's weights to safetensors bytes and back; nothing is ever unpickled."""

from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from bleep_sc.models.build import build_model


def weights_to_bytes(model: nn.Module) -> bytes:
    """All tensors of a model, as the bytes of a safetensors file."""
    return save({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})


def model_from_bytes(spec: Mapping[str, Any], weights: bytes, *, where: str) -> nn.Module:
    """Rebuild a model, in evaluation mode.

    Raises
    ------
    ValueError
        The bytes are no safetensors file, or hold other tensors than the model that `spec` describes.
    """
    try:
        state = load(weights)
    except SafetensorError as err:
        msg = f"{where}: the weights are damaged or not a safetensors file ({err})."
        raise ValueError(msg) from err
    try:
        with torch.device("meta"):  # names and shapes without memory: the config may lie about sizes
            own = build_model(spec).state_dict()
    except (KeyError, TypeError, ValueError, RuntimeError) as err:
        msg = f"{where}: the config does not describe a model ({type(err).__name__}: {err})."
        raise ValueError(msg) from err
    wrong = [n for n in own if n not in state or state[n].shape != own[n].shape or state[n].dtype != own[n].dtype]
    left = [n for n in state if n not in own]
    if wrong or left:
        msg = (
            f"{where}: the weights do not belong to the config: {len(wrong)} tensors are missing or of another shape "
            f"and {len(left)} are unknown, such as {(wrong or left)[0]!r}."
        )
        raise ValueError(msg)
    with torch.random.fork_rng(devices=[]):
        model = build_model(spec)
    model.load_state_dict(state)
    return model.eval()
