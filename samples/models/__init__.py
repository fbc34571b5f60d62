"""Networks in plain torch.nn, with the state_dict keys of torchvision and Ultralytics.

A user's checkpoint loads into them; the factories come with weights made without any download.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

# name -> how kpuc would be told: module:factory
FACTORIES = {
    "resnet18": "samples.models.resnet18:resnet18",
    "mobilenetv2": "samples.models.mobilenetv2:mobilenetv2",
    "efficientnet_lite0": "samples.models.efficientnet_lite0:efficientnet_lite0",
    "yolov8n": "samples.models.yolov8n:yolov8n",
}


def build(name: str) -> "nn.Module":
    """The sample network of that name, in eval mode with its weights. KeyError for another name."""
    module, factory = FACTORIES[name].split(":")
    return getattr(import_module(module), factory)()
