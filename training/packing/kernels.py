"""Sums of signs on a CPU with AVX2, compiled by numba where it is installed. A packed file carries this text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

try:  # pip install numba: the same sums, but many times faster
    import numba
    import numpy as np
    from llvmlite import binding, ir
    from numba.core import cgutils
    from numba.extending import intrinsic
except ImportError:
    numba = None
    ACCELERATED = False
else:
    ACCELERATED = bool(binding.get_host_cpu_features().get("avx2"))

PIXELS, OUTPUTS = 4, 64
"""What is computed at once: sums for so many places of the image and so many outputs stay in registers."""
MOST_COLUMNS = 65535
"""Signs in one sum: counts of differing signs are kept in 16 bits."""


def table_of_differences() -> Any:
    """Row a, for a byte of eight signs: in how many of its low four bits a differs from j, for all j; then the high
    four."""
    ones = np.array([n.bit_count() for n in range(16)], np.uint8)
    byte, four = np.arange(256)[:, None], np.arange(16)[None]
    return np.concatenate([ones[(byte & 15) ^ four], ones[(byte >> 4) ^ four]], 1)


def panels_of(bits: Tensor, groups: int, taps: int, channels: int) -> tuple[Tensor, Tensor]:
    """Weights as the kernel reads them, and the sum of the signs of each place of the kernel.

    (groups, blocks, bytes, 2, OUTPUTS): for each byte of eight channels first the low four bits of all outputs of a
    block, then the high four.
    """
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    ones = bits.unsqueeze(-1).bitwise_right_shift(places).bitwise_and(1).flatten(1)[:, : taps * channels]
    ones = ones.view(groups, -1, taps, channels)
    sums = 2 * ones.sum(-1, dtype=torch.int32) - channels
    outputs = ones.shape[1]
    ones = torch.nn.functional.pad(ones, (0, -channels % 8, 0, 0, 0, -outputs % OUTPUTS))
    bytes_ = ones.unflatten(-1, (-1, 8)).bitwise_left_shift(places).sum(-1, dtype=torch.uint8).flatten(2)
    blocks = bytes_.unflatten(1, (-1, OUTPUTS)).transpose(2, 3)
    fours = torch.stack([blocks.bitwise_and(15), blocks.bitwise_right_shift(4)], 3)
    sums = torch.nn.functional.pad(sums, (0, 0, 0, -outputs % OUTPUTS)).transpose(1, 2)
    return fours.contiguous(), sums.to(torch.float32).contiguous()


def filled(rows: Tensor, groups: int) -> Tensor:
    """Numbers of outputs in float32, of each group as many as whole blocks have."""
    parts = rows.to(torch.float32).unflatten(-1, (groups, -1))
    return torch.nn.functional.pad(parts, (0, -parts.shape[-1] % OUTPUTS)).flatten(1).contiguous()


if ACCELERATED:
    TABLE = table_of_differences()
    TABLE_ADDRESS = TABLE.ctypes.data
    BYTE, WORD, FLOAT = ir.IntType(8), ir.IntType(64), ir.FloatType()
    BYTES, SHORTS, FLOATS = ir.VectorType(BYTE, 32), ir.VectorType(ir.IntType(16), 32), ir.VectorType(FLOAT, 8)

    def at(builder: Any, address: Any, *parts: Any) -> Any:
        """An address further on."""
        for part in parts:
            address = builder.add(address, WORD(part) if isinstance(part, int) else part)
        return address

    def load(builder: Any, address: Any, kind: Any) -> Any:
        return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)

    def store(builder: Any, value: Any, address: Any) -> None:
        builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)

    def on_addresses(generate: Any, count: int, extra: tuple[Any, ...] = ()) -> Any:
        """A function for compiled code, of ``count`` addresses or whole numbers, made of LLVM's instructions."""

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            generate(builder, *arguments)
            return context.get_dummy_value()

        return numba.void(*[numba.intp] * count, *extra), code

    def generate_differences(
        builder: Any, signs: Any, pixels: Any, chunks: Any, count: Any, panel: Any, table: Any, sums: Any
    ) -> None:
        look_up = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(BYTES, [BYTES, BYTES]), "llvm.x86.avx2.pshuf.b"
        )
        twice, zero = ir.Constant(ir.VectorType(ir.IntType(32), 32), [i % 16 for i in range(32)]), BYTES([0] * 32)
        counts = [[cgutils.alloca_once(builder, BYTES) for _ in range(OUTPUTS // 32)] for _ in range(PIXELS)]
        cells = [cell for row in counts for cell in row]
        for cell in cells:
            builder.store(zero, cell)
        for i in range(len(cells)):
            store(builder, SHORTS([0] * 32), at(builder, sums, 64 * i))
        place = cgutils.alloca_once(builder, WORD)
        builder.store(panel, place)
        with cgutils.for_range(builder, count) as outer:
            entry = at(builder, chunks, builder.mul(outer.index, WORD(24)))
            offset, length, empty = (load(builder, at(builder, entry, 8 * i), WORD) for i in range(3))
            places = [load(builder, at(builder, pixels, 8 * p), WORD) for p in range(PIXELS)]
            starts = [at(builder, signs, offset, begin) for begin in places]
            first = builder.load(place)
            with cgutils.for_range(builder, length) as inner:
                weights = at(builder, first, builder.mul(inner.index, WORD(2 * OUTPUTS)))
                eight = [builder.zext(load(builder, at(builder, s, inner.index), BYTE), WORD) for s in starts]
                rows = [at(builder, table, builder.shl(e, WORD(5))) for e in eight]
                for side in range(2):
                    begin = at(builder, weights, side * OUTPUTS)
                    fours = [load(builder, at(builder, begin, 32 * i), BYTES) for i in range(OUTPUTS // 32)]
                    for row, sums_of_row in zip(rows, counts, strict=True):
                        half = load(builder, at(builder, row, 16 * side), ir.VectorType(BYTE, 16))
                        differences = builder.shuffle_vector(half, half, twice)
                        for cell, four in zip(sums_of_row, fours, strict=True):
                            more = builder.call(look_up, [differences, four])
                            builder.store(builder.add(builder.load(cell), more), cell)
            builder.store(at(builder, first, builder.mul(length, WORD(2 * OUTPUTS))), place)
            with builder.if_then(builder.icmp_signed("!=", empty, WORD(0))):
                for i, cell in enumerate(cells):
                    more, where = builder.zext(builder.load(cell), SHORTS), at(builder, sums, 64 * i)
                    store(builder, builder.add(load(builder, where, SHORTS), more), where)
                    builder.store(zero, cell)

    @intrinsic
    def count_differences(
        typing: Any, signs: Any, pixels: Any, chunks: Any, count: Any, panel: Any, table: Any, sums: Any
    ) -> Any:
        """``sums`` (PIXELS, OUTPUTS) of 16 bits: in how many signs the images differ from the weights.

        ``pixels``: where each sum begins in ``signs``. ``chunks``: ``count`` times an offset, how many bytes from
        there, and whether counts, which are taken in 8 bits, are added up after it.
        """
        return on_addresses(generate_differences, 7)

    def generate_signs(builder: Any, numbers: Any, signs: Any, count: Any, rest: Any, threshold: Any) -> None:
        bound = ir.Constant(FLOATS, ir.Undefined)
        for i in range(8):
            bound = builder.insert_element(bound, threshold, ir.IntType(32)(i))
        with cgutils.for_range(builder, count) as loop:
            eight = load(builder, at(builder, numbers, builder.mul(loop.index, WORD(32))), FLOATS)
            byte = builder.bitcast(builder.fcmp_unordered(">=", eight, bound), BYTE)
            store(builder, byte, at(builder, signs, loop.index))
        with builder.if_then(builder.icmp_signed(">", rest, WORD(0))):
            last = cgutils.alloca_once(builder, BYTE)
            builder.store(BYTE(0), last)
            begin = at(builder, numbers, builder.mul(count, WORD(32)))
            with cgutils.for_range(builder, rest) as loop:
                number = load(builder, at(builder, begin, builder.mul(loop.index, WORD(4))), FLOAT)
                bit = builder.zext(builder.fcmp_unordered(">=", number, threshold), BYTE)
                bit = builder.shl(bit, builder.trunc(loop.index, BYTE))
                builder.store(builder.or_(builder.load(last), bit), last)
            store(builder, builder.load(last), at(builder, signs, count))

    @intrinsic
    def pack_bytes(typing: Any, numbers: Any, signs: Any, count: Any, rest: Any, threshold: Any) -> Any:
        """Makes ``count`` bytes of eight numbers each, and one of ``rest`` more: bit b is 1 unless number b is below
        the threshold."""
        return on_addresses(generate_signs, 4, (numba.float32,))

    def generate_tap(builder: Any, line: Any, tap: Any) -> None:
        for i in range(0, 4 * OUTPUTS, 32):
            one, other = (load(builder, at(builder, address, i), FLOATS) for address in (line, tap))
            store(builder, builder.fadd(one, other), at(builder, line, i))

    @intrinsic
    def add_tap(typing: Any, line: Any, tap: Any) -> Any:
        """line += tap, OUTPUTS numbers each."""
        return on_addresses(generate_tap, 2)

    def generate_end(builder: Any, sums: Any, line: Any, scale: Any, offset: Any, target: Any) -> None:
        two = FLOATS([2.0] * 8)
        for i in range(0, OUTPUTS, 8):
            short = load(builder, at(builder, sums, 2 * i), ir.VectorType(ir.IntType(16), 8))
            differing = builder.fmul(builder.uitofp(short, FLOATS), two)
            whole = builder.fsub(load(builder, at(builder, line, 4 * i), FLOATS), differing)
            scaled = builder.fmul(whole, load(builder, at(builder, scale, 4 * i), FLOATS))
            total = builder.fadd(scaled, load(builder, at(builder, offset, 4 * i), FLOATS))
            store(builder, total, at(builder, target, 4 * i))

    @intrinsic
    def finish(typing: Any, sums: Any, line: Any, scale: Any, offset: Any, target: Any) -> Any:
        """target = (line - 2 sums) scale + offset, OUTPUTS numbers each."""
        return on_addresses(generate_end, 5)

    def generate_copy(builder: Any, source: Any, target: Any, count: Any) -> None:
        with cgutils.for_range(builder, count) as loop:
            step = builder.mul(loop.index, WORD(4))
            store(builder, load(builder, at(builder, source, step), FLOAT), at(builder, target, step))

    @intrinsic
    def copy_numbers(typing: Any, source: Any, target: Any, count: Any) -> Any:
        """Copies numbers of 32 bits."""
        return on_addresses(generate_copy, 3)

    @numba.njit(nogil=True)
    def chunks_of(rows: int, columns: int, row_step: int, column_step: int, length: int) -> Any:
        """Where the bytes lie that one sum reads, for ``count_differences``."""
        found = np.zeros((rows * columns * (length // 31 + 1), 3), np.int64)
        count, held = 0, 0
        for tap in range(rows * columns):
            done = 0
            while done < length:
                some = min(31, length - done)  # 31 bytes differ in 248 bits at most
                if count and held + some > 31:
                    found[count - 1, 2] = 1
                    held = 0
                found[count, 0] = (tap // columns) * row_step + (tap % columns) * column_step + done
                found[count, 1] = some
                held += some
                done += some
                count += 1
        found[count - 1, 2] = 1
        return found[:count]

    @numba.njit(nogil=True)
    def pack_image(
        x: int, signs: int, rows: int, columns: int, step: int, channels: int, margin: int, threshold: Any
    ) -> None:
        """The signs of one group of one image, from address to address. ``step``: numbers from pixel to pixel;
        ``margin``: bytes between the rows of ``signs``."""
        length, whole = (channels + 7) // 8, channels // 8
        for _ in range(rows):
            if step == channels and channels % 8 == 0:
                pack_bytes(x, signs, columns * length, 0, threshold)
            else:
                for column in range(columns):
                    pack_bytes(x + 4 * column * step, signs + column * length, whole, channels % 8, threshold)
            x += 4 * columns * step
            signs += columns * length + margin

    @numba.njit(nogil=True)
    def convolve(
        x: int, panels: int, taps: int, scale: int, offset: int, y: int, table: int, images: int, rows: int,
        columns: int, channels: int, groups: int, outputs: int, high: int, wide: int, kh: int, kw: int, sh: int,
        sw: int, top: int, left: int, dh: int, dw: int, value: int, threshold: Any,
    ) -> None:  # fmt: skip
        """y (images, high, wide, groups x outputs) = scale (the sums of products of signs) + offset, of images
        (images, rows, columns, groups x channels). The first arguments are the addresses of arrays of float32; those
        of outputs are filled up to whole blocks."""
        length, blocks = (channels + 7) // 8, (outputs + OUTPUTS - 1) // OUTPUTS
        row_bytes = (columns + 2 * left) * length
        image_bytes = (rows + 2 * top) * row_bytes
        signs = np.zeros(images * image_bytes, np.uint8)
        chunks = chunks_of(kh, kw, dh * row_bytes, dw * length, length)
        pixels = np.zeros(high * wide + PIXELS, np.int64)
        for p in range(high * wide):
            pixels[p] = (p // wide) * sh * row_bytes + (p % wide) * sw * length
        sums, line = np.zeros(PIXELS * OUTPUTS, np.uint16), np.zeros(OUTPUTS, np.float32)
        short, inner = np.zeros(OUTPUTS, np.float32), np.full(OUTPUTS, np.float32(kh * kw * channels))
        for g in range(groups):
            if value == 1:  # channels that are not there stay 0
                for b in range(len(signs)):
                    signs[b] = 255 if b % length < channels // 8 else (1 << channels % 8) - 1
            for n in range(images):
                to = signs.ctypes.data + n * image_bytes + top * row_bytes + left * length
                begin = x + 4 * (n * rows * columns * channels * groups + g * channels)
                pack_image(begin, to, rows, columns, channels * groups, channels, 2 * left * length, threshold)
            for block in range(blocks):
                first = 4 * (g * blocks + block) * OUTPUTS
                many = min(OUTPUTS, outputs - block * OUTPUTS)
                panel = panels + (g * blocks + block) * kh * kw * length * 2 * OUTPUTS
                for n in range(images):
                    image = signs.ctypes.data + n * image_bytes
                    row, column = -top, -left
                    to = y + 4 * (n * high * wide * groups * outputs + g * outputs + block * OUTPUTS)
                    for start in range(0, high * wide, PIXELS):
                        count_differences(
                            image, pixels.ctypes.data + 8 * start, chunks.ctypes.data, len(chunks), panel, table,
                            sums.ctypes.data,
                        )  # fmt: skip
                        for p in range(min(PIXELS, high * wide - start)):
                            total = inner.ctypes.data
                            inside = row >= 0 and row + (kh - 1) * dh < rows
                            inside = inside and column >= 0 and column + (kw - 1) * dw < columns
                            if value == 0 and not inside:  # give back what -1 around the image added
                                copy_numbers(total, line.ctypes.data, OUTPUTS)
                                total = line.ctypes.data
                                for i in range(kh):
                                    for j in range(kw):
                                        a, b = row + i * dh, column + j * dw
                                        if a < 0 or b < 0 or a >= rows or b >= columns:
                                            tap = ((g * kh + i) * kw + j) * blocks + block
                                            add_tap(total, taps + 4 * tap * OUTPUTS)
                            there = to if many == OUTPUTS else short.ctypes.data
                            finish(sums.ctypes.data + 2 * p * OUTPUTS, total, scale + first, offset + first, there)
                            if many < OUTPUTS:
                                copy_numbers(there, to, many)
                            to += 4 * groups * outputs
                            column += sw
                            if column == wide * sw - left:
                                column = -left
                                row += sh


def sides(x: Tensor, geometry: list[int]) -> tuple[int, int]:
    """Height and width of the result."""
    kh, kw, sh, sw, top, left, dh, dw, _ = geometry
    return (x.shape[2] + 2 * top - dh * (kh - 1) - 1) // sh + 1, (x.shape[3] + 2 * left - dw * (kw - 1) - 1) // sw + 1


def sums_of_signs_shape(
    x: Tensor, panels: Tensor, taps: Tensor, scale: Tensor, offset: Tensor, outputs: int, geometry: list[int],
    threshold: float,
) -> Tensor:  # fmt: skip
    """What the result looks like, for torch.export and torch.compile."""
    shape = (x.shape[0], outputs, *sides(x, geometry))
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def sums_of_signs(
    x: Tensor, panels: Tensor, taps: Tensor, scale: Tensor, offset: Tensor, outputs: int, geometry: list[int],
    threshold: float,
) -> Tensor:  # fmt: skip
    """``convolve`` on images, whose channels come to lie together. ``geometry``: kernel, stride, padding and dilation,
    two numbers each, and what stands around the images."""
    x = x.contiguous(memory_format=torch.channels_last)
    images, channels, rows, columns = x.shape
    y = sums_of_signs_shape(x, panels, taps, scale, offset, outputs, geometry, threshold)
    high, wide = y.shape[2:]
    groups = len(panels)
    addresses = (x.data_ptr(), panels.data_ptr(), taps.data_ptr(), scale.data_ptr(), offset.data_ptr(), y.data_ptr())
    convolve(
        *addresses, TABLE_ADDRESS, images, rows, columns, channels // groups, groups, outputs // groups, high, wide,
        *geometry, np.float32(threshold),
    )  # fmt: skip
    return y


# Other packed files may have registered it; a file in which panels hold something else gives it another number.
if ACCELERATED and not hasattr(torch.ops.packed_signs, "convolve_v1"):
    LIBRARY = torch.library.Library("packed_signs", "FRAGMENT")
    LIBRARY.define(
        "convolve_v1(Tensor x, Tensor panels, Tensor taps, Tensor scale, Tensor offset, SymInt outputs, "
        "SymInt[] geometry, float threshold) -> Tensor"
    )
    LIBRARY.impl("convolve_v1", sums_of_signs, "CPU")
    torch.library.register_fake("packed_signs::convolve_v1", sums_of_signs_shape, lib=LIBRARY)
