# mfalcon with the bundled demo checkpoint.
#   docker build -t mfalcon .                               for CPUs
#   docker build -t mfalcon:cuda --build-arg DEVICE=cuda .  for NVIDIA GPUs: docker run --gpus all
#   docker run --read-only --tmpfs /tmp -p 8000:8000 mfalcon
# Behind a mirror of PyPI: --build-arg PIP_ARGS="--index-url ...".
ARG DEVICE=cpu

FROM python:3.12-slim AS source-cpu
ENV TORCH_INDEX=https://download.pytorch.org/whl/cpu

FROM python:3.12-slim AS source-cuda
# PyPI's builds for Linux bring CUDA themselves; the driver is the host's.
ENV TORCH_INDEX=https://pypi.org/simple

# hadolint ignore=DL3006
FROM source-${DEVICE} AS build
WORKDIR /build
# The compiler of the CPU stack; the image that runs has none.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/mfalcon
ARG PIP_ARGS=""
# First, and alone: a change of the code does not fetch it again.
COPY constraints.txt ./
RUN /opt/mfalcon/bin/pip install --no-cache-dir -c constraints.txt --index-url "${TORCH_INDEX}" ${PIP_ARGS} torch
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY service service
COPY model model
COPY cache cache
RUN /opt/mfalcon/bin/pip install --no-cache-dir -c constraints.txt ${PIP_ARGS} '.[otel]'

FROM python:3.12-slim AS base-cpu
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*

FROM base-cpu AS base-cuda
# Triton compiles what starts its kernels, and keeps it where it may write.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility TRITON_CACHE_DIR=/tmp/triton

# hadolint ignore=DL3006
FROM base-${DEVICE}
RUN useradd --uid 10001 --no-create-home mfalcon
COPY --from=build /opt/mfalcon /opt/mfalcon
COPY checkpoints/demo /checkpoints/demo
USER 10001
WORKDIR /tmp
ENV PATH=/opt/mfalcon/bin:$PATH \
    MFALCON_CHECKPOINT=/checkpoints/demo \
    MFALCON_HOST=0.0.0.0 \
    MFALCON_PORT=8000 \
    MFALCON_STORE=memory
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"MFALCON_PORT\"]}/health/live', timeout=2)"]
ENTRYPOINT ["mfalcon"]
CMD ["serve"]
