"""Recipe files: found, read, validated and checked against the world before any work starts."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.recipe_errors import closest, format_path, recipe_error
from pipeline.recipe_yaml import FLOAT, FLOAT_TAG, Parsed, parse
from schemas.errors import InputError, RecipeError
from schemas.recipe import GivenTokenizer, Recipe

PACKAGED_MODEL = "lid.176"  # the language model that needs no path

_BUILT_IN = Path(__file__).parent / "recipes"
_REMOTE = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://")


def load_recipe(
    reference: str | os.PathLike[str],
    *,
    limit: int | None = None,
    sample: float | None = None,
) -> Recipe:
    """Read a recipe and check all of it.

    `reference` is a file, or the name of a built-in recipe. Relative paths in it are taken from its
    folder. `limit` and `sample`, if given, replace those of the recipe's `input`.

    Raises RecipeError with the line of every problem, or InputError if a source matches no file or
    a given tokenizer or language model does not exist.
    """
    parsed, folder = _read(os.fspath(reference))
    if not isinstance(parsed.value, dict):
        raise RecipeError(f"{parsed.name}: expected a mapping with keys such as name and sources")
    overrides = {"limit": limit, "sample": sample}
    overrides = {key: value for key, value in overrides.items() if value is not None}
    if overrides:
        given = parsed.value.get("input") or {}
        if isinstance(given, dict):
            parsed.value["input"] = {**given, **overrides}
    try:
        recipe = Recipe.model_validate(_absolute(parsed.value, folder))
    except ValidationError as error:
        raise recipe_error(error, parsed, json_schema()) from None
    _check_rules(recipe, parsed)
    check_inputs(recipe, parsed)
    return recipe


def recipe_from_options(value: dict[str, Any]) -> Recipe:
    """A recipe made of command-line options, checked as a file is; its paths are absolute."""
    parsed = Parsed(value, "made of these options", {})
    try:
        recipe = Recipe.model_validate(value)
    except ValidationError as error:
        raise recipe_error(error, parsed, json_schema()) from None
    check_inputs(recipe, parsed)
    return recipe


def parse_sample(text: str) -> float:
    """`0.1%` or `0.001` as a fraction; RecipeError unless it is above 0 and at most 1 (100%)."""
    try:
        stripped = text.strip()
        percent = stripped.endswith("%")
        # Dividing the decimal by 100 is correctly rounded, so 0.1% and 0.001 are the same number.
        value = float(stripped.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 1.0:
        raise RecipeError(
            f'expected a share such as 0.1% or 0.001, above 0 and at most 100%; got "{text}"'
        )
    return value


def built_in_recipes() -> dict[str, Path]:
    """Files of the recipes that ship with Gristmill, by name."""
    return {path.stem: path for path in sorted(_BUILT_IN.glob("*.yaml"))}


@cache
def json_schema() -> Mapping[str, Any]:
    """JSON schema (draft 2020-12) of recipe files, for editors."""
    schema = Recipe.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Gristmill recipe",
    }


def dump_recipe(recipe: Recipe) -> bytes:
    """The resolved recipe as YAML, every default spelled out: the run's recipe.yaml."""
    head = f"# Resolved by Gristmill; sha256 {recipe.sha256()}\n"
    body = yaml.dump(
        recipe.canonical(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )
    return (head + body).encode()


class _Dumper(yaml.SafeDumper):
    """Quotes text that looks like a number in YAML 1.1, as PyYAML does, or in YAML 1.2."""


_Dumper.add_implicit_resolver(FLOAT_TAG, FLOAT, list("-+.0123456789"))


def load_resolved(data: bytes, name: str = "recipe.yaml") -> Recipe:
    """Read a run's recipe.yaml. Its paths are absolute, and its sources may be gone."""
    parsed = parse(data, name)
    try:
        return Recipe.model_validate(parsed.value)
    except ValidationError as error:
        raise recipe_error(error, parsed, json_schema()) from None


def check_inputs(recipe: Recipe, parsed: Parsed | None = None) -> None:
    """Raise InputError unless every pattern matches a file, and given models exist."""
    from pipeline import storage

    def where(*path: str | int) -> str:
        return f"{parsed.where(path) if parsed else recipe.name}: {format_path(path)}"

    for number, source in enumerate(recipe.sources):
        for index, pattern in enumerate(source.paths):
            if storage.glob(pattern):
                continue
            hint = ""
            if os.path.isdir(pattern):
                hint = f" It is a folder: write {os.path.join(pattern, '**', '*.jsonl')} or so."
            raise InputError(
                f"{where('sources', number, 'paths', index)}: source {source.name} matches no "
                f"file: {pattern}.{hint}"
            )
    if isinstance(recipe.tokenizer, GivenTokenizer) and not storage.exists(recipe.tokenizer.path):
        raise InputError(
            f"{where('tokenizer', 'path')}: no such file: {recipe.tokenizer.path}; expected a "
            "tokenizer.json or a SentencePiece .model"
        )
    _check_tokenizer(recipe, where)
    language = recipe.clean.language
    model = PACKAGED_MODEL if language is None else language.model
    if model != PACKAGED_MODEL and (storage.is_remote(model) or not storage.exists(model)):
        raise InputError(
            f"{where('clean', 'language', 'model')}: no such file: {model}; expected "
            f"a local fastText .bin or .ftz, or {PACKAGED_MODEL}, which is packaged"
        )


def _check_tokenizer(recipe: Recipe, where: Callable[..., str]) -> None:
    """Raise RecipeError unless a given tokenizer loads and has the tokens that are asked for."""
    given = recipe.tokenizer
    if not isinstance(given, GivenTokenizer):
        return
    from pipeline import storage
    from tokenizer.encode import load_tokenizer

    with storage.local_copy(given.path) as path:
        try:
            loaded = load_tokenizer(path, given.end_of_document)
        except (InputError, RecipeError) as error:
            raise RecipeError(f"{where('tokenizer', 'path')}: {error}") from error
    if recipe.encode.begin_document and loaded.bos_id is None:
        raise RecipeError(
            f"{where('encode', 'begin_document')}: {given.path} has no token that begins "
            "documents; set it to false"
        )


def _read(reference: str) -> tuple[Parsed, str]:
    """The recipe as it stands, and the folder that its relative paths start from."""
    built_in = built_in_recipes()
    is_path = _REMOTE.match(reference) or os.sep in reference or os.path.isfile(reference)
    if not is_path and reference in built_in:
        reference = str(built_in[reference])
    elif not is_path and not reference.endswith((".yaml", ".yml")):
        raise RecipeError(
            f'no recipe "{reference}": there is no file of this name, and the built-in recipes '
            f"are {', '.join(built_in) or 'none'}.{closest(reference, built_in)}"
        )
    if _REMOTE.match(reference):
        from pipeline import storage

        data = storage.read_bytes(storage.stat(reference).path)
        return parse(data, reference), reference.rsplit("/", 1)[0]
    try:
        data = Path(reference).read_bytes()
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {reference}: {error.strerror}") from error
    return parse(data, reference), os.path.dirname(os.path.abspath(reference))


def _absolute(value: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The recipe with its relative paths joined to `folder`; what is malformed stays as it is."""
    changed = dict(value)
    if isinstance(sources := value.get("sources"), list):
        changed["sources"] = [_absolute_source(source, folder) for source in sources]
    tokenizer = value.get("tokenizer")
    if isinstance(tokenizer, dict) and isinstance(tokenizer.get("path"), str):
        changed["tokenizer"] = {**tokenizer, "path": _join(folder, tokenizer["path"])}
    clean = value.get("clean")
    language = clean.get("language") if isinstance(clean, dict) else None
    if isinstance(clean, dict) and isinstance(language, dict):
        model = language.get("model")
        if isinstance(model, str) and model != PACKAGED_MODEL:
            language = {**language, "model": _join(folder, model)}
            changed["clean"] = {**clean, "language": language}
    return changed


def _absolute_source(source: Any, folder: str) -> Any:
    if not isinstance(source, dict):
        return source
    changed = dict(source)
    if isinstance(paths := source.get("paths"), list):
        # Only the recipe's own text is a pattern, not the folder that it happens to lie in.
        literal = glob.escape(folder) if not _REMOTE.match(folder) else folder
        changed["paths"] = [_join(literal, p) if isinstance(p, str) else p for p in paths]
    if isinstance(root := source.get("root"), str):
        changed["root"] = _join(folder, root)
    return changed


def _join(folder: str, path: str) -> str:
    if _REMOTE.match(path):
        return path
    if _REMOTE.match(folder):
        return path if path.startswith("/") else f"{folder}/{path}"
    return os.path.normpath(os.path.join(folder, os.path.expanduser(path)))


def _check_rules(recipe: Recipe, parsed: Parsed) -> None:
    """Every suite and signal exists; RecipeError with the line of those that do not."""
    from filters import rules

    problems = []
    for number, one in enumerate(recipe.clean.passes):
        for index, rule in enumerate(one.rules):
            try:
                rules.resolve((rule,))
            except RecipeError as error:
                path = ("clean", "passes", number, "rules", index)
                problems.append(f"{parsed.where(path)}: {format_path(path)}: {error}")
    if problems:
        raise RecipeError("\n  ".join([f"the recipe {parsed.name} has unknown rules:", *problems]))
