"""What happened, provably? Checkpoints, proofs, the register check, export, and the offline verifier (`verify`, no database)."""
