"""Nets created anew or from their weights: BaseCNN, ResNet20, one of torchvision's, or a custom net."""

import hashlib
from collections.abc import Mapping
from typing import overload

import torch
from torch import Tensor

from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models.base_cnn import BaseCNN
from hw2.models.custom_net import CustomNet
from hw2.models.net import CustomNetSource, Net
from hw2.models.net_source import RESNET20
from hw2.models.resnet20 import ResNet20
from hw2.models.torchvision_net import TorchvisionNet


@overload
def new_model(seed: int) -> BaseCNN: ...
@overload
def new_model(seed: int, custom: CustomNetSource | None, spec: ImageSpec = STUDY) -> Net: ...
def new_model(seed: int, custom: CustomNetSource | None = None, spec: ImageSpec = STUDY) -> Net:
    """Create BaseCNN, or the net of `custom`, for the images of `spec`, with its own initialization.

    Its weights are a pure function of `seed`; the global generator is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _create(custom, spec)


def _create(custom: CustomNetSource | None, spec: ImageSpec) -> Net:
    if custom is None:
        return BaseCNN(spec)
    name, source = custom
    if source:
        return CustomNet(name, source, spec)
    return ResNet20(spec) if name == RESNET20 else TorchvisionNet(name, spec)


def model_from_weights(
    weights: Mapping[str, Tensor], custom: CustomNetSource | None = None, spec: ImageSpec = STUDY
) -> Net:
    """Create BaseCNN, or the net of `custom`, for the images of `spec`, with the weights of a `state_dict`.

    It is ready to predict.
    """
    if custom is None or custom[0] == RESNET20:
        with torch.device("meta"):
            model = _create(custom, spec)
    else:
        model = new_model(0, custom, spec)
    model.load_state_dict(dict(weights), assign=True)
    return model.eval().requires_grad_(False)


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Hash names, shapes, types and bytes of a `state_dict` (SHA-256), whatever its order and memory layout."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
