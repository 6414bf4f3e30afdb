//! From the tree to the typed configuration: a serde deserializer over `locate::Node` whose errors know their place.
//!
//! `conform` has already listed what the schema can see; what is left for here are the refusals that config types make
//! themselves (an address that does not parse, a header name with a space).

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor, value::StrDeserializer};
use serde::forward_to_deserialize_any;

use super::locate::{Entry, Kind, Node, Origin, Scalar, join};
use super::report::Finding;

/// Makes the typed value.
pub(crate) fn decode<T: de::DeserializeOwned>(node: &Node) -> Result<T, Finding> {
    T::deserialize(Value { node }).map_err(|error| {
        let origin = error.origin.unwrap_or_else(|| node.origin.clone());
        Finding::at(origin, &error.path, error.message)
    })
}

/// A refusal, on its way up from the value it is about.
#[derive(Debug)]
struct Refusal {
    message: String,
    path: String,
    origin: Option<Origin>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

impl de::Error for Refusal {
    fn custom<M: fmt::Display>(message: M) -> Self {
        Self { message: message.to_string(), path: String::new(), origin: None }
    }
}

impl Refusal {
    /// Adds one step of the way up; the innermost place wins.
    fn under(mut self, step: &str, origin: &Origin) -> Self {
        self.path = match self.path.as_str() {
            "" => step.to_owned(),
            rest if rest.starts_with('[') => format!("{step}{rest}"),
            rest => join(step, rest),
        };
        self.origin.get_or_insert_with(|| origin.clone());
        self
    }
}

struct Value<'n> {
    node: &'n Node,
}

impl Value<'_> {
    fn text(&self) -> Option<&str> {
        match &self.node.kind {
            Kind::Scalar { text, .. } if self.node.scalar() != Some(Scalar::Null) => Some(text),
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => None,
        }
    }
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match (&self.node.kind, self.node.scalar()) {
            (Kind::List(items), _) => visitor.visit_seq(Items { items, next: 0 }),
            (Kind::Map(entries), _) => visitor.visit_map(Entries { entries, next: 0 }),
            (_, None | Some(Scalar::Null)) => visitor.visit_unit(),
            (_, Some(Scalar::Bool(value))) => visitor.visit_bool(value),
            (_, Some(Scalar::Float(value))) => visitor.visit_f64(value),
            (_, Some(Scalar::Text(text))) => visitor.visit_str(text),
            (_, Some(Scalar::Int(value))) => match (u64::try_from(value), i64::try_from(value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => visitor.visit_i128(value),
            },
        }
    }

    /// `name: 42` is text where text is asked, exactly as written.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.text() {
            Some(text) => visitor.visit_str(text),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        if self.node.scalar() == Some(Scalar::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match &self.node.kind {
            Kind::Map(entries) if entries.len() == 1 => {
                let value = Some(&entries[0].value);
                visitor.visit_enum(Variant { name: &entries[0].key, value })
            }
            _ => match self.text() {
                Some(name) => visitor.visit_enum(Variant { name, value: None }),
                None => Err(de::Error::custom(
                    "expected one of the known words, or a map with one of them as its key",
                )),
            },
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 bytes byte_buf unit unit_struct seq tuple tuple_struct
        map struct identifier ignored_any
    }
}

struct Items<'n> {
    items: &'n [Node],
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Refusal;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refusal> {
        let Some(node) = self.items.get(self.next) else { return Ok(None) };
        let step = format!("[{}]", self.next);
        self.next += 1;
        seed.deserialize(Value { node }).map(Some).map_err(|error| error.under(&step, &node.origin))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }
}

struct Entries<'n> {
    entries: &'n [Entry],
    next: usize,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Refusal;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refusal> {
        let Some(entry) = self.entries.get(self.next) else { return Ok(None) };
        let key: StrDeserializer<'_, Refusal> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| error.under(&entry.key, &entry.origin))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refusal> {
        let entry = &self.entries[self.next];
        self.next += 1;
        let origin = match entry.value.kind {
            Kind::Scalar { .. } => &entry.value.origin,
            Kind::List(_) | Kind::Map(_) => &entry.origin,
        };
        seed.deserialize(Value { node: &entry.value }).map_err(|error| error.under(&entry.key, origin))
    }
}

struct Variant<'n> {
    name: &'n str,
    value: Option<&'n Node>,
}

impl<'de, 'n> de::EnumAccess<'de> for Variant<'n> {
    type Error = Refusal;
    type Variant = Payload<'n>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Payload<'n>), Refusal> {
        let name: StrDeserializer<'_, Refusal> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, Payload { value: self.value }))
    }
}

struct Payload<'n> {
    value: Option<&'n Node>,
}

impl<'n> Payload<'n> {
    fn value(self) -> Result<Value<'n>, Refusal> {
        let node = self
            .value
            .ok_or_else(|| de::Error::custom("this word needs a value: write it as `word: value`"))?;
        Ok(Value { node })
    }
}

impl<'de> de::VariantAccess<'de> for Payload<'_> {
    type Error = Refusal;

    fn unit_variant(self) -> Result<(), Refusal> {
        match self.value {
            None => Ok(()),
            Some(node) if node.scalar() == Some(Scalar::Null) => Ok(()),
            Some(_) => Err(de::Error::custom("this word takes no value")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Refusal> {
        seed.deserialize(self.value()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Refusal> {
        self.value()?.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.value()?.deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::locate::{Origin, parse};
    use super::decode;
    use serde::Deserialize;
    use std::net::SocketAddr;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Sample {
        listen: Vec<SocketAddr>,
        name: String,
        #[serde(default)]
        ratio: Option<f64>,
        mode: Mode,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        Off,
        Every(u32),
    }

    #[test]
    fn typed_values_come_out_as_written() {
        let text = "listen: ['127.0.0.1:80']\nname: 1.10\nratio: 2\nmode: {every: 3}";
        let sample: Sample = decode(&parse(text).unwrap()).unwrap();
        let listen = vec!["127.0.0.1:80".parse().unwrap()];
        assert_eq!(sample, Sample { listen, name: "1.10".into(), ratio: Some(2.0), mode: Mode::Every(3) });
        let off: Mode = decode(&parse("off").unwrap()).unwrap();
        assert_eq!(off, Mode::Off);
    }

    #[test]
    fn a_refusal_by_a_type_knows_its_line_and_path() {
        let text = "name: a\nmode: off\nlisten:\n  - 127.0.0.1:80\n  - nowhere\n";
        let finding = decode::<Sample>(&parse(text).unwrap()).unwrap_err();
        assert_eq!(finding.path, "listen[1]");
        assert!(
            matches!(finding.origin, Origin::File(mark) if mark.line == 5 && mark.column == 5),
            "{finding:?}"
        );
    }
}
