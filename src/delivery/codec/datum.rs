//! Writes a struct as an Avro datum, where the schema's fields are the struct's, in their order.
//!
//! A job is written for each match. `apache_avro` looks each of its values up in the schema, and takes many times as long.

use std::fmt;

use serde::de::{self, DeserializeOwned, Visitor};
use serde::ser::{self, Impossible, Serialize, SerializeStruct, Serializer};

/// The names of a struct's fields, in the order in which it is written; empty where it is none.
pub(super) fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // It always fails, as there is nothing to read.
    drop(T::deserialize(Names(&mut names)));
    names
}

/// Writes the value's fields behind what is in `into`.
pub(super) fn write<T: Serialize>(value: &T, into: &mut Vec<u8>) -> Result<(), Unfit> {
    value.serialize(Datum(into))
}

/// A value of a kind that no field of ours has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfit;

struct Datum<'b>(&'b mut Vec<u8>);

impl Datum<'_> {
    /// Zigzag, seven bits a byte, the lowest first.
    #[inline]
    fn long(&mut self, value: i64) {
        let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
        while zigzag >= 0x80 {
            self.0.push((zigzag & 0x7F) as u8 | 0x80);
            zigzag >>= 7;
        }
        self.0.push(zigzag as u8);
    }
}

impl Serializer for Datum<'_> {
    type Ok = ();
    type Error = Unfit;
    type SerializeStruct = Self;
    type SerializeSeq = Impossible<(), Unfit>;
    type SerializeTuple = Impossible<(), Unfit>;
    type SerializeTupleStruct = Impossible<(), Unfit>;
    type SerializeTupleVariant = Impossible<(), Unfit>;
    type SerializeMap = Impossible<(), Unfit>;
    type SerializeStructVariant = Impossible<(), Unfit>;

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Unfit> {
        self.0.push(value.into());
        Ok(())
    }

    #[inline]
    fn serialize_i32(self, value: i32) -> Result<(), Unfit> {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i64(mut self, value: i64) -> Result<(), Unfit> {
        self.long(value);
        Ok(())
    }

    #[inline]
    fn serialize_str(mut self, text: &str) -> Result<(), Unfit> {
        self.long(i64::try_from(text.len()).map_err(|_| Unfit)?);
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// What may be missing is a union of null and the value.
    #[inline]
    fn serialize_none(mut self) -> Result<(), Unfit> {
        self.long(0);
        Ok(())
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), Unfit> {
        self.long(1);
        value.serialize(self)
    }

    fn serialize_unit_variant(mut self, _: &'static str, index: u32, _: &'static str) -> Result<(), Unfit> {
        self.long(index.into());
        Ok(())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Unfit> {
        Ok(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Unfit> {
        value.serialize(self)
    }

    fn serialize_i8(self, _: i8) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn serialize_i16(self, _: i16) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn serialize_u8(self, _: u8) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn serialize_u16(self, _: u16) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn serialize_u32(self, _: u32) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn serialize_u64(self, _: u64) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn serialize_f32(self, _: f32) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn serialize_f64(self, _: f64) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn serialize_char(self, _: char) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn serialize_unit(self) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Unfit> {
        Err(Unfit)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Unfit> {
        Err(Unfit)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Unfit> {
        Err(Unfit)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unfit> {
        Err(Unfit)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Unfit> {
        Err(Unfit)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unfit> {
        Err(Unfit)
    }
}

impl SerializeStruct for Datum<'_> {
    type Ok = ();
    type Error = Unfit;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Unfit> {
        value.serialize(Datum(self.0))
    }

    fn end(self) -> Result<(), Unfit> {
        Ok(())
    }
}

/// Asks a struct what its fields are called.
struct Names<'n>(&'n mut &'static [&'static str]);

impl<'de> de::Deserializer<'de> for Names<'_> {
    type Error = Unfit;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unfit> {
        Err(Unfit)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Unfit> {
        *self.0 = fields;
        Err(Unfit)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no field of ours holds such a value")
    }
}

impl std::error::Error for Unfit {}

impl ser::Error for Unfit {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl de::Error for Unfit {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}
