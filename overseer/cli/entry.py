"""The `overseer` command: light filters and subsystem processes first, everything else by typer."""

import sys

__all__ = ["main"]


def main() -> None:
    """The console script. `decode` and `encode` run once per message and must not pay for the rest."""
    try:
        _main(sys.argv[1:])
    except KeyboardInterrupt:
        # While it was still loading.
        sys.exit(130)


def _main(arguments: list[str]) -> None:
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
