"""Interpolation in all modes, by sizes and by factors."""

from torch import nn

from reference import rand

MODES = {
    1: ["nearest", "nearest-exact", "linear"],
    2: ["nearest", "nearest-exact", "bilinear", "bicubic"],
    3: ["nearest", "nearest-exact", "trilinear"],
}
OURS = {"linear": "linear", "bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}


def cases(family):
    for d, modes in MODES.items():
        entry, sizes = f"Upsample{d}d", (3, 5, 4)[3 - d :]
        several = [
            ("up", sizes, dict(size=[5, 7, 6][3 - d :])),
            ("down", (5, 7, 6)[3 - d :], dict(size=[2, 3, 4][3 - d :])),
            ("same", sizes, dict(size=list(sizes))),
            ("twice", sizes, dict(scale_factor=[2.0] * d)),
            ("odd_factor", sizes, dict(scale_factor=[2.7, 1.7, 2.6][3 - d :])),
            ("odd_factor_down", (5, 7, 6)[3 - d :], dict(scale_factor=[0.7, 0.4, 0.55][3 - d :])),
            ("factor_that_changes_no_size", sizes, dict(scale_factor=[1.2, 1.1, 1.2][3 - d :])),
            ("from_size_1", (1,) * d, dict(size=[3] * d)),
            ("to_size_1", sizes, dict(size=[1] * d)),
            ("empty_batch", sizes, dict(size=[4] * d)),
        ]
        for mode in modes + ["area"]:
            for corners in (None, True) if mode in OURS else (None,):
                for case, x, to in several:
                    if case == "factor_that_changes_no_size" and mode in ("nearest", "bicubic"):
                        continue  # here PyTorch's backward is not the adjoint of its forward
                    name = f"{mode}_{case}" + ("_corners" if corners else "")
                    family.seed(entry, name)
                    how = {key: tuple(value) for key, value in to.items()}
                    layer = nn.Upsample(**how, mode=mode, align_corners=corners if mode not in OURS else bool(corners))
                    ours = OURS.get(mode, mode.replace("-", "_"))
                    x = rand(0 if case == "empty_batch" else 1 if d == 3 else 2, 2, *x)
                    config = dict(to, mode=ours, align_corners=bool(corners))
                    family.layer(entry, name, layer, x, config=config)
