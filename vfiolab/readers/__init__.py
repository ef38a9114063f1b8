"""Real things in: machine files, lspci, sysfs, boot messages, traces.

Readers never compute; they say what is missing. Writers put machines and logs into the same files again.

What may not come in: rules of the kernel, and anything that runs one.
"""
