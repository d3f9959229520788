"""Keys and what is signed with them: the keyring, access tokens, approval links (pointers without power)."""
