"""Adapters of a model, asked for without importing PEFT, which takes seconds: before somebody has, no model has any."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any


def is_adapted(model: Any) -> bool:
    """Whether PEFT wraps the model."""
    if "peft" not in sys.modules:
        return False
    from peft import PeftModel

    return isinstance(model, PeftModel)


def base_model(model: Any) -> Any:
    """The transformers model, out of its PEFT wrapper where it has one; adapters inside it stay."""
    return model.get_base_model() if is_adapted(model) else model


def is_adapter_layer(module: Any) -> bool:
    """Whether the module is a layer that PEFT put an adapter on."""
    if "peft" not in sys.modules:
        return False
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(module, BaseTunerLayer)


def adapter_layers(model: Any) -> Iterator[Any]:
    """Every such layer."""
    return (module for module in model.modules() if is_adapter_layer(module))


def adapters_off(model: Any) -> bool:
    """Whether LoRA layers are there and switched off."""
    layer = next(adapter_layers(model), None)
    return layer is not None and bool(layer.disable_adapters)
