"""One backend in a process of its own: ``python -m resnet_spec.worker BACKEND FOLDER`` runs the case that lies in a folder.

JAX's 64-bit switch is global to a process, and a framework that crashes takes only its own process with it.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

# Before any framework is imported: 64-bit types in JAX, no advice from Paddle on standard output.
ENVIRONMENT = {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", "GLOG_minloglevel": "2"}


def main(backend: str, folder: str) -> None:
    """Run the case in ``folder`` and leave each type's outputs there, as ``BACKEND.float64.npz``."""
    os.environ.update(ENVIRONMENT)
    import numpy as np

    from resnet_spec.backend import load_backend
    from resnet_spec.weights import fitted

    case = Path(folder)
    network, dtypes = pickle.loads((case / "network.pickle").read_bytes())  # ours, from our own folder
    weights, images = dict(np.load(case / "weights.npz")), np.load(case / "images.npy")
    watch = [part.path for part in network.nodes()]
    module = load_backend(backend)
    for dtype in dtypes:
        model = module.build(network, fitted(network.weights(), weights, dtype), dtype)
        outputs = module.run(model, images.astype(dtype), watch)
        np.savez(case / f"{backend}.{dtype}.npz", **outputs)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
