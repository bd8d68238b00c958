"""State that belongs to a call, so that several threads may use one model.

What a call changes in a model's inputs (gates, audio) is kept in a context variable, of which every thread and every
asyncio task has its own. The module itself only gets one permanent pre-hook, the same for all calls, which looks the
change up and does nothing where the current call has none.

Two things run a module again where the variable cannot be seen. `torch.compile` skips hooks that a module did not have when
it was compiled, so what was compiled before the first hook is dropped, and the hook itself is never compiled. Gradient
checkpointing runs a pass again during the backward, in whatever context and thread that is: outside of the call's context
this would be another pass than the one that is differentiated, so it is refused.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from ..errors import ModelError

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Change = Callable[[tuple[Any, ...], dict[str, Any]], Arguments]
"""From a module's positional and keyword arguments to those that it gets instead."""

_CHANGES: ContextVar[tuple[Mapping[nn.Module, Change], ...]] = ContextVar("amask_changes", default=())
_INSTALLING = Lock()
_CHANGED: WeakSet[nn.Module] = WeakSet()
"""Modules whose last pass, other than during a backward, had its inputs changed."""


def _apply(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    """The permanent pre-hook."""
    active = [changes[module] for changes in _CHANGES.get() if module in changes]
    if not active:
        if module in _CHANGED:
            if torch._C._current_graph_task_id() != -1:
                raise ModelError(
                    "gradient checkpointing runs a gated pass again where the gates are not in force; call backward within "
                    "the block of `gated`, in the thread that entered it, or do without gradient checkpointing"
                )
            _CHANGED.discard(module)
        return None
    _CHANGED.add(module)
    for change in active:
        args, kwargs = change(args, kwargs)
    return args, kwargs


_apply._torchdynamo_disable = True  # type: ignore[attr-defined] # as torch.compiler.disable marks it, which imports dynamo


def _install(modules: Iterable[nn.Module]) -> None:
    with _INSTALLING:  # or two threads would install it twice, and each change would be made twice
        new = [module for module in modules if _apply not in module._forward_pre_hooks.values()]
        for module in new:
            module.register_forward_pre_hook(_apply, with_kwargs=True)
        if new and "torch._dynamo" in sys.modules:
            torch._dynamo.reset()


def forget(modules: Iterable[nn.Module]) -> None:
    """Take the hook, at which a compiled graph breaks, from modules whose inputs nothing changes in this context.

    `changed_inputs` installs it again where it is wanted.
    """
    with _INSTALLING:
        for module in modules:
            if not any(module in changes for changes in _CHANGES.get()):
                for key in [key for key, hook in module._forward_pre_hooks.items() if hook is _apply]:
                    del module._forward_pre_hooks[key], module._forward_pre_hooks_with_kwargs[key]


@contextmanager
def changed_inputs(changes: Mapping[nn.Module, Change]) -> Iterator[None]:
    """Within this context, and for the thread that entered it only, modules get changed inputs; contexts may nest.

    A thread that is started within begins without them, as threads begin with an empty context.

    Args:
        changes: for each module, what is done to its arguments.
    """
    _install(changes)
    _CHANGES.set((*_CHANGES.get(), changes))
    try:
        yield
    finally:
        # Not by the variable's token: a generator may be left in another order or context than it was entered.
        _CHANGES.set(tuple(other for other in _CHANGES.get() if other is not changes))


def keeps_state(model: nn.Module) -> bool:
    """Whether transformers' own code keeps something of a call on the model's modules, so that calls must not overlap.

    Such are the position offsets of Qwen's omni models (`rope_deltas`) and rotary embeddings whose frequencies change
    with the length of the input.
    """
    return any(hasattr(module, "rope_deltas") or _changes_frequencies(module) for module in model.modules())


def _changes_frequencies(module: nn.Module) -> bool:
    found = getattr(module, "rope_type", None)
    kinds = found.values() if isinstance(found, dict) else [found]
    return any("dynamic" in kind or kind == "longrope" for kind in kinds if isinstance(kind, str))
