"""The lines that give the broker its least privileges."""

from psycopg import sql

from jitaccess.connectors.postgresql.config import Meaning, PostgresqlConfig
from jitaccess.connectors.postgresql.lines import ident

EXAMPLE = PostgresqlConfig(
    kind="postgresql",
    host="db.example",
    database="app",
    secret="app-broker",  # noqa: S106 - the name of a file, not a secret
    entitlements={"reader": Meaning(roles=["app_read"])},
)


def setup(config: PostgresqlConfig | None) -> str:
    """Return a psql script for the server's owner: the least that the broker needs, and what may be added."""
    config = config or EXAMPLE
    roles = sorted({role for meaning in config.entitlements.values() for role in meaning.roles})
    user, keeper = ident(config.user).as_string(), ident(config.quarantine).as_string()
    grants = "\n".join(
        f"GRANT {ident(role).as_string()} TO {user} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;" for role in roles
    )
    return _SETUP.format(
        user=user,
        keeper=keeper,
        database=ident(config.database).as_string(),
        grants=grants,
        secret=config.secret,
        user_text=sql.Literal(config.user).as_string(),
        keeper_text=sql.Literal(config.quarantine).as_string(),
    )


_SETUP = """\
-- Run with psql as a superuser of the server. The roles that entitlements name must be there already, with plain rights and nothing else:
--   GRANT USAGE ON SCHEMA ... TO role; GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE ... TO role;   -- not ALL, which holds TRIGGER
-- A role that owns something, has TRIGGER or a grant option or (before version 16) may create anything (REVOKE CREATE ON SCHEMA ..., also
-- FROM PUBLIC) could leave something behind that outlives a lease, so it is not lent unless the entitlement says set_role: true; one that
-- is or reaches pg_signal_backend, pg_maintain or an administrator never is. `jitaccess targets probe` names what stands in the way.
\\set ON_ERROR_STOP on
CREATE ROLE {keeper} NOLOGIN;
CREATE ROLE {user} LOGIN CREATEROLE CONNECTION LIMIT 20;
ALTER ROLE {user} SET search_path = pg_catalog, pg_temp;
-- Put the same password into the file {secret} of targets.secrets_dir (chmod 600); `jitaccess targets rotate` changes it.
\\password {user}
GRANT pg_signal_backend TO {user};
SELECT current_setting('server_version_num')::int >= 160000 AS jit_16 \\gset
\\if :jit_16
GRANT {keeper} TO {user} WITH INHERIT TRUE, SET TRUE;
-- With `reserved_connections = 5` in postgresql.conf the broker comes in also when people have taken all other connections:
GRANT pg_use_reserved_connections TO {user};
{grants}
\\else
GRANT {keeper} TO {user};
\\endif
-- For every database of the server in which people could leave something behind:
GRANT CONNECT ON DATABASE {database} TO {user};
GRANT CREATE ON DATABASE {database} TO {keeper};

-- Optional, in the database {database}: let the broker see that a password was changed, and lock roles that it may not alter
-- (superusers that nothing explains). Both functions run with your rights; only the broker may call them, and it calls them only
-- while schema and functions belong to a superuser and nobody else may change them.
CREATE SCHEMA jitaccess;
REVOKE ALL ON SCHEMA jitaccess FROM PUBLIC;
GRANT USAGE ON SCHEMA jitaccess TO {user};
CREATE FUNCTION jitaccess.fingerprints() RETURNS TABLE (name text, fingerprint text)
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
  $$ SELECT rolname::text, encode(sha256(convert_to(coalesce(rolpassword, '') || oid::text, 'UTF8')), 'hex') FROM pg_authid $$;
CREATE FUNCTION jitaccess.disable(account text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF account IN (session_user, current_user, {user_text}, {keeper_text}) OR (SELECT oid FROM pg_authid WHERE rolname = account) = 10 THEN
    RAISE EXCEPTION 'this account is never disabled';
  END IF;
  EXECUTE format('ALTER ROLE %I NOLOGIN', account);
  PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = account;
END $$;
REVOKE ALL ON FUNCTION jitaccess.fingerprints(), jitaccess.disable(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION jitaccess.fingerprints(), jitaccess.disable(text) TO {user};
"""
