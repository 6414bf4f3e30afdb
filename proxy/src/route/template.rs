//! Texts with places for what an expression has captured: `$1`, `$name` and `${name}`, with `$$` for a dollar.

use super::pattern::Captured;

/// A group of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Group {
    /// 0 is the whole match.
    Number(usize),
    Name(String),
}

/// A text with places.
#[derive(Debug)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(Group),
}

/// A template that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum TemplateError {
    #[error("has a `$` without the number or name of a group; write `$$` for a dollar")]
    Nameless,
    #[error("has a `${{` without `}}`")]
    Open,
}

impl Group {
    /// A number or a name.
    pub fn read(text: &str) -> Option<Self> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().ok().map(Self::Number);
        }
        text.bytes().all(is_name).then(|| Self::Name(text.to_owned()))
    }
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl Template {
    pub fn read(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix('$') {
                plain.push('$');
                rest = behind;
                continue;
            }
            let name;
            if let Some(inside) = rest.strip_prefix('{') {
                let end = inside.find('}').ok_or(TemplateError::Open)?;
                (name, rest) = (&inside[..end], &inside[end + 1..]);
            } else {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                let length =
                    if digits > 0 { digits } else { rest.bytes().take_while(|byte| is_name(*byte)).count() };
                (name, rest) = rest.split_at(length);
            }
            let group = Group::read(name).filter(|_| !name.is_empty()).ok_or(TemplateError::Nameless)?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Group(group));
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { pieces })
    }

    /// The groups that it has places for.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Group(group) => Some(group),
            Piece::Text(_) => None,
        })
    }

    /// The texts between the places.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Group(_) => None,
        })
    }

    /// Writes it with what was captured; a group that had no part in the match is empty.
    pub fn write(&self, captured: Option<&Captured<'_>>, out: &mut String) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Group(group) => {
                    out.push_str(captured.and_then(|captured| captured.get(group)).unwrap_or_default());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_in_every_spelling() {
        let text = |text: &str| Piece::Text(text.into());
        let number = |number| Piece::Group(Group::Number(number));
        let name = |name: &str| Piece::Group(Group::Name(name.into()));
        for (template, pieces) in [
            ("", vec![]),
            ("/a", vec![text("/a")]),
            ("/$1x/$12", vec![text("/"), number(1), text("x/"), number(12)]),
            ("/${1}2${id}", vec![text("/"), number(1), text("2"), name("id")]),
            ("$id/$a_b-c", vec![name("id"), text("/"), name("a_b"), text("-c")]),
            ("/$$1/$0", vec![text("/$1/"), number(0)]),
        ] {
            assert_eq!(Template::read(template).unwrap().pieces, pieces, "{template}");
        }
        for template in ["$", "/$/", "${}", "${a b}", "a$", "$99999999999999999999999"] {
            assert_eq!(Template::read(template).unwrap_err(), TemplateError::Nameless, "{template}");
        }
        assert_eq!(Template::read("/${a").unwrap_err(), TemplateError::Open);
    }
}
