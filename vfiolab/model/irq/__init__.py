"""Interrupts: controllers, messages and doorbells, and the way of one request of a device through its IOMMU.

What may not come in: containers. The layer that sends interrupts knows domains, not who owns them.
"""
