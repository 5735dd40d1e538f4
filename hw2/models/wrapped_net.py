"""Any `nn.Module` as a net: its layers are tried out, and its channel means are taken from two of them.

Outlier scores are computed from the means of an early and a late layer, which are taken as the layers are called.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hw2.common.errors import ConfigurationError, Hw2Error, NetError
from hw2.common.formatting import first_line
from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models.net import ModelOutputs, Net

MAX_CHANNELS = 1024  # channels whose covariance is still estimated from a few thousand images
_PROBE = 3  # images; not 1 or 2, which layers of that size would be mistaken for


class FeatureLayer(NamedTuple):
    """A layer whose channel means are taken: its name, and whether it gives images (more than channels)."""

    name: str
    images: bool
    of_input: bool = False  # what the layer is given instead of what it returns


class LayerCall(NamedTuple):
    """What a layer of the net returned for the images that it was tried out on."""

    name: str
    output: Tensor


class WrappedNet(Net):
    """A module that takes preprocessed images, float32 [N, channels, H, W], and returns logits."""

    if_unusable: str
    """What to do about an error of the module while it is tried out; {} for the shape of what it is given."""
    if_failing: str
    """And once it is trained or evaluated."""

    def __init__(self, name: str, spec: ImageSpec = STUDY) -> None:
        super().__init__(spec)
        self.name = name
        with self.one_line_errors(ConfigurationError):
            self.net = self.create_module()
            calls = self._probe()
        self.check(self.net)
        self._layers = _layer_rows(self.net, calls, spec)
        self._early, self._late = self.choose_layers(calls)

    def create_module(self) -> nn.Module:
        """Create the module, with new weights."""
        raise NotImplementedError

    def check(self, net: nn.Module) -> None:
        """Raise ConfigurationError where the module can't be trained."""

    def choose_layers(self, calls: list[LayerCall]) -> tuple[FeatureLayer, FeatureLayer]:
        """Choose the early and the late layer."""
        raise NotImplementedError

    def forward_preprocessed(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.net(pixels)
        return logits

    def forward_features(self, images: Tensor) -> ModelOutputs:
        """Logits and the channel means of the two chosen layers, in one pass."""
        with self.one_line_errors(NetError):
            return self._forward_features(images)

    def _forward_features(self, images: Tensor) -> ModelOutputs:
        means: dict[str, Tensor] = {}
        thread = threading.get_ident()  # a server asks one net from several threads

        def first_call(_module: nn.Module, inputs: Any, output: Any) -> None:
            value = inputs[0] if self._early.of_input else output
            if threading.get_ident() == thread and _is_output(value, self._early.images):
                means.setdefault("early", _channel_means(value))

        def last_call(_module: nn.Module, inputs: Any, output: Any) -> None:
            value = inputs[0] if self._late.of_input else output
            if threading.get_ident() == thread and _is_output(value, self._late.images):
                means["late"] = _channel_means(value)

        hooks = [
            self.net.get_submodule(layer.name).register_forward_hook(hook)
            for layer, hook in ((self._early, first_call), (self._late, last_call))
        ]
        try:
            logits = self.forward_preprocessed(self.preprocess(images))
        finally:
            for hook in hooks:
                hook.remove()
        return ModelOutputs(logits.float(), means["early"], means["late"])

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights of this version of the module; a plain dict has lost the versions that some modules ask for."""
        complete = OrderedDict(state_dict)
        complete._metadata = self.state_dict()._metadata  # type: ignore[attr-defined]
        return super().load_state_dict(complete, strict, assign)

    def layers(self) -> list[tuple[str, str, int]]:
        return list(self._layers)

    @contextmanager
    def one_line_errors(self, error_class: type[Hw2Error]) -> Iterator[None]:
        """Raise what the module's code raises as an error of one line: ConfigurationError or NetError."""
        problem, advice = "failed at work", self.if_failing
        if error_class is ConfigurationError:
            problem, advice = "can't be used", self.if_unusable
        try:
            yield
        except Hw2Error:
            raise
        except SystemExit as error:
            raise NetError(
                f"{self.name} would have ended the program (sys.exit({error.code!r})); take that out of its file"
            ) from error
        except Exception as error:
            shape = f"[N, {self.spec.channels}, {self.spec.height}, {self.spec.width}]"
            raise error_class(
                f"{self.name} {problem}: {type(error).__name__}: {first_line(error)}; {advice.format(shape)}"
            ) from error

    @torch.no_grad()
    def _probe(self) -> list[LayerCall]:
        """Call the net on black images: each layer that was called, with its output; checks the logits."""
        names = {module: name for name, module in self.net.named_modules() if not list(module.children())}
        calls: list[LayerCall] = []

        def record(module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim >= 2 and len(output) == _PROBE:
                calls.append(LayerCall(names[module], output.clone()))

        self.net.eval()
        hooks = [module.register_forward_hook(record) for module in names if names[module]]
        try:
            logits = self.net(self.preprocess(torch.zeros(_PROBE, *self.spec.shape)))
        finally:
            for hook in hooks:
                hook.remove()
            self.net.train()
        classes = self.spec.num_classes
        expected = f"expected a tensor [N, {classes}] of logits; let its constructor take `classes`"
        if not isinstance(logits, Tensor):
            raise ConfigurationError(f"{self.name}'s forward returned {type(logits).__name__}; {expected}")
        if logits.shape != (_PROBE, classes) or not logits.is_floating_point():
            raise ConfigurationError(
                f"{self.name}'s forward returned {str(logits.dtype).rpartition('.')[2]} {list(logits.shape)} for "
                f"{_PROBE} images; {expected}"
            )
        return calls


def narrow_layers(calls: list[LayerCall]) -> list[LayerCall]:
    """Keep the layers whose last output has no more channels than outlier scores can be computed from."""
    last = {call.name: call.output.shape[1] for call in calls}
    return [call for call in calls if last[call.name] <= MAX_CHANNELS]


def _is_output(output: Any, images: bool) -> bool:
    return isinstance(output, Tensor) and output.ndim >= 2 and (output.ndim > 2) == images


def _channel_means(output: Tensor) -> Tensor:
    """Average [N, C, ...] over all but N and C, in float32."""
    return output.float().flatten(2).mean(dim=2) if output.ndim > 2 else output.float().clone()


def _layer_rows(net: nn.Module, calls: list[LayerCall], spec: ImageSpec) -> list[tuple[str, str, int]]:
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
