"""MariaDB as a target: before, during and after."""
