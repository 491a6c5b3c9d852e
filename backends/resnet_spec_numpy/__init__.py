"""The reference: what each operation means, in plain NumPy, float64 unless asked otherwise. It evaluates and does not train."""

from resnet_spec_numpy.build import build as build
from resnet_spec_numpy.run import run as run
from resnet_spec_numpy.weights import dump as dump
from resnet_spec_numpy.weights import load as load

DTYPE = "float64"
"""What it computes in unless asked otherwise."""
