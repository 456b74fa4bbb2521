//! Layout hashes: a number that changes when the bytes of a shared type change their meaning.

/// A type whose memory layout is part of the contract with the kernel side.
pub trait Layout {
    /// The layout in words: type name, then `name:type` of every field in memory order.
    const LAYOUT: &'static [&'static str];
}

impl Layout for u32 {
    const LAYOUT: &'static [&'static str] = &["u32"];
}

impl Layout for u64 {
    const LAYOUT: &'static [&'static str] = &["u64"];
}

/// Declares a shared struct: `repr(C)`, [`bytemuck::Pod`] (which proves that it has no padding) and [`Layout`]. A field may
/// exist under a condition.
macro_rules! shared_struct {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $(#[cfg($condition:meta)])?
                pub $field:ident : $ty:ty,
            )+
        }
        size = $size:expr;
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name {
            $(
                $(#[doc = $doc])*
                $(#[cfg($condition)])?
                pub $field: $ty,
            )+
        }

        impl $crate::layout::Layout for $name {
            const LAYOUT: &'static [&'static str] = &[
                stringify!($name),
                $(
                    $(#[cfg($condition)])?
                    concat!(stringify!($field), ":", stringify!($ty)),
                )+
            ];
        }

        const _: () = assert!(core::mem::size_of::<$name>() == $size);
    };
}
pub(crate) use shared_struct;

/// FNV-1a over lists of strings, each string and each list ended by a zero byte so that their borders count.
pub(crate) const fn fnv1a(lists: &[&[&str]]) -> u64 {
    fnv1a_more(0xcbf2_9ce4_8422_2325, lists)
}

/// [`fnv1a`] over what made `hash` and then `lists`.
pub(crate) const fn fnv1a_more(mut hash: u64, lists: &[&[&str]]) -> u64 {
    let mut list = 0;
    while list < lists.len() {
        let mut part = 0;
        while part < lists[list].len() {
            let bytes = lists[list][part].as_bytes();
            let mut i = 0;
            while i < bytes.len() {
                hash = fnv1a_byte(hash, bytes[i]);
                i += 1;
            }
            hash = fnv1a_byte(hash, 0);
            part += 1;
        }
        hash = fnv1a_byte(hash, 0);
        list += 1;
    }
    hash
}

const fn fnv1a_byte(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a_matches_the_published_vector_and_separates_parts() {
        // FNV-1a of "a" is af63dc4c8601ec8c; zero bytes follow, for the string and for its list.
        let of_a = fnv1a_byte(fnv1a_byte(0xaf63_dc4c_8601_ec8c, 0), 0);
        assert_eq!(fnv1a(&[&["a"]]), of_a);
        assert_ne!(fnv1a(&[&["ab", "c"]]), fnv1a(&[&["a", "bc"]]));
        assert_ne!(fnv1a(&[&["a"], &["b", "c"]]), fnv1a(&[&["a", "b"], &["c"]]));
        assert_eq!(
            fnv1a(&[&["ab"], &["c"]]),
            fnv1a_more(fnv1a(&[&["ab"]]), &[&["c"]])
        );
    }
}
