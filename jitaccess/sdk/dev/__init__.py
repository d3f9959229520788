"""How does a developer try an application against tokens, without a broker? An issuer of one's own, and every known forgery.

`jitaccess dev`, or `python -m jitaccess.sdk.dev` where only `jitaccess-sdk[dev]` is installed. The issuer lives on this machine's loopback,
its name and its keys say `never-trusted`, and no broker knows it. Nothing that verifies imports this room.
"""
