"""For target systems: is this token good, here and now? The one verifier of the broker's tokens.

    keys = FetchedKeys("https://jit.example")
    verifier = Verifier("https://jit.example", "https://treasury.example", keys, status=StatusCheck("https://jit.example", keys))
    token = verifier.verify(text)     # VerifiedToken, or TokenRefused with a code

Needs nothing of the broker but `proof`: the standard library, joserfc and cryptography. It refuses rather than guesses.
"""

from jitaccess.sdk.client import ClientCredential, ClientKey, ClientSecret
from jitaccess.sdk.door import Door
from jitaccess.sdk.introspection import IntrospectionCheck
from jitaccess.sdk.keys import FetchedKeys, KeySource, static_keys
from jitaccess.sdk.logout import LogoutVerifier, SignedOut
from jitaccess.sdk.refusal import TokenRefused
from jitaccess.sdk.status import StatusCheck
from jitaccess.sdk.step_up import Level, StepUpNeeded, require_level, www_authenticate
from jitaccess.sdk.tokens import VerifiedToken, Verifier

__all__ = [
    "ClientCredential",
    "ClientKey",
    "ClientSecret",
    "Door",
    "FetchedKeys",
    "IntrospectionCheck",
    "KeySource",
    "Level",
    "LogoutVerifier",
    "SignedOut",
    "StatusCheck",
    "StepUpNeeded",
    "TokenRefused",
    "VerifiedToken",
    "Verifier",
    "require_level",
    "static_keys",
    "www_authenticate",
]
