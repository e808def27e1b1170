"""Tests. What is checked of annotations is settled here, before anything imports `analysis`."""

import sys

if "pytest" in sys.modules:
    from tests import shapes

    shapes.install()
