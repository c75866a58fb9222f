"""Presidio's recognizer base classes without its NLP engines.

`import presidio_analyzer` runs a package initialiser that imports spaCy (2.3 s of CPU and 90 MB in
every worker process), although a rule recognizer needs three small modules of it. This module puts
the package object in place with its initialiser deferred: submodules import as usual, the core
classes resolve to their own submodules, and any other attribute or submodule of the package
(AnalyzerEngine, for example) first runs the real initialiser. It reuses the modules loaded so far,
so every class exists once and is the same before and after.

Take the base classes from this module, not from presidio_analyzer, so that it comes first. Where
the package is imported already, or is laid out differently than expected, it is left as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
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
        _initialise(self)
        return getattr(self, name)


def _initialise(package: _DeferredPackage) -> None:
    """Run the real initialiser, once, even when it fails."""
    package.__class__ = ModuleType  # type: ignore[assignment]
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, _InitialiseFirst)]
    spec = package.__spec__
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(package)


class _InitialiseFirst(MetaPathFinder, Loader):
    """Runs the initialiser before any further submodule, which may rely on its import order."""

    def __init__(self, package: _DeferredPackage) -> None:
        self._package = package
        self._spec: ModuleSpec | None = None

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith(f"{_PACKAGE}."):
            return None
        _initialise(self._package)
        if name not in sys.modules:
            return None  # an ordinary import now
        self._spec = sys.modules[name].__spec__
        return ModuleSpec(name, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]  # the initialiser imported it: it must not be made twice

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


def defer_initialiser() -> bool:
    """Put the package in place unless something imported it before; whether it was deferred."""
    if _PACKAGE in sys.modules:
        return False
    spec = find_spec(_PACKAGE)
    if spec is None or spec.loader is None:
        return False  # the import that follows says what is missing
    package = module_from_spec(spec)
    package.__class__ = _DeferredPackage
    assert isinstance(package, _DeferredPackage)
    sys.modules[_PACKAGE] = package
    try:
        for submodule in _CORE.values():
            import_module(f"{_PACKAGE}.{submodule}")
    except ImportError:
        # Another layout: forget the attempt and let the ordinary import do it.
        for name in [m for m in sys.modules if m == _PACKAGE or m.startswith(f"{_PACKAGE}.")]:
            del sys.modules[name]
        return False
    sys.meta_path.insert(0, _InitialiseFirst(package))
    return True


defer_initialiser()

from presidio_analyzer.local_recognizer import LocalRecognizer  # noqa: E402  # not before
from presidio_analyzer.recognizer_result import RecognizerResult  # noqa: E402

__all__ = ["LocalRecognizer", "RecognizerResult", "defer_initialiser"]
