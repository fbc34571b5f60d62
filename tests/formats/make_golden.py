"""Writes the golden files of a new minor version: `python -m tests.formats.make_golden`.

It refuses to touch those that are there: what was released must be read as it is.
"""

import json
from pathlib import Path

import formats
from formats.container import VERSION
from formats.published import schemas
from tests.formats.programs import tiny_profile, tiny_program
from tests.formats.test_published import DIGESTS, digest

FOLDER = Path(__file__).parents[1] / "golden"


def main() -> None:
    files = {
        FOLDER / f"program-{VERSION}.kpu": tiny_program(),
        FOLDER / f"profile-{VERSION}.kprof": tiny_profile(),
    }
    present = [str(path) for path in files if path.exists()]
    if present:
        raise SystemExit(f"{', '.join(present)}: there already")
    for path, content in files.items():
        formats.save(content, path)
    known = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
    new = {name: digest(schema) for name, schema in schemas().items() if name != "config.json"}
    DIGESTS.write_text(json.dumps({**known, **new}, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
