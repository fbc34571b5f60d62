"""Weights made without a download that carry FP16 error as trained ones do.

Default-initialised networks prove nothing: activations fade to 1e-9 and any tolerance passes. Plain
random ones with BatchNorm are chaotic instead: they amplify rounding by up to 50 dB. What trained
networks have and these are given: BatchNorm statistics of photos, channels of unequal scale, quiet
residual branches, smooth filters that lean to what varies in their inputs, heads that read the
directions in which photos differ. Ideal FP16 then keeps 67, 62 and 68 dB on ResNet-18, MobileNetV2
and YOLOv8n, where networks trained on ImageNet and COCO keep 71, 53 and 66.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from samples import photos
from samples.models.mobilenetv2 import InvertedResidual, MobileNetV2
from samples.models.resnet18 import BasicBlock, ResNet18
from samples.models.yolov8n import Bottleneck, YOLOv8n

SEED = 1
SCALE_SPREAD = 0.35  # of the logarithm of BatchNorm scales: between about 0.5 and 2
SHIFT_SPREAD = 0.4  # of BatchNorm shifts, in deviations of the channel
SILU_SHIFT = 1.0  # their mean before SiLU: about zero it would square the contrasts between photos
BRANCH_SCALE = 0.3  # of a residual branch beside its shortcut
SMOOTHNESS = 0.3  # share of a Gaussian window in a filter, the rest is noise …
DEPTHWISE_SMOOTHNESS = 0.7  # … and in a depthwise one
LEARNING = 0.3  # share of a filter that a step of gradient descent would have made
POSITIONS = 20000  # of a layer's input that its covariance is taken of
HEAD_VARIANCE = 0.99  # share of its input's variance in the principal directions that a head reads
LOGIT_SPAN = 10.0  # largest |logit| that a classifier gives the middle one of those crops
LOGIT_CENTRING = 0.8  # share of the mean logit removed, so that photos differ in their class
BOX_DEVIATION = 1.0  # of a detector's box logits over the photos; they span ±10
SURE_LOGIT = 1.0  # what the class logits of a detector's surest cells exceed (73 %) …
SURE_CELLS = 50  # … and how many of each head do, over the photos
CROPS_PER_PHOTO = 3

Layer = nn.Linear | nn.Conv2d
Network = TypeVar("Network", bound=nn.Module)
Classifier = TypeVar("Classifier", ResNet18, MobileNetV2)


def prepared_classifier(model: Classifier, head: str) -> Classifier:
    """`model` with deterministic weights, in eval mode; `head` names its last Linear."""
    images = torch.from_numpy(photos.classifier_batch(tuple(photos.FILES), CROPS_PER_PHOTO))
    linear = model.get_submodule(head)
    assert isinstance(linear, nn.Linear)
    with deterministic() as generator:
        randomise(model, generator)
        features = gather_statistics(model, images, [linear])[linear]
        directions = head_weights(features, linear.out_features, generator)
        mean_logits = LOGIT_CENTRING * (directions @ features.mean(0))
        largest = (features @ directions.T - mean_logits).abs().amax(1)
        scale = LOGIT_SPAN / largest.median()
    linear.weight.data = directions * scale
    linear.bias.data = -mean_logits * scale
    return model.eval()


def prepared_detector(model: YOLOv8n) -> YOLOv8n:
    """YOLOv8n with deterministic weights, in eval mode, that detects something in the photos."""
    images = torch.from_numpy(photos.detector_batch(tuple(photos.FILES)))
    detect = model.model[-1]
    boxes, classes = ([branch[-1] for branch in part] for part in (detect.cv2, detect.cv3))
    with deterministic() as generator:
        randomise(model, generator)
        for norm in batch_norms(model):
            norm.bias.data += SILU_SHIFT
        detect.set_biases()
        features = gather_statistics(model, images, [*boxes, *classes])
        for conv in boxes:
            aim_head(conv, features[conv], lambda x: BOX_DEVIATION / x.std(), generator)
        for conv in classes:
            rise = SURE_LOGIT - conv.bias.max()
            aim_head(conv, features[conv], lambda x, rise=rise: rise / surest(x), generator)
    return model.eval()


@torch.no_grad()
def aim_head(
    conv: nn.Conv2d,
    features: Tensor,
    scale: Callable[[Tensor], Tensor],
    generator: torch.Generator,
) -> None:
    """Set a 1×1 convolution so that its outputs vary about its bias by what `scale` answers."""
    rows = features.transpose(1, 3).flatten(0, 2)
    directions = head_weights(rows, conv.out_channels, generator)
    weights = directions * scale((rows - rows.mean(0)) @ directions.T)
    conv.weight.data = weights[:, :, None, None]
    conv.bias.data -= weights @ rows.mean(0)


def surest(class_logits: Tensor) -> Tensor:
    """What the `SURE_CELLS` largest logits exceed."""
    return class_logits.flatten().topk(SURE_CELLS).values[-1]


def head_weights(features: Tensor, outputs: int, generator: torch.Generator) -> Tensor:
    """Random mixtures (outputs, C) of the principal directions of `features` (samples, C)."""
    spectrum = torch.linalg.eigh(sign_covariance(features))
    held = spectrum.eigenvalues.flip(0).cumsum(0) / spectrum.eigenvalues.sum()
    count = 1 + int((held < HEAD_VARIANCE).sum())
    directions = spectrum.eigenvectors[:, -count:]
    return torch.randn(outputs, count, generator=generator) @ directions.T


def randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Random weights in place; parameters that do not learn (DFL's) keep their values."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.requires_grad:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            smooth(module.weight.data, SMOOTHNESS if module.groups == 1 else DEPTHWISE_SMOOTHNESS)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.normal_(0, SCALE_SPREAD, generator=generator).exp_()
            module.bias.data.normal_(0, SHIFT_SPREAD, generator=generator)
    for norm in branch_ends(model):
        norm.weight.data *= BRANCH_SCALE


def smooth(filters: Tensor, share: float) -> None:
    """Mix every filter (…, K, K) in place with a Gaussian window of its first tap's height."""
    size = filters.shape[-1]
    offsets = torch.arange(size) - size // 2
    window = torch.exp(-(offsets**2) / (2 * (size / 3) ** 2))
    smoothed = filters[..., :1, :1] * torch.outer(window, window)
    filters.lerp_(smoothed, share)


def branch_ends(model: nn.Module) -> Iterator[nn.BatchNorm2d]:
    """The last BatchNorm of every branch that runs beside a shortcut."""
    for module in model.modules():
        if isinstance(module, BasicBlock):
            yield module.bn2
        elif isinstance(module, InvertedResidual) and module.has_shortcut:
            yield module.conv[-1]
        elif isinstance(module, Bottleneck) and module.has_shortcut:
            yield module.cv2.bn


@torch.no_grad()
def gather_statistics(model: nn.Module, images: Tensor, heads: list[Layer]) -> dict[Layer, Tensor]:
    """Align every filter with its inputs and set every BatchNorm's statistics to those of `images`;
    the eval-mode inputs of `heads`.

    One training-mode pass does it layer by layer: each layer sees its input already normalised.
    """
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become those of the one batch
        norm.train()
    learners = [
        module.register_forward_pre_hook(align)
        for module in model.modules()
        if isinstance(module, nn.Conv2d) and module.groups == 1 and module.weight.requires_grad
    ]
    model(images)
    for learner in learners:
        learner.remove()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    inputs: dict[Layer, Tensor] = {}
    hooks = [
        head.register_forward_hook(lambda layer, args, _: inputs.__setitem__(layer, args[0]))
        for head in heads
    ]
    model.eval()(images)
    for hook in hooks:
        hook.remove()
    return inputs


def align(conv: nn.Conv2d, args: tuple[Tensor]) -> None:
    """Turn filters toward the directions in which their input channels vary, in place.

    Gradients are sums of inputs, so learnt filters lie among them: what matters is amplified, and
    rounding, which has no direction, is not.
    """
    rows = args[0].transpose(1, 3).flatten(0, 2)
    covariance = sign_covariance(rows[:: max(1, len(rows) // POSITIONS)])
    filters = conv.weight.data
    learnt = torch.einsum("oikl,ij->ojkl", filters, covariance)
    filters.lerp_(learnt * (filters.norm() / learnt.norm()), LEARNING)


def sign_covariance(rows: Tensor) -> Tensor:
    """Covariance (C, C) of rows (samples, C) scaled to length one: no photo outweighs another."""
    directions = nn.functional.normalize(rows - rows.mean(0), dim=1)
    return directions.T @ directions


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@contextmanager
def deterministic() -> Iterator[torch.Generator]:
    """A seeded generator, and one thread: the order of a sum must not depend on the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield torch.Generator().manual_seed(SEED)
    finally:
        torch.set_num_threads(threads)
