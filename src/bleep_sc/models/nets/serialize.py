"""Write the weights of a model to safetensors bytes and read them back. Nothing is ever unpickled."""

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from bleep_sc._untrusted import REMEDY, TensorFacts, tensors_in
from bleep_sc.models.encoders.networks import ImageNetwork
from bleep_sc.models.nets.arguments import Arguments
from bleep_sc.models.nets.fused import Fused
from bleep_sc.models.nets.hybrid import Hybrid
from bleep_sc.models.nets.kernel import KernelRegression
from bleep_sc.models.nets.kinds import arguments_of
from bleep_sc.models.nets.projection import Standardize
from bleep_sc.models.nets.slim import Slim
from bleep_sc.models.train.randomness import borrowed_random_state

_DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64", torch.bool: "BOOL", torch.uint8: "U8"}
_REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError)
"""Errors that PyTorch, torchvision and timm raise, beside ValueError, where arguments make no sense."""
_DIVISORS = (
    (Standardize, "scale"),
    *((kind, name) for kind in (Hybrid, Slim) for name in ("feature_scale", "context_scale")),
    (ImageNetwork, "std"),
)
_LEAST: Sequence[tuple[type[nn.Module], str, float]] = (
    *((kind, name, 1e-13) for kind, name in _DIVISORS),  # `fit` writes no smaller ones
    (KernelRegression, "width", 1e-13),
    (Fused, "shares", 1e-13),
    (nn.modules.batchnorm._BatchNorm, "running_var", 0.0),
)
"""Least value of each tensor that others are divided by, or whose root is taken: 0 would make NaN of any image."""
_SIGNED = ("width", "running_var", "shares")


def weights_to_bytes(model: nn.Module) -> bytes:
    """Write all tensors of a model as the bytes of a safetensors file."""
    return save({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})


def model_from_bytes(spec: Mapping[str, Any], weights: bytes, *, where: str) -> nn.Module:
    """Rebuild a model, in evaluation mode.

    `spec` and `weights` may come from a stranger. Memory is taken only once the weights are known to be exactly those
    of the model that `spec` describes.

    Raises
    ------
    ValueError
        The bytes are no safetensors file, or hold other tensors than the model that `spec` describes, or values that
        no trained model has.
    """
    stored_tensors = tensors_in(weights, where=where)
    with _refused(where):
        arguments = arguments_of(spec)
    _check_repeats(arguments, len(stored_tensors), where)
    with _refused(where), torch.device("meta"):  # names and shapes without memory: the config may lie about sizes
        model = arguments.build()
    needed_tensors = {name: _facts(value) for name, value in model.state_dict().items()}
    wrong = [name for name in needed_tensors if stored_tensors.get(name) != needed_tensors[name]]
    unknown = [name for name in stored_tensors if name not in needed_tensors]
    if wrong or unknown:
        msg = (
            f"{where}: the weights do not belong to the config: {len(wrong)} tensors are missing or of another "
            f"shape or type and {len(unknown)} are unknown, such as {(wrong or unknown)[0][:100]!r}. {REMEDY}"
        )
        raise ValueError(msg)
    try:
        state = load(weights)
    except SafetensorError as err:
        msg = f"{where}: the weights are damaged or not a safetensors file ({err}). {REMEDY}"
        raise ValueError(msg) from err
    if _is_all_in(needed_tensors, model):
        # drawing first weights, only to overwrite them, takes half a second of a ResNet-50
        model = model.to_empty(device="cpu")
    else:
        with borrowed_random_state():
            model = arguments.build()
    model.load_state_dict(state)
    _check_values(model, where)
    return model.eval()


@contextmanager
def _refused(where: str) -> Iterator[None]:
    """Turn an error from arguments that make no sense into one that says the config is at fault."""
    try:
        yield
    except (ValueError, *_REFUSALS) as err:
        msg = f"{where}: the config does not describe a model ({type(err).__name__}: {err}). {REMEDY}"
        raise ValueError(msg) from err


def _check_repeats(arguments: Arguments, n_tensors: int, where: str) -> None:
    """Refuse more repeated parts than there are tensors. To build them would take memory, even without weights."""
    for name in arguments.repeats():
        n_parts = getattr(arguments, name)
        if isinstance(n_parts, int) and n_parts > n_tensors:
            msg = (
                f"{where}: the weights do not belong to the config: {n_tensors} tensors for {name}={n_parts}. {REMEDY}"
            )
            raise ValueError(msg)


def _facts(value: Tensor) -> TensorFacts:
    return TensorFacts(_DTYPES.get(value.dtype, str(value.dtype)), tuple(value.shape))


def _is_all_in(names: Container[str], model: nn.Module) -> bool:
    """Tell whether a model holds only tensors that are stored. Some of timm hold others, made as they are built."""
    plain_tensors = (isinstance(value, Tensor) for part in model.modules() for value in vars(part).values())
    return not any(plain_tensors) and all(name in names for name, _ in model.named_buffers())


def _check_values(model: nn.Module, where: str) -> None:
    """Refuse values that would make NaN of any image."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            msg = f"{where}: the weights are damaged: {name!r} holds NaN or infinite values. {REMEDY}"
            raise ValueError(msg)
    for part in model.modules():
        for name, least in ((name, least) for kind, name, least in _LEAST if isinstance(part, kind)):
            values = getattr(part, name)
            # a scale below 0 turns a feature round; below 0 a width makes bumps that grow without end
            if values is not None and ((values if name in _SIGNED else values.abs()) < least).any():
                msg = f"{where}: the weights are damaged: {name!r} of a {type(part).__name__} is too small. {REMEDY}"
                raise ValueError(msg)
