"""A net of a person's own around which all else is put that a registered model needs.

The person's class is an `nn.Module` made without arguments, whose `forward` takes images as BaseCNN's first layer
sees them (float32 [N, 1, 28, 28], see `preprocess`) and returns logits [N, 10]. The two kinds of channel means that
outlier scores are computed from are taken from its layers as they are called:

    strokes   the first activation layer (nn.ReLU and its like), else the first layer
    shapes    the last layer that gives images [N, C, ...]; where none does, the last before the logits

A class says otherwise by the names of layers in its attributes `strokes` and `shapes`.
"""

import hashlib
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

from hw2.common.constants import IMAGE_SIZE, NUM_CLASSES
from hw2.common.errors import ConfigurationError, Hw2Error, NetError
from hw2.common.formatting import first_line
from hw2.models.net import ModelOutputs, Net, preprocess

WIDEST = 1024  # channels whose covariance is still estimated from a few thousand images
_PROBE = 3  # images; not 1 or 2, which layers of that size would be mistaken for


class CustomNet(Net):
    """The class `name` of the Python text `source`, with PyTorch's initialisation.

    `ConfigurationError`, naming what was found, where it is no net for these images.
    """

    def __init__(self, name: str, source: str) -> None:
        super().__init__()
        self.name, self.source = name, source
        with _as_asked(name):
            self.net = _made(name, source)
            calls = self._probe()
        _check_parameters(name, self.net)
        self._layers = _rows(self.net, calls)
        self._strokes, self._shapes = _chosen(name, self.net, calls)

    def scores(self, pixels: Tensor) -> Tensor:
        """The person's `forward`."""
        logits: Tensor = self.net(pixels)
        return logits

    def outputs(self, images: Tensor) -> ModelOutputs:
        """Logits and the channel means of the two chosen layers, in one pass."""
        with at_work(self.name):
            return self._outputs(images)

    def _outputs(self, images: Tensor) -> ModelOutputs:
        means: dict[str, Tensor] = {}
        thread = threading.get_ident()  # a server asks one net from several threads

        def first(_module: nn.Module, _given: Any, found: Any) -> None:
            if threading.get_ident() == thread and _is_of(found, self._strokes[1]):
                means.setdefault("strokes", _channel_means(found))

        def last(_module: nn.Module, _given: Any, found: Any) -> None:
            if threading.get_ident() == thread and _is_of(found, self._shapes[1]):
                means["shapes"] = _channel_means(found)

        hooks = [
            self.net.get_submodule(layer[0]).register_forward_hook(hook)
            for layer, hook in ((self._strokes, first), (self._shapes, last))
        ]
        try:
            logits = self.scores(preprocess(images))
        finally:
            for hook in hooks:
                hook.remove()
        return ModelOutputs(logits.float(), means["strokes"], means["shapes"])

    def layers(self) -> list[tuple[str, str, int]]:
        """In the order in which they are called."""
        return list(self._layers)

    @torch.no_grad()
    def _probe(self) -> "list[tuple[str, Tensor]]":
        """Each call of a layer on black images, with what it gave; checks the answer."""
        names = {module: name for name, module in self.net.named_modules() if not list(module.children())}
        calls: list[tuple[str, Tensor]] = []

        def note(module: nn.Module, _given: Any, found: Any) -> None:
            if isinstance(found, Tensor) and found.ndim >= 2 and len(found) == _PROBE:
                calls.append((names[module], found.clone()))

        self.net.eval()
        hooks = [module.register_forward_hook(note) for module in names if names[module]]
        try:
            logits = self.net(preprocess(torch.zeros(_PROBE, IMAGE_SIZE, IMAGE_SIZE)))
        finally:
            for hook in hooks:
                hook.remove()
            self.net.train()
        expected = f"expected a tensor [N, {NUM_CLASSES}] of logits"
        if not isinstance(logits, Tensor):
            raise ConfigurationError(f"{self.name}'s forward returned {type(logits).__name__}; {expected}")
        if logits.shape != (_PROBE, NUM_CLASSES) or not logits.is_floating_point():
            raise ConfigurationError(
                f"{self.name}'s forward returned {str(logits.dtype).rpartition('.')[2]} {list(logits.shape)} for "
                f"{_PROBE} images; {expected}"
            )
        return calls


def source_beside(folder: Path) -> tuple[str, str] | None:
    """The class name and text of the net in a registered model's folder; None for BaseCNN."""
    for path in sorted(folder.glob("*.py")):
        return path.stem, path.read_text(encoding="utf-8")
    return None


@contextmanager
def at_work(name: str) -> Iterator[None]:
    """What the person's code raises once it is trained or asked, as `NetError`."""
    try:
        yield
    except Hw2Error:
        raise
    except SystemExit as error:
        raise _ended(name, error) from error
    except Exception as error:
        raise NetError(
            f"{name} failed at work: {type(error).__name__}: {first_line(error)}; mend the class and start again"
        ) from error


def _ended(name: str, error: SystemExit) -> NetError:
    return NetError(
        f"{name} would have ended the program (sys.exit({error.code!r})); take that out of its file"
    )


@contextmanager
def _as_asked(name: str) -> Iterator[None]:
    """What the person's code raises while it is tried out, in one line."""
    try:
        yield
    except Hw2Error:
        raise
    except SystemExit as error:
        raise _ended(name, error) from error
    except Exception as error:
        raise ConfigurationError(
            f"{name} can't be used: {type(error).__name__}: {first_line(error)}; it is made without arguments and "
            f"given float32 [N, 1, {IMAGE_SIZE}, {IMAGE_SIZE}]"
        ) from error


@lru_cache(maxsize=8)
def _class(name: str, source: str) -> Any:
    module = ModuleType(f"own_net_{hashlib.sha256(source.encode()).hexdigest()[:12]}")
    sys.modules[module.__name__] = module  # where its classes say that they are from
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)
    return getattr(module, name)


def _made(name: str, source: str) -> nn.Module:
    found = _class(name, source)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigurationError(f"{name} is no torch.nn.Module; derive the class from it")
    return found()


def _check_parameters(name: str, net: nn.Module) -> None:
    odd = sorted(key for key, value in net.state_dict().items() if not isinstance(value, Tensor))
    odd += sorted(key for key, value in net.named_parameters() if value.dtype != torch.float32)
    if odd or not any(parameter.requires_grad for parameter in net.parameters()):
        what = f"{odd[0]} is no such" if odd else "it has none that is trained"
        raise ConfigurationError(f"{name} must have parameters of float32, but {what}; change the class")


def _is_of(found: Any, images: bool) -> bool:
    return isinstance(found, Tensor) and found.ndim >= 2 and (found.ndim > 2) == images


def _channel_means(found: Tensor) -> Tensor:
    """[N, C] of [N, C, ...], float32."""
    return found.float().flatten(2).mean(dim=2) if found.ndim > 2 else found.float().clone()


def _chosen(
    name: str, net: nn.Module, calls: list[tuple[str, Tensor]]
) -> tuple[tuple[str, bool], tuple[str, bool]]:
    """For strokes and shapes: the layer's name, and whether it gives images (more than channels)."""
    if not calls:
        raise ConfigurationError(
            f"{name}'s forward calls no layer (nn.Module), but outlier scores are computed from layers; use one"
        )
    images = [call for call in calls if call[1].ndim > 2]
    among = images or calls[:-1] or calls
    active = [call for call in among if type(net.get_submodule(call[0])).__module__ == activation.__name__]
    default = {"strokes": (active or among)[0], "shapes": among[-1]}
    chosen = []
    for kind, call in default.items():
        said = getattr(net, kind, None)
        if isinstance(said, str):
            found = [each for each in calls if each[0] == said]
            if not found:
                raise ConfigurationError(
                    f"{name}.{kind} is {said!r}, no layer that its forward calls; it calls "
                    f"{', '.join(dict.fromkeys(each for each, _ in calls))}"
                )
            call = found[0 if kind == "strokes" else -1]
        layer, output = call
        if output.shape[1] > WIDEST:
            raise ConfigurationError(
                f"{name}'s layer {layer} has {output.shape[1]:,} channels, at most {WIDEST:,} serve for outlier "
                f'scores; name a narrower one: {kind} = "LAYER" in the class'
            )
        chosen.append((layer, output.ndim > 2))
    return chosen[0], chosen[1]


def _rows(net: nn.Module, calls: list[tuple[str, Tensor]]) -> list[tuple[str, str, int]]:
    rows = [("input, 1/255, minus mean, over scale", f"1 x {IMAGE_SIZE} x {IMAGE_SIZE}", 0)]
    seen: set[str] = set()
    for name, output in calls:
        module = net.get_submodule(name)
        shape = " x ".join(str(side) for side in output.shape[1:])
        count = 0 if name in seen else sum(each.numel() for each in module.parameters())
        rows.append((f"{name} {type(module).__name__}", shape, count))
        seen.add(name)
    rest = sum(each.numel() for each in net.parameters()) - sum(row[2] for row in rows)
    return [*rows, ("outside of these layers", "", rest)] if rest else rows
