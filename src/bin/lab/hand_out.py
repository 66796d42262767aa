"""Writes the chapters for a class, without outputs, into three folders: as they are, without solutions, and solved."""

import argparse
from pathlib import Path

import nbformat

from chapter import read_chapter, solve, withhold

TWINS = {"clean": lambda notebook: notebook, "exercises": withhold, "answers": solve}


def write(chapters, twin, folder, prelude):
    """One of the three, beside a link to the crate that its cells depend on."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prelude").unlink(missing_ok=True)
    (folder / "prelude").symlink_to(prelude)
    for path in chapters:
        nbformat.write(twin(read_chapter(path)), folder / f"{path.stem}.ipynb")


def main():
    parser = argparse.ArgumentParser(description="write the chapters for a class")
    parser.add_argument("chapters", nargs="+", type=Path)
    parser.add_argument("--notebooks", type=Path, required=True, help="the folder that holds the crate cells depend on")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    options = parser.parse_args()
    for name, twin in TWINS.items():
        write(options.chapters, twin, options.out / name, options.notebooks / "prelude")
        print(options.out / name)


if __name__ == "__main__":
    main()
