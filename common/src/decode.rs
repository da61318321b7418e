//! postcard's bytes as values, refused where they nest deeper than anything of ours: whoever sends them must not choose how much stack they take.

use crate::limits::MAX_ENCODED_DEPTH;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use std::fmt;

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotEncoded;

impl fmt::Display for NotEncoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed or too deeply nested")
    }
}

impl std::error::Error for NotEncoded {}

/// The value whose encoding is exactly `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, NotEncoded> {
    within(bytes, MAX_ENCODED_DEPTH)
}

fn within<T: DeserializeOwned>(bytes: &[u8], left: usize) -> Result<T, NotEncoded> {
    let mut inner = postcard::Deserializer::from_bytes(bytes);
    let value = T::deserialize(Bounded { inner: &mut inner, left }).map_err(|_| NotEncoded)?;
    match inner.finalize() {
        Ok([]) => Ok(value),
        Ok(_) | Err(_) => Err(NotEncoded),
    }
}

/// Anything that takes part in reading, and how many levels may still open below it.
struct Bounded<T> {
    inner: T,
    left: usize,
}

impl<T> Bounded<T> {
    /// The same one level further down.
    fn below<E: Error>(self) -> Result<Bounded<T>, E> {
        let left = self.left.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Bounded { inner: self.inner, left })
    }
}

/// Leaves, which nest nothing.
macro_rules! pass_on {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Bounded<D> {
    type Error = D::Error;

    pass_on! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Bounded { inner, left } = self.below()?;
        inner.deserialize_option(Bounded { inner: visitor, left })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        let Bounded { inner, left } = self.below()?;
        inner.deserialize_newtype_struct(name, Bounded { inner: visitor, left })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Bounded { inner, left } = self.below()?;
        inner.deserialize_seq(Bounded { inner: visitor, left })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        let Bounded { inner, left } = self.below()?;
        inner.deserialize_tuple(len, Bounded { inner: visitor, left })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Bounded { inner, left } = self.below()?;
        inner.deserialize_tuple_struct(name, len, Bounded { inner: visitor, left })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Bounded { inner, left } = self.below()?;
        inner.deserialize_map(Bounded { inner: visitor, left })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Bounded { inner, left } = self.below()?;
        inner.deserialize_struct(name, fields, Bounded { inner: visitor, left })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Bounded { inner, left } = self.below()?;
        inner.deserialize_enum(name, variants, Bounded { inner: visitor, left })
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Only what values that contain others are visited with: leaves meet their own visitor.
impl<'de, V: Visitor<'de>> Visitor<'de> for Bounded<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Bounded { inner, left: self.left })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Bounded { inner, left: self.left })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Bounded { inner, left: self.left })
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Bounded { inner, left: self.left })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(Bounded { inner, left: self.left })
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Bounded<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Bounded { inner, left: self.left })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Bounded<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_element_seed(Bounded { inner, left: self.left })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Bounded<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_key_seed(Bounded { inner, left: self.left })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(Bounded { inner, left: self.left })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Bounded<A> {
    type Error = A::Error;
    type Variant = Bounded<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, inner: S) -> Result<(S::Value, Bounded<A::Variant>), A::Error> {
        let left = self.left;
        let (value, variant) = self.inner.variant_seed(Bounded { inner, left })?;
        Ok((value, Bounded { inner: variant, left }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Bounded<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, inner: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(Bounded { inner, left: self.left })
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, inner: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(len, Bounded { inner, left: self.left })
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], inner: V) -> Result<V::Value, A::Error> {
        self.inner.struct_variant(fields, Bounded { inner, left: self.left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        New(Box<Shape>),
        Tuple(u8, Vec<Shape>),
        Struct { some: Option<String>, map: BTreeMap<u8, (i64, bool)>, bytes: [u8; 3] },
    }

    fn nested(levels: usize) -> Vec<u8> {
        let mut bytes = vec![1; levels];
        bytes.push(0);
        bytes
    }

    #[test]
    fn every_kind_of_value_is_read_as_postcard_reads_it() {
        let structure = Shape::Struct { some: Some("ö".into()), map: [(1, (-2, true))].into(), bytes: [1, 2, 3] };
        let shape = Shape::Tuple(7, vec![Shape::Unit, Shape::New(Box::new(Shape::Unit)), structure]);
        let bytes = postcard::to_allocvec(&shape).unwrap();
        assert_eq!(decode::<Shape>(&bytes), Ok(shape));
        for len in 0..bytes.len() {
            assert_eq!(decode::<Shape>(&bytes[..len]), Err(NotEncoded));
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(decode::<Shape>(&longer), Err(NotEncoded));
    }

    #[test]
    fn what_nests_too_deeply_is_refused_before_it_is_read() {
        // What a test's thread has room for.
        const LEVELS: usize = 100;
        assert!(within::<Shape>(&nested(LEVELS - 1), LEVELS).is_ok());
        assert_eq!(within::<Shape>(&nested(LEVELS), LEVELS), Err(NotEncoded));
        assert_eq!(within::<Shape>(&nested(1_000_000), LEVELS), Err(NotEncoded));
        let through_lists = [[2, 0, 1]; 1_000_000].concat();
        assert_eq!(within::<Shape>(&through_lists, LEVELS), Err(NotEncoded));
    }
}
