"""Write the sample networks as a user would have them: exported, pickled, or weights alone.

`python -m samples.make_models DIR [NAME…]` writes NAME.pt2 for each network, and for ResNet-18 the
pickled module (resnet18.pt) and the state_dict (resnet18.safetensors) too.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from samples.models import FACTORIES, build


def write_exported(model: nn.Module, path: Path) -> None:
    """`model` as a torch.export file, captured at its own input size."""
    with torch.no_grad():
        exported = torch.export.export(model, (model.example_input_array,))
    torch.export.save(exported, path)


def write_model(name: str, folder: Path) -> list[Path]:
    """Write one network in its formats; the files written."""
    model = build(name)
    paths = [folder / f"{name}.pt2"]
    write_exported(model, paths[0])
    if name == "resnet18":
        paths += [folder / "resnet18.pt", folder / "resnet18.safetensors"]
        torch.save(model, paths[1])
        save_file(model.state_dict(), paths[2])
    return paths


def main(arguments: list[str]) -> int:
    """Write the networks named after the folder, all of them by default."""
    folder, names = Path(arguments[0]) if arguments else None, arguments[1:] or list(FACTORIES)
    unknown = sorted(set(names) - set(FACTORIES))
    if folder is None or unknown:
        print(
            f"usage: python -m samples.make_models DIR [{' | '.join(FACTORIES)}]", file=sys.stderr
        )
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        for path in write_model(name, folder):
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
