"""A custom net: a user's class, with all else that a registered model needs.

The class is an `nn.Module` created without arguments, or with those of `classes`, `channels` and `size` (height and
width) that its constructor names. Its `forward` takes images as BaseCNN's first layer sees them (float32
[N, channels, height, width], see `preprocess`) and returns logits [N, classes]. The two kinds of channel means that
outlier scores are computed from are taken from its layers as they are called:

    strokes   the first activation layer (nn.ReLU and its like), else the first layer
    shapes    the last layer that gives images [N, C, ...]; where none does, the last before the logits

A class says otherwise by the names of layers in its attributes `strokes` and `shapes`.
"""

import hashlib
import inspect
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import activation

from hw2.common.errors import ConfigurationError, Hw2Error, NetError
from hw2.common.formatting import first_line
from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models.net import ModelOutputs, Net

MAX_CHANNELS = 1024  # channels whose covariance is still estimated from a few thousand images
_ADVICE: dict[type[Hw2Error], tuple[str, str]] = {
    ConfigurationError: (  # while it is tried out
        "can't be used",
        "it is made without arguments (or with classes, channels, size) and given float32 {}",
    ),
    NetError: ("failed at work", "mend the class and start again"),  # once it is trained or evaluated
}
_PROBE = 3  # images; not 1 or 2, which layers of that size would be mistaken for


class CustomNet(Net):
    """The class `name` of the Python text `source`, with PyTorch's initialization.

    Raises:
        ConfigurationError: it is no net for these images, with what was found.
    """

    def __init__(self, name: str, source: str, spec: ImageSpec = STUDY) -> None:
        super().__init__(spec)
        self.name, self.source = name, source
        with one_line_errors(name, ConfigurationError, spec):
            self.net = _instantiate(name, source, spec)
            calls = self._probe()
        _check_parameters(name, self.net)
        self._layers = _layer_rows(self.net, calls, spec)
        self._early, self._late = _feature_layers(name, self.net, calls)

    def forward_preprocessed(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.net(pixels)
        return logits

    def forward_features(self, images: Tensor) -> ModelOutputs:
        """Logits and the channel means of the two chosen layers, in one pass."""
        with one_line_errors(self.name, NetError):
            return self._forward_features(images)

    def _forward_features(self, images: Tensor) -> ModelOutputs:
        means: dict[str, Tensor] = {}
        thread = threading.get_ident()  # a server asks one net from several threads

        def first_call(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if threading.get_ident() == thread and _is_output(output, self._early[1]):
                means.setdefault("early", _channel_means(output))

        def last_call(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if threading.get_ident() == thread and _is_output(output, self._late[1]):
                means["late"] = _channel_means(output)

        hooks = [
            self.net.get_submodule(layer[0]).register_forward_hook(hook)
            for layer, hook in ((self._early, first_call), (self._late, last_call))
        ]
        try:
            logits = self.forward_preprocessed(self.preprocess(images))
        finally:
            for hook in hooks:
                hook.remove()
        return ModelOutputs(logits.float(), means["early"], means["late"])

    def layers(self) -> list[tuple[str, str, int]]:
        return list(self._layers)

    @torch.no_grad()
    def _probe(self) -> list[tuple[str, Tensor]]:
        """Call the net on black images: each layer that was called, with its output; checks the logits."""
        names = {module: name for name, module in self.net.named_modules() if not list(module.children())}
        calls: list[tuple[str, Tensor]] = []

        def record(module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim >= 2 and len(output) == _PROBE:
                calls.append((names[module], output.clone()))

        self.net.eval()
        hooks = [module.register_forward_hook(record) for module in names if names[module]]
        try:
            logits = self.net(self.preprocess(torch.zeros(_PROBE, *self.spec.shape)))
        finally:
            for hook in hooks:
                hook.remove()
            self.net.train()
        classes = self.spec.num_classes
        expected = f"expected a tensor [N, {classes}] of logits"
        if not isinstance(logits, Tensor):
            raise ConfigurationError(f"{self.name}'s forward returned {type(logits).__name__}; {expected}")
        if logits.shape != (_PROBE, classes) or not logits.is_floating_point():
            raise ConfigurationError(
                f"{self.name}'s forward returned {str(logits.dtype).rpartition('.')[2]} {list(logits.shape)} for "
                f"{_PROBE} images; {expected}"
            )
        return calls


def source_beside(folder: Path) -> tuple[str, str] | None:
    """Find the class name and text of the net in a registered model's folder; None for BaseCNN."""
    for path in sorted(folder.glob("*.py")):
        return path.stem, path.read_text(encoding="utf-8")
    return None


@contextmanager
def one_line_errors(name: str, error_class: type[Hw2Error], spec: ImageSpec = STUDY) -> Iterator[None]:
    """Raise what the user's code raises as an error of one line, of a class of `_ADVICE`."""
    try:
        yield
    except Hw2Error:
        raise
    except SystemExit as error:
        raise NetError(
            f"{name} would have ended the program (sys.exit({error.code!r})); take that out of its file"
        ) from error
    except Exception as error:
        problem, advice = _ADVICE[error_class]
        advice = advice.format(f"[N, {spec.channels}, {spec.height}, {spec.width}]")
        raise error_class(
            f"{name} {problem}: {type(error).__name__}: {first_line(error)}; {advice}"
        ) from error


@lru_cache(maxsize=8)
def _load_class(name: str, source: str) -> Any:
    module = ModuleType(f"own_net_{hashlib.sha256(source.encode()).hexdigest()[:12]}")
    sys.modules[module.__name__] = module  # where its classes say that they are from
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)
    return getattr(module, name)


def _instantiate(name: str, source: str, spec: ImageSpec) -> nn.Module:
    net_class = _load_class(name, source)
    if not (isinstance(net_class, type) and issubclass(net_class, nn.Module)):
        raise ConfigurationError(f"{name} is no torch.nn.Module; derive the class from it")
    known = {"classes": spec.num_classes, "channels": spec.channels, "size": (spec.height, spec.width)}
    taken = inspect.signature(net_class).parameters
    return net_class(**{key: value for key, value in known.items() if key in taken})


def _check_parameters(name: str, net: nn.Module) -> None:
    odd = sorted(key for key, value in net.state_dict().items() if not isinstance(value, Tensor))
    odd += sorted(key for key, value in net.named_parameters() if value.dtype != torch.float32)
    if odd or not any(parameter.requires_grad for parameter in net.parameters()):
        problem = f"{odd[0]} is no such" if odd else "it has none that is trained"
        raise ConfigurationError(f"{name} must have parameters of float32, but {problem}; change the class")


def _is_output(output: Any, images: bool) -> bool:
    return isinstance(output, Tensor) and output.ndim >= 2 and (output.ndim > 2) == images


def _channel_means(output: Tensor) -> Tensor:
    """Average [N, C, ...] over all but N and C, in float32."""
    return output.float().flatten(2).mean(dim=2) if output.ndim > 2 else output.float().clone()


def _feature_layers(
    name: str, net: nn.Module, calls: list[tuple[str, Tensor]]
) -> tuple[tuple[str, bool], tuple[str, bool]]:
    """Choose the early and the late layer: its name, and whether it gives images (more than channels)."""
    if not calls:
        raise ConfigurationError(
            f"{name}'s forward calls no layer (nn.Module), but outlier scores are computed from layers; use one"
        )
    images = [call for call in calls if call[1].ndim > 2]
    candidates = images or calls[:-1] or calls
    active = [
        call for call in candidates if type(net.get_submodule(call[0])).__module__ == activation.__name__
    ]
    default = {"strokes": (active or candidates)[0], "shapes": candidates[-1]}
    chosen = []
    for attribute, call in default.items():
        requested = getattr(net, attribute, None)
        if isinstance(requested, str):
            matching = [other for other in calls if other[0] == requested]
            if not matching:
                raise ConfigurationError(
                    f"{name}.{attribute} is {requested!r}, no layer that its forward calls; it calls "
                    f"{', '.join(dict.fromkeys(layer for layer, _ in calls))}"
                )
            call = matching[0 if attribute == "strokes" else -1]
        layer, output = call
        if output.shape[1] > MAX_CHANNELS:
            raise ConfigurationError(
                f"{name}'s layer {layer} has {output.shape[1]:,} channels, at most {MAX_CHANNELS:,} serve for outlier "
                f'scores; name a narrower one: {attribute} = "LAYER" in the class'
            )
        chosen.append((layer, output.ndim > 2))
    return chosen[0], chosen[1]


def _layer_rows(
    net: nn.Module, calls: list[tuple[str, Tensor]], spec: ImageSpec
) -> list[tuple[str, str, int]]:
    rows = [("input, 1/255, minus mean, over scale", f"{spec.channels} x {spec.height} x {spec.width}", 0)]
    seen: set[str] = set()
    for name, output in calls:
        module = net.get_submodule(name)
        shape = " x ".join(str(side) for side in output.shape[1:])
        count = 0 if name in seen else sum(parameter.numel() for parameter in module.parameters())
        rows.append((f"{name} {type(module).__name__}", shape, count))
        seen.add(name)
    rest = sum(parameter.numel() for parameter in net.parameters()) - sum(row[2] for row in rows)
    return [*rows, ("outside of these layers", "", rest)] if rest else rows
