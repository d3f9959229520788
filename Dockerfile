# The broker in an image: one program, one unprivileged user, nothing that is written outside /var/lib/jitaccess and /tmp.
# Run it with a read-only root file system (deploy/compose.yaml does). A release names the base by digest:
#   docker build --build-arg BASE=python:3.13.9-slim-trixie@sha256:... .
ARG BASE=python:3.13.9-slim-trixie

FROM ${BASE} AS packages
# Every package is checked against the hashes of requirements.txt; no compiler is there, so nothing is built from source.
COPY requirements.txt /tmp/requirements.txt
RUN python3 -m venv /opt/jitaccess \
    && /opt/jitaccess/bin/pip install --no-cache-dir --only-binary :all: --require-hashes -r /tmp/requirements.txt \
    && /opt/jitaccess/bin/pip uninstall --yes pip \
    && ln -s "$(basename "$(ls -d /opt/jitaccess/lib/python3*)")" /opt/jitaccess/lib/python
COPY jitaccess /opt/jitaccess/lib/python/site-packages/jitaccess
RUN printf '%s\n' '#!/opt/jitaccess/bin/python -I' 'from jitaccess.cli import main' 'main()' >/opt/jitaccess/bin/jitaccess \
    && chmod 0755 /opt/jitaccess/bin/jitaccess \
    && /opt/jitaccess/bin/python -m compileall -q /opt/jitaccess/lib/python/site-packages/jitaccess

FROM ${BASE}
LABEL org.opencontainers.image.title="jitaccess" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="Just-in-time privileged access, approved by passkey signatures"
RUN groupadd --gid 10001 jitaccess \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/jitaccess --shell /usr/sbin/nologin jitaccess \
    && install -d -o jitaccess -g jitaccess -m 0700 /var/lib/jitaccess
COPY --from=packages /opt/jitaccess /opt/jitaccess
COPY policies /usr/share/jitaccess/policies
ENV PATH=/opt/jitaccess/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/jitaccess
VOLUME /var/lib/jitaccess
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["jitaccess", "ready"]
ENTRYPOINT ["jitaccess"]
CMD ["serve"]
