"""The reference: each operation in plain NumPy, in float64 by default. It evaluates networks and does not train."""

from resnet_spec.backend import Capabilities
from resnet_spec_numpy.build import build as build
from resnet_spec_numpy.run import devices as devices
from resnet_spec_numpy.run import fix_order as fix_order
from resnet_spec_numpy.run import run as run
from resnet_spec_numpy.weights import dump as dump
from resnet_spec_numpy.weights import load as load

DTYPE = "float64"
"""The default dtype."""

CAPABILITIES = Capabilities(training_forward=True, fixed_order=True)
