"""What an audio file's header says of its length, and what the file holds.

Containers of chunks (WAV, RF64, AIFF, CAF, W64), AU and NIST Sphere give the bytes of their samples in a header, FLAC
their number. Programs write it before they know it, copy it from elsewhere or miscount. libsndfile believes most of
them; here the data decides, and the decoder is printable_path another header.
"""

import contextlib
import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import AudioError

Stream = BinaryIO | io.BufferedIOBase
TAGS = 512  # bytes: as many may follow the samples unexplained, or be promised too much by a header that counts itself
MOST_CHUNKS = 1000
W64_NAME = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # the end of each name in W64
# What may follow samples even if it is damaged. Other names count only where chunks explain all the rest of the file.
FOLLOWERS = (b"LIST", b"id3 ", b"ID3", b"TAG", b"APETAGEX", b"bext", b"iXML", b"axml", b"JUNK", b"FLLR", b"_PMX", b"cue ")


@dataclass(frozen=True)
class Layout:
    """How a container is made of chunks, each a name, a size and that many bytes.

    Attributes:
        magic: the file's first bytes.
        first: where its first chunk starts.
        samples: the name of the chunk of samples.
        form: the format of a chunk's size, as in `struct`.
        counted: bytes of its own name and size that a chunk's size counts.
        inside: bytes between its size and the samples.
        align: chunks start at multiples of this.
        unknown: programs that do not know the size yet write 0, -1 or a number from here on.
    """

    magic: bytes
    first: int
    samples: bytes
    form: str
    counted: int = 0
    inside: int = 0
    align: int = 2
    unknown: int = 0x7FF00000


LAYOUTS = (
    Layout(b"RIFF", 12, b"data", "<I"),
    Layout(b"RIFX", 12, b"data", ">I"),
    Layout(b"RF64", 12, b"data", "<I"),
    Layout(b"FORM", 12, b"SSND", ">I", inside=8),
    Layout(b"caff", 8, b"data", ">q", inside=4, align=1, unknown=2**62),
    Layout(b"riff\x2e\x91\xcf\x11", 40, b"data" + W64_NAME, "<q", counted=24, align=8, unknown=2**62),
)
LONG_SIZE = 28  # where an RF64 file gives the size that its chunk of samples calls 0xFFFFFFFF (EBU Tech 3306)


FLAC_FRAMES = 21  # where the 36 bits of a FLAC's number of samples end the first byte's low half and fill four more


@dataclass(frozen=True)
class Extent:
    """Where a file's samples are.

    Attributes:
        start: their first byte.
        promised: how many bytes the header says they have, 0 where it does not know.
        place: where the header says it.
        form: the format of that number, as in `struct`; empty where the decoder does not read it.
        added: what that number counts beyond the samples.
        layout: of the chunks that may follow; None where none may.
    """

    start: int
    promised: int
    place: int = 0
    form: str = ""
    added: int = 0
    layout: Layout | None = None


class DecoderStream:
    """A stream for soundfile to read, in which some bytes may be others.

    A damaged header may send libsndfile to a place that no file has. Then the stream stays where it is, which libsndfile
    takes for the fault that it is; an exception would be printed and ignored.
    """

    def __init__(self, stream: Stream, place: int = 0, others: bytes = b"") -> None:
        self.stream, self.place, self.others = stream, place, others

    def tell(self) -> int:
        """As the stream does."""
        return self.stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As the stream does, where that is possible."""
        with contextlib.suppress(OSError, ValueError):
            self.stream.seek(offset, whence)
        return self.stream.tell()

    def read(self, count: int) -> bytes:
        """As the stream does, but for the other bytes."""
        start = self.stream.tell()
        block = bytearray(self.stream.read(count))
        for place, byte in enumerate(self.others, self.place - start):
            if 0 <= place < len(block):
                block[place] = byte
        return bytes(block)


@dataclass(frozen=True)
class Corrected:
    """A file as its header should be.

    Attributes:
        stream: the file.
        warning: what was wrong with the header, or "". Not to know the size is not wrong.
        frames: of a FLAC, samples that each channel has, as its header says; the stream's header says that nobody knows,
            so that the decoder goes on to the end. 0 where that is true, None for other formats.
    """

    stream: DecoderStream
    warning: str = ""
    frames: int | None = None


def correct(stream: Stream, size: int, name: str) -> Corrected:
    """Compare the bytes of samples that a file's header promises with those that it holds.

    Args:
        stream: the file, of any format.
        size: its bytes.
        name: what messages call it.

    Raises:
        AudioError: the header promises clearly more than there is, there is more than such a header can promise, or
            several recordings are in one file.
    """
    stream.seek(0)
    head = stream.read(1024)
    if head.startswith(b"fLaC") and len(head) > FLAC_FRAMES + 5:
        frames = int.from_bytes(head[FLAC_FRAMES : FLAC_FRAMES + 5], "big") % 2**36
        return Corrected(DecoderStream(stream, FLAC_FRAMES, bytes([head[FLAC_FRAMES] & 0xF0, 0, 0, 0, 0])), frames=frames)
    extent = _extent(stream, size, head)
    held = max(size - extent.start, 0) if extent else 0
    if extent is None or extent.promised == held or (extent.promised < held and _explained(stream, size, extent, name)):
        return Corrected(DecoderStream(stream))
    promise = f"its header promises {extent.promised} bytes of samples, it holds {held}"
    if extent.promised > held + TAGS:
        raise AudioError(f"{name} breaks off: {promise}; copy or record it again")
    number = held + extent.added
    if extent.form.endswith("I") and number >= 2**32:
        raise AudioError(f"{name} has {held} bytes of samples; expected less than 4 GiB in this format; cut it, or make it FLAC")
    right = struct.pack(extent.form, number) if extent.form else b""
    return Corrected(DecoderStream(stream, extent.place, right), f"{promise}; all are used" if extent.promised else "")


def _extent(stream: Stream, size: int, head: bytes) -> Extent | None:
    """Where the samples are, in files whose header says it in bytes; the head is the first kilobyte."""
    layout = next((layout for layout in LAYOUTS if head.startswith(layout.magic)), None)
    if layout is not None:
        return _among_chunks(stream, size, layout, head)
    if head.startswith((b".snd", b"dns.")) and len(head) >= 24:
        order = ">" if head.startswith(b".snd") else "<"
        start, promised = struct.unpack_from(f"{order}II", head, 4)
        return Extent(start, 0 if promised == 2**32 - 1 else promised, 8, f"{order}I")
    if head.startswith(b"NIST_1A\n"):
        counts = [re.search(rb"%s -i (\d{1,12})\s" % key, head) for key in (b"sample_count", b"sample_n_bytes", b"channel_count")]
        frames, width, channels = (int(count[1]) if count else 0 for count in counts)
        return Extent(int(head[8:16]) if head[8:16].strip().isdigit() else 1024, frames * width * channels)
    return None


def _among_chunks(stream: Stream, size: int, layout: Layout, head: bytes) -> Extent | None:
    for name, inside, length in _chunks(stream, layout.first, size, layout):
        if name == layout.samples:
            start, promised = inside + layout.inside, length - layout.inside
            place, form, added = inside - struct.calcsize(layout.form), layout.form, layout.counted + layout.inside
            if layout.magic == b"RF64" and length == 2**32 - 1:
                (promised,) = struct.unpack_from("<q", head, LONG_SIZE)
                place, form = LONG_SIZE, "<q"
            if promised >= layout.unknown and promised > size - start:
                promised = 0
            return Extent(start, max(promised, 0), place, form, added, layout)
    return None


def _chunks(stream: Stream, start: int, size: int, layout: Layout) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk's name, where its bytes start and how many they are, from a place on to the file's end."""
    width = len(layout.samples) + struct.calcsize(layout.form)
    for _ in range(MOST_CHUNKS):
        if start + width > size:
            return
        stream.seek(start)
        head = stream.read(width)
        (length,) = struct.unpack_from(layout.form, head, len(layout.samples))
        length -= layout.counted
        yield head[: len(layout.samples)], start + width, length
        start += width + max(length, 0)
        start += -start % layout.align


def _explained(stream: Stream, size: int, extent: Extent, name: str) -> bool:
    """Whether what follows the promised samples is something else, and not more samples."""
    end, layout = extent.start + extent.promised, extent.layout
    if size - end <= TAGS:
        return True
    if layout is None:
        return False
    for start in {end, end + -end % layout.align}:
        stream.seek(start)
        head = stream.read(16)
        if head.startswith(layout.magic):
            expected = "expected one; give each a file of its own"
            raise AudioError(f"{name} holds several recordings, one after the other; {expected}")
        chunks = _chunks(stream, start, size, layout)
        whole = all(re.match(rb"[ -~]{4}", key) and 0 <= length <= size - inside + 1 for key, inside, length in chunks)
        if whole or head.startswith(FOLLOWERS):
            return True
    return False
