"""The network and its losses."""

from . import heads, igoas, wrapper  # noqa: F401  (registers heads and meta-architectures)
