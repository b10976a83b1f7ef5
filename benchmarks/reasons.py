"""Why a target is missed, by the title of its case or a prefix of it: kept beside the cases, printed under the table.

A reason says what was found by profiling, not what is hoped for. A missed target without a reason is listed as such.
"""

from __future__ import annotations

REASONS: dict[str, str] = {
    "Rosenbrock, n=1000, csr": "Of the call about 3 µs are the VM; copying x, a new array of values and SciPy's object "
                               "are the rest. JAX's dense Hessian varies between 0.5 and 0.75 ms from run to run.",
    "Rosenbrock, n=1000, dense": "With out= the entries are cleared and added to in seven passes over a thousand cache "
                                 "lines 8 kB apart, about 5 ns each; one pass would do.",
    "CRAGGLVY, n=600, dense": "With out= as for Rosenbrock: ten passes over the rows of the band.",
    "x'Ax, n=300, data as": "A and its transpose are added into 720 kB that are new in each call.",
    "x'Ax": "The Hessian is kept; what is left is copying its 720 kB, at 13 GB/s.",
    "pairwise sqrt": "CasADi SX has the 1770 pairs as scalar instructions, with what they share computed once; "
                     "building that takes it about a second.",
    "pairwise energy": "One triangle's additions are written once, then T + T' is a second pass over all 444 MB. Pairs "
                       "whose expression is symmetric could be written to both triangles at once: not recognized.",
    "Lennard-Jones": "As for the pairwise energy: CasADi SX has every pair as scalar instructions.",
    "matrix factorization": "The one block V'V was computed 60 times; since this run it is computed once, in 39 µs.",
    "softmax": "Strips of 20 elements: an instruction of the VM costs about 20 ns whatever the length.",
    "100,000 Hessians": "A new result of 29 MB is cleared, added to and given by the system for the first time in 28 "
                        "pieces; a second thread gains a fifth.",
    "hvp of Rosenbrock": "The VM reads and writes registers in the first-level cache for each of 28 instructions, "
                         "about 20 ns a strip. The kernel of the jit tier keeps them in the processor's: 0.7 to 1.5 "
                         "ms from run to run, beside 0.4 to 0.9 of JAX.",
    "logistic regression": "Nearly all is one product of 200 x 1000 x 200 in BLAS with two threads; JAX needs two.",
    "Poisson regression": "As for the logistic regression: one product in BLAS, and a scaled copy of the data.",
    "Rosenbrock, n=1,000,000, csr: first": "Most of it is touching 16 MB of index arrays and 24 MB of values.",
    "recursion of 2000 steps, scan": "Carries and coefficients are computed in a dozen passes over arrays of 2000; "
                                     "lax.scan is one loop.",
    "recursion of 2000 steps, unrolled": "About 20,000 scalar nodes at 60 µs: edge pushing 0.7 s, simplifying 0.4 s, "
                                         "lowering 0.6 s, in Python.",
    "cold: tanh network": "Two matrix products nest, which is found out by trying; BLAS starts its threads.",
    "cold:": "Python: 3 to 5 µs for each node that is derived, simplified, lowered and checked.",
    "process start to first Hessian, warm disk cache, by the VM": "Importing Numba and reading the kernel take 0.7 s; "
                                                                  "the interpreter answers before.",
}


def reason_for(title: str) -> str:
    return next((text for prefix, text in REASONS.items() if title.startswith(prefix)), "not yet explained")
