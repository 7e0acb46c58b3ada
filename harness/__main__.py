"""Where the harness starts: the command line, imported so that a ctrl-C is heard from the first moment on.

Knows nothing but that.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run a command. Imports take a second, in which a ctrl-C is told like any other."""
    try:
        if "_HARNESS_COMPLETE" in os.environ:  # a shell asks, and waits
            from harness.cli import skeleton

            skeleton.main()
        from harness.cli import app

        app.main()
    except KeyboardInterrupt:
        print("harness: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
