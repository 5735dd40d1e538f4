"""torchvision's own classification nets, with random weights and a beginning that suits small images.

They are made for images of 224 x 224, whose sides the first layers divide by two to four. What is changed:

    DenseNet, GoogLeNet, ResNet, ResNeXt, Wide ResNet    a first convolution of 3x3 with stride 1, no max-pool behind it
    EfficientNet, MNASNet, MobileNet, RegNet             a first convolution with stride 1
    ShuffleNet                                           the same, no max-pool behind it
    ViT                                                  the side of the images as its size
    all others                                           nothing

The first convolution takes one channel or three. GoogLeNet and Inception have no auxiliary outputs. A net that can't
take the images, because nothing is left of them or they can't be cut into its patches, is refused.
"""

import difflib
from typing import Any

from torch import nn
from torch.nn.modules import activation

from hw2.common.errors import ConfigurationError
from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models.net_source import TORCHVISION
from hw2.models.wrapped_net import MAX_CHANNELS, FeatureLayer, LayerCall, WrappedNet, narrow_layers

_SMALL_KERNEL = ("densenet", "googlenet", "resnet", "resnext", "wide_resnet")
_STRIDE_1 = (*_SMALL_KERNEL, "efficientnet", "mnasnet", "mobilenet", "regnet", "shufflenet")
# By how a net's name begins: its first max-pool, which goes.
_POOLS = {"densenet": "features.pool0", "googlenet": "maxpool1"} | dict.fromkeys(
    ("resnet", "resnext", "wide_resnet", "shufflenet"), "maxpool"
)


class TorchvisionNet(WrappedNet):
    """The net `torchvision:NAME`, as `name` has it.

    Raises:
        ConfigurationError: torchvision has no such net, or it can't take these images.
    """

    if_unusable = (
        "it was given float32 {}: choose another net, or larger images (class folders: --image-size)"
    )
    if_failing = "choose another net, or another --batch-size"

    def __init__(self, name: str, spec: ImageSpec = STUDY) -> None:
        super().__init__(name, spec)
        self.custom = name, ""

    def create_module(self) -> nn.Module:
        try:
            from torchvision import models
        except ImportError as error:
            raise ConfigurationError(
                f"{self.name} needs torchvision, which isn't installed here; install torchvision"
            ) from error
        name = self.name.removeprefix(TORCHVISION)
        names = models.list_models(module=models)
        if name not in names:
            near = [TORCHVISION + each for each in difflib.get_close_matches(name.lower(), names)]
            raise ConfigurationError(
                f"model is {self.name!r}, but torchvision has no such classifier; "
                + (
                    f"did you mean {' or '.join(near)}?"
                    if near
                    else "torchvision.models.list_models() lists them"
                )
            )
        options: dict[str, Any] = {}
        if name in ("googlenet", "inception_v3"):
            options = {"aux_logits": False, "init_weights": True}
        elif name.startswith("vit_"):
            options = {"image_size": self.spec.height}
        net: nn.Module = models.get_model(name, weights=None, num_classes=self.spec.num_classes, **options)
        _fit_beginning(name, net, self.spec.channels)
        return net

    def choose_layers(self, calls: list[LayerCall]) -> tuple[FeatureLayer, FeatureLayer]:
        """Choose the activation of what the first convolution gives, and what the last linear layer is given.

        Where that is too wide for outlier scores, or there is none, the last images that are narrow enough.
        """
        kinds = dict(self.net.named_modules())
        first = next(call for call in calls if isinstance(kinds[call.name], nn.Conv2d))
        active = (call for call in calls if type(kinds[call.name]).__module__ == activation.__name__)
        behind = next(active, first)
        early = behind if behind.output.shape[:2] == first.output.shape[:2] else first
        for name, _ in reversed(calls):
            if isinstance(linear := kinds[name], nn.Linear) and linear.in_features <= MAX_CHANNELS:
                return FeatureLayer(early.name, images=True), FeatureLayer(name, images=False, of_input=True)
            if isinstance(linear, nn.Linear):
                break
        images = [call for call in narrow_layers(calls) if call.output.ndim > 2]
        late = [call for call in images if call.output.shape[1] != self.spec.num_classes] or images
        return FeatureLayer(early.name, images=True), FeatureLayer(late[-1].name, images=True)


def _fit_beginning(name: str, net: nn.Module, channels: int) -> None:
    """Make the first layers take so many channels, and leave more of small images."""
    place, first = next((at, layer) for at, layer in net.named_modules() if isinstance(layer, nn.Conv2d))
    settings: dict[str, Any] = {
        key: getattr(first, key) for key in ("out_channels", "kernel_size", "stride", "padding")
    }
    if name.startswith(_SMALL_KERNEL):
        settings |= {"kernel_size": 3, "padding": 1}
    if name.startswith(_STRIDE_1):
        settings |= {"stride": 1}
    fitted = nn.Conv2d(channels, **settings, bias=first.bias is not None)
    if fitted.weight.shape == first.weight.shape:
        fitted.load_state_dict(first.state_dict())
    else:
        nn.init.kaiming_normal_(fitted.weight, mode="fan_out", nonlinearity="relu")
    net.set_submodule(place, fitted)
    for beginning, pool in _POOLS.items():
        if name.startswith(beginning):
            net.set_submodule(pool, nn.Identity())
