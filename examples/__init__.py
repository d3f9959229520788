"""Programs that show how target systems use the broker; each one runs."""
