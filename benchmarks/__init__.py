"""What does it cost, beside a stated baseline in the same run? `./jit bench` runs all and prints Markdown tables."""
