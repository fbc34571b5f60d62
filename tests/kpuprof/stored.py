"""What a file says, and what a printed figure stands for, read without any code of ours."""

import json
import re
import zipfile

import safetensors.numpy

SCALES = {
    "": 1,
    "%": 0.01,
    "cycles": 1,
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "W": 1,
    "ns": 1e-3,  # times are in µs, energies in µJ
    "µs": 1,
    "ms": 1e3,
    "nJ": 1e-3,
    "µJ": 1,
    "mJ": 1e3,
    "/s": 1,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "dB": 1,
}


def stored(path):
    """profile.json of the file."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("profile.json"))


def stored_columns(path):
    """Columns of events as lists."""
    with zipfile.ZipFile(path) as archive:
        columns = safetensors.numpy.load(archive.read("events.safetensors"))
    return {name: column.tolist() for name, column in columns.items()}


def ops_in_order(document):
    """(op, its figures) in scheduled order."""
    ops = sorted(document["program"]["ops"], key=lambda op: op["schedule_order"])
    return [(op, document["metrics"]["op_metrics"][op["id"]]) for op in ops]


def says(text, value):
    """Whether a figure as a person reads it is the value, as far as its digits go."""
    text = text.replace("\u202f", " ").replace("−", "-")
    match = re.fullmatch(r"([+-]?[\d,]+(?:\.(\d+))?) ?(\D*)", text)
    if match is None:
        return (text in ("=", "0") and value == 0) or (text == "<0.1 %" and 0 < value < 0.001)
    scale = SCALES[match[3].strip()]
    step = scale * 10.0 ** -len(match[2] or "")
    return abs(float(match[1].replace(",", "")) * scale - value) <= step * (0.5 + 1e-9)
