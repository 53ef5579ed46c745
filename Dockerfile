# The service with the bundled demo checkpoint. The container work proper (CUDA, read-only root,
# compose) comes later; this builds and runs on the CPU.
FROM python:3.12-slim AS build
WORKDIR /app
# The compiler of the CPU stack; the image that runs has none.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/mfalcon
COPY pyproject.toml constraints.txt hatch_build.py README.md LICENSE ./
COPY service service
COPY model model
COPY cache cache
# A CPU-only torch, or a mirror: --build-arg PIP_ARGS="--extra-index-url ..."
ARG PIP_ARGS=""
RUN /opt/mfalcon/bin/pip install --no-cache-dir -c constraints.txt ${PIP_ARGS} .

FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home mfalcon
COPY --from=build /opt/mfalcon /opt/mfalcon
COPY checkpoints/demo /checkpoints/demo
USER mfalcon
ENV PATH=/opt/mfalcon/bin:$PATH MFALCON_CHECKPOINT=/checkpoints/demo MFALCON_HOST=0.0.0.0
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --start-period=30s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/live')"]
ENTRYPOINT ["mfalcon"]
CMD ["serve"]
