"""Networks without shortcuts: He et al.'s plain networks for CIFAR, and VGG, narrow and with small images."""

from __future__ import annotations


def plain_network(layers: int, *, norm: str = "batch_norm", activation: str = "relu", order: str = "cna") -> str:
    """Return the YAML of a plain network: a stem, three groups of (layers - 2) / 3 convolutions, and a linear layer.

    ``order`` is that of convolution, norm and activation.
    """
    depth = (layers - 2) // 3
    rows = ["c0: {op: conv, out: 4, kernel: 3, padding: 1}, n0: norm, a0: act"]
    for group, out in enumerate((4, 8, 16)):
        for number in range(depth):
            name, stride = f"{group}x{number}", 2 if group and not number else 1
            layer = {
                "c": f"c{name}: {{op: conv, out: {out}, kernel: 3, padding: 1, stride: {stride}}}",
                "n": f"n{name}: norm",
                "a": f"a{name}: act",
            }
            rows.append(", ".join(layer[kind] for kind in order))
    body = ",\n  ".join(rows)
    return (
        f"name: plain_{layers}\ninput: [3, 12, 11]\nlayers: {{norm: {norm}, act: {activation}}}\n"
        f"stem: {{\n  {body}}}\nhead: {{p: global_avg_pool, fc: {{op: linear, out: 5}}}}\n"
    )


def vgg_network(*, norms: bool) -> str:
    """Return the YAML of a narrow VGG-16."""
    rows = []
    for group, (depth, out) in enumerate(((2, 4), (2, 6), (3, 8), (3, 12), (3, 12))):
        for number in range(depth):
            name = f"{group}x{number}"
            norm = f"n{name}: norm, " if norms else ""
            rows.append(f"c{name}: {{op: conv, out: {out}, kernel: 3, padding: 1, bias: true}}, {norm}a{name}: act")
        rows.append(f"p{group}: {{op: max_pool, kernel: 2, stride: 2, ceil: true}}")
    body = ",\n  ".join(rows)
    return (
        f"name: vgg\ninput: [3, 40, 36]\nstem: {{\n  {body}}}\nhead: {{flat: flatten, fc1: {{op: linear, out: 16}}, "
        "r1: act, d1: {op: dropout, rate: 0.5}, fc2: {op: linear, out: 16}, r2: act, fc3: {op: linear, out: 5}}\n"
    )
