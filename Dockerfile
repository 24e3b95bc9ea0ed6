# The service without the demonstration. Give it a configuration file at /etc/stocktake/stocktake.yaml with
# `web: {host: 0.0.0.0}`, and a volume at /data when the database is embedded. It runs as an ordinary user and needs no
# writable file system but /data and /tmp.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
    && python -m venv /opt/stocktake \
    && /opt/stocktake/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY alembic alembic
COPY service service
RUN /opt/build/bin/python -m hatchling build -t wheel -d /tmp/dist \
    && /opt/stocktake/bin/pip install --no-cache-dir --no-deps --no-index /tmp/dist/*.whl

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin stocktake \
    && install -d -o stocktake -g stocktake -m 0700 /data && install -d /etc/stocktake
COPY --from=build /opt/stocktake /opt/stocktake
ENV PATH=/opt/stocktake/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STOCKTAKE_CONFIG=/etc/stocktake/stocktake.yaml \
    STOCKTAKE_DATA_DIR=/data
USER 10001:10001
VOLUME /data
EXPOSE 8321
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8321/healthz', timeout=4)"]
ENTRYPOINT ["stocktake"]
CMD ["worker"]
