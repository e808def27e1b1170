# Nullscope in a container: non-root, read-only root file system, one volume (/data).
#   docker build -t nullscope .                                  CPU
#   docker build -t nullscope:cuda --build-arg TORCH=cuda .      the CUDA build of torch (the driver comes from the host)
# In front of the stages so that both see them.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG TORCH=cpu
# The CPU build of torch has an index of its own; give its address as TORCH_INDEX. Without it the default build is taken.
ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/nullscope
ENV PATH=/opt/nullscope/bin:$PATH
WORKDIR /src
# Dependencies before the source, so that a change of code does not fetch them again.
COPY pyproject.toml setup.py constraints.txt README.md ./
RUN mkdir analysis app nullscope templates static models && touch analysis/__init__.py app/__init__.py nullscope/__init__.py \
 && if [ "$TORCH" = cpu ] && [ -n "$TORCH_INDEX" ]; then pip install -c constraints.txt torch --index-url "$TORCH_INDEX"; fi \
 && pip install -c constraints.txt '.[postgres]'
# (The empty packages stay behind those of /srv/nullscope, which come first; their metadata knows the version.)

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 --home-dir /data nullscope && install -d -o nullscope /data
COPY --from=build /opt/nullscope /opt/nullscope
WORKDIR /srv/nullscope
COPY pyproject.toml README.md LICENSE ./
COPY analysis analysis
COPY app app
COPY nullscope nullscope
COPY templates templates
COPY static static
COPY models models
# HOME, caches of compilers and of the hub: all in the volume, since nothing else can be written.
ENV PATH=/opt/nullscope/bin:$PATH PYTHONPATH=/srv/nullscope PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOME=/data XDG_CACHE_HOME=/data/cache TORCHINDUCTOR_CACHE_DIR=/data/cache/inductor HF_HOME=/data/hub \
    NULLSCOPE_DATA_DIR=/data NULLSCOPE_HOST=0.0.0.0 NULLSCOPE_PORT=8000 NULLSCOPE_LOG_FORMAT=json
USER nullscope
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "nullscope"]
CMD ["serve"]
