"""An application that knows nothing of passkeys: it stands behind nginx or Caddy and reads who came from a signed header."""
