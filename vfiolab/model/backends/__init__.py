"""What stands behind a container: the native container with type1 or no IOMMU, and iommufd's compatibility layer.

What may not come in: descriptors and drivers. A backend meets the process only as memory that can be pinned.
"""
