"""The `overseer` command: light filters and subsystem processes first, everything else by typer."""

import sys

__all__ = ["main"]


def main() -> None:
    """The console script. `decode` and `encode` run once per message and must not pay for the rest."""
    arguments = sys.argv[1:]
    match arguments:
        case ["decode", *rest]:
            from overseer.cli.translate import decode_main

            sys.exit(decode_main(rest))
        case ["encode", *rest]:
            from overseer.cli.translate import encode_main

            sys.exit(encode_main(rest))
        case ["subsystem", name] if not name.startswith("-"):
            from overseer.cli.subsystem import subsystem_main

            sys.exit(subsystem_main(name))
        case _:
            from overseer.cli.app import run_app

            sys.exit(run_app(arguments))


if __name__ == "__main__":
    main()
