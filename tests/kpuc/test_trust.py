"""Nothing in a hostile file runs: it is refused, and says what it would have used."""

import functools
import io
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from formats.errors import TrustError
from kpuc.load import load_model


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    return tmp_path / "executed"


def hidden_in_a_module(payload: Payload) -> nn.Module:
    module = nn.Linear(2, 2)
    module.payload = payload
    return module


@pytest.mark.parametrize(
    "content",
    [
        lambda payload: payload,
        lambda payload: {"model": payload},
        lambda payload: {"state_dict": {"w": torch.ones(1)}, "extra": payload},
        hidden_in_a_module,
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_payload_is_refused_unexecuted(tmp_path, proof, content, zipped):
    torch.save(
        content(Payload(proof)), tmp_path / "model.pt", _use_new_zipfile_serialization=zipped
    )

    with pytest.raises(TrustError, match="--trust-pickle"):
        load_model(tmp_path / "model.pt")

    assert not proof.exists()


def test_what_would_be_used_is_listed(tmp_path, proof):
    module = hidden_in_a_module(Payload(proof))
    module.act = nn.functional.relu
    torch.save(module, tmp_path / "model.pt")

    with pytest.raises(TrustError) as error:
        load_model(tmp_path / "model.pt")

    assert "system" in str(error.value)
    assert "torch.nn.functional.relu" in str(error.value)
    assert "torch.nn.modules.linear.Linear" not in str(error.value)


def test_trust_that_is_given_loads_everything(tmp_path):
    module = nn.Linear(2, 2)
    module.act = nn.functional.relu
    torch.save(module, tmp_path / "model.pt")

    assert load_model(tmp_path / "model.pt", trust_pickle=True).module.act is nn.functional.relu


def test_modules_of_installed_packages_load_without_trust(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Hardswish(), nn.MultiheadAttention(4, 2))
    module.norm = functools.partial(nn.BatchNorm2d, eps=1e-3)
    module.kept = {"shape": torch.Size([1]), "dtype": torch.float16, "names": {"a", "b"}}
    torch.save(module, tmp_path / "model.pt")

    loaded = load_model(tmp_path / "model.pt").module

    assert isinstance(loaded[1], nn.Hardswish)
    assert loaded.norm.keywords == {"eps": 1e-3}


def write_net(path: Path, proof: Path) -> None:
    """A module that says when it is imported."""
    path.write_text(
        f"import pathlib\npathlib.Path({str(proof)!r}).touch()\n"
        "from torch import nn\nclass Net(nn.Module):\n    pass\n"
    )


def save_naming(path: Path, module: str, name: str) -> None:
    """A pickled module whose class is called module.name."""
    torch.save(nn.Identity(), path)
    rewrite_global(path, "torch.nn.modules.linear", "Identity", module, name)


def test_a_named_module_in_the_working_directory_is_found_as_a_script_finds_it(
    tmp_path, proof, monkeypatch
):
    write_net(tmp_path / "beside.py", proof)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    save_naming(tmp_path / "model.pt", "beside", "Net")

    assert type(load_model(tmp_path / "model.pt", arch="beside:Net").module).__name__ == "Net"
    sys.modules.pop("beside")


# nodeenv is installed, but not what lies beside the model under its name
@pytest.mark.parametrize("name", ["beside", "nodeenv"])
def test_a_module_beside_the_file_is_not_imported(tmp_path, proof, monkeypatch, name):
    write_net(tmp_path / f"{name}.py", proof)
    monkeypatch.syspath_prepend(str(tmp_path))
    save_naming(tmp_path / "model.pt", name, "Net")

    with pytest.raises(TrustError, match=rf"{name}\.Net"):
        load_model(tmp_path / "model.pt")

    assert not proof.exists()


def test_a_module_that_the_user_names_is_imported(tmp_path, proof, monkeypatch):
    write_net(tmp_path / "beside.py", proof)
    monkeypatch.syspath_prepend(str(tmp_path))
    save_naming(tmp_path / "model.pt", "beside", "Net")

    assert type(load_model(tmp_path / "model.pt", arch="beside:Net").module).__name__ == "Net"
    sys.modules.pop("beside")


def rewrite_global(path: Path, module: str, name: str, other_module: str, other: str) -> None:
    """Replace one class that the pickle names by another."""
    with zipfile.ZipFile(path) as archive:
        records = {entry: archive.read(entry) for entry in archive.namelist()}
    pickled = next(entry for entry in records if entry.endswith("data.pkl"))
    old = f"c{module}\n{name}\n".encode()
    assert old in records[pickled]
    records[pickled] = records[pickled].replace(old, f"c{other_module}\n{other}\n".encode())
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in records.items():
            archive.writestr(entry, data)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("antigravity", "Net"),  # opens a browser when imported
        ("pip.__main__", "Net"),
        ("torch.fx.graph_module", "GraphModule"),
        ("torch.jit._script", "RecursiveScriptModule"),
        ("torch.nn", "Linear.forward"),
        ("torch.utils.data", "Dataset"),
        ("sklearn.datasets._base", "load_iris"),
    ],
)
def test_names_that_are_no_module_classes_are_refused_unimported(tmp_path, module, name):
    save_naming(tmp_path / "model.pt", module, name)
    imported = module in sys.modules

    with pytest.raises(TrustError):
        load_model(tmp_path / "model.pt")

    assert (module in sys.modules) == imported


def exported(path: Path) -> dict[str, bytes]:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    batch = torch.export.Dim("batch", max=8)
    example = (torch.zeros(2, 3, 6, 6),)
    torch.export.save(torch.export.export(module, example, dynamic_shapes=({0: batch},)), path)
    reader = torch._C.PyTorchFileReader(str(path))
    return {record: reader.get_record(record) for record in reader.get_all_records()}


def write_archive(path: Path, records: dict[str, bytes]) -> None:
    writer = torch._C.PyTorchFileWriter(str(path))
    for record, data in records.items():
        if not record.startswith(".data/"):
            writer.write_record(record, data, len(data))
    writer.write_end_of_file()


def nodes(model: dict[str, Any]) -> list[Any]:
    return model["graph_module"]["graph"]["nodes"]


def change_target(model: dict[str, Any]) -> None:
    nodes(model)[0]["target"] = "torch.hub.load"


def change_keyword(model: dict[str, Any]) -> None:
    nodes(model)[0]["inputs"][0]["name"] = "x=open('executed','w'), input"


def change_expression(model: dict[str, Any]) -> None:
    sizes = model["graph_module"]["graph"]["tensor_values"]["conv2d"]["sizes"]
    sizes[0]["as_expr"]["expr_str"] = "__import__('os').system('touch executed')"


def change_parameter_name(model: dict[str, Any]) -> None:
    signature = model["graph_module"]["signature"]["input_specs"]
    signature[0]["parameter"]["parameter_name"] = "0.weight\"), open('executed', 'w'"


def change_tree(model: dict[str, Any]) -> None:
    call = model["graph_module"]["module_call_graph"][0]["signature"]
    spec = json.loads(call["in_spec"])
    spec[1]["children_spec"][0] = {
        "type": "collections.defaultdict",
        "context": json.dumps(
            {
                "default_factory_module": "antigravity",
                "default_factory_name": "x",
                "dict_context": [],
            }
        ),
        "children_spec": [],
    }
    call["in_spec"] = json.dumps(spec)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_target, "torch.hub.load"),
        (change_keyword, "the name"),
        (change_expression, "symbolic shape"),
        (change_parameter_name, "the name"),
        (change_tree, "defaultdict"),
    ],
)
def test_an_exported_program_with_code_in_it_is_refused(tmp_path, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    records = exported(tmp_path / "model.pt2")
    model = json.loads(records["models/model.json"])
    change(model)
    write_archive(
        tmp_path / "model.pt2", records | {"models/model.json": json.dumps(model).encode()}
    )

    with pytest.raises(TrustError, match=words):
        load_model(tmp_path / "model.pt2")

    assert not (tmp_path / "executed").exists()
    assert "antigravity" not in sys.modules


def test_pickled_weights_are_refused(tmp_path, proof):
    records = exported(tmp_path / "model.pt2")
    name = "data/weights/model_weights_config.json"
    config = json.loads(records[name])
    config["config"]["0.weight"]["use_pickle"] = True
    records[name] = json.dumps(config).encode()
    buffer = io.BytesIO()
    torch.save(Payload(proof), buffer)
    records["data/weights/weight_0"] = buffer.getvalue()
    write_archive(tmp_path / "model.pt2", records)

    with pytest.raises(TrustError, match=r"0\.weight is stored as a pickled"):
        load_model(tmp_path / "model.pt2")

    assert not proof.exists()


def test_guards_and_sample_inputs_are_left_out(tmp_path, proof):
    records = exported(tmp_path / "model.pt2")
    model = json.loads(records["models/model.json"])
    model["guards_code"] = [f"open({str(proof)!r}, 'w') is None"]
    buffer = io.BytesIO()
    torch.save(Payload(proof), buffer)
    records["models/model.json"] = json.dumps(model).encode()
    records["data/sample_inputs/model.pt"] = buffer.getvalue()
    write_archive(tmp_path / "model.pt2", records)

    program = load_model(tmp_path / "model.pt2").module
    program.module()

    assert not proof.exists()
