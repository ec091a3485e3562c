"""The models and versions under a run root."""

from __future__ import annotations

from pathlib import Path

from components.version_folder import version_folders
from pipeline.runs.root import RunRoot


def model_folders(root: RunRoot) -> list[Path]:
    """The base path of each model."""
    return sorted(folder for folder in root.serving_dir.parent.glob("*") if folder.is_dir())


def served_folders(root: RunRoot) -> set[str]:
    """The newest version of each model, which TensorFlow Serving serves."""
    return {found[0] for model in model_folders(root) if (found := version_folders(str(model)))}
