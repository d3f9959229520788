"""Does remembering a signature remember nothing else?"""

import pytest
from joserfc.jwk import ECKey

from jitaccess.sdk import TokenRefused
from jitaccess.sdk.signed import Signed
from jitaccess.tokens.access import sign

KIND, OTHER = frozenset({"at+jwt"}), frozenset({"JWT"})


@pytest.mark.covers("R35", "R32")
def test_a_remembered_signature_ends_with_its_key_and_holds_for_one_kind_and_text() -> None:
    key = ECKey.generate_key("P-256", {"kid": "k1"})
    good = {"k1": key}
    asked: list[str] = []

    def keys(kid: str) -> ECKey | None:
        asked.append(kid)
        return good.get(kid)

    signed = Signed(keys, remember=2)
    text = sign(key, "at+jwt", {"jti": "1"})
    assert signed.claims(text, KIND) == signed.claims(text, KIND) == {"jti": "1"}
    signed.claims(text, KIND)["jti"] = "changed"
    assert signed.claims(text, KIND) == {"jti": "1"}, "nobody changes what is remembered"
    for wrong in (text[:-1], text + "A", text.replace(".", "..", 1)):
        with pytest.raises(TokenRefused):
            signed.claims(wrong, KIND)
    with pytest.raises(TokenRefused, match="another kind"):
        signed.claims(text, OTHER)
    for number in range(5):
        assert signed.claims(sign(key, "at+jwt", {"jti": str(number)}), KIND) == {"jti": str(number)}
    assert signed.claims(text, KIND) == {"jti": "1"}
    good.clear()
    with pytest.raises(TokenRefused, match="retired"):
        signed.claims(text, KIND)
    assert asked.count("k1") > 8, "the key is asked for each time"
