"""A run whose input and directory are on an object store, reached through Beam's filesystems."""

import json
import os
import shutil
from pathlib import Path

import pytest
from apache_beam.io.localfilesystem import LocalFileSystem

from pipeline import storage
from pipeline.recipe_file import load_recipe
from pipeline.run import execute
from pipeline.runners import RunnerOptions
from pipeline.verify import verify
from schemas.errors import InputError


class Bucket(LocalFileSystem):
    """`bucket://` paths kept in a folder: objects appear when closed, and nothing is renamed."""

    root = ""

    @classmethod
    def scheme(cls) -> str:
        return "bucket"

    def _local(self, path: str) -> str:
        return os.path.join(self.root, path.removeprefix("bucket://"))

    def join(self, base: str, *paths: str) -> str:
        return "/".join([base.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str):  # type: ignore[no-untyped-def]
        prefix = self._local(dir_or_prefix)
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(folder, name)
                if path.startswith(prefix):
                    found = super().metadata(path)
                    found.path = "bucket://" + os.path.relpath(path, self.root)
                    yield found

    def exists(self, path: str) -> bool:
        return os.path.isfile(self._local(path))

    def metadata(self, path: str):  # type: ignore[no-untyped-def]
        found = super().metadata(self._local(path))
        found.path = path
        return found

    def open(self, path: str, *args: object, **kwargs: object):  # type: ignore[no-untyped-def]
        return super().open(self._local(path), *args, **kwargs)

    def create(self, path: str, *args: object, **kwargs: object):  # type: ignore[no-untyped-def]
        os.makedirs(os.path.dirname(self._local(path)), exist_ok=True)
        return super().create(self._local(path), *args, **kwargs)

    def delete(self, paths: list[str]) -> None:
        super().delete([self._local(path) for path in paths])

    def rename(self, *_: object) -> None:
        raise AssertionError("object stores have no rename")


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Bucket, "root", str(tmp_path))
    return tmp_path


def test_run_on_a_bucket_gives_the_same_outputs(small, small_run: Path, bucket: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(small.recipe.parent, bucket / "in")
    text = small.recipe.read_text()
    for name in ("prose", "mail"):
        text = text.replace(f"[{name}.jsonl]", f"['bucket://in/{name}.json*']")
    (bucket / "recipe.yaml").write_text(text)
    recipe = load_recipe(bucket / "recipe.yaml")
    execute(recipe, "bucket://out/run", options=RunnerOptions(workers=1))
    for kind in ("clean", "tokens", "duplicates", "documents"):
        local = {p.name: p for p in (small_run / kind).rglob("*") if p.is_file()}
        assert local
        for name, path in local.items():
            (remote,) = (bucket / "out" / "run" / kind).rglob(name)
            assert remote.read_bytes() == path.read_bytes(), name
    assert verify("bucket://out/run").problems == []


def test_globs_sort_and_missing_files_are_named(bucket: Path) -> None:
    for name in ("b", "a"):
        (bucket / "in").mkdir(exist_ok=True)
        (bucket / "in" / f"{name}.jsonl").write_text(json.dumps({"text": name}))
    found = storage.glob("bucket://in/*.jsonl")
    assert [info.path for info in found] == ["bucket://in/a.jsonl", "bucket://in/b.jsonl"]
    assert storage.read_range("bucket://in/a.jsonl", 2, 4) == b"text"
    with pytest.raises(InputError, match="no such file: bucket://in/c"):
        storage.stat("bucket://in/c")
