# Two targets: `gateway` (the default) runs one building, without torch and EnergyPlus; `workshop` makes bundles.
#   docker build -t setwise .                         docker build --target workshop -t setwise-workshop .
# A release pins the base by digest: scripts/release.sh refuses one that is not.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

# ---- build: wheel and environment; compilers and caches stay here
FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
# The environment carries no pip of its own: a gateway installs nothing.
RUN python -m venv --without-pip /opt/setwise
# Dependencies first: they change less often than the code, and this layer is the slow one. Wheels only, each with its hash; the
# lock is whole (scripts/lock.py), so pip looks for nothing beside it. Their own tests stay out: 90 MB.
COPY deploy/gateway.lock deploy/
RUN pip --python /opt/setwise/bin/python install --no-deps --require-hashes --only-binary :all: -r deploy/gateway.lock \
    && find /opt/setwise -type d -name tests -prune -exec rm -rf {} +
COPY pyproject.toml ./
COPY README.md LICENSE setwise.py hatch_build.py package.json package-lock.json ./
COPY building building
COPY simulation simulation
COPY models models
COPY calibration calibration
COPY optim optim
COPY proof proof
COPY service service
COPY buildings buildings
COPY bundles bundles
RUN pip --python /opt/setwise/bin/python install --no-deps .

# ---- workshop: everything that happens before a bundle (amd64 only: EnergyPlus has no arm64 wheel for Linux)
FROM build AS workshop
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY scripts/requirements.py scripts/
RUN pip --python /opt/setwise/bin/python install --index-url ${TORCH_INDEX} torch==2.13.0 \
    && python scripts/requirements.py train cluster > /tmp/requirements.txt \
    && pip --python /opt/setwise/bin/python install -r /tmp/requirements.txt \
    && useradd --create-home --uid 10001 setwise \
    && install -d -o setwise -g setwise /work
ENV PATH=/opt/setwise/bin:$PATH
USER 10001
WORKDIR /work
VOLUME /work
ENTRYPOINT ["setwise"]
CMD ["--help"]

# ---- gateway: amd64 and arm64
FROM ${PYTHON_IMAGE} AS gateway
# The linter takes the *place* of the token for the token itself.
# hadolint ignore=DL3064
ENV PATH=/opt/setwise/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    PYTHONWARNINGS="ignore:Could not import matplotlib.pyplot:UserWarning" \
    SETWISE_API__HOST=0.0.0.0 \
    SETWISE_API__TOKEN_FILE=/state/token \
    SETWISE_STORE__URL=sqlite:////state/setwise.db \
    SETWISE_STORE__BACKUPS=/state/backups \
    SETWISE_BUILDINGS=/buildings \
    SETWISE_BUILDING__BUNDLE=/bundles/medium_office
RUN useradd --system --uid 10001 --home-dir /state setwise \
    && install -d -o setwise -g setwise -m 0750 /state
COPY --from=build /opt/setwise /opt/setwise
# What a site changes lies outside the environment, where a volume can cover it.
COPY buildings /buildings
COPY bundles /bundles
USER 10001
WORKDIR /state
VOLUME /state
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=40s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["setwise"]
CMD ["serve"]
