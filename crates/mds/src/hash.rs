/// How a directory hashes the names in it, which decides in which fragment and in what order they are. Unknown kinds
/// are kept.
///
/// Source: `ceph/ceph:src/include/ceph_hash.h`, `CEPH_STR_HASH_*`; 2 seen in 16.2.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct NameHash(pub u8);

impl NameHash {
    /// As Linux hashed dentries long ago.
    pub const LINUX: Self = Self(1);
    /// Robert Jenkins' mix of 1996, which every directory of today has.
    pub const RJENKINS: Self = Self(2);

    /// The hash of `name`, of which fragments use the low 24 bits; kinds that we do not know count as
    /// [`RJENKINS`](Self::RJENKINS).
    pub fn of(self, name: &[u8]) -> u32 {
        match self {
            Self::LINUX => linux(name),
            _ => rjenkins(name),
        }
    }
}

impl Default for NameHash {
    fn default() -> Self {
        Self::RJENKINS
    }
}

/// Source: `torvalds/linux:net/ceph/ceph_hash.c`, `ceph_str_hash_linux`.
fn linux(name: &[u8]) -> u32 {
    name.iter()
        .map(|byte| u32::from(*byte))
        .fold(0, |hash: u32, byte| hash.wrapping_add(byte << 4).wrapping_add(byte >> 4).wrapping_mul(11))
}

/// Source: `torvalds/linux:net/ceph/ceph_hash.c`, `ceph_str_hash_rjenkins`; `http://burtleburtle.net/bob/hash/evahash.html`.
fn rjenkins(name: &[u8]) -> u32 {
    // The golden ratio, an arbitrary value.
    let mut state = [0x9e37_79b9, 0x9e37_79b9, 0];
    let (blocks, tail) = name.as_chunks::<12>();
    for block in blocks {
        state = mix(add(state, *block));
    }
    // The last block leaves its ninth byte to the length.
    let mut last = [0; 12];
    for (at, byte) in (0..8_usize).chain(9..12).zip(tail) {
        if let Some(slot) = last.get_mut(at) {
            *slot = *byte;
        }
    }
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
    let [a, b, c] = state;
    let [_, _, hash] = mix(add([a, b, c.wrapping_add(length)], last));
    hash
}

fn add([a, b, c]: [u32; 3], block: [u8; 12]) -> [u32; 3] {
    let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3] = block;
    [
        a.wrapping_add(u32::from_le_bytes([a0, a1, a2, a3])),
        b.wrapping_add(u32::from_le_bytes([b0, b1, b2, b3])),
        c.wrapping_add(u32::from_le_bytes([c0, c1, c2, c3])),
    ]
}

const fn mix([mut a, mut b, mut c]: [u32; 3]) -> [u32; 3] {
    a = a.wrapping_sub(b).wrapping_sub(c) ^ c >> 13;
    b = b.wrapping_sub(c).wrapping_sub(a) ^ a << 8;
    c = c.wrapping_sub(a).wrapping_sub(b) ^ b >> 13;
    a = a.wrapping_sub(b).wrapping_sub(c) ^ c >> 12;
    b = b.wrapping_sub(c).wrapping_sub(a) ^ a << 16;
    c = c.wrapping_sub(a).wrapping_sub(b) ^ b >> 5;
    a = a.wrapping_sub(b).wrapping_sub(c) ^ c >> 3;
    b = b.wrapping_sub(c).wrapping_sub(a) ^ a << 10;
    c = c.wrapping_sub(a).wrapping_sub(b) ^ b >> 15;
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where `osdmaptool --test-map-object` of 16.2.15 puts objects of these names in a pool of 2^30 placement
    /// groups: it hashes them by the same function, and shows the low thirty bits.
    #[test]
    fn names_hash_as_they_do_in_ceph() {
        let low = |name: &str| NameHash::RJENKINS.of(name.as_bytes()) & 0x3fff_ffff;
        let check = |name, hash: u32| assert_eq!(low(name), hash, "{name}");
        check("a", 0x29ee_c818);
        check("foo", 0x3fc1_f406);
        check("eightlen", 0x3116_e109);
        check("ninebytes", 0x187c_704d);
        check("eleven-byte", 0x220f_ef13);
        check("twelve-bytes", 0x142b_1abb);
        check("thirteen-byte", 0x2fb1_0832);
        check("test-object-1", 0x34dc_35e2);
        check("a name of more than twenty-four bytes", 0x27e8_816b);
    }

    #[test]
    fn the_oldest_hash_is_that_of_linux() {
        assert_eq!(NameHash::LINUX.of(b""), 0);
        // ((0x610 + 6) * 11 + 0x620 + 6) * 11.
        assert_eq!(NameHash::LINUX.of(b"ab"), 0x0003_2408);
    }
}
