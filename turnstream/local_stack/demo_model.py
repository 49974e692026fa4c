"""The demonstration model's own files, which live in the Triton model repository: that folder must work alone."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final

from turnstream.local_stack.errors import ProvisioningError
from turnstream.local_stack.layout import checkout_root

MODEL_FOLDER: Final = "docker/triton/models/ensemble/1"


def load_demo_model(module: str = "demo_answer") -> Any:
    """One module of the demonstration model. Raises ProvisioningError when the model repository is not there."""
    folder = checkout_root() / MODEL_FOLDER
    if not (folder / f"{module}.py").is_file():
        message = f"no {MODEL_FOLDER}/{module}.py here: run from a checkout of the repository"
        raise ProvisioningError(message)
    # They import each other by plain names, as they do in Triton's own interpreter.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return importlib.import_module(module)
