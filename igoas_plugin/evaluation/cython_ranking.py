"""Cython ranking of fast-reid, built outside the installed package."""

import functools
import hashlib
import importlib
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import uuid
from pathlib import Path

import numpy as np
from fastreid.evaluation import rank, rank_cylib, roc

from igoas_plugin.core.files import temporary_folder
from igoas_plugin.fastreid_fixes.fix import fix, replace_everywhere

logger = logging.getLogger(f"fastreid.{__name__}")

MODULES = ("rank_cy", "roc_cy")
LIBRARIES = tuple(module + sysconfig.get_config_var("EXT_SUFFIX") for module in MODULES)
SUMS = "sha256.json"  # written last: a folder that holds it is complete
BUILD_SECONDS = 600
# Runs in a folder with copies of the host's sources, by the interpreter that will load the result. It tries what it
# has built on one query, whose ranking is: another person, the right one, (left out: same person, same camera).
BUILD = """
import sys
import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

extensions = [Extension(name, [name + ".pyx"], include_dirs=[np.get_include()]) for name in sys.argv[1:]]
setup(name="ranking", packages=[], py_modules=[], ext_modules=cythonize(extensions),
      script_args=["build_ext", "--inplace", "--parallel", "2"])

sys.path.insert(0, "")
import rank_cy, roc_cy

distances = np.array([[0.1, 0.2, 0.3]], dtype=np.float32)
images = distances, np.array([0]), np.array([1, 0, 0]), np.array([0]), np.array([1, 1, 0])
cmc, ap, inp = rank_cy.evaluate_cy(*images, 2)
assert cmc.tolist() == [0, 1] and ap.tolist() == [0.5] and inp.tolist() == [0.5], "the built ranking is wrong"
assert roc_cy.evaluate_roc_cy(*images)[1].tolist() == [0, 1], "the built ROC is wrong"
"""


def sources() -> list[Path]:
    return [Path(rank_cylib.__file__).with_name(f"{module}.pyx") for module in MODULES]


def builds_folder() -> Path:
    """Where this user keeps the builds of these sources for this interpreter, numpy and machine."""
    home = {"win32": os.environ.get("LOCALAPPDATA", "~/AppData/Local"), "darwin": "~/Library/Caches"}
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home.get(sys.platform, "~/.cache")).expanduser()
    interpreter = sysconfig.get_config_var("EXT_SUFFIX").split(".")[1]
    numpy = f"numpy{np.__version__.split('.')[0]}"
    version = hashlib.sha256(b"".join(source.read_bytes() for source in sources())).hexdigest()[:8]
    return cache / "igoas_plugin" / "ranking" / "-".join((interpreter, platform.machine(), numpy, version))


def sums_of(build: Path) -> dict[str, str]:
    return {library: hashlib.sha256((build / library).read_bytes()).hexdigest() for library in LIBRARIES}


def is_intact(build: Path) -> bool:
    """Whether a build is complete and unharmed: loading a truncated library could kill the process."""
    try:
        return json.loads((build / SUMS).read_text()) == sums_of(build)
    except (OSError, ValueError):
        return False


def load(build: Path) -> bool:
    """Puts a build on the search path of the host's package and lets the host's ranking and ROC use it.

    Returns:
        Whether it could be loaded; where not, nothing has changed.
    """
    rank_cylib.__path__.insert(0, str(build))
    importlib.invalidate_caches()
    try:
        rank_cy, roc_cy = (importlib.import_module(f"{rank_cylib.__name__}.{name}") for name in MODULES)
    except Exception as error:  # another libc, another ABI: whatever it is, there is the Python ranking
        logger.info("The Cython ranking in %s does not load: %s", build, error)
        rank_cylib.__path__.remove(str(build))
        for name in MODULES:
            sys.modules.pop(f"{rank_cylib.__name__}.{name}", None)
        return False
    rank.evaluate_cy, roc.evaluate_roc_cy = rank_cy.evaluate_cy, roc_cy.evaluate_roc_cy
    rank.IS_CYTHON_AVAI = roc.IS_CYTHON_AVAI = True
    return True


def load_cached(folder: Path) -> bool:
    """Loads the first build in the folder that can be loaded; names with a dot are still being built."""
    builds = sorted(folder.glob("[!.]*")) if folder.is_dir() else []
    return any(is_intact(build) and load(build) for build in builds)


def build_into(folder: Path) -> Path:
    """Builds the host's two Cython modules.

    The build appears in the folder under a name of its own, in one step: processes that build at once do not meet.

    Raises:
        RuntimeError: it was not built; the text is the compiler's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_folder(str(folder / ".building")) as name:
        place = Path(name)
        for source in sources():
            shutil.copy(source, place)
        command = [sys.executable, "-c", BUILD, *MODULES]
        try:
            done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=BUILD_SECONDS)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"it took more than {BUILD_SECONDS} s") from None
        if done.returncode != 0:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            told = next((line for line in lines if "rror: " in line), lines[-1] if lines else "no message")
            raise RuntimeError(f"{told} (exit status {done.returncode})")
        ready = place / "ready"
        ready.mkdir()
        for library in LIBRARIES:
            (place / library).rename(ready / library)
        (ready / SUMS).write_text(json.dumps(sums_of(ready)))
        return ready.rename(folder / uuid.uuid4().hex)


@functools.cache  # once a process: neither a success nor a failure is tried again
def compile_helper() -> None:
    """The host's function of this name: makes its Cython ranking available; where it cannot, says so and returns."""
    if rank.IS_CYTHON_AVAI and roc.IS_CYTHON_AVAI:
        return
    try:
        folder = builds_folder()
        if load_cached(folder):
            return
        for broken in folder.glob("[!.]*") if folder.is_dir() else ():
            if not is_intact(broken):
                shutil.rmtree(broken, ignore_errors=True)
        if load(build_into(folder)):
            return
        reason = "what was built does not load"
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
    logger.warning(
        f"The Cython ranking was not built: {reason}. The slower Python ranking of fast-reid is used; the results are "
        "the same. To build it, Cython, setuptools and a C compiler are needed, and a cache folder to write to "
        "(XDG_CACHE_HOME)."
    )


@fix
def build_ranking_outside_the_package() -> None:
    """A run ends (sys.exit) after its last epoch, without metrics, where the Cython ranking cannot be built.

    The host runs ``make`` with whatever python3 is on PATH, inside the installed package, which may be read-only. Now
    the running interpreter builds it in a cache folder of the user, which joins the search path of the package; where
    that fails, one warning is given and the host's Python ranking is used. Upstream: fast-reid #387.
    """
    replace_everywhere(rank_cylib.compile_helper, compile_helper)
    if not rank.IS_CYTHON_AVAI:
        try:
            load_cached(builds_folder())
        except (OSError, RuntimeError) as error:  # no home folder, or one that cannot be read
            logger.info("No cache of the Cython ranking: %s", error)
