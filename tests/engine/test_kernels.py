"""Loading: once for each dtype, never blocking, from disk in a second process; what happens when it fails."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from hesse_engine.backend import cache, kernels
from hesse_engine.backend.program import build_program
from hesse_engine.errors import StateError
from hesse_engine.ir.graph import FLOAT64, Builder

ENGINE = Path(kernels.__file__).parents[2]


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`code` in a fresh interpreter whose compiled code is kept in `folder`."""
    environment = {**os.environ, "HESSE_CACHE_DIR": str(folder), "PYTHONPATH": str(ENGINE)}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, timeout=120,
        check=False,
    )


LOAD = """
from hesse_engine.backend import kernels
kernels.load(("float64",))
state = kernels.kernel_state("float64")
print(state.phase, state.is_cached, state.reason)
"""


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that one process has filled."""
    folder = tmp_path_factory.mktemp("warm") / "made" / "here"
    done = run(LOAD, folder)
    assert (done.stdout.split(), done.stderr) == (["ready", "False"], "")
    return folder


def test_import_of_the_backend_leaves_numba_alone() -> None:
    done = run("import hesse_engine.backend.program, sys; print('numba' in sys.modules)", Path(os.devnull))
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_folder_is_private(warm: Path) -> None:
    assert stat.S_IMODE(warm.stat().st_mode) == 0o700
    assert sorted({p.suffix for p in warm.iterdir()}) == [".nbc", ".nbi"]


def test_second_process_loads_from_disk(warm: Path) -> None:
    before = sorted(warm.iterdir())
    done = run(LOAD, warm)
    assert (done.stdout.split(), done.stderr) == (["ready", "True"], "")
    assert sorted(warm.iterdir()) == before


def test_numba_settings_of_the_user_are_neither_used_nor_changed(warm: Path, tmp_path: Path) -> None:
    code = f"import numba; numba.config.CACHE_DIR = {str(tmp_path)!r}\n{LOAD}\nprint(numba.config.CACHE_DIR)"
    done = run(code, warm)
    assert done.stdout.split() == ["ready", "True", str(tmp_path)]
    assert list(tmp_path.iterdir()) == []


def test_baked_cache_may_be_read_only(warm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # access() and not the mode: a superuser may write to anything
    done = run(f"import os; os.access = lambda *a, **k: False\n{LOAD}", warm)
    assert (done.stdout.split(), done.stderr) == (["ready", "True"], "")


COMPUTE = """
import sys
import numpy as np
from hesse_engine.backend import kernels
from hesse_engine.backend.program import build_program
from hesse_engine.ir.graph import FLOAT64, Builder, apply
x = Builder().input("x", (1000,), FLOAT64)
program = build_program([x], [apply("sum", apply("exp", x) * x)], tier="vm")
value = program.run([np.linspace(0.0, 1.0, 1000)])[0]
print(value.tobytes().hex(), kernels.kernel_state("float64").is_cached)
"""


def test_processes_may_race(tmp_path: Path) -> None:
    """Started at once on an empty folder, both compute the same bits, and leave a cache that the next one can use."""
    found: list[tuple[str, str]] = []

    def one() -> None:
        done = run(COMPUTE, tmp_path / "raced")
        found.append((done.stdout.split()[0], done.stderr))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    value, is_cached = run(COMPUTE, tmp_path / "raced").stdout.split()
    assert is_cached == "True"
    assert found == [(value, "")] * 2
    assert not [p.name for p in (tmp_path / "raced").iterdir() if p.suffix not in (".nbi", ".nbc")]


def test_torn_files_are_compiled_anew(warm: Path, tmp_path: Path) -> None:
    """By two processes at once, which race for that."""
    for path in warm.iterdir():
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(data if path.suffix == ".nbi" else data[: len(data) // 2])
    tmp_path.chmod(0o700)
    done: list[subprocess.CompletedProcess[str]] = []
    threads = [threading.Thread(target=lambda: done.append(run(COMPUTE, tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [d.stderr for d in done] == ["", ""]
    (value, was_cached), (other, _) = sorted([d.stdout.split() for d in done], key=lambda found: found[1])
    assert (was_cached, value) == ("False", other)
    assert run(COMPUTE, tmp_path).stdout.split() == [value, "True"]


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777], ids=oct)
def test_folder_that_others_can_write_is_not_used(tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(mode)
    monkeypatch.setenv("HESSE_CACHE_DIR", str(tmp_path))
    found = cache.locate()
    assert found.path is None
    assert "written by others" in found.reason


def test_folder_that_cannot_be_made_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("HESSE_CACHE_DIR", str(path))
        assert cache.locate().path is None
        assert cache.locate().reason


def test_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HESSE_CACHE_DIR", str(tmp_path))
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner != 0:
        assert "another user" in cache.locate().reason
    else:  # root's folders are trusted: an image is baked by root
        assert cache.locate().path == tmp_path


@pytest.mark.parametrize("given", [None, "/elsewhere"])
def test_default_folder(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HESSE_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if given:
        monkeypatch.setenv("HESSE_CACHE_DIR", given)
    assert cache.default_folder().name == ("elsewhere" if given else "hesse")


RACE = """
import threading
from hesse_engine.backend import kernels
started = []
real = threading.Thread.start
def start(self):
    if self.name.startswith("hesse-load"):
        started.append(self.name)
    real(self)
threading.Thread.start = start
barrier = threading.Barrier(8)
found = []
def ask():
    barrier.wait()
    found.append(kernels.kernel("float64"))
threads = [threading.Thread(target=ask) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
kernels.load(("float64",))
print(started, found == [None] * 8, kernels.kernel("float64") is kernels.require("float64"))
"""


def test_racing_threads_start_one_load(warm: Path) -> None:
    done = run(RACE, warm)
    assert (done.stdout.strip(), done.stderr) == ("['hesse-load-float64'] True True", "")


FORK = """
import os, warnings
from hesse_engine.backend import kernels
kernels.load(("float64",), wait=False)
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    kernels.load(("float64",))
    os._exit(0 if kernels.kernel_state("float64").reason else 1)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_child_forked_while_loading_does_not_wait(tmp_path: Path) -> None:
    done = run(FORK, tmp_path)
    assert (done.stdout.strip(), done.stderr) == ("0", "")


FAILING = """
import sys, types
{broken}
import numpy as np
from hesse_engine.backend import kernels
from hesse_engine.backend.program import build_program
from hesse_engine.ir.graph import Builder, FLOAT64
b = Builder(); x = b.input("x", (2,), FLOAT64)
p = build_program([x], [x * 2.0])
kernels.load(("float64",))
state = kernels.kernel_state("float64")
print(state.phase, bool(state.reason), p.run([np.ones(2)])[0].tolist(), p.tier)
try:
    build_program([x], [x * 2.0], tier="vm")
except Exception as error:
    print(error.code)
"""


@pytest.mark.parametrize("broken", ["sys.modules['numba'] = None", "import os; os.environ['NUMBA_DISABLE_JIT'] = '1'"])
def test_failed_load_is_remembered_and_the_reference_answers(broken: str, tmp_path: Path) -> None:
    done = run(FAILING.format(broken=broken), tmp_path)
    assert (done.stdout.splitlines(), done.stderr) == (["failed True [2.0, 2.0] reference", "not-ready"], "")


SCALAR = """
import numpy as np
from hesse_engine.backend import vecmath
vecmath.available = lambda dtype: ()
from hesse_engine.backend.program import build_program
from hesse_engine.ir.graph import Builder, FLOAT64, apply
b = Builder(); x = b.input("x", (301,), FLOAT64)
rows = ("exp", "expm1", "log", "log1p", "sin", "cos", "tan", "tanh", "sigmoid", "softplus", "sech_squared")
outputs = [*[apply(n, x) for n in rows], apply("power", x, x), apply("power_scalar", x, exponent=1.5)]
array = np.append(np.linspace(-3, 50, 300), np.inf)
got, want = (build_program([x], outputs, tier=t).run([array]) for t in ("vm", "reference"))
for a, b in zip(got, want):
    np.testing.assert_allclose(a, b, rtol=2e-15, atol=1e-300)
print("agrees")
"""


def test_a_machine_without_a_vector_library_uses_scalar_functions(tmp_path: Path) -> None:
    done = run(SCALAR, tmp_path)
    assert (done.stdout.strip(), done.stderr) == ("agrees", "")


@pytest.mark.parametrize("delay", [0.0, 0.4, 1.0])
def test_exit_while_compiling_is_silent(delay: float, tmp_path: Path) -> None:
    code = f"import time; from hesse_engine.backend import kernels; kernels.load(wait=False); time.sleep({delay})"
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_auto_moves_to_the_vm_once_it_is_there() -> None:
    builder = Builder()
    x = builder.input("x", (3,), FLOAT64)
    program = build_program([x], [x + 1.0])
    first = program.run([np.zeros(3)])[0]
    kernels.load(("float64",))
    assert program.tier == "vm"
    np.testing.assert_array_equal(program.run([np.zeros(3)])[0], first)


def test_unknown_state_is_an_error() -> None:
    slot = kernels._Slot()
    slot.state = kernels.KernelState("failed", "no compiler")
    slot.done.set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(kernels._SLOTS, "float64", slot)
        with pytest.raises(StateError, match="no compiler"):
            kernels.require("float64")
