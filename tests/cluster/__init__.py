# SPDX-License-Identifier: Apache-2.0
"""A real kind cluster on any machine, for the end-to-end tests and the demo: `python -m tests.cluster up`.

Where a Docker engine answers, that is `kind create cluster`. Where none does – our CI – this package also brings up an
engine and makes the images. README.md in this folder tells the story.
"""

from .cluster import Cluster
from .engine import Engine
from .life import DEFAULT_NAME, down, find, ingress_image, up
from .machine import leftovers
from .progress import ClusterError

__all__ = ["DEFAULT_NAME", "Cluster", "ClusterError", "Engine", "down", "find", "ingress_image", "leftovers", "up"]
