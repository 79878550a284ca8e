"""Stand-ins for the images of docker-compose.yml that only a registry has, made of Debian's packages.

Each takes the variables, paths, user and signals of the official image as far as docker-compose.yml uses them. The
releases are Debian's, not those that the file names. Grafana has no package in Debian, and no stand-in.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final

from tests.deploy.engine import Engine

PACKAGES: Final = ("postgresql", "haproxy", "prometheus", "wget")


@contextmanager
def stand_ins(engine: Engine) -> Iterator[Mapping[str, str]]:
    """Tags by the name of the service in docker-compose.yml; removed at the end."""
    with ExitStack() as made:
        every = made.enter_context(engine.local_image("stack", PACKAGES))
        tags = {}
        for name, lines in _DOCKERFILES.items():
            tag = every.replace("stack", f"stack-{name}")
            tags[name] = engine.docker.build(tag, f"FROM {every}\n{lines}")
            made.callback(engine.docker, "rmi", tag)
        yield tags


# As the official entry point: what initdb is given, and who owns the folders that volumes and memory cover.
_POSTGRES: Final = r"""
RUN mkdir -p /var/lib/postgresql/data && chown postgres:postgres /var/lib/postgresql/data \
 && chmod 3777 /run/postgresql \
 && chmod 1777 /var/lib/postgresql/data && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ \
 && printf '%s\n' '#!/bin/bash' 'set -eu' 'export PGDATA=/var/lib/postgresql/data' \
  'if [ ! -s "$PGDATA/PG_VERSION" ]; then' \
  '  initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" $POSTGRES_INITDB_ARGS' \
  '  printf "host all all all scram-sha-256\n" >> "$PGDATA/pg_hba.conf"' \
  '  pg_ctl -w -o "-c listen_addresses=" start' \
  '  createdb --username="$POSTGRES_USER" "$POSTGRES_DB"' \
  '  pg_ctl -w -m fast stop' \
  'fi' \
  'exec postgres -c "listen_addresses=*"' > /usr/local/bin/docker-entrypoint.sh \
 && chmod 755 /usr/local/bin/docker-entrypoint.sh
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
"""
_HAPROXY: Final = """
RUN mkdir -p /usr/local/etc/haproxy
USER haproxy
STOPSIGNAL SIGUSR1
CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
"""
_PROMETHEUS: Final = """
RUN mkdir -p /prometheus /etc/prometheus && chown nobody:nogroup /prometheus
USER nobody
WORKDIR /prometheus
ENTRYPOINT ["prometheus"]
"""
_DOCKERFILES: Final = {"postgres": _POSTGRES, "haproxy": _HAPROXY, "prometheus": _PROMETHEUS}
