"""Graph -> Graph: forward mode, reverse mode, batches. Importing any of them teaches the loops' rows to use them."""

from hesse_engine.transforms import scan as _scan

__all__ = ["_scan"]
