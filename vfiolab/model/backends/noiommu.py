"""The no-IOMMU backend: nothing is translated and nothing is protected. From 4.5, with vfio.enable_unsafe_noiommu_mode."""

from __future__ import annotations

from vfiolab.model.errors import VfioError

NOIOMMU = 8
PARAMETER = "vfio.enable_unsafe_noiommu_mode"


class NoIommu:
    """A backend without mappings: every ioctl but CHECK_EXTENSION is ENOTTY."""

    name = "noiommu"

    def refuse(self, call: str) -> VfioError:
        """Return the refusal of an ioctl that this backend does not have."""
        return VfioError(
            "ENOTTY",
            f"the no-IOMMU backend has no {call}: devices use physical addresses",
            "vfio_noiommu_ioctl, drivers/vfio/container.c",
            "use an IOMMU, or hand the device physical addresses",
        )

    def __repr__(self) -> str:
        return "NoIommu()"
