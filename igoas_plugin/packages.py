from importlib.util import find_spec

from .errors import InputError


def require_packages(*names: str) -> None:
    """Raises InputError, with the line that installs them, where packages that not everyone needs are missing."""
    if missing := [name for name in names if find_spec(name) is None]:
        raise InputError(f"{' and '.join(missing)} must be installed for this: pip install {' '.join(missing)}")
