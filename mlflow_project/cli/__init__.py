"""The command line: `main` finds a command, `commands` parse, call and print."""
