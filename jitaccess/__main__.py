"""`python -m jitaccess` is the command `jitaccess`."""

from jitaccess.cli import main

main()
