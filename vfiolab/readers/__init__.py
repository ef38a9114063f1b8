"""Real things in: machine files, lspci, sysfs, boot messages, traces.

Readers never compute; they say what is missing.
"""
