"""The Triton inference server that a wheel carries, on a standard model repository."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from turnstream.local_stack.errors import ProvisioningError
from turnstream.local_stack.layout import Layout
from turnstream.local_stack.parts import Part
from turnstream.local_stack.ports import LOOPBACK
from turnstream.local_stack.readiness import http_ok

MODEL: Final = "ensemble"
_BACKEND_FILES: Final = ("libtriton_python.so", "triton_python_backend_utils.py")
_STUB: Final = "triton_python_backend_stub"


@dataclass(frozen=True, slots=True)
class TritonBuild:
    """A usable tritonserver: its root in the wheel, the wheel's libraries, the Python stub of this interpreter."""

    root: Path
    libraries: Path
    stub: Path


def find_triton() -> TritonBuild | str:
    """Return the wheel's tritonserver, or one line that says why this machine has none."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"Triton has no build for {sys.platform} {platform.machine()}"
    spec = importlib.util.find_spec("pytriton")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if spec is None or spec.origin is None:
        return (
            f"Triton is not installed: no wheel nvidia-pytriton (from Python 3.13 on it is left out; this is {version})"
        )
    root = Path(spec.origin).with_name("tritonserver")
    stub = root / "python_backend_stubs" / version / _STUB
    if not stub.is_file():
        return f"Triton's Python backend has no build for Python {version}"
    if not _has_shared_python(version):
        return f"Triton needs libpython{version}.so, which this Python was built without"
    return TritonBuild(root, root.parents[1] / "nvidia_pytriton.libs", stub)


def _library_folder() -> Path:
    return Path(sysconfig.get_config_var("LIBDIR") or Path(sys.base_prefix, "lib"))


def _has_shared_python(version: str) -> bool:
    name = f"libpython{version}.so.1.0"
    if (_library_folder() / name).is_file():
        return True
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _backend_folder(layout: Layout, build: TritonBuild) -> Path:
    """Link the backend and its stub into one folder: the wheel keeps a stub per Python version elsewhere."""
    backends = layout.run / "triton-backends"
    folder = backends / "python"
    folder.mkdir(parents=True, exist_ok=True)
    sources = [build.root / "backends" / "python" / name for name in _BACKEND_FILES]
    for source in (*sources, build.stub):
        link = folder / source.name
        link.unlink(missing_ok=True)
        link.symlink_to(source)
    return backends


def _environment(build: TritonBuild) -> dict[str, str]:
    # Without these libraries first, the stub finds another Python's and dies with `_recursion_count`.
    libraries = (str(_library_folder()), str(build.libraries), os.environ.get("LD_LIBRARY_PATH", ""))
    # The stub embeds the interpreter and ignores PYTHONPATH; it finds this virtual environment, and numpy in it, as
    # that of the first `python3` on the PATH.
    programs = (str(Path(sys.executable).parent), os.environ.get("PATH", ""))
    return {
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        "PATH": os.pathsep.join(filter(None, programs)),
    }


def triton_part(
    layout: Layout, build: TritonBuild, models: Path, *, grpc_port: int, http_port: int, model: str = MODEL
) -> Part:
    """Return a Triton that serves every model of the repository `models`, ready when `model` is.

    Raises `ProvisioningError` when the repository lacks that model.
    """
    if not (models / model / "config.pbtxt").is_file():
        message = f"no model `{model}` in the Triton repository {models}: set TURNSTREAM_STACK__TRITON_MODELS"
        raise ProvisioningError(message)
    repository = (f"--model-repository={models}", "--model-control-mode=none", "--exit-on-error=true")
    backends = (f"--backend-directory={_backend_folder(layout, build)}", f"--cache-directory={build.root / 'caches'}")
    grpc = (f"--grpc-address={LOOPBACK}", f"--grpc-port={grpc_port}")
    http = (f"--http-address={LOOPBACK}", f"--http-port={http_port}", "--http-thread-count=2")
    limits = ("--allow-metrics=false", "--log-verbose=0", "--log-info=false", "--exit-timeout-secs=5")
    return Part(
        name="triton",
        argv=(str(build.root / "bin" / "tritonserver"), *repository, *backends, *grpc, *http, *limits),
        environment=_environment(build),
        probe=http_ok(http_port, f"/v2/models/{model}/ready"),
        port=grpc_port,
    )
