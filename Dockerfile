# The sidecar as an image: a wheel built with a compiler in the first stage, no compiler in the second.
#
#   docker build -t outrider .                               add --build-arg EXTRAS=[aws] for AWS profiles
#   docker run --read-only --network container:my-app -v ./outrider.yaml:/etc/outrider.yaml:ro \
#       -e OUTRIDER_CONFIG=/etc/outrider.yaml -v ./key:/run/secrets/openai:ro outrider
#
# It listens on loopback, which the app shares when both are in one network namespace (a pod, --network container:).
# To be reached from elsewhere it has to be told so: OUTRIDER__LISTEN__PROXY=0.0.0.0:8484, and `outrider check` warns.
# It writes to /var/lib/outrider alone (the CA's key and the placeholder, in a volume that is not for the app's eyes: the
# app gets the certificate from /ca.pem of the admin port). No secret is baked in; keys come as files or variables.

FROM python:3.13-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ARG EXTRAS=
WORKDIR /src
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY policies policies
COPY proxy proxy
COPY ext ext
RUN pip wheel --no-cache-dir --disable-pip-version-check --wheel-dir /wheels ".${EXTRAS}"

FROM python:3.13-slim
ARG EXTRAS=
# 2102 is a user of its own: not root, and not the app's. A redirection by iptables leaves this user's packets alone,
# and under another user than the app's the keys here are behind a boundary (docs/threat-model.md).
RUN groupadd --gid 2102 outrider \
    && useradd --uid 2102 --gid 2102 --home-dir /var/lib/outrider --create-home --shell /usr/sbin/nologin outrider \
    && chmod 0700 /var/lib/outrider
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --disable-pip-version-check --no-index --find-links /wheels "outrider${EXTRAS}"
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/outrider
WORKDIR /var/lib/outrider
VOLUME ["/var/lib/outrider"]
USER 2102:2102
# proxy and base URLs, admin (health, metrics), transparent (where config turns it on)
EXPOSE 8484 8485 8486
# http.client reads no proxy variables, which the sidecar's own environment may hold.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import http.client; c = http.client.HTTPConnection('127.0.0.1', 8485, timeout=2); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["outrider"]
CMD ["run"]
