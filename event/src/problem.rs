//! What a pure `validate` says of a configuration.

/// One thing that is wrong with a configuration, for a person to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a path of fields: `services[0].routes[1].paths[0]`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem at a path.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None }
    }

    /// One for each of these fields under `path` that is 0.
    pub fn zeros<'a>(path: &'a str, fields: &'a [(&'a str, u32)]) -> impl Iterator<Item = Self> + 'a {
        let zeros = fields.iter().filter(|(_, value)| *value == 0);
        zeros.map(move |(field, _)| Self::new(format!("{path}.{field}"), "must be at least 1"))
    }

    /// One for a field under `path` whose value is not within its bounds.
    pub fn out_of_range(path: &str, (field, value, low, high): (&str, u32, u32, u32)) -> Option<Self> {
        let message = || format!("must be between {low} and {high}, is {value}");
        (value < low || value > high).then(|| Self::new(format!("{path}.{field}"), message()))
    }

    /// The same, with a way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}
