"""Which host the fixes were written for, and what to say where it is missing or another one."""

import importlib.metadata
import importlib.util
import logging

HOST_VERSION = "1.4.0"
INSTALL = f"pip install --no-deps fastreid=={HOST_VERSION}"

logger = logging.getLogger("fastreid.igoas_plugin")


def require_host() -> str:
    """Looks for the host without importing it.

    Returns:
        Its version, as its package metadata gives it ("unknown" for a checkout on the path).

    Raises:
        ImportError: fastreid or faiss is not installed; the message is the pip line that installs it.
    """
    if importlib.util.find_spec("fastreid") is None:
        raise ImportError(f"igoas_plugin needs its host fast-reid: {INSTALL}")
    if importlib.util.find_spec("faiss") is None:
        raise ImportError("fast-reid needs faiss: pip install faiss-cpu (or, with an NVIDIA GPU, faiss-gpu; not both)")
    try:
        version = importlib.metadata.version("fastreid")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    if version != HOST_VERSION:
        logger.warning(
            f"igoas_plugin mends fastreid {HOST_VERSION}, found {version}: fixes may not fit. Install: {INSTALL}"
        )
    return version
