"""A process that has imported what notebooks import, and forks a kernel for each: their imports take ten seconds.

Notebooks share nothing else. Where a process cannot be forked after such imports, kernels start as they usually do.

    python kernel_nursery.py PLACE         # the nursery, until its standard input ends
    python kernel_nursery.py PLACE FILE    # a kernel as its client starts it, with the file of the connection
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

CAN_FORK = sys.platform == "linux"
NAME = "from_the_nursery"
IMPORTED = (
    *("ipykernel.kernelapp", "sklearn.cluster", "scanpy", "spatialdata", "squidpy"),
    *("bleep_sc", "bleep_sc.models.train.engine"),
)
"""Not what draws into a notebook, which looks for the notebook when it is imported."""


@contextmanager
def nursery(folder: Path) -> Iterator[Path]:
    """Keep a nursery, and give the folder where Jupyter finds its kernels. It must start without a word."""
    place, said = folder / "place", folder / "said"
    spec = folder / "jupyter" / "kernels" / NAME / "kernel.json"
    spec.parent.mkdir(parents=True)
    command = [sys.executable, __file__, str(place)]
    spec.write_text(json.dumps({"argv": [*command, "{connection_file}"], "display_name": NAME, "language": "python"}))
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # threads are not forked
    drawing = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # a kernel's own choice
    with (
        said.open("w") as file,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, env=os.environ | alone | drawing
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert (ready, said.read_text()) == (b"ready\n", ""), said.read_text()
        yield spec.parents[2]
        process.stdin.close()


def _keep(place: str) -> None:
    with warnings.catch_warnings():
        for notice in (".* is not a valid key!", "IProgress not found"):  # every notebook begins with these two lines
            warnings.filterwarnings("ignore", message=notice)
        for name in IMPORTED:
            import_module(name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place)
        server.listen()
        print("ready", flush=True)
        while server in select.select([server, sys.stdin], [], [])[0]:
            client, _ = server.accept()
            child = os.fork()
            if not child:
                server.close()
                _become_kernel(client)
            client.close()
            os.waitpid(child, 0)


def _become_kernel(client: socket.socket) -> None:
    from ipykernel.kernelapp import IPKernelApp

    asked = json.loads(client.makefile().readline())
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])

    def end_with_the_client() -> None:
        client.recv(1)
        os._exit(1)

    threading.Thread(target=end_with_the_client, daemon=True).start()
    try:
        IPKernelApp.launch_instance(argv=["-f", asked["file"]])
    finally:
        os._exit(0)


def _ask(place: str, file: str) -> None:
    """Have a kernel forked, and live as long as it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # comes before the word to end, for cells that still run
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(place)
        asked = {"file": file, "folder": str(Path.cwd()), "environment": dict(os.environ)}
        client.sendall(json.dumps(asked).encode() + b"\n")
        client.recv(1)


if __name__ == "__main__":
    (_keep if len(sys.argv) == 2 else _ask)(*sys.argv[1:])
