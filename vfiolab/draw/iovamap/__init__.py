"""The iova map: facts read from the model, laid out on rulers and lanes, composed into one picture, before and after a change.

What may not come in: other pictures, and rules of the kernel. What was refused, and why, is read from the model's errors.
"""
