"""`python -m benchmarks.start`: the first Hessian of a process, import included; the parent takes the time.

With the argument `vm` it waits for the virtual machine, without it whatever is ready first answers.
"""

from __future__ import annotations

import sys

import numpy as np

import hesse


def main() -> None:
    options = {"tier": "vm"} if sys.argv[1:] == ["vm"] else {}
    f = hesse.function(lambda x: np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))
    matrix = f.hessian(np.ones(10), **options)
    if matrix[0, 0] != 802.0:
        raise SystemExit(f"the Hessian is wrong: {matrix[0, 0]}")


if __name__ == "__main__":
    main()
