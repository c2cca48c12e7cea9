# tcja-deploy with all extras and the real Lava, for CPUs. docs/how-to/docker.md says how to use it.
# Debian 12 brings Python 3.11 for tcja-deploy; the image's own Python 3.10 is the one that lava-dl needs.
FROM python:3.10-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3.11 python3.11-venv \
    && rm -rf /var/lib/apt/lists/*
RUN /usr/bin/python3.11 -m venv /opt/tcja-deploy
ENV PATH=/opt/tcja-deploy/bin:$PATH XDG_CACHE_HOME=/opt/cache
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu
COPY . /opt/source
RUN pip install --no-cache-dir "/opt/source[all]"
RUN tcja-deploy lava setup --python /usr/local/bin/python3.10 && chmod -R a+rwX /opt/cache
WORKDIR /work
ENTRYPOINT ["tcja-deploy"]
CMD ["--help"]
