//! Layout hashes: a number that changes when the bytes of a shared type change their meaning.

/// A type whose memory layout is part of the contract with the kernel side.
pub trait Layout {
    /// The layout in words: type name, then `name:type` of every field in memory order.
    const LAYOUT: &'static str;
}

impl Layout for u32 {
    const LAYOUT: &'static str = "u32";
}

impl Layout for u64 {
    const LAYOUT: &'static str = "u64";
}

/// Declares a shared struct: `repr(C)`, [`bytemuck::Pod`] (which proves that it has no padding) and [`Layout`].
macro_rules! shared_struct {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident : $ty:ty, )+
        }
        size = $size:expr;
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )+
        }

        impl $crate::layout::Layout for $name {
            const LAYOUT: &'static str = concat!(
                stringify!($name), "{", $( stringify!($field), ":", stringify!($ty), ";", )+ "}"
            );
        }

        const _: () = assert!(core::mem::size_of::<$name>() == $size);
    };
}
pub(crate) use shared_struct;

/// FNV-1a over a list of strings, each ended by a zero byte so that their borders count.
pub(crate) const fn fnv1a(parts: &[&str]) -> u64 {
    fnv1a_more(0xcbf2_9ce4_8422_2325, parts)
}

/// [`fnv1a`] over what made `hash` and then `parts`.
pub(crate) const fn fnv1a_more(mut hash: u64, parts: &[&str]) -> u64 {
    let mut part = 0;
    while part < parts.len() {
        let bytes = parts[part].as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            i += 1;
        }
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
        part += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a_matches_the_published_vector_and_separates_parts() {
        // FNV-1a of "a" is af63dc4c8601ec8c; one zero byte follows.
        let of_a = 0xaf63_dc4c_8601_ec8c_u64;
        assert_eq!(fnv1a(&["a"]), of_a.wrapping_mul(0x0000_0100_0000_01b3));
        assert_ne!(fnv1a(&["ab", "c"]), fnv1a(&["a", "bc"]));
        assert_eq!(fnv1a(&["ab", "c"]), fnv1a_more(fnv1a(&["ab"]), &["c"]));
    }
}
