"""vfiolab: how Linux hands devices to user space, as a model that answers as the kernel does.

>>> import vfiolab as vl
>>> host = vl.load("two-smmu-server")
>>> space = host.address_space()
>>> space.attach("0000:01:00.0", "0000:21:00.0")
>>> space.map(0x4000_0000, "1G", name="guest RAM")
>>> len(space.domains)
2
>>> space.map(0x800_0000, "1M")
Traceback (most recent call last):
    ...
vfiolab.VfioError: EINVAL: 0x800_0000-0x80f_ffff overlaps the software MSI window 0x800_0000-0x80f_ffff

Names load when they are first asked for: `import vfiolab` stays small, and a command loads only what its word needs.
"""

from vfiolab._lazy import attach

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = attach(__name__, __file__)
