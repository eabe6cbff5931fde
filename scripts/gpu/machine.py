"""Where LibTorch lies, and what nvidia-smi says."""
import importlib.util
import os
import pathlib
import subprocess


def find_libtorch():
    """The folders of LibTorch's and its CUDA's libraries: of $QUENCH_LIBTORCH, this Python's PyTorch, or the CUDA
    LibTorch that scripts/setup.sh --cuda put into the cache."""
    spec = importlib.util.find_spec("torch")
    cache = os.environ.get("QUENCH_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "quench")
    places = [os.environ.get("QUENCH_LIBTORCH"), spec and os.path.dirname(spec.origin or "")]
    places += [str(place) for place in pathlib.Path(cache).glob("libtorch-*/torch")]
    for place in filter(None, places):
        lib = pathlib.Path(place) / "lib"
        if (lib / "libtorch_cuda.so").exists():
            return [str(lib)] + [str(cuda) for cuda in sorted(lib.parent.parent.glob("nvidia/*/lib"))]
    raise SystemExit("check.sh: no CUDA build of PyTorch was found: set PYTHON to a Python that has it, or "
                     "QUENCH_LIBTORCH to its folder 'torch'")


def nvidia_smi(*arguments):
    """Its output, or nothing where there is none."""
    try:
        return subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
