"""The IOMMU: hardware units, groups, domains with their page tables, and the core that orders what happens to them.

What may not come in: containers, processes, descriptors. A domain does not know who maps into it.
"""
