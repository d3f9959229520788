"""What the words mean: states, events, people and quorum as pure values. No I/O, no clock, no randomness."""
