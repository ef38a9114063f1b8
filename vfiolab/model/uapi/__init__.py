"""The user's interface as data: arguments of ioctls, their flags and sizes, and the structs that GET_INFO fills.

What may not come in: state. Nothing here maps, pins or refuses for a reason outside the bytes of the call.
"""
