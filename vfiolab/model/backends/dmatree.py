"""The mappings of a container, in the red-black tree that type1 keeps them in.

The tree's shape is part of the kernel's behaviour: up to 5.11 UNMAP takes whichever mapping a root-first search meets, and up to 6.17 a
mapping that ends at 2^64 has end 0 and hides what is left of it. So this is a red-black tree with the textbook insertion and deletion that
Linux uses, keyed by iova (vfio_link_dma, vfio_find_dma, vfio_find_dma_first_node, drivers/vfio/vfio_iommu_type1.c).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vfiolab.model.address import U64, Span, hexa

if TYPE_CHECKING:
    from vfiolab.model.backends.protocol import Caller

_MASK = U64 - 1
NO_GAP: tuple[int, int, int, Dma | None, Dma | None] = (-1, -1, 0, None, None)


class Dma:
    """One successful MAP_DMA (the kernel's vfio_dma): `size` bytes of iova onto the process's memory at `vaddr`.

    `prot`: 1 the device may read, 2 it may write. `name` is a label for pictures only. `charged`: pages counted as locked memory of
    `process`, whose memory it is.
    """

    __slots__ = (
        "_end",
        "_left",
        "_parent",
        "_red",
        "_right",
        "bitmap",
        "charged",
        "iova",
        "name",
        "pinned",
        "process",
        "prot",
        "size",
        "vaddr",
        "vaddr_invalid",
    )

    def __init__(self, iova: int, size: int, vaddr: int, prot: int, process: Caller, name: str = "") -> None:
        self.iova, self.size, self.vaddr = iova, size, vaddr
        self.prot, self.process, self.name = prot, process, name
        self.vaddr_invalid = False
        self.pinned = False
        self.charged = 0
        self.bitmap = 0
        # The tree sets the rest. `_end` is as it compares it: modulo 2^64 on kernels that wrap.
        self._end: int
        self._left: Dma | None
        self._right: Dma | None
        self._parent: Dma | None
        self._red: bool

    @property
    def end(self) -> int:
        """First address after the mapping."""
        return self.iova + self.size

    @property
    def span(self) -> Span:
        """The iovas, half-open."""
        return Span(self.iova, self.iova + self.size)

    def __repr__(self) -> str:
        rights = ("r" if self.prot & 1 else "") + ("w" if self.prot & 2 else "")
        return f"Dma({hexa(self.iova)}, size={self.size:#_x}, vaddr={hexa(self.vaddr)}, {rights!r})"


class DmaTree:
    """Mappings by iova. `wraps`: ends are computed modulo 2^64, as kernels up to 6.17 do.

    `count` is how many there are, `size` their bytes, `starts` the mappings by their first iova (the last one, where old kernels let several in). `reaches_top`: a mapping with a wrapped end was linked once, so a search may miss what it hides.
    """

    __slots__ = ("_gap", "_root", "_wraps", "count", "reaches_top", "size", "starts")

    def __init__(self, *, wraps: bool) -> None:
        self._root: Dma | None = None
        self._gap = NO_GAP
        self._wraps = wraps
        self.count = 0
        self.size = 0
        self.starts: dict[int, Dma] = {}
        self.reaches_top = False

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Dma]:
        """Yield every mapping in iova order (in the tree's order, where overlaps were let in)."""
        stack: list[Dma] = []
        node = self._root
        while stack or node is not None:
            while node is not None:
                stack.append(node)
                node = node._left
            node = stack.pop()
            yield node
            node = node._right

    def find(self, iova: int, size: int) -> Dma | None:
        """Return a mapping that overlaps the range, the first that a search from the root meets; None if none is found."""
        end = (iova + size) & _MASK if self._wraps else iova + size
        if end and not self.reaches_top:  # no mapping is hidden: where the neighbours leave room, so does every other
            before = after = None
            node = self._root
            while node is not None:
                if iova < node.iova:
                    after, node = node, node._left
                else:
                    before, node = node, node._right
            if (before is None or before._end <= iova) and (after is None or end <= after.iova):
                self._gap = iova, size, end, before, after
                return None
        node = self._root
        while node is not None:
            if end <= node.iova:
                node = node._left
            elif iova >= node._end:
                node = node._right
            else:
                return node
        return None

    def first_from(self, iova: int) -> Dma | None:
        """Return the lowest mapping that ends after `iova`, as a search from the root finds it."""
        found = None
        node = self._root
        while node is not None:
            if iova < node._end:
                found = node
                if iova >= node.iova:
                    break
                node = node._left
            else:
                node = node._right
        return found

    def first(self) -> Dma | None:
        """Return the leftmost mapping."""
        node = self._root
        while node is not None and node._left is not None:
            node = node._left
        return node

    @staticmethod
    def after(node: Dma) -> Dma | None:
        """Return the next mapping in order."""
        if node._right is not None:
            node = node._right
            while node._left is not None:
                node = node._left
            return node
        parent = node._parent
        while parent is not None and node is parent._right:
            node, parent = parent, parent._parent
        return parent

    def insert(self, new: Dma) -> None:
        """Link a mapping by its start; an equal start goes left. Where the last search found its range free, its place is known."""
        start, size, end, before, after = self._gap
        left = after is not None and after._left is None  # of two neighbours one is below the other, so one place is free
        parent = after if left else before
        if start is not new.iova or size is not new.size:
            end = (new.iova + new.size) & _MASK if self._wraps else new.iova + new.size
            parent, node = None, self._root
            while node is not None:
                parent = node
                left = new.iova <= node.iova
                node = node._left if left else node._right
        self._gap = NO_GAP
        new._left = new._right = None
        new._parent, new._red, new._end = parent, parent is not None, end
        if parent is None:
            self._root = new
        elif left:
            parent._left = new
        else:
            parent._right = new
        self.starts[new.iova] = new
        self.count += 1
        self.size += new.size
        if not end:
            self.reaches_top = True
        if parent is not None and parent._red:
            self._fix_insert(new)

    def _fix_insert(self, node: Dma) -> None:
        while (parent := node._parent) is not None and parent._red:
            grand = parent._parent
            assert grand is not None
            left = parent is grand._left
            uncle = grand._right if left else grand._left
            if uncle is not None and uncle._red:
                parent._red = uncle._red = False
                grand._red = True
                node = grand
                continue
            if node is (parent._right if left else parent._left):
                self._rotate(parent, left=left)
                node, parent = parent, node
            parent._red = False
            grand._red = True
            self._rotate(grand, left=not left)
        assert self._root is not None
        self._root._red = False

    def remove(self, node: Dma) -> None:
        """Unlink a mapping; a node with two children is replaced by its successor."""
        self._gap = NO_GAP
        if node._left is not None and node._right is not None:
            successor = node._right
            while successor._left is not None:
                successor = successor._left
            child, red = successor._right, successor._red
            parent = successor._parent
            if parent is node:
                parent = successor
            else:
                self._replace(successor, child)
                successor._right = node._right
                node._right._parent = successor
            self._replace(node, successor)
            successor._left = node._left
            node._left._parent = successor
            successor._red = node._red
        else:
            child, red, parent = node._left or node._right, node._red, node._parent
            self._replace(node, child)
        node._parent = node._left = node._right = None
        self.count -= 1
        self.size -= node.size
        if self.starts.get(node.iova) is node:
            del self.starts[node.iova]
        if not red:
            self._fix_remove(child, parent)

    def _fix_remove(self, node: Dma | None, parent: Dma | None) -> None:
        while node is not self._root and (node is None or not node._red):
            assert parent is not None
            left = node is parent._left
            sibling = parent._right if left else parent._left
            assert sibling is not None
            if sibling._red:
                sibling._red, parent._red = False, True
                self._rotate(parent, left=left)
                sibling = parent._right if left else parent._left
                assert sibling is not None
            near, far = (sibling._left, sibling._right) if left else (sibling._right, sibling._left)
            if not (near is not None and near._red) and not (far is not None and far._red):
                sibling._red = True
                node, parent = parent, parent._parent
                continue
            if far is None or not far._red:
                assert near is not None
                near._red, sibling._red = False, True
                self._rotate(sibling, left=not left)
                sibling, far = near, sibling
            sibling._red = parent._red
            parent._red = far._red = False
            self._rotate(parent, left=left)
            node = self._root
        if node is not None:
            node._red = False

    def _replace(self, node: Dma, other: Dma | None) -> None:
        parent = node._parent
        if parent is None:
            self._root = other
        elif parent._left is node:
            parent._left = other
        else:
            parent._right = other
        if other is not None:
            other._parent = parent

    def _rotate(self, node: Dma, *, left: bool) -> None:
        up = node._right if left else node._left
        assert up is not None
        middle = up._left if left else up._right
        if left:
            node._right = middle
            up._left = node
        else:
            node._left = middle
            up._right = node
        if middle is not None:
            middle._parent = node
        self._replace(node, up)
        node._parent = up

    def _check(self) -> None:
        def depth(node: Dma | None) -> int:
            if node is None:
                return 1
            for child in (node._left, node._right):
                assert child is None or child._parent is node, f"{child} does not know its parent"
                assert not (node._red and child is not None and child._red), f"two red nodes in a row at {node}"
            left = depth(node._left)
            assert left == depth(node._right), f"unequal black depth at {node}"
            return left + (not node._red)

        depth(self._root)
        starts = [dma.iova for dma in self]
        assert starts == sorted(starts), "the tree is out of order"
        assert len(starts) == self.count, f"{self.count} mappings counted, {len(starts)} found"
        assert set(starts) >= set(self.starts), "a start is known of which there is no mapping"
        assert self.reaches_top or len(self.starts) == self.count
        assert sum(dma.size for dma in self) == self.size, "the bytes mapped are miscounted"
