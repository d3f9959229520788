"""PostgreSQL as a target: before, during and after."""
