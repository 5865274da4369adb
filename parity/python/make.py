"""Makes the reference files of all families, or of those that are named; or checks what Maplet saved.

    python make.py --out FOLDER [FAMILY ..]
    python make.py --ours FOLDER [FAMILY ..]
"""

import argparse
import importlib
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
    for name in names:
        family = Family(name, options.ours)
        importlib.import_module(name).cases(family)
        if options.ours is None:
            path = options.out / f"{name}.safetensors"
            family.save(path)
            print(f"{name}: {len(family.configs)} cases, {path.stat().st_size / 1024:.0f} KiB")
        elif family.checked:
            print(f"{name}: {family.checked} state dicts of ours load in PyTorch, largest difference {family.worst:.2g}")


if __name__ == "__main__":
    main()
