"""Seom: containers, images and virtual machines from one image, on one machine."""

__version__ = "0.1.0"
