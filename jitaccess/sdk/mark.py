"""Is this an issuer for trying out? `jitaccess dev` signs under names and key ids with this mark, and no system that is in use trusts them.

Whoever has such a key in a folder can mint every token: a configuration left over from trying out must not start, let alone let in.
"""

import logging

log = logging.getLogger(__name__)
MARK = "never-trusted"


def check_issuer(issuer: str, *, allow_dev: bool) -> None:
    """Raise ValueError for an issuer for trying out unless it is allowed; then warn."""
    if MARK not in issuer:
        return
    if not allow_dev:
        raise ValueError(
            f"{issuer} signs test tokens that anybody here can make. Give your broker's own address, or allow_dev=True while you try out."
        )
    log.warning("test tokens of %s are accepted: for trying out only, never for what is in use", issuer)
