"""Run the tutorials from top to bottom, store what they put out, and say how long each took.

    python benchmarks/tutorials.py                 # all of them, one after the other
    python benchmarks/tutorials.py 03 06 --check   # these two, and leave the stored files as they are

What is stored is the notebook as `tests/test_tutorials.py` wants it: cells numbered in their order, pictures without a
text in their place, and no metadata of this machine. A notebook that warns, or fails, is not stored.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

TUTORIALS = Path(__file__).parents[1] / "tutorials"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", help="numbers of tutorials, such as 03; all without any")
    parser.add_argument("--check", action="store_true", help="only run them")
    arguments = parser.parse_args()
    os.environ.pop("MPLBACKEND", None)  # a kernel draws into the notebook unless told otherwise
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        if arguments.numbers and path.name[:2] not in arguments.numbers:
            continue
        notebook = cleaned(nbformat.read(path, as_version=4))
        start, before = time.perf_counter(), _processor()
        with tempfile.TemporaryDirectory(dir=TUTORIALS.parent) as place:  # as far from the data as the notebooks
            run(notebook, Path(place))
        took = f"{time.perf_counter() - start:.0f} s, {_processor() - before:.0f} s of the processor"
        print(f"{path.stem}: {took}", flush=True)
        if said := errors(notebook):
            raise SystemExit(f"{path.name} is not stored, since it says on stderr:\n{said}")
        if not arguments.check:
            nbformat.write(notebook, path)


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """The notebook without outputs, its cells numbered."""
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict({key: value for key, value in cell.metadata.items() if key == "tags"})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    return notebook


def run(notebook: NotebookNode, folder: Path) -> None:
    """Execute it within a folder, and keep of its outputs what a reader needs."""
    metadata = notebook.metadata.copy()
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", record_timing=False, resources=resources).execute()
    notebook.metadata = metadata
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        cell.execution_count, cell.outputs = number, joined(cell.outputs, number)
        cell.metadata = nbformat.from_dict({key: value for key, value in cell.metadata.items() if key == "tags"})


def joined(outputs: list[NotebookNode], number: int) -> list[NotebookNode]:
    """The outputs of a cell, lines of one stream that follow each other as one."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
            continue
        if "data" in output:
            output.metadata = nbformat.from_dict({})
            if any(kind.startswith("image/") for kind in output.data):
                output.data.pop("text/plain", None)
        if output.output_type == "execute_result":
            output.execution_count = number
        kept.append(output)
    return kept


def errors(notebook: NotebookNode) -> str:
    """What its cells wrote to stderr."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.get("name") == "stderr")


def _processor() -> float:
    """Seconds of the processor that ended child processes took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
