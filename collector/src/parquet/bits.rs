//! The bit-level encodings of Parquet: the RLE / bit-packing hybrid of levels and dictionary codes, and
//! DELTA_BINARY_PACKED (parquet-format, Encodings.md).

/// Values of one block of deltas, and of one of its four miniblocks.
const BLOCK: usize = 128;
const MINIBLOCK: usize = 32;

/// Bits that hold every value up to `max`.
pub(super) fn width(max: u32) -> u8 {
    (u32::BITS - max.leading_zeros()) as u8
}

/// The hybrid of some values: one run if they are all the same, else one bit-packed piece. Finer runs are left to the
/// compression behind it.
pub(super) fn hybrid<T: Copy + PartialEq + Into<u32>>(values: &[T], width: u8, out: &mut Vec<u8>) {
    match values.first() {
        None => {}
        Some(first) if values.iter().all(|value| value == first) => {
            run((*first).into(), values.len(), width, out);
        }
        Some(_) => {
            let groups = values.len().div_ceil(8);
            varint((groups as u64) << 1 | 1, out);
            if width <= 8 {
                pack_eights(values, width, out);
                return;
            }
            let end = out.len() + groups * usize::from(width);
            pack(values.iter().map(|value| u64::from((*value).into())), width, out);
            out.resize(end, 0);
        }
    }
}

/// Values of at most eight bits one behind the other, eight at a time: together they have as many bytes as one has bits.
fn pack_eights<T: Copy + Into<u32>>(values: &[T], width: u8, out: &mut Vec<u8>) {
    let bytes = usize::from(width);
    let word = |eight: &[T]| {
        (0..).zip(eight).fold(0_u64, |word, (place, value)| {
            word | u64::from((*value).into()) << (place * u32::from(width))
        })
    };
    let (eights, rest) = values.as_chunks::<8>();
    out.reserve((eights.len() + 1) * bytes);
    eights.iter().for_each(|eight| out.extend_from_slice(&word(eight).to_le_bytes()[..bytes]));
    if !rest.is_empty() {
        out.extend_from_slice(&word(rest).to_le_bytes()[..bytes]);
    }
}

/// A run of one value in the hybrid.
pub(super) fn run(value: u32, count: usize, width: u8, out: &mut Vec<u8>) {
    varint((count as u64) << 1, out);
    out.extend_from_slice(&value.to_le_bytes()[..usize::from(width.div_ceil(8))]);
}

/// DELTA_BINARY_PACKED of 64-bit numbers.
pub(super) fn deltas(values: &[u64], out: &mut Vec<u8>) {
    varint(BLOCK as u64, out);
    varint((BLOCK / MINIBLOCK) as u64, out);
    varint(values.len() as u64, out);
    varint(zigzag(values.first().copied().unwrap_or_default().cast_signed()), out);
    let mut block = Vec::with_capacity(BLOCK);
    for begin in (1..values.len()).step_by(BLOCK) {
        let end = values.len().min(begin + BLOCK);
        let pairs = values[begin - 1..end].windows(2);
        block.clear();
        block.extend(pairs.map(|pair| pair[1].wrapping_sub(pair[0]).cast_signed()));
        let least = block.iter().copied().min().unwrap_or_default();
        varint(zigzag(least), out);
        let above = |delta: &i64| delta.wrapping_sub(least).cast_unsigned();
        let widths = out.len();
        out.extend_from_slice(&[0; BLOCK / MINIBLOCK]);
        for (place, mini) in block.chunks(MINIBLOCK).enumerate() {
            let most = mini.iter().map(above).max().unwrap_or_default();
            let bits = (u64::BITS - most.leading_zeros()) as u8;
            out[widths + place] = bits;
            let end = out.len() + MINIBLOCK / 8 * usize::from(bits);
            pack(mini.iter().map(above), bits, out);
            out.resize(end, 0);
        }
    }
}

/// Values of `width` bits one behind the other, the lowest bit first.
fn pack(values: impl Iterator<Item = u64>, width: u8, out: &mut Vec<u8>) {
    let (mut held, mut bits) = (0_u64, 0_u32);
    let width = u32::from(width);
    for value in values {
        held |= value << bits;
        bits += width;
        if bits >= u64::BITS {
            out.extend_from_slice(&held.to_le_bytes());
            bits -= u64::BITS;
            // What did not fit any more begins the next word.
            held = if bits == 0 { 0 } else { value >> (width - bits) };
        }
    }
    out.extend_from_slice(&held.to_le_bytes()[..bits.div_ceil(8) as usize]);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_format() {
        assert_eq!((width(0), width(1), width(2), width(255), width(256)), (0, 1, 2, 8, 9));
        // Encodings.md: 0 to 7 in three bits.
        let mut out = Vec::new();
        hybrid(&[0_u32, 1, 2, 3, 4, 5, 6, 7], 3, &mut out);
        assert_eq!(out, [0b11, 0b1000_1000, 0b1100_0110, 0b1111_1010]);
        out.clear();
        hybrid(&[300_u32; 100], 9, &mut out);
        assert_eq!(out, [200, 1, 300_u16.to_le_bytes()[0], 1]);
        // Encodings.md, "Example 1" of DELTA_BINARY_PACKED: 1 to 5 have deltas of one, packed in no bits.
        out.clear();
        deltas(&[1, 2, 3, 4, 5], &mut out);
        assert_eq!(out, [128, 1, 4, 5, 2, 2, 0, 0, 0, 0]);
    }
}
