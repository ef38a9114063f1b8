"""What the ``vfiolab`` command can do: one module a word, each with ``add(subparsers)`` and ``run(arguments)``."""
