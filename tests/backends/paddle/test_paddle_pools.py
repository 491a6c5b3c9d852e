"""Average pools whose last window reaches past the padding, in the inference mode of Paddle."""

from __future__ import annotations

import numpy as np

from resnet_spec import build, loads, run
from shared.frameworks import required


def test_average_pools_that_round_up_compute_what_the_reference_does() -> None:
    required("paddle")
    windows = ["4, stride: 3, padding: 2", "9, stride: 7, padding: 4", "2, stride: 2", "1, stride: 60000"]
    pools = [f"kernel: {window}, ceil: true, count_padding: {counts}" for window in windows for counts in (False, True)]
    branches = [f"{{a{at}: {{op: avg_pool, {pool}}}, f{at}: flatten}}" for at, pool in enumerate(pools)]
    stem = f"{{c: {{op: conv, out: 2, kernel: 1}}, all: {{combine: concat, branches: [{', '.join(branches)}]}}}}"
    network = loads(f"name: n\ninput: [2, 5, 5]\nstem: {stem}\n")
    x = np.random.default_rng(0).standard_normal((3, 2, 5, 5))
    expected = run(build(network, backend="numpy"), x)
    y = run(build(network, backend="paddle", mode="inference"), x.astype("float32"))
    assert np.allclose(y, expected, atol=1e-5)
