"""How fast is this machine? `./jit bench [name ...]` runs the measurements of this folder in turn."""

import argparse
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named measurements, or all of them."""
    parser = argparse.ArgumentParser(prog="./jit bench", description=__doc__)
    parser.add_argument("name", nargs="*", choices=[*NAMES, []], metavar="name", help=", ".join(NAMES))
    for name in parser.parse_args(arguments).name or NAMES:
        print(f"== {name}", flush=True)
        sys.argv = [name]
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
