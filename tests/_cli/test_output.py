"""Where a command writes is looked at before anything is read, and written whole or not at all."""

import os
from pathlib import Path

import anndata as ad
import pytest
from anndata import AnnData
from conftest import make_sections

from bleep_sc._cli import output
from bleep_sc._cli.output import check_output, is_anndata_store, write
from bleep_sc._cli.refused import Refused
from bleep_sc._cli.tissue import ENDINGS

from .conftest import Run


def check(path: Path, *, overwrite: bool = False, inputs: tuple[Path, ...] = (), own: Path | None = None) -> Path:
    mine = None if own is None else str(own)
    return check_output(str(path), option="--out", endings=ENDINGS, overwrite=overwrite, inputs=inputs, own=mine)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def small() -> AnnData:
    return make_sections(4)


@pytest.mark.usefixtures("nothing_read")
@pytest.mark.parametrize("command", ["fit", "impute", "report"])
def test_outputs_are_refused_before_anything_is_read(run: Run, ref_file: Path, tmp_path: Path, command: str) -> None:
    words = [command, ref_file, *(["--ref", ref_file] if command == "impute" else [])]
    ending = ".html" if command == "report" else ".h5ad"
    run(*words, "--out", tmp_path / "out.txt").refused("--out", "out.txt", "must end in", ending)
    run(*words, "--out", tmp_path / "no" / f"x{ending}").refused("--out", "there is no folder", "mkdir -p")
    there = tmp_path / f"there{ending}"
    there.write_text("mine")
    run(*words, "--out", there).refused("--out", there.name, "is there already", "--overwrite")
    assert there.read_text() == "mine"
    if command == "impute":
        words += ["--out", tmp_path / "new.h5ad"]
        page = tmp_path / "page.html"
        page.write_text("mine")
        run(*words, "--report", page).refused("--report", "page.html", "--overwrite")
        run(*words, "--report", tmp_path / "page.pdf").refused("--report", ".html")


@pytest.mark.odd
def test_what_could_not_be_written_in_the_end_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot be written"):
        check(tmp_path / f"{'x' * 245}.h5ad")  # beside it there will be a longer name
    with pytest.raises(Refused, match="is a folder"):
        (tmp_path / "folder.h5ad").mkdir()
        check(tmp_path / "folder.h5ad", overwrite=True)
    assert names_in(tmp_path) == ["folder.h5ad"]


@pytest.mark.odd
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(Refused, match="cannot be written"):
            check(tmp_path / "x.h5ad")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.slow
def test_overwriting_a_store_never_removes_anything_else(tmp_path: Path, small: AnnData) -> None:
    store, folder = tmp_path / "store.zarr", tmp_path / "folder.zarr"
    write(small, store)
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    assert is_anndata_store(store)
    assert check(store, overwrite=True) == store
    with pytest.raises(Refused, match="no AnnData store"):
        check(folder, overwrite=True)
    for inputs in ((store / "images" / "slide.tif",), (store,), (tmp_path / "." / "store.zarr",)):
        with pytest.raises(Refused, match="holds, what is read"):
            check(store, overwrite=True, inputs=inputs)
    assert check(store, overwrite=True, own=store) == store
    with pytest.raises(Refused, match="holds, what is read"):
        check(store, overwrite=True, own=store / "images" / "slide")


def test_the_reference_is_not_replaced_by_what_it_predicts(run: Run, query_file: Path, ref_file: Path) -> None:
    before = ref_file.read_bytes()
    run("impute", query_file, "--ref", ref_file, "--out", ref_file, "--overwrite").refused("--out", "would be replaced")
    assert ref_file.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_error_leaves_the_earlier_file_whole(
    tmp_path: Path, small: AnnData, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"x{ending}"
    write(small, path)
    other = small[:3].copy()
    other.uns["bad"] = object()  # which no file holds
    with pytest.raises(Exception, match="object"):
        write(other, path)
    assert names_in(tmp_path) == [path.name]
    read = {".h5ad": ad.read_h5ad, ".zarr": ad.read_zarr}[ending]
    assert read(path).n_obs == small.n_obs
    del other.uns["bad"]
    write(other, path)
    assert read(path).n_obs == 3
    assert names_in(tmp_path) == [path.name]
    monkeypatch.setattr(output, "written_whole", None)  # what wrote them was this one
    with pytest.raises(TypeError):
        write(other, path)


@pytest.mark.odd
@pytest.mark.parametrize("name", ["a b.h5ad", "ünï$(touch x);'\".h5ad", "--out.h5ad", "a=b.h5ad", "line\nbreak.h5ad"])
def test_odd_names_of_files(
    run: Run, ref_file: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bleep_sc.tl.fit", lambda *_, **__: None)
    path = tmp_path / name
    ended = run("fit", ref_file, "--out", path)
    assert (ended.code, ended.out) == (0, f"{path}\n"), ended.err
    again = run("fit", ref_file, "--out", path)
    again.refused("is there already")
    assert len(again.err.splitlines()) == 1
    assert names_in(tmp_path) == sorted([name, ref_file.name])


@pytest.mark.odd
@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text_comes_out_as_it_is(
    ref_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    from bleep_sc._cli.main import main

    monkeypatch.setattr("bleep_sc.tl.fit", lambda *_, **__: None)
    path = tmp_path / os.fsdecode(b"caf\xe9.h5ad")
    assert main(["fit", str(ref_file), "--out", str(path)]) == 0
    assert capsysbinary.readouterr().out == os.fsencode(path) + b"\n"


@pytest.mark.odd
def test_an_escape_in_a_name_does_not_reach_the_terminal(run: Run) -> None:
    ended = run("report", "\x1b[31mred.h5ad", "--out", "x.html")
    ended.refused("\\x1b[31mred.h5ad")
    assert "\x1b" not in ended.err
