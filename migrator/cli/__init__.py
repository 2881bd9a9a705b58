"""The command line: a client of the API that knows nothing below it.

Heavy libraries are imported when a command needs them.
"""
