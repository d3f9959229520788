"""SSH hosts that trust one authority: short-lived certificates of OpenSSH, announced, revoked, and their sessions ended.

`config` what may stand in a policy · `certificate` which keys, and what is signed · `authority` whose key signs · `krl` the list of
revocations · `reports` what hosts say · `connector` the verbs · `setup` the lines for a host's owner · `wire` how OpenSSH writes things.
The host's side is one file, examples/ssh/jit_ssh_host.py. Why so: docs/adr/0030 and 0031.
"""

from collections.abc import Mapping

from jitaccess.connectors.contract import ConnectorKind, EnforcesExpiry, Given
from jitaccess.connectors.ssh_ca.certificate import MAX_LINE
from jitaccess.connectors.ssh_ca.config import SshCaConfig
from jitaccess.connectors.ssh_ca.connector import GIVEN, SshCaConnector
from jitaccess.connectors.ssh_ca.setup import setup
from jitaccess.proof.canonical import JsonValue
from jitaccess.told import told


def _enforces(connector: Mapping[str, JsonValue]) -> EnforcesExpiry:
    """Hosts that report end sessions at the lease's end by themselves; of others only sshd is known."""
    reports = connector.get("confirm", "hosts") == "hosts"
    return EnforcesExpiry.LOGINS_AND_SESSIONS if reports else EnforcesExpiry.LOGINS


KIND = ConnectorKind(
    "ssh_ca",
    SshCaConfig,
    SshCaConnector,
    setup,
    enforces_expiry=EnforcesExpiry.LOGINS,
    enforces=_enforces,
    gives=(Given(GIVEN, told("Your public key: the line in your .pub file"), MAX_LINE),),
    publishes=True,
    place=("secret",),
    grows=("hosts",),
)
