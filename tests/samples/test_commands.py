"""The small programs around the samples: files of the networks, names of what they see."""

import numpy as np
import torch
from safetensors.torch import load_file

from samples import classes, make_models
from samples.models.resnet18 import ResNet18


def test_an_exported_network_computes_what_the_network_does(tmp_path):
    assert make_models.main([str(tmp_path), "efficientnet_lite0"]) == 0
    exported = torch.export.load(tmp_path / "efficientnet_lite0.pt2").module()
    image = torch.zeros(1, 3, 224, 224)
    torch.testing.assert_close(exported(image), make_models.build("efficientnet_lite0")(image))


def test_resnet18_comes_as_a_module_and_as_a_state_dict_too(tmp_path, monkeypatch):
    monkeypatch.setattr(make_models, "build", lambda name: ResNet18(classes=2).eval())
    make_models.main([str(tmp_path), "resnet18"])
    weights = load_file(tmp_path / "resnet18.safetensors")
    module = torch.load(tmp_path / "resnet18.pt", weights_only=False)  # written a moment ago
    assert all(torch.equal(weights[key], value) for key, value in module.state_dict().items())


def test_an_unknown_network_is_a_usage_error_that_lists_the_known_ones(tmp_path, capsys):
    assert make_models.main([str(tmp_path), "resnet19"]) == 2
    assert "mobilenetv2" in capsys.readouterr().err


def test_classes_are_named_with_their_probability():
    logits = np.full(1000, -100.0, np.float32)
    logits[[285, 281]] = np.log([0.75, 0.25])
    (first, one), (second, other) = classes.best_classes(logits, 2)
    assert (first, second) == ("Egyptian cat", "tabby")
    assert np.allclose([one, other], [0.75, 0.25])


def test_the_classes_of_an_output_file_are_printed(tmp_path, capsys):
    np.savez(tmp_path / "out.npz", logits=np.eye(1, 1000, 967, dtype=np.float32) * 20)
    assert classes.main([str(tmp_path / "out.npz")]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "100.0%  espresso"


def test_a_file_without_class_scores_is_an_error(tmp_path, capsys):
    np.savez(tmp_path / "out.npz", boxes=np.zeros((1, 84, 8400), np.float32))
    assert classes.main([str(tmp_path / "out.npz")]) == 1
    assert "no output of 1000 class scores" in capsys.readouterr().err
