"""Hesse's engine: a graph language, its derivatives, and how they are computed. Start reading at `compute.py`."""
