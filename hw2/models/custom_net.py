"""A custom net: a user's class, with all else that a registered model needs.

The class is an `nn.Module` created without arguments, or with those of `classes`, `channels` and `size` (the side of
square images, else height and width) that its constructor names. Its `forward` takes images as BaseCNN's first layer
sees them (float32 [N, channels, height, width], see `preprocess`) and returns logits [N, classes]. The two kinds of
channel means that outlier scores are computed from are taken from its layers as they are called:

    strokes   the first activation layer (nn.ReLU and its like), else the first layer
    shapes    the last layer of at most 1,024 channels that gives images [N, C, ...]; where none does, the last before
              the logits

A class says otherwise by the names of layers in its attributes `strokes` and `shapes`.
"""

import hashlib
import inspect
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import activation

from hw2.common.errors import ConfigurationError
from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models.wrapped_net import MAX_CHANNELS, FeatureLayer, LayerCall, WrappedNet, narrow_layers

NET_FILE = "net.txt"
"""Has the name of a net that comes with this package or with torchvision, among a registered model's files."""


class CustomNet(WrappedNet):
    """The class `name` of the Python text `source`, with PyTorch's initialization.

    Raises:
        ConfigurationError: it is no net for these images, with what was found.
    """

    if_unusable = "it is made without arguments (or with classes, channels, size) and given float32 {}"
    if_failing = "mend the class and start again"

    def __init__(self, name: str, source: str, spec: ImageSpec = STUDY) -> None:
        self.source = source
        super().__init__(name, spec)
        self.custom = name, source

    def create_module(self) -> nn.Module:
        net_class = _load_class(self.name, self.source)
        if not (isinstance(net_class, type) and issubclass(net_class, nn.Module)):
            raise ConfigurationError(f"{self.name} is no torch.nn.Module; derive the class from it")
        spec = self.spec
        size = spec.height if spec.height == spec.width else (spec.height, spec.width)
        known = {"classes": spec.num_classes, "channels": spec.channels, "size": size}
        taken = inspect.signature(net_class).parameters
        return net_class(**{key: value for key, value in known.items() if key in taken})

    def check(self, net: nn.Module) -> None:
        odd = sorted(key for key, value in net.state_dict().items() if not isinstance(value, Tensor))
        odd += sorted(key for key, value in net.named_parameters() if value.dtype != torch.float32)
        if odd or not any(parameter.requires_grad for parameter in net.parameters()):
            problem = f"{odd[0]} is no such" if odd else "it has none that is trained"
            raise ConfigurationError(
                f"{self.name} must have parameters of float32, but {problem}; change the class"
            )

    def choose_layers(self, calls: list[LayerCall]) -> tuple[FeatureLayer, FeatureLayer]:
        if not calls:
            raise ConfigurationError(
                f"{self.name}'s forward calls no layer (nn.Module), but outlier scores need some; use one"
            )
        images = [call for call in calls if call.output.ndim > 2]
        candidates = images or calls[:-1] or calls
        active = [call for call in candidates if self._is_activation(call)]
        default = {
            "strokes": (active or candidates)[0],
            "shapes": (narrow_layers(candidates) or candidates)[-1],
        }
        early, late = (self._named_layer(calls, *each) for each in default.items())
        return early, late

    def _is_activation(self, call: LayerCall) -> bool:
        return type(self.net.get_submodule(call.name)).__module__ == activation.__name__

    def _named_layer(self, calls: list[LayerCall], attribute: str, call: LayerCall) -> FeatureLayer:
        """The layer that the class names in this attribute, else that of `call`."""
        requested = getattr(self.net, attribute, None)
        if isinstance(requested, str):
            matching = [other for other in calls if other.name == requested]
            if not matching:
                raise ConfigurationError(
                    f"{self.name}.{attribute} is {requested!r}, no layer that its forward calls; it calls "
                    f"{', '.join(dict.fromkeys(each.name for each in calls))}"
                )
            call = matching[0 if attribute == "strokes" else -1]
        if call.output.shape[1] > MAX_CHANNELS:
            raise ConfigurationError(
                f"{self.name}'s layer {call.name} has {call.output.shape[1]:,} channels, at most {MAX_CHANNELS:,} "
                f'serve for outlier scores; name a narrower one: {attribute} = "LAYER" in the class'
            )
        return FeatureLayer(call.name, call.output.ndim > 2)


def net_beside(folder: Path) -> tuple[str, str] | None:
    """Find the net in a registered model's folder as `new_model` takes it; None for BaseCNN."""
    if (folder / NET_FILE).is_file():
        return (folder / NET_FILE).read_text(encoding="utf-8").strip(), ""
    for path in sorted(folder.glob("*.py")):
        return path.stem, path.read_text(encoding="utf-8")
    return None


@lru_cache(maxsize=8)
def _load_class(name: str, source: str) -> Any:
    module = ModuleType(f"own_net_{hashlib.sha256(source.encode()).hexdigest()[:12]}")
    sys.modules[module.__name__] = module  # where its classes say that they are from
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)
    return getattr(module, name)
