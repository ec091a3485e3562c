"""Readers of the formats people keep pictures in. `data.readers.detect` finds the one for a file or folder."""

from data.readers.source import Images, Pixels, Source

__all__ = ["Images", "Pixels", "Source"]
