"""jitaccess: just-in-time privileged access, approved by passkey signatures, proven by a log nobody can rewrite unseen.

The rooms and the direction of their imports are in docs/explanation/rooms.md. This file imports nothing, so that
`jitaccess.proof` and `jitaccess.sdk` can be used without the broker's dependencies.
"""

__version__ = "0.1.0"
