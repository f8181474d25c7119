"""Parley: a self-hosted, stateless chat backend."""

from importlib.metadata import version

__version__ = version("parley")
