"""Makes the reference files of all families, or of those that are named; or checks what Maplet saved.

    python make.py --out FOLDER [FAMILY ..]
    python make.py --ours FOLDER [FAMILY ..]
"""

import argparse
import importlib
import sys
from pathlib import Path

import torch

from reference import Family

OWN = {"make", "reference"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("families", nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--ours", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    names = options.families or sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in OWN)
    checked = set()
    for name in names:
        family = Family(name, options.ours)
        importlib.import_module(name).cases(family)
        if options.ours is None:
            path = options.out / f"{name}.safetensors"
            family.save(path)
            print(f"{name}: {len(family.configs)} cases, {path.stat().st_size / 1024:.0f} KiB")
        elif family.checked:
            checked |= family.checked
            print(f"{name}: {len(family.checked)} state dicts of ours load in PyTorch, largest difference {family.worst:.2g}")
    if options.ours is not None:
        folders = [options.ours / name for name in options.families] or [options.ours]
        saved = {path for folder in folders for path in folder.rglob("*.safetensors")}
        if saved != checked or not saved:
            left = ", ".join(sorted(map(str, saved - checked)))
            sys.exit(f"error: {len(checked)} of {len(saved)} state dicts of ours were checked; left over: {left}")


if __name__ == "__main__":
    main()
