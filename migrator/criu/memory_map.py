"""Which addresses a process uses, and which of its pages are in CRIU's images."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from migrator.criu.entries import IMAGE_LIMIT_BYTES, Images, damaged, entry_texts, parse_entry, read_entry
from migrator.criu.extents import PAGE_BYTES, is_in_file
from migrator.gen.criu.images_pb2 import MmEntry, PagemapEntry, PagemapHead, VmaEntry
from migrator.models.contents import MemoryRange

MM_MARK = 0x57492820
PAGEMAP_MARK = 0x56084025
ADDRESS_LIMIT = 1 << 64
SHARED_FORM = "pagemap-shmem-"
_KINDS = (
    (1 << 16, "guard"), (1 << 1, "stack"), (1 << 2, "vsyscall"), (1 << 3, "vdso"), (1 << 5, "heap"), (1 << 12, "vvar"),
    (1 << 10, "shared"), (1 << 11, "socket"), (1 << 13, "aio"), (1 << 14, "memfd"), (1 << 15, "shadow stack"),
    (1 << 8, "shared"), (1 << 6, "file"), (1 << 7, "file"), (1 << 9, "anonymous"),
)  # fmt: skip
"""CRIU's marks on a range, the most telling first."""
_FILE_MARKS = 1 << 6 | 1 << 7 | 1 << 14
_MAP_SHARED, _MAP_GROWSDOWN = 0x1, 0x100


@dataclass(frozen=True, slots=True)
class Stretch:
    """Pages that lie side by side, in memory and in an image of pages."""

    start: int
    """An address, or a place in shared memory."""
    pages: int
    offset: int
    """Where they begin in the image."""

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return self.pages * PAGE_BYTES

    @property
    def end(self) -> int:
        """Where it ends in memory."""
        return self.start + self.size_bytes


@dataclass(frozen=True, slots=True)
class StoredPages:
    """The pages of one process, or of one piece of shared memory."""

    image: str
    """The image that holds them, such as `pages-1.img`."""
    stretches: tuple[Stretch, ...]

    @property
    def size_bytes(self) -> int:
        """How many bytes of memory that is."""
        return sum(stretch.size_bytes for stretch in self.stretches)


def read_map(images: Images, pid: int) -> MmEntry:
    """Read the address space of a process."""
    return read_entry(images, f"mm-{pid}.img", MM_MARK, MmEntry)


def read_pages(images: Images, name: str) -> StoredPages:
    """Read which pages are stored, from `pagemap-PID.img` or `pagemap-shmem-ID.img`.

    Raises:
        IntegrityError: `bad_images`.
    """
    texts = entry_texts(name, images.read(name, IMAGE_LIMIT_BYTES), PAGEMAP_MARK)
    first = next(texts, None)
    if first is None:
        raise damaged(name, "it does not say where its pages are")
    head = parse_entry(name, first, PagemapHead)
    found = StoredPages(f"pages-{head.pages_id}.img", tuple(_stretches(name, texts)))
    if found.stretches and found.size_bytes > images.size_of(found.image):
        raise damaged(name, f"it lists more pages than {found.image} holds")
    return found


def shared_pages(images: Images) -> dict[str, StoredPages]:
    """Read which pages of shared memory are stored, by the image that lists them."""
    return {name: read_pages(images, name) for name in sorted(images.names()) if name.startswith(SHARED_FORM)}


def ranges_of(mapped: MmEntry, pages: StoredPages, files: Mapping[int, str]) -> Iterator[MemoryRange]:
    """Give the ranges of an address space.

    Args:
        mapped: The address space.
        pages: Its pages that are stored.
        files: The paths of open files, by id.
    """
    stored = _Stored(pages.stretches)
    for vma in sorted(mapped.vmas, key=lambda vma: vma.start):
        if vma.start >= vma.end:
            continue  # it spans nothing, whatever it is
        name = files.get(vma.shmid, "") if vma.status & _FILE_MARKS else ""
        yield MemoryRange(vma.start, vma.end, _kind(vma), _access(vma), name, stored.within(vma.start, vma.end))


class _Stored:
    """Answers how many bytes of a range are stored, by the sums up to each stretch."""

    def __init__(self, stretches: Iterable[Stretch]):
        ordered = sorted(stretches, key=lambda stretch: stretch.start)
        self._starts = [stretch.start for stretch in ordered]
        self._ends = [stretch.end for stretch in ordered]
        self._sums = [0]
        for stretch in ordered:
            self._sums.append(self._sums[-1] + stretch.size_bytes)

    def within(self, start: int, end: int) -> int:
        """The bytes between two addresses that are stored."""
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        if first >= last:
            return 0
        cut = max(0, start - self._starts[first]) + max(0, self._ends[last - 1] - end)
        return max(0, self._sums[last] - self._sums[first] - cut)


def _stretches(name: str, texts: Iterable[bytes]) -> Iterator[Stretch]:
    offset = end = 0
    for text in texts:
        entry = parse_entry(name, text, PagemapEntry)
        pages = entry.nr_pages if entry.HasField("nr_pages") else entry.compat_nr_pages
        start, end = end, entry.vaddr + pages * PAGE_BYTES
        if entry.vaddr % PAGE_BYTES or entry.vaddr < start or end > ADDRESS_LIMIT:
            raise damaged(name, f"it lists {pages} pages at {entry.vaddr:#x}, out of order")
        if is_in_file(entry):
            yield Stretch(entry.vaddr, pages, offset)
            offset += pages * PAGE_BYTES


def _kind(vma: VmaEntry) -> str:
    found = next((kind for mark, kind in _KINDS if vma.status & mark), "other")
    return "stack" if found == "anonymous" and vma.flags & _MAP_GROWSDOWN else found


def _access(vma: VmaEntry) -> str:
    letters = "".join(letter if vma.prot & bit else "-" for bit, letter in ((1, "r"), (2, "w"), (4, "x")))
    return letters + ("s" if vma.flags & _MAP_SHARED else "p")
