# The service in a container: `docker build -t hesse . && docker run --rm -p 8000:8000 hesse`.
# docs/decisions/0004-container-build.md says why it is built this way, and what was tried.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# ---- wheel: the distribution, built with the pinned backend -----------------------------------------------------------
FROM ${BASE_IMAGE} AS wheel
WORKDIR /source
RUN python3 -m venv /build
COPY constraints.txt ./
RUN /build/bin/pip install --no-cache-dir --quiet -c constraints.txt hatchling
COPY pyproject.toml README.md CHANGELOG.md ./
COPY engine engine
COPY service service
COPY clients clients
RUN /build/bin/pip wheel --no-cache-dir --quiet --no-deps --no-build-isolation --wheel-dir /wheels .

# ---- environment: the wheel with its pinned dependencies, and the VM compiled for a fixed processor -------------------
FROM ${BASE_IMAGE} AS environment
RUN python3 -m venv /opt/hesse
COPY constraints.txt /tmp/
COPY --from=wheel /wheels /wheels
RUN /opt/hesse/bin/pip install --no-cache-dir --quiet -c /tmp/constraints.txt "$(ls /wheels/hesse-*.whl)[service]" \
    && /opt/hesse/bin/pip uninstall --quiet --yes pip setuptools

# Compiled code is found again only where it was compiled for the same processor, so build and run name one: any x86-64
# with AVX2. Its feature is named too, for by it the vector library is chosen (exp, sin: six times faster). Elsewhere:
# --build-arg CPU_NAME=generic --build-arg CPU_FEATURES=
ARG CPU_NAME=x86-64-v3
ARG CPU_FEATURES=+avx2
ENV HESSE_CACHE_DIR=/opt/hesse/kernels NUMBA_CPU_NAME=${CPU_NAME} NUMBA_CPU_FEATURES=${CPU_FEATURES}
RUN /opt/hesse/bin/python -c "from hesse_engine.backend import kernels, loops, recurrences; \
kinds = ('float64', 'float32'); kernels.load(kinds); print(*[kernels.kernel_state(k) for k in kinds]); \
assert all(kernels.is_loaded(k) for k in kinds); loops.load_loops(); recurrences.load_recurrences()" \
    && chmod -R a-w,a+rX /opt/hesse

# ---- load: Locust's users, for `docker compose --profile load` ---------------------------------------------------------
FROM ${BASE_IMAGE} AS load
RUN python3 -m venv /opt/load && groupadd --gid 10001 load \
    && useradd --uid 10001 --gid load --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin load
COPY constraints.txt /tmp/
COPY --from=wheel /wheels /wheels
RUN /opt/load/bin/pip install --no-cache-dir --quiet -c /tmp/constraints.txt "$(ls /wheels/hesse-*.whl)[service,load]" \
    && /opt/load/bin/pip uninstall --quiet --yes pip setuptools
COPY examples/demo.py /load/examples/demo.py
COPY tests/scenarios.py tests/oracles.py /load/tests/
COPY loadtests /load/loadtests
ENV PATH=/opt/load/bin:${PATH} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /load
ENTRYPOINT ["python", "loadtests/run.py"]

# ---- the image ---------------------------------------------------------------------------------------------------------
FROM ${BASE_IMAGE}
RUN groupadd --gid 10001 hesse \
    && useradd --uid 10001 --gid hesse --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin hesse
COPY --from=environment /opt/hesse /opt/hesse
RUN install --directory --owner 10001 --group 10001 --mode 0700 /data
ARG CPU_NAME=x86-64-v3
ARG CPU_FEATURES=+avx2
ENV PATH=/opt/hesse/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HESSE_CACHE_DIR=/opt/hesse/kernels \
    NUMBA_CPU_NAME=${CPU_NAME} \
    NUMBA_CPU_FEATURES=${CPU_FEATURES}
USER 10001:10001
WORKDIR /
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
CMD ["hesse", "serve", "--host", "0.0.0.0", "--port", "8000"]
