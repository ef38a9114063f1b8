"""PCI: functions and their tree, ACS, aliases, quirks, the boot parameters that change them, and the IOMMU groups that follow.

What may not come in: VFIO, IOMMU domains, drivers. A rule here is true of a machine before anybody opens a file.
"""
