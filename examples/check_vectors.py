"""Run test vectors in a runtime, dump its nodes, and name the first node that differs.

``resnet-spec vectors resnet18 --narrow 8 -o vectors`` writes a folder. Then ``python examples/check_vectors.py vectors
dumps`` runs its model in ONNX Runtime, whose nodes it writes to another folder and compares. With ``--runtime iree``,
IREE (``pip install iree-base-compiler iree-base-runtime``) compiles and runs the same network as StableHLO, of which
only the output is compared. To check a runtime of your own, replace ``run_onnxruntime``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from resnet_spec.vectors.compare import Comparison, compare_dumps, find_first_difference
from resnet_spec.vectors.index import read_index


def main() -> None:
    """Run a runtime on a folder of test vectors. The exit status is 1 if a node differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("dumps", type=Path)
    parser.add_argument("--runtime", choices=RUNTIMES, default="onnxruntime")
    arguments = parser.parse_args()
    images = read_tensor(arguments.vectors / "test_data_set_0" / "input_0.pb")
    dump(RUNTIMES[arguments.runtime](arguments.vectors, images), arguments.dumps)
    comparisons = [row for row in compare_dumps(arguments.vectors, arguments.dumps) if row.verdict != "missing"]
    report(comparisons)


def report(comparisons: list[Comparison]) -> None:
    """Print how many nodes are the same and which is the first that differs; exit with 1 if there is one."""
    first = find_first_difference(comparisons)
    worst = max(row.error or 0.0 for row in comparisons)
    same = sum(row.verdict == "same" for row in comparisons)
    print(f"{same} of {len(comparisons)} nodes are the same; the largest error is {worst:.1e}")
    if first is not None:
        print(f"the first that differs: {first.describe()}")
        sys.exit(1)


def read_tensor(path: Path) -> Any:
    """Read an array from a file of ONNX's backend tests."""
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def dump(arrays: Mapping[str, Any], folder: Path) -> None:
    """Write each node's array to a file of its name, as ``vectors compare`` reads them."""
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array)


def run_onnxruntime(folder: Path, images: Any) -> dict[str, Any]:
    """Run the model in ONNX Runtime with every node as an output; return them by name."""
    import onnxruntime

    model = onnx.load(folder / "model.onnx")
    names = [entry.name for entry in read_index(folder).entries if entry.kind == "node"]
    present = {output.name for output in model.graph.output}
    value_infos = {value.name: value for value in model.graph.value_info}
    model.graph.output.extend(value_infos[name] for name in names if name not in present)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {"input": images}), strict=True))


def run_iree(folder: Path, images: Any) -> dict[str, Any]:
    """Compile the network for IREE from StableHLO, and run it; return its outputs by name."""
    import iree.compiler
    import iree.runtime

    from resnet_spec import build, load
    from resnet_spec.backend import ExportOptions, load_backend

    network = load(folder / "network.yaml")
    model = build(network, backend="flax", weights=str(folder / "model.onnx"))
    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "network.mlir"
        load_backend("flax").export(model, path, ExportOptions("stablehlo", len(images)))
        text = path.read_text(encoding="utf-8")
    options = {"input_type": "stablehlo", "extra_args": ["--iree-llvmcpu-target-cpu=host"]}
    binary = iree.compiler.compile_str(text, target_backends=["llvm-cpu"], **options)
    module = iree.runtime.load_vm_flatbuffer(binary, driver="local-task")
    result = module["main"](images)
    results = result if isinstance(result, tuple | list) else [result]
    names = network.outputs or (network.parts[-1].path,)
    return {name: np.asarray(array) for name, array in zip(names, results, strict=True)}


RUNTIMES = {"onnxruntime": run_onnxruntime, "iree": run_iree}

if __name__ == "__main__":
    main()
