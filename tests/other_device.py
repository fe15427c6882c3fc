"""A device that is none: tensors on it are computed on the CPU, but may not meet the CPU's, as those of a GPU.

No GPU is needed to find code that forgets to send a tensor there or to bring it back: ``.numpy()`` is refused, and so
is an operation on tensors of both.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda", 0)

_CROSSES = {"aten::copy_", "aten::_to_copy", "aten::set_", "aten::index", "aten::index_put_", "aten::index_put"}
"""Operations that take tensors of both; indices may be on the CPU."""


class There(torch.Tensor):
    """A tensor on that device."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    values: torch.Tensor

    def __new__(cls, values: torch.Tensor) -> "There":
        new: There = torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=DEVICE,
            requires_grad=False,
        )
        new.values = values
        return new

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    # of a mode of this kind PyTorch knows that no driver is needed
    _mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    there = [value for value in tensors if isinstance(value, There)]
    name = func._schema.name
    here = [value for value in tensors if not isinstance(value, There) and value.dim() > 0]
    if there and here and name not in _CROSSES:
        msg = f"{name}: tensors on another device and on the CPU, {[tuple(value.shape) for value in here]}"
        raise RuntimeError(msg)
    device = kwargs.get("device")
    goes_there = bool(there) if device is None else torch.device(device).type == DEVICE.type
    if name == "aten::copy_":
        goes_there = isinstance(args[0], There)
    if device is not None and goes_there:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, plain = tree_map(_values, args), tree_map(_values, kwargs)
    out = func(*args, **plain)
    if func._schema.is_mutable and there and isinstance(out, torch.Tensor):
        return next((value for value in there if value.values is out), out)
    return tree_map(_sent, out) if goes_there else out


def _values(value: Any) -> Any:
    return value.values if isinstance(value, There) else value


def _sent(value: Any) -> Any:
    return There(value) if isinstance(value, torch.Tensor) and not isinstance(value, There) else value


@contextmanager
def other_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Lend that device by name, for all but training, which Lightning would have to know it for."""
    from dataclasses import replace

    from bleep_sc.methods.hybrid import component_models
    from bleep_sc.methods.learning import network
    from bleep_sc.models import inference
    from bleep_sc.models.train.randomness import borrowed_random_state, own_generator

    def on_cpu(train: Callable[..., Any]) -> Callable[..., Any]:
        def trained(*args: Any, compute: Any, **given: Any) -> Any:
            with _disable_current_modes():
                return train(*args, compute=replace(compute, device=torch.device("cpu")), **given)

        return trained

    for module in (component_models, network):
        monkeypatch.setattr(module, "train", on_cpu(module.train))
    monkeypatch.setattr(component_models, "own_generator", lambda _: own_generator(torch.device("cpu")))
    torch._C._ensureCUDADeviceGuardSet()
    monkeypatch.setattr(inference, "feed", lambda items, *_: iter(items))  # no memory to pin
    monkeypatch.setattr(network, "borrowed_random_state", lambda _: borrowed_random_state())
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    # or a module would keep its parameters and take in only their values, which would not be of this kind
    monkeypatch.setattr(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True)
    with _Mode():
        yield DEVICE.type
