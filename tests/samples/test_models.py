"""The sample networks: a user's checkpoint loads, outputs mean something, Dynamo captures them."""

from pathlib import Path

import pytest
import torch
from torch import nn

from samples import photos
from samples.models import FACTORIES, build
from samples.models.mobilenetv2 import MobileNetV2
from samples.models.resnet18 import ResNet18
from samples.models.yolov8n import YOLOv8n, anchor_grid, boxes_from_distances

KEYS = Path(__file__).parent / "keys"
NETWORKS = {"resnet18": ResNet18, "mobilenetv2": MobileNetV2, "yolov8n": YOLOv8n}
CLASSIFIERS = ["resnet18", "mobilenetv2", "efficientnet_lite0"]


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    return {name: build(name) for name in FACTORIES}


def outputs_of(model: nn.Module, images: torch.Tensor):
    with torch.no_grad():
        return model(images)


@pytest.mark.parametrize("name", NETWORKS)
def test_state_dict_has_the_keys_and_shapes_of_the_original(name):
    """The lists were written from torchvision 0.29.2 and Ultralytics 8.4.190."""
    expected = [line.split() for line in (KEYS / f"{name}.txt").read_text().splitlines()]
    actual = [
        [key, *map(str, tensor.shape)] for key, tensor in NETWORKS[name]().state_dict().items()
    ]
    assert actual == expected


@pytest.mark.parametrize("name", FACTORIES)
def test_a_factory_gives_eval_mode_and_says_its_input_size(models, name):
    size = 640 if name == "yolov8n" else 224
    assert not models[name].training
    assert models[name].example_input_array.shape == (1, 3, size, size)


def test_a_factory_gives_the_same_weights_every_time(models):
    again = build("yolov8n").state_dict()
    first = models["yolov8n"].state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_logits_of_held_out_photos_span_a_trained_range(models, name):
    images = torch.from_numpy(photos.classifier_batch(photos.EVALUATION, each=2))
    logits = outputs_of(models[name], images)
    assert logits.shape == (6, 1000)
    assert 4 < logits.abs().max() < 30
    assert len(set(logits.argmax(1).tolist())) > 1


def test_the_trained_network_sees_a_cat_and_an_espresso(models):
    images = [
        photos.prepared(photos.photo(name), "imagenet", 224) for name in ("chelsea", "coffee")
    ]
    classes = outputs_of(models["efficientnet_lite0"], torch.from_numpy(images[0])).argmax(1)
    assert classes.item() == 285  # Egyptian cat
    classes = outputs_of(models["efficientnet_lite0"], torch.from_numpy(images[1])).argmax(1)
    assert classes.item() == 967  # espresso


def test_the_detector_returns_what_ultralytics_does(models):
    image = torch.from_numpy(photos.prepared(photos.photo("motorcycle"), "yolo", 640))
    decoded, heads = outputs_of(models["yolov8n"], image)
    assert decoded.shape == (1, 84, 8400)
    assert [head.shape for head in heads] == [(1, 144, 80, 80), (1, 144, 40, 40), (1, 144, 20, 20)]
    assert all(4 < head.abs().max() < 60 for head in heads)
    assert (decoded[:, 4:] > 0.25).sum() > 0


def test_anchors_are_cell_centres_in_units_of_their_stride():
    centres, strides = anchor_grid([(2, 3), (1, 1), (1, 1)])
    assert centres[0, :, :6].T.tolist() == [
        [0.5, 0.5],
        [1.5, 0.5],
        [2.5, 0.5],
        [0.5, 1.5],
        [1.5, 1.5],
        [2.5, 1.5],
    ]
    assert strides.tolist() == [[8.0] * 6 + [16.0, 32.0]]


def test_distances_to_four_sides_become_a_centre_and_a_size():
    distances = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1)
    boxes = boxes_from_distances(distances, torch.full((1, 2, 1), 10.0))
    assert boxes.flatten().tolist() == [11.0, 11.0, 4.0, 6.0]


@pytest.mark.parametrize("name", FACTORIES)
def test_dynamo_captures_the_whole_network_without_a_graph_break(models, name):
    torch.compiler.reset()
    size = 64 if name == "yolov8n" else 224  # the detector takes any multiple of 32
    image = torch.from_numpy(photos.prepared(photos.photo("chelsea"), "imagenet", size))
    compiled = torch.compile(models[name], backend="eager", fullgraph=True)
    expected, actual = outputs_of(models[name], image), outputs_of(compiled, image)
    torch.testing.assert_close(actual, expected)
