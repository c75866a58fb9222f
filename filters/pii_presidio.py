"""Presidio's recognizer base classes without its NLP engines.

`import presidio_analyzer` runs a package initialiser that imports spaCy (2.3 s of CPU and 90 MB in
every worker process), although a rule recognizer needs three small modules of it. This module puts
the package object in place with its initialiser deferred: submodules import as usual, the core
classes resolve to their own submodules, and any other attribute of the package (AnalyzerEngine,
for example) first runs the real initialiser. It reuses the modules loaded so far, so every class
exists once and is the same before and after.

Import this module before anything of presidio_analyzer. Where the package is imported already, or
is laid out differently than expected, it is left as it is.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_PACKAGE = "presidio_analyzer"
# What the core modules import from the package itself, and where each is defined.
_CORE = {
    "AnalysisExplanation": "analysis_explanation",
    "RecognizerResult": "recognizer_result",
    "EntityRecognizer": "entity_recognizer",
    "LocalRecognizer": "local_recognizer",
    "Pattern": "pattern",
    "PatternRecognizer": "pattern_recognizer",
}


class _DeferredPackage(ModuleType):
    """A package whose `__init__` runs when an attribute outside the core is first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name in _CORE:
            value = getattr(import_module(f"{_PACKAGE}.{_CORE[name]}"), name)
            setattr(self, name, value)
            return value
        if name.startswith("__"):  # the import system probes for optional dunder names
            raise AttributeError(f"module {_PACKAGE!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]  # once, even when it fails
        spec = self.__spec__
        assert spec is not None and spec.loader is not None
        spec.loader.exec_module(self)
        return getattr(self, name)


def defer_initialiser() -> bool:
    """Put the package in place unless something imported it before; whether it was deferred."""
    if _PACKAGE in sys.modules:
        return False
    spec: ModuleSpec | None = find_spec(_PACKAGE)
    if spec is None or spec.loader is None:
        return False  # the import that follows says what is missing
    package = module_from_spec(spec)
    package.__class__ = _DeferredPackage
    sys.modules[_PACKAGE] = package
    try:
        for submodule in _CORE.values():
            import_module(f"{_PACKAGE}.{submodule}")
    except ImportError:
        # Another layout: forget the attempt and let the ordinary import do it.
        for name in [m for m in sys.modules if m == _PACKAGE or m.startswith(f"{_PACKAGE}.")]:
            del sys.modules[name]
        return False
    return True


defer_initialiser()
