"""The whole contract: every message module imported, every message registered."""

import importlib
import pkgutil

import messages
from messages.message import CATALOG, Catalog, Spec

__all__ = ["load", "own"]


def load() -> Catalog:
    """The catalog with the messages of all modules of this package, whichever were imported before."""
    for module in pkgutil.iter_modules(messages.__path__):
        importlib.import_module(f"messages.{module.name}")
    return CATALOG


def own() -> list[Spec]:
    """What this package defines, whatever else was registered in this process."""
    return [spec for spec in load() if spec.body.__module__.startswith("messages.")]
