//! Seeds that hang on names or numbers, so that what is drawn is another for every one of them and the same again for each.

/// A seed and bytes → another seed: the hash FNV-1a (Fowler, Noll & Vo), begun at the seed.
pub(crate) fn seeded(seed: u64, bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
