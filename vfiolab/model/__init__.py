"""The system itself: what Linux does with PCI devices, IOMMUs and the user who drives them. Standard library only.

What may not come in: files, printing, drawing, Jupyter. Rooms upward: pci, iommu, irq, uapi, backends, user; then machine and builder.
"""
